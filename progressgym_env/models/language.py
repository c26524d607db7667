"""Language models whose states are LoRA adapters over one shared, frozen base.

A ``LanguageHost`` keeps the base, the tokenizer and one adapter slot in memory. A
``LanguageModel`` is an immutable state: the tensors of an adapter. Whatever it is asked to do, it
first puts its tensors into the host's slot, from where a small base's second copy takes them for
measuring and replying; so an episode holds the base and a few hundred kilobytes a state. Hosts are
not thread-safe; environments in one process take turns.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.files import write_bytes, write_json
from progressgym_env.models.base import PreferenceData, Update
from progressgym_env.models.packed_forward import edge_log_probs
from progressgym_env.models.packing import PackedBatch, TokenRow, batches, collate
from progressgym_env.models.updates import (
    SFTSettings,
    SFTUpdate,
    TrainingExample,
    TrainingUpdate,
    examples_from,
    resolve_update,
)
from progressgym_env.values.embedding import (
    FloatArray,
    ValueEmbedding,
    measure_preferences,
    measure_values,
)
from progressgym_env.values.forms import Prompt
from progressgym_env.values.questions import Pair, QuestionSet

__all__ = ["IMITATION", "AdapterState", "LanguageHost", "LanguageModel", "resolve_device"]

AdapterState = dict[str, Tensor]

IMITATION = SFTSettings()
"""How a model learns from what others say (Coevolve); the epochs are the environment's."""

_ADAPTER = "default"
# Bases up to this many parameters keep a second copy with the adapter merged in.
_MERGED_LIMIT = 50_000_000
# Tokens a packed batch may hold. On a CPU a batch should stay in the cache; a GPU wants many.
_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}


def resolve_device(device: str) -> str:
    """``"auto"`` → ``"cuda"`` where there is one, else ``"cpu"``; other names are checked.

    Raises:
        InvalidArgumentError: no such device here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InvalidArgumentError(
            f"unknown device {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:N'"
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise InvalidArgumentError(f"device {device!r}: no CUDA device here; use 'auto' or 'cpu'")
    return device


class LanguageHost:
    """The base model, its tokenizer, and the slot for the adapter in use.

    Args:
        base: folder (or hub name) of a causal language model with a chat template.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        lora: the adapters' configuration; by default rank 8 on all linear layers.
        seed: initialises the first, fresh adapter (which leaves the base's behaviour as it is).
    """

    def __init__(
        self,
        base: str | Path,
        *,
        device: str = "auto",
        lora: LoraConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.device = resolve_device(device)
        # 16-bit arithmetic is slow or absent on most CPUs and costs accuracy on all.
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(base))
        if self.tokenizer.chat_template is None or self.tokenizer.eos_token_id is None:
            raise HistoryError(
                f"the tokenizer at {base} lacks a chat template or an end-of-text token; "
                "use an instruction-tuned model, or set both in tokenizer_config.json"
            )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "left"
        with _quiet_loading():
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(base), dtype=dtype, attn_implementation="sdpa"
            )
            model.to(self.device)
            small = sum(p.numel() for p in model.parameters()) <= _MERGED_LIMIT
            self._merged: Any = copy.deepcopy(model).eval() if small else None
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.peft_model: Any = get_peft_model(model, lora or default_lora_config())
        # Adapters are trained in 32 bits whatever the base computes in.
        for parameter in self.peft_model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.peft_model.eval()
        self._current: AdapterState | None = None
        self._merged_state: AdapterState | None = None
        self._plans: dict[tuple[Prompt, ...], _ScoringPlan] = {}

    @property
    def causal_lm(self) -> Any:
        """The ``transformers`` model underneath, with the LoRA layers inside."""
        return self.peft_model.get_base_model()

    @property
    def _slot(self) -> dict[str, Tensor]:
        slot: dict[str, Tensor] = get_peft_model_state_dict(self.peft_model, adapter_name=_ADAPTER)
        return slot

    def snapshot(self) -> AdapterState:
        """A copy of the adapter in the slot."""
        return {name: tensor.detach().clone() for name, tensor in self._slot.items()}

    def activate(self, state: AdapterState) -> None:
        """Put ``state`` into the slot (nothing is copied where it is there already)."""
        if self._current is state:
            return
        slot = self._slot
        if state.keys() != slot.keys():
            difference = sorted(state.keys() ^ slot.keys())
            raise HistoryError(
                f"an adapter does not fit this base: {len(difference)} tensors differ, "
                f"such as {difference[0]}; use adapters made for the same base and LoRA settings"
            )
        with torch.no_grad():
            for name, tensor in slot.items():
                tensor.copy_(state[name])
        self._current = state

    def inference_model(self, state: AdapterState) -> Any:
        """A causal LM that computes with ``state``, for measuring and replying.

        A small base has a second copy, into which the adapter is merged: without the detour
        through every LoRA layer a forward pass takes a fifth less time, a reply half.
        """
        if self._merged is None:
            self.activate(state)
            return self.causal_lm
        if self._merged_state is not state:
            self.activate(state)
            self._merged_state = None
            for name, layer in self.causal_lm.named_modules():
                if isinstance(layer, LoraLinear):
                    linear: Any = layer.get_base_layer()
                    merged = linear.weight + layer.get_delta_weight(_ADAPTER)
                    self._merged.get_submodule(name).weight.data.copy_(merged)
            self._merged_state = state
        return self._merged

    def trained(
        self, state: AdapterState, train: Callable[[PeftModel, Any], object]
    ) -> AdapterState:
        """A new adapter: ``state`` after ``train(peft_model, tokenizer)`` changed the slot."""
        self.activate(state)
        self._current = None
        try:
            train(self.peft_model, self.tokenizer)
            return self.snapshot()
        finally:
            self.peft_model.eval()

    def read_adapter(self, folder: Path) -> AdapterState:
        """Load an adapter saved by ``peft`` (safetensors)."""
        loaded = load_file(folder / "adapter_model.safetensors")
        set_peft_model_state_dict(self.peft_model, loaded, adapter_name=_ADAPTER)
        self._current = None
        return self.snapshot()

    def encode_prompt(self, text: str) -> list[int]:
        """Tokens of a user's message, up to where the reply begins."""
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        ids: list[int] = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids

    def plan(self, prompts: tuple[Prompt, ...]) -> _ScoringPlan:
        """Packed batches for ``prompts``, kept for the next time the same are asked."""
        if prompts not in self._plans:
            if len(self._plans) >= 8:
                self._plans.pop(next(iter(self._plans)))
            self._plans[prompts] = _ScoringPlan(self, prompts)
        return self._plans[prompts]


class _ScoringPlan:
    """Prompts turned into packed batches, and where each answer's number comes from."""

    def __init__(self, host: LanguageHost, prompts: tuple[Prompt, ...]) -> None:
        tokenizer = host.tokenizer
        rows: list[TokenRow] = []
        answer_of_row: list[list[int]] = []
        previous: str | None = None
        n_answers = 0
        for prompt in prompts:
            # The prompts of one question begin alike; they share a row.
            group = prompt.text.split("\n", 1)[0]
            if group != previous:
                rows.append(TokenRow())
                answer_of_row.append([])
                previous = group
            answers = [
                tokenizer(answer, add_special_tokens=False)["input_ids"]
                for answer in prompt.answers
            ]
            rows[-1].add(host.encode_prompt(prompt.text), answers)
            answer_of_row[-1] += range(n_answers, n_answers + len(answers))
            n_answers += len(answers)
        limit = _BATCH_TOKENS[torch.device(host.device).type]
        self.n_answers = n_answers
        self.n_tokens = sum(len(row) for row in rows)
        self.batches: list[tuple[PackedBatch, np.ndarray[Any, np.dtype[np.int64]]]] = []
        for group_indices in batches([len(row) for row in rows], limit):
            batch = collate([rows[i] for i in group_indices], tokenizer.pad_token_id)
            positions = np.array([a for i in group_indices for a in answer_of_row[i]])
            self.batches.append((batch, positions))


class LanguageModel:
    """A language model's state: an adapter over a shared base. Obeys ``Model``.

    Args:
        host: base, tokenizer and adapter slot.
        state: adapter tensors; never modified.
        questions: the set whose eval split ``values`` measures.
    """

    def __init__(self, host: LanguageHost, state: AdapterState, questions: QuestionSet) -> None:
        self.host = host
        self.state = state
        self.questions = questions

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the adapter: equal digests, equal models."""
        digest = hashlib.sha256()
        for name in sorted(self.state):
            digest.update(name.encode())
            digest.update(self.state[name].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def values(self) -> ValueEmbedding:
        """The value embedding over the eval questions, (19,) with standard errors."""
        return measure_values(self, self.questions.eval)

    def preferences(self, pairs: Sequence[Pair]) -> FloatArray:
        """Preference margins on ``pairs``, (n_pairs,) in [-1, 1]."""
        return measure_preferences(self, pairs)

    def answer_probabilities(self, prompts: Sequence[Prompt]) -> list[FloatArray]:
        """For each prompt, the probabilities of its answers, normalised among one another."""
        log_probs = self.answer_log_probs(prompts)
        result, start = [], 0
        for prompt in prompts:
            scores = log_probs[start : start + len(prompt.answers)]
            start += len(prompt.answers)
            weights = np.exp(scores - scores.max())
            result.append(weights / weights.sum())
        return result

    def answer_log_probs(self, prompts: Sequence[Prompt]) -> FloatArray:
        """Log-probability of every answer of every prompt, one after another."""
        plan = self.host.plan(tuple(prompts))
        model = self.host.inference_model(self.state)
        total = np.zeros(plan.n_answers)
        with torch.inference_mode():
            for batch, positions in plan.batches:
                edges = edge_log_probs(model, batch).double().cpu().numpy()
                np.add.at(total, positions[batch.edge_answer], edges)
        return total

    def reply(
        self,
        prompts: Sequence[str],
        rng: np.random.Generator,
        *,
        max_new_tokens: int = 48,
        temperature: float = 1.0,
    ) -> list[str]:
        """One sampled reply a prompt; ``rng`` decides what is drawn."""
        if not prompts:
            return []
        host, tokenizer = self.host, self.host.tokenizer
        model = host.inference_model(self.state)
        rendered = [host.encode_prompt(prompt) for prompt in prompts]
        inputs = tokenizer.pad({"input_ids": rendered}, return_tensors="pt").to(host.device)
        cuda = [torch.device(host.device)] if host.device.startswith("cuda") else []
        with torch.random.fork_rng(devices=cuda), torch.inference_mode():
            torch.manual_seed(int(rng.integers(2**63)))
            tokens = model.generate(
                **inputs,
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = tokens[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def imitate(
        self, prompts: Sequence[str], replies: Sequence[str], epochs: float, *, seed: int
    ) -> Self:
        """A new model, trained on ``replies`` to ``prompts`` for ``epochs`` passes (SFT)."""
        if epochs == 0:
            return self
        examples = [
            TrainingExample(prompt, reply, None)
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
        return self._trained(SFTUpdate(replace(IMITATION, epochs=epochs)), examples, seed)

    def learn(self, update: Update | str, data: PreferenceData) -> Self:
        """A new model after ``update`` on ``data``; without any copy, this very model."""
        return self._trained(resolve_update(update), examples_from(data), data.seed)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in peft's format: ``adapter_config.json`` and safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.state.items()}
        write_bytes(folder / "adapter_model.safetensors", save(tensors))
        config = self.host.peft_model.peft_config[_ADAPTER].to_dict()
        # Where the base lay when the adapter was made means nothing elsewhere.
        config.update(base_model_name_or_path=None, inference_mode=True)
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        write_json(folder / "adapter_config.json", plain)

    def _trained(
        self, update: TrainingUpdate, examples: Sequence[TrainingExample], seed: int
    ) -> Self:
        if not examples:
            return self
        state = self.host.trained(
            self.state, lambda model, tokenizer: update.train(model, tokenizer, examples, seed)
        )
        return type(self)(self.host, state, self.questions)


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """No progress bar for a load of milliseconds, and no warning that only peft can act on."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def default_lora_config() -> LoraConfig:
    """Rank 8 on every linear layer, no dropout: what all of this package's adapters use."""
    return LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def read_lora_config(folder: Path) -> LoraConfig:
    """The LoRA settings of an adapter folder."""
    raw = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if raw.get("peft_type") != "LORA":
        raise HistoryError(f"{folder}: adapter type {raw.get('peft_type')!r}; only LORA is known")
    config: LoraConfig = LoraConfig.from_pretrained(os.fspath(folder))
    config.inference_mode = False
    return config

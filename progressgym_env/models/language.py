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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor

from progressgym_env.files import write_bytes, write_json
from progressgym_env.models.adapters import (
    AdapterState,
    can_merge,
    check_plain,
    check_same_scaling,
    check_tensors,
    default_lora_config,
    read_lora_config,
    read_tensors,
)
from progressgym_env.models.base import PreferenceData, Update
from progressgym_env.models.compiling import can_compile, compile_layers, eager
from progressgym_env.models.loading import (
    LoadedBase,
    load_base,
    quiet_loading,
    resolve_device,
    torch_device,
)
from progressgym_env.models.packed_forward import edge_log_probs
from progressgym_env.models.randomness import random_states_kept, seed_torch
from progressgym_env.models.scoring_plan import ScoringPlan
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
    among_answers,
    measure_preferences,
    prompts_of,
    values_from_log_probs,
)
from progressgym_env.values.forms import Prompt
from progressgym_env.values.questions import Pair, QuestionSet

__all__ = [
    "IMITATION",
    "AdapterState",
    "LanguageHost",
    "LanguageModel",
    "default_lora_config",
    "read_lora_config",
    "resolve_device",
]

IMITATION = SFTSettings(learning_rate=1e-2)
"""How a model learns from what others say (Coevolve); the epochs are the environment's.

The rate is the one at which the embedded centuries are fitted, so that people left to themselves
follow their own history; at a tenth of it they end nearer to the first century than to their own.
"""

_ADAPTER = "default"
# Tokens a packed batch may hold. On a CPU a batch should stay in the cache; a GPU wants many.
_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
# Tokens that take as long as a batch takes beside its tokens.
_BATCH_OVERHEAD = {"cpu": 256, "cuda": 256}
# Numbers in the logits of a batch: 2 GiB in 32 bits.
_BATCH_LOGITS = 2**29


class LanguageHost:
    """The base model, its tokenizer, and the slot for the adapter in use.

    Args:
        base: folder (or hub name) of a causal language model with a chat template, or one that
            is in memory already.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        lora: the adapters' configuration; by default rank 8 on all linear layers.
        seed: initialises the first, fresh adapter (which leaves the base's behaviour as it is).
    """

    def __init__(
        self,
        base: str | Path | LoadedBase,
        *,
        device: str = "auto",
        lora: LoraConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.device = resolve_device(device)
        on = torch_device(self.device)
        if on.type == "cuda":
            # So that it has random states to keep.
            torch.cuda.init()  # type: ignore[no-untyped-call]
        lora = copy.deepcopy(lora) if lora else default_lora_config()
        check_plain(lora, "lora")
        with quiet_loading(), random_states_kept():
            loaded = base if isinstance(base, LoadedBase) else load_base(base, on)
            self.tokenizer: Any = loaded.tokenizer
            # A copy with the adapter merged in; see inference_model.
            self._merged: Any = copy.deepcopy(loaded.model).eval() if loaded.small else None
            self._base_dtype: torch.dtype = loaded.model.dtype
            seed_torch(seed, on)
            self.peft_model: Any = get_peft_model(loaded.model, lora)
            if on.type == "cuda" and not loaded.small and can_compile():
                compile_layers(self.causal_lm)
        if not can_merge(self.causal_lm):
            self._merged = None
        self._current: AdapterState | None = None
        self._slot_in(torch.float32)
        self.peft_model.eval()
        self._merged_state: AdapterState | None = None
        self._plans: dict[tuple[Prompt, ...], ScoringPlan] = {}

    @property
    def causal_lm(self) -> Any:
        """The ``transformers`` model underneath, with the LoRA layers inside."""
        return self.peft_model.get_base_model()

    @property
    def merges(self) -> bool:
        """Whether a second copy of the base, with the adapter merged in, measures and replies."""
        return self._merged is not None

    @property
    def _slot(self) -> dict[str, Tensor]:
        # Else peft reads the base's configuration again each time, from the hub if need be.
        slot: dict[str, Tensor] = get_peft_model_state_dict(
            self.peft_model, adapter_name=_ADAPTER, save_embedding_layers=False
        )
        return slot

    def snapshot(self) -> AdapterState:
        """A copy of the adapter in the slot."""
        # The slot itself may hold it rounded, for measuring.
        held = self._slot if self._current is None else self._current
        return {name: tensor.detach().clone() for name, tensor in held.items()}

    def activate(self, state: AdapterState) -> None:
        """Put ``state`` into the slot (nothing is copied where it is there already).

        Raises:
            HistoryError: its tensors have other names or shapes; the slot stays as it is.
        """
        if self._current is state:
            return
        slot = self._slot
        check_tensors(state, slot, "the adapter")
        self._current = None  # Whatever interrupts the copying leaves a mixture.
        with torch.no_grad():
            for name, tensor in slot.items():
                tensor.copy_(state[name])
        self._current = state

    def _slot_in(self, dtype: torch.dtype) -> None:
        """Let the slot compute in ``dtype``: 32 bits to train, the base's own to measure.

        A layer in 32 bits takes its input and hands over its output in 32 bits: beside a base in
        16 bits, that moves as many bytes as the base itself does.
        """
        for parameter in self.peft_model.parameters():
            if parameter.requires_grad and parameter.dtype != dtype:
                parameter.data = parameter.data.to(dtype)
                self._current = None  # Other bits than those of the state.

    def inference_model(self, state: AdapterState) -> Any:
        """A causal LM that computes with ``state``, for measuring and replying.

        A small base has a second copy, into which the adapter is merged: without the detour
        through every LoRA layer a forward pass takes a fifth less time, a reply half.
        """
        if self._merged is None:
            self._slot_in(self._base_dtype)
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
        self._slot_in(torch.float32)
        self.activate(state)
        self._current = None
        try:
            with eager():
                train(self.peft_model, self.tokenizer)
            return self.snapshot()
        finally:
            self.peft_model.eval()

    def read_adapter(self, folder: Path) -> AdapterState:
        """Load an adapter saved by ``peft`` (safetensors); the slot stays as it is.

        Raises:
            HistoryError: a file is missing or damaged, or the adapter does not fit: its tensors
                have other names or shapes, or its settings another meaning.
        """
        config = self.peft_model.peft_config[_ADAPTER]
        check_same_scaling(read_lora_config(folder), config, str(folder))
        loaded, slot = read_tensors(folder), self._slot
        check_tensors(loaded, slot, f"the adapter {folder}")
        return {n: loaded[n].to(t.device, t.dtype, copy=True) for n, t in slot.items()}

    def encode_prompt(self, text: str) -> list[int]:
        """Tokens of a user's message, up to where the reply begins."""
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        ids: list[int] = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids

    def plan(self, prompts: tuple[Prompt, ...]) -> ScoringPlan:
        """Packed batches for ``prompts``, kept for the next time the same are asked."""
        if prompts not in self._plans:
            if len(self._plans) >= 8:
                self._plans.pop(next(iter(self._plans)))
            vocabulary = self.causal_lm.get_output_embeddings().weight.shape[0]
            kind = self.causal_lm.device.type
            self._plans[prompts] = ScoringPlan(
                prompts,
                self.tokenizer,
                self.encode_prompt,
                batch_tokens=_BATCH_TOKENS[kind],
                batch_places=_BATCH_LOGITS // vocabulary,
                batch_overhead=_BATCH_OVERHEAD[kind],
            )
        return self._plans[prompts]


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
        eval_questions = self.questions.eval
        return values_from_log_probs(
            eval_questions, self.answer_log_probs(prompts_of(eval_questions))
        )

    def preferences(self, pairs: Sequence[Pair]) -> FloatArray:
        """Preference margins on ``pairs``, (n_pairs,) in [-1, 1]."""
        return measure_preferences(self, pairs)

    def answer_probabilities(self, prompts: Sequence[Prompt]) -> list[FloatArray]:
        """For each prompt, the probabilities of its answers, normalised among one another."""
        return among_answers(prompts, self.answer_log_probs(prompts))

    def answer_log_probs(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """(n_answers,) log-probability of every answer of every prompt, one after another.

        In 32 bits, so that what is stored is what was computed with.
        """
        plan = self.host.plan(tuple(prompts))
        model = self.host.inference_model(self.state)
        total = np.zeros(plan.n_answers)
        with torch.inference_mode():
            for batch, positions in plan.batches:
                edges = edge_log_probs(model, batch).double().cpu().numpy()
                np.add.at(total, positions[batch.edge_answer], edges)
        return total.astype(np.float32)

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
        inputs = tokenizer.pad({"input_ids": rendered}, return_tensors="pt").to(model.device)
        with random_states_kept(), torch.inference_mode(), eager():
            seed_torch(int(rng.integers(2**63)), model.device)
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

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The adapter's tensors as arrays: all that tells this model from others of its host."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.state.items()}

    def with_arrays(self, arrays: Mapping[str, NDArray[np.float32]]) -> Self:
        """The model of the same host whose ``arrays`` these are, to the bit.

        Raises:
            HistoryError: they have other names or shapes than this model's.
        """
        found = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        check_tensors(found, self.state, "the stored adapter")
        state = {name: found[name].to(like.device, like.dtype) for name, like in self.state.items()}
        return type(self)(self.host, state, self.questions)

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

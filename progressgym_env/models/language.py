"""Language models whose states are LoRA adapters over one shared, frozen base.

A ``LanguageHost`` keeps the base, the tokenizer and one adapter slot in memory. A
``LanguageModel`` is an immutable state: the tensors of an adapter. Whatever it is asked to do, it
first puts its tensors into the host's slot, from where a small base's second copy takes them for
measuring and replying; so an episode holds the base and a few hundred kilobytes a state. Hosts are
not thread-safe; environments in one process take turns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from progressgym_env.models.adapters import (
    AdapterState,
    check_tensors,
    default_lora_config,
    read_lora_config,
    write_adapter,
)
from progressgym_env.models.base import PreferenceData, Update
from progressgym_env.models.compiling import eager
from progressgym_env.models.engines import Engine
from progressgym_env.models.host import LanguageHost
from progressgym_env.models.launched import can_launch, train_launched
from progressgym_env.models.loading import resolve_device
from progressgym_env.models.packed_forward import edge_log_probs
from progressgym_env.models.randomness import random_states_kept, seed_torch
from progressgym_env.models.updates import (
    BySize,
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

IMITATION = SFTSettings(learning_rate=BySize(1e-2, 1.5e-4))
"""How a model learns from what others say (Coevolve); the epochs are the environment's.

The rate of small bases is the one at which the embedded centuries are fitted, so that people left
to themselves follow their own history; at a tenth of it they end nearer to the first century than
to their own.
"""

# Prompts replied to at once: their keys and values lie in memory together.
_REPLY_ROWS = 256


class LanguageModel:
    """A language model's state: an adapter over a shared base. Obeys ``Model``.

    Args:
        host: base, tokenizer and adapter slot.
        state: adapter tensors; never modified.
        questions: the set whose eval split ``values`` measures.
        engine: what measures and replies in place of ``transformers``, as far as it can; handed on
            to what the model becomes.
        launch: the command that training by ``sft`` and ``dpo`` is launched with, from
            :func:`~progressgym_env.models.launched.check_launch`; None trains in this process.
            Handed on likewise.
    """

    def __init__(
        self,
        host: LanguageHost,
        state: AdapterState,
        questions: QuestionSet,
        engine: Engine | None = None,
        launch: tuple[str, ...] | None = None,
    ) -> None:
        self.host = host
        self.state = state
        self.questions = questions
        self.engine = engine
        self.launch = launch

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

        In 32 bits, so that what is stored is what was computed with. Those of an engine are among
        the answers of a prompt, others among all tokens.
        """
        if self.engine is None:
            return self._packed_log_probs(prompts)
        tokens = [self._answer_tokens(prompt) for prompt in prompts]
        by_engine = [index for index, some in enumerate(tokens) if some is not None]
        others = [prompt for prompt, some in zip(prompts, tokens, strict=True) if some is None]
        scored = iter(
            self.engine.score(
                self.state,
                self.digest,
                [self.host.encode_prompt(prompts[index].text) for index in by_engine],
                [tokens[index] or [] for index in by_engine],
            )
        )
        packed = self._packed_log_probs(others) if others else np.zeros(0, dtype=np.float32)
        found, start = [], 0
        for prompt, some in zip(prompts, tokens, strict=True):
            if some is not None:
                found.append(np.asarray(next(scored), dtype=np.float32))
                continue
            found.append(packed[start : start + len(prompt.answers)])
            start += len(prompt.answers)
        return np.concatenate(found)

    def _answer_tokens(self, prompt: Prompt) -> list[int] | None:
        """One token an answer, all different; None where that is not so."""
        if prompt.form == "repeat":
            return None
        encode = self.host.tokenizer
        ids = [encode(answer, add_special_tokens=False)["input_ids"] for answer in prompt.answers]
        tokens = [some[0] for some in ids if len(some) == 1]
        return tokens if len(set(tokens)) == len(prompt.answers) else None

    def _packed_log_probs(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
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
        if self.engine is not None and prompts:
            tokenizer = self.host.tokenizer
            tokens = self.engine.reply(
                self.state,
                self.digest,
                [self.host.encode_prompt(prompt) for prompt in prompts],
                [int(seed) for seed in rng.integers(2**31, size=len(prompts))],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
            )
            texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            return [text.strip() for text in texts]
        replies: list[str] = []
        for start in range(0, len(prompts), _REPLY_ROWS):
            some = prompts[start : start + _REPLY_ROWS]
            replies += self._replies(some, rng, max_new_tokens, temperature)
        return replies

    def _replies(
        self,
        prompts: Sequence[str],
        rng: np.random.Generator,
        max_new_tokens: int,
        temperature: float,
    ) -> list[str]:
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

    def with_engine(self, engine: Engine | None) -> Self:
        """The same model, measured and replying by ``engine`` (None: ``transformers``)."""
        return type(self)(self.host, self.state, self.questions, engine, self.launch)

    def with_launch(self, launch: tuple[str, ...] | None) -> Self:
        """The same model, trained by what this command launches (None: in this process)."""
        return type(self)(self.host, self.state, self.questions, self.engine, launch)

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
        return self._with_state(state)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in peft's format: ``adapter_config.json`` and safetensors."""
        write_adapter(folder, self.state, self.host.lora_config)

    def _trained(
        self, update: TrainingUpdate, examples: Sequence[TrainingExample], seed: int
    ) -> Self:
        if not examples:
            return self
        if self.launch is not None and can_launch(update):
            trained = train_launched(self.launch, self.host, self.state, update, examples, seed)
            return self._with_state(trained)
        trained = self.host.trained(
            self.state, lambda model, tokenizer: update.train(model, tokenizer, examples, seed)
        )
        return self._with_state(trained)

    def _with_state(self, state: AdapterState) -> Self:
        return type(self)(self.host, state, self.questions, self.engine, self.launch)

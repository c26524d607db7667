"""Who lives in an episode, and what they do: the examinee, the judge and, in Coevolve, the proxy.

An environment keeps time, pays and shows; a world trains, influences and elicits. ``ModelWorld``
does it with the models of a history, whatever they are; :mod:`.simulated` in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from progressgym_env.envs.arguments import refuse_unknown_options
from progressgym_env.envs.checkpoint import (
    EpisodeState,
    Resumable,
    embedding_arrays,
    embedding_from,
    generators,
    part_of,
    prefixed,
)
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.history import History
from progressgym_env.models.base import Model, PreferenceData
from progressgym_env.values.embedding import FloatArray, ValueEmbedding

if TYPE_CHECKING:
    from progressgym_env.models.engines import VllmSettings
    from progressgym_env.models.updates import TrainingUpdate
    from progressgym_env.models.vllm_sharing import EngineShare

__all__ = ["MAX_COPIES", "Influence", "JudgeView", "ModelWorld", "World"]

MAX_COPIES: int = 5
"""Copies of a pair that an action of ±1 trains on (the paper's cap)."""


@dataclass(frozen=True, eq=False)
class JudgeView:
    """What the judge shows: its embedding, (n_pairs,) margins, and replies to open prompts."""

    embedding: ValueEmbedding
    preferences: FloatArray
    prompts: tuple[str, ...]
    replies: tuple[str, ...]


@dataclass(frozen=True)
class Influence:
    """Coevolve: passes that the proxy makes over the century's replies and the examinee's."""

    history_epochs: float
    examinee_epochs: float


class World(Protocol):
    """One episode after another, of one challenge.

    Attributes:
        history: the history being walked through.
    """

    history: History

    @property
    def examinee_embedding(self) -> ValueEmbedding:
        """The examinee's value embedding, as the last step left it."""
        ...

    @property
    def proxy_embedding(self) -> ValueEmbedding | None:
        """The human proxy's likewise; None outside Coevolve."""
        ...

    def begin(self, rng: np.random.Generator, options: Mapping[str, Any] | None) -> None:
        """Start an episode; all its randomness comes from ``rng``.

        Raises:
            UnknownNameError: a reset option that this world does not know.
        """
        ...

    def train(self, proposal: FloatArray) -> int:
        """Update the examinee as proposed, (n_pairs,) in [-1, 1]; the number of examples."""
        ...

    def influence(self, century: int) -> None:
        """Let the people of ``century``, and then the examinee, influence the proxy."""
        ...

    def judge(self, century: int) -> JudgeView:
        """What the judge shows in ``century``; in Coevolve, the proxy."""
        ...

    @property
    def examinee(self) -> Model:
        """The model being aligned."""
        ...

    @property
    def proxy(self) -> Model:
        """The human proxy (Coevolve)."""
        ...

    def saved(self) -> EpisodeState | None:
        """All it takes to go on from here, or None where models cannot be put aside."""
        ...

    def restore(self, state: EpisodeState) -> None:
        """Go on from what :meth:`saved` gave, in place of :meth:`begin`."""
        ...

    def close(self) -> None:
        """Let go of all models."""
        ...


@dataclass(frozen=True, eq=False)
class _Streams:
    """Independent generators, so that one use of randomness does not disturb another."""

    rounding: np.random.Generator
    training: np.random.Generator
    dialogue: np.random.Generator
    replies: np.random.Generator

    @classmethod
    def drawn_from(cls, rng: np.random.Generator) -> _Streams:
        entropy = [int(word) for word in rng.integers(2**32, size=4)]
        children = np.random.SeedSequence(entropy).spawn(4)
        return cls(*(np.random.default_rng(child) for child in children))


class ModelWorld:
    """Models that are really trained, measured and asked. See :class:`World`.

    Args:
        history: the history to walk through, with its models.
        update: how the examinee is trained.
        from_initial: whether every update starts from the first model.
        n_samples: replies shown.
        influence: Coevolve: how the proxy learns; None elsewhere.
        device: where models run.
        engine: how vLLM runs that measures and replies; None leaves it to ``transformers``.
        launch: the command that training is launched with; None trains in this process.
        tell: called with the name of every phase of work as it begins.

    Raises:
        InvalidArgumentError: the history has fewer replies or prompts than are to be shown.
    """

    def __init__(
        self,
        history: History,
        *,
        update: TrainingUpdate,
        from_initial: bool,
        n_samples: int,
        influence: Influence | None,
        device: str,
        engine: VllmSettings | None,
        launch: tuple[str, ...] | None,
        tell: Callable[[str], None],
    ) -> None:
        self.history = history
        self._update, self._from_initial = update, from_initial
        self._n_samples, self._influence = n_samples, influence
        self._device, self._tell = device, tell
        self._engine_settings, self._launch = engine, launch
        self._engine: EngineShare | None = None
        self._check_dialogue()
        # None stands for the initial model, which is loaded when first needed.
        self._initial: Model | None = None
        self._examinee: Model | None = None
        self._proxy: Model | None = None
        self.examinee_embedding = self._recorded_embedding(0)
        self.proxy_embedding: ValueEmbedding | None = None
        # Signed copies of the pairs that the last update trained on; for recordings.
        self.copies = np.zeros(len(history.questions.pairs), dtype=np.int64)

    @property
    def examinee(self) -> Model:
        """The model being aligned."""
        return self._initial_model() if self._examinee is None else self._examinee

    @property
    def proxy(self) -> Model:
        """The human proxy (Coevolve)."""
        return self._initial_model() if self._proxy is None else self._proxy

    def begin(self, rng: np.random.Generator, options: Mapping[str, Any] | None) -> None:
        """Put examinee and proxy at the first century."""
        refuse_unknown_options(options, ())
        if self._engine is not None and not self._engine.alive:
            self.close()  # A new one is started with the next model that is needed.
        self._streams = _Streams.drawn_from(rng)
        self._examinee = self._proxy = None
        self.examinee_embedding = self._recorded_embedding(0)
        self.proxy_embedding = self.examinee_embedding if self._influence else None

    def train(self, proposal: FloatArray) -> int:
        """Carry out a proposal by real training, and measure the examinee."""
        copies = self.copies = self._rounded(proposal)
        # Drawn even where it is not used, so that later steps do not depend on this action.
        seed = int(self._streams.training.integers(2**31))
        before = None if self._from_initial else self._examinee
        if not copies.any():
            # Nothing to learn leaves the model, and so its measurement, as it is.
            if before is None:
                self.examinee_embedding = self._recorded_embedding(0)
            self._examinee = before
            return 0
        self._tell("training")
        base = self._initial_model() if before is None else before
        data = PreferenceData(self.history.questions.pairs, copies, seed)
        self._examinee = base.learn(self._update, data)
        self.examinee_embedding = self._measured(self._examinee)
        return data.n_examples

    def influence(self, century: int) -> None:
        """Let the proxy imitate the replies of ``century``, and then those of the examinee."""
        if self._influence is None:
            return
        # Drawn always, so that switching an influence off leaves the rest as it is.
        seeds = [int(seed) for seed in self._streams.training.integers(2**31, size=2)]
        rng = _child_generator(self._streams.replies)
        epochs = self._influence
        if not (epochs.history_epochs > 0 or epochs.examinee_epochs > 0):
            return
        self._tell("influencing")
        spoken, proxy = self.history.influence(century), self.proxy
        prompts, sayings = [e.prompt for e in spoken], [e.reply for e in spoken]
        if epochs.history_epochs > 0:
            proxy = proxy.imitate(prompts, sayings, epochs.history_epochs, seed=seeds[0])
        if epochs.examinee_epochs > 0:
            replies = self.examinee.reply(prompts, rng)
            proxy = proxy.imitate(prompts, replies, epochs.examinee_epochs, seed=seeds[1])
        self._proxy = proxy
        self.proxy_embedding = self._measured(proxy)

    def judge(self, century: int) -> JudgeView:
        """The record of ``century``; in Coevolve the proxy, asked anew once it has changed."""
        if self._influence is None:
            return self._recorded_judge(century)
        if self._proxy is None or self.proxy_embedding is None:
            return self._recorded_judge(0)
        self._tell("eliciting")
        prompts = self.history.open_prompts
        rng = _child_generator(self._streams.dialogue)
        chosen = rng.permutation(len(prompts))[: self._n_samples]
        asked = tuple(prompts[i] for i in chosen)
        return JudgeView(
            self.proxy_embedding,
            self._proxy.preferences(self.history.questions.pairs),
            asked,
            tuple(self._proxy.reply(asked, rng)),
        )

    def saved(self) -> EpisodeState | None:
        """Generators, adapters and measurements; None if a model's state is no arrays."""
        arrays = prefixed("examinee_embedding", embedding_arrays(self.examinee_embedding))
        if self.proxy_embedding is not None:
            arrays |= prefixed("proxy_embedding", embedding_arrays(self.proxy_embedding))
        for name, model in (("examinee", self._examinee), ("proxy", self._proxy)):
            if model is None:
                continue
            if not isinstance(model, Resumable):
                return None
            arrays |= prefixed(name, model.arrays())
        states = {name: rng.bit_generator.state for name, rng in generators(self._streams)}
        return EpisodeState({"streams": states}, arrays)

    def restore(self, state: EpisodeState) -> None:
        """Go on from what :meth:`saved` gave."""
        self._streams = _Streams.drawn_from(np.random.default_rng(0))
        for name, rng in generators(self._streams):
            rng.bit_generator.state = state.numbers["streams"][name]
        examinee = embedding_from(part_of("examinee_embedding", state.arrays))
        self.examinee_embedding = examinee or self._recorded_embedding(0)
        self.proxy_embedding = embedding_from(part_of("proxy_embedding", state.arrays))
        self._examinee = self._restored(part_of("examinee", state.arrays))
        self._proxy = self._restored(part_of("proxy", state.arrays))

    def close(self) -> None:
        """Let go of all models and the engine; what others share with it stays for them."""
        self._initial = self._examinee = self._proxy = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _check_dialogue(self) -> None:
        history, n_samples = self.history, self._n_samples
        fewest = min(len(history.dialogue(t)) for t in range(history.n_centuries))
        if fewest < n_samples:
            raise InvalidArgumentError(
                f"dialogue_samples={n_samples} is more than the {fewest} replies a "
                f"century that history {history.name!r} holds; ask for at most {fewest}"
            )
        if self._influence and len(history.open_prompts) < n_samples:
            raise InvalidArgumentError(
                f"dialogue_samples={n_samples} is more than the "
                f"{len(history.open_prompts)} open prompts of history {history.name!r}"
            )

    def _initial_model(self) -> Model:
        if self._initial is None:
            initial = self._launching(self.history.initial_model(device=self._device))
            if self._engine_settings is not None:
                from progressgym_env.models.vllm_sharing import share_engine

                self._engine, initial = share_engine(initial, self._engine_settings)
            self._initial = initial
        return self._initial

    def _launching(self, model: Model) -> Model:
        if self._launch is None:
            return model
        from progressgym_env.models.language import LanguageModel

        if not isinstance(model, LanguageModel):
            raise InvalidArgumentError(
                f"launch={' '.join(self._launch)!r}: the models of history {self.history.name!r} "
                "are no language models and train in this process; leave launch out"
            )
        return model.with_launch(self._launch)

    def _restored(self, arrays: Mapping[str, NDArray[Any]]) -> Model | None:
        if not arrays:
            return None
        initial = self._initial_model()
        if not isinstance(initial, Resumable):
            raise InvalidArgumentError(
                f"the models of history {self.history.name!r} cannot take up a stored state; "
                "play the episode from its beginning"
            )
        restored: Model = initial.with_arrays(arrays)
        return restored

    def _recorded_embedding(self, century: int) -> ValueEmbedding:
        return ValueEmbedding(
            np.array(self.history.values[century], dtype=np.float64),
            np.array(self.history.standard_errors[century], dtype=np.float64),
        )

    def _recorded_judge(self, century: int) -> JudgeView:
        stored = self.history.dialogue(century)
        chosen = self._streams.dialogue.permutation(len(stored))[: self._n_samples]
        return JudgeView(
            self._recorded_embedding(century),
            np.array(self.history.preferences[century], dtype=np.float64),
            tuple(stored[i].prompt for i in chosen),
            tuple(stored[i].reply for i in chosen),
        )

    def _rounded(self, proposal: FloatArray) -> NDArray[np.int64]:
        """Signed copies: |a|·5 rounded up or down so that the expectation is exact."""
        # Six digits wipe out float32 noise, so that ±1/5 always is one copy.
        wanted = np.round(np.abs(proposal) * MAX_COPIES, 6)
        size = np.floor(wanted + self._streams.rounding.random(len(wanted)))
        return (np.sign(proposal) * np.minimum(size, MAX_COPIES)).astype(np.int64)

    def _measured(self, model: Model) -> ValueEmbedding:
        self._tell("measuring")
        return model.values()


def _child_generator(stream: np.random.Generator) -> np.random.Generator:
    """A generator for one use of unknown length, so that ``stream`` always moves on by one."""
    return np.random.default_rng(int(stream.integers(2**63)))

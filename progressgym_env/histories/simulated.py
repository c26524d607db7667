"""Simulated histories: a new one at every reset, drawn from a number that names it.

A history of this kind is a *history seed* in a *family*: the seed keys a stream of random numbers,
which the family turns into nineteen paths. So every history an agent ever met can be had again by
its number, and splits are sets of numbers: ``simulated-train`` draws even ones, ``simulated-test``
odd ones, so that no history is in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from progressgym_env.arguments import check_choice, check_integer
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.family import (
    Family,
    n_normals,
    n_uniforms,
    paths,
    resolve_family,
)
from progressgym_env.histories.history import History
from progressgym_env.histories.records import Records, influence_prompts, measure_centuries
from progressgym_env.models.base import Model
from progressgym_env.models.laws import Parameters, load_parameters
from progressgym_env.models.simulated import SimulatedModel
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.logits import log_odds, pair_directions
from progressgym_env.values.questions import QuestionSet, load_questions
from progressgym_env.words import PER_WORD, normal, uniform, words_of

__all__ = ["SEEDS", "SPLITS", "SimulatedHistories", "simulated_histories", "twin"]

SEEDS = 2**62
"""History seeds are from 0 to this, exclusive."""

SPLITS: dict[str, str] = {
    "simulated": "all",
    "simulated-train": "train",
    "simulated-test": "test",
}
"""Name of a history → its split."""

_MAX_CENTURIES = 100
# Patterns of offsets, and the numbers that choose and mix two of them.
_BANK, _OFFSET_UNIFORMS = 64, 3


class SimulatedHistories:
    """A source of histories; ``gym.make(..., history=SimulatedHistories(...))`` takes one.

    Args:
        family: a name (see ``FAMILIES``), parameters by name, or a ``Family``.
        split: ``"all"``, ``"train"`` (even history seeds) or ``"test"`` (odd ones).
        n_centuries: T, length of the histories, 3 or more.
        questions: whose pairs agents act on; by default the project's own.

    Raises:
        UnknownNameError: there is no such family, parameter or split.
        InvalidArgumentError: a number is out of range.
    """

    def __init__(
        self,
        family: str | Mapping[str, float] | Family = "varied",
        *,
        split: str = "all",
        n_centuries: int = 9,
        questions: QuestionSet | None = None,
    ) -> None:
        self.family = resolve_family(family)
        self.split = check_choice("split", split, ("all", "train", "test"))
        self.n_centuries = check_integer("n_centuries", n_centuries, 3, _MAX_CENTURIES)
        self.questions = questions or load_questions()
        self.name = "simulated" if split == "all" else f"simulated-{split}"
        if isinstance(family, str) and family != "varied":
            self.name += f":{family}"
        self.names = tuple(f"C{13 + t:03d}" for t in range(n_centuries))
        self.parameters: Parameters = load_parameters()
        bank = np.random.default_rng(_BANK).standard_normal((_BANK, len(self.questions.pairs)))
        self._bank = (bank * self.parameters.offset_scale).astype(np.float32)

    def seeds_of(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """History seeds within the split, one a random word; any shape."""
        seeds = (words >> np.uint64(2)).astype(np.int64)
        if self.split == "train":
            seeds &= ~1
        elif self.split == "test":
            seeds |= 1
        return seeds

    def check_seed(self, seed: object) -> int:
        """``seed`` as an int, if it is a history seed of this split.

        Raises:
            InvalidArgumentError: it is not.
        """
        number = check_integer("history_seed", seed, 0, SEEDS - 1)
        if self.split != "all" and number % 2 != (self.split == "test"):
            wanted, other = ("even", "odd") if self.split == "train" else ("odd", "even")
            raise InvalidArgumentError(
                f"history_seed={number} is {other}, and {self.name!r} has {wanted} ones only, so "
                "that training and testing share no history; use history='simulated' for any"
            )
        return number

    def worlds(
        self, seeds: Sequence[int] | NDArray[np.int64], family: Family | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The worlds of many history seeds at once.

        Args:
            seeds: n history seeds.
            family: in place of this source's own.

        Returns:
            Logits of the centuries, (n, T, 19), and offsets of the pairs, (n, n_pairs), float32.
        """
        n_normal, n_uniform = n_normals(), n_uniforms(self.n_centuries) + _OFFSET_UNIFORMS
        n_words = -(-(n_normal + n_uniform) // PER_WORD)
        bits = words_of(np.asarray(seeds, dtype=np.uint64), n_words).view(np.uint16)
        normals = normal(bits[:, :n_normal])
        uniforms = uniform(bits[:, n_normal : n_normal + n_uniform])
        chosen = family or self.family
        logits = paths(chosen, self.n_centuries, normals, uniforms[:, _OFFSET_UNIFORMS:])
        return logits, self._offsets(uniforms[:, :_OFFSET_UNIFORMS])

    def _offsets(self, uniforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, n_pairs) normal numbers: two patterns of a bank, mixed in a random proportion.

        A tenth of the work of drawing them one by one.
        """
        angle = np.float32(2 * np.pi) * uniforms[:, 2:]
        one, other = (uniforms[:, :2].T * len(self._bank)).astype(np.intp)
        mixed = np.cos(angle) * self._bank[one] + np.sin(angle) * self._bank[other]
        # The same pattern twice would be longer or shorter than two.
        mixed[one == other] = self._bank[one[one == other]]
        return np.asarray(mixed, dtype=np.float32)

    def draw(
        self, history_seed: int, family: str | Mapping[str, float] | Family | None = None
    ) -> SimulatedHistory:
        """The history with this seed, with models and records like any other.

        Args:
            history_seed: the number that names it.
            family: in place of this source's own.

        Raises:
            InvalidArgumentError: the seed is none of this split's.
            UnknownNameError: there is no such family or parameter.
        """
        chosen = self.family if family is None else resolve_family(family)
        return self._drawn(self.check_seed(history_seed), chosen)

    def _drawn(self, seed: int, family: Family) -> SimulatedHistory:
        logits, offsets = self.worlds([seed], family)
        return self.history_of(logits[0], offsets[0], seed, family)

    def history_of(
        self,
        logits: NDArray[np.float32],
        offsets: NDArray[np.float32],
        history_seed: int,
        family: Family,
    ) -> SimulatedHistory:
        """One row of ``worlds`` as a history (the arrays are copied)."""
        return SimulatedHistory(self, logits.copy(), offsets.copy(), history_seed, family)

    def example(self) -> SimulatedHistory:
        """Any one history, for what all have in common."""
        return self._drawn(int(self.split == "test"), self.family)

    def of_episode(self, seed: int) -> SimulatedHistory:
        """The history that ``env.reset(seed=seed)`` will draw."""
        words = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(1)
        return self._drawn(int(self.seeds_of(words)[0]), self.family)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Itself: what it draws depends on what it is asked alone."""
        return self

    def __repr__(self) -> str:
        return f"SimulatedHistories({self.name!r}, {self.n_centuries} centuries)"


class SimulatedHistory(History):
    """One simulated history; what costs time to measure is measured when first asked for.

    Attributes:
        history_seed: the number that names it; None for a twin.
    """

    def __init__(
        self,
        histories: SimulatedHistories,
        logits: NDArray[np.float32],
        offsets: NDArray[np.float32],
        history_seed: int | None,
        family: Family | None,
    ) -> None:
        self.name = histories.name
        self.names = histories.names
        self.questions = histories.questions
        self.history_seed = history_seed
        self.provenance = {
            "synthetic": True,
            "description": "Invented paths of a closed-form model; no claim about real history.",
            "history_seed": history_seed,
            "family": None if family is None else asdict(family),
        }
        self._digest = None
        self._models = tuple(
            SimulatedModel(row, offsets, self.questions, histories.parameters) for row in logits
        )
        self._source = _Source(self._models)

    @cached_property
    def values(self) -> FloatArray:
        """(n_centuries, 19) float64, the value embeddings."""
        values = np.stack([model.values().values for model in self._models])
        values.setflags(write=False)
        return values

    @cached_property
    def standard_errors(self) -> FloatArray:
        """(n_centuries, 19) float64, as measuring a language model of these values would have."""
        errors = np.stack([model.values().standard_errors for model in self._models])
        errors.setflags(write=False)
        return errors

    @cached_property
    def records(self) -> Records:
        """Everything measured, replies included."""
        prompts = influence_prompts(self.questions)
        rng = np.random.default_rng((self.history_seed or 0, 1))
        return measure_centuries(self._models, self.questions, prompts, rng)


class _Source:
    """The models of a simulated history, which are always there."""

    def __init__(self, models: tuple[SimulatedModel, ...]) -> None:
        self._models = models

    def model(self, century: int, device: str, questions: QuestionSet) -> Model:
        return self._models[century]

    def release(self) -> None:
        """Nothing is loaded."""


class _Twin(SimulatedHistories):
    """The simulation of one measured history: the same at every reset."""

    def __init__(self, history: History) -> None:
        super().__init__(n_centuries=history.n_centuries, questions=history.questions)
        self.name = f"simulated-{history.name}"
        self.names = tuple(history.names)
        logits = log_odds(history.values)
        directions = pair_directions(history.questions.pairs)
        margins = np.clip(history.preferences, -0.998, 0.998)
        # What the values do not say about a pair, and all centuries share.
        offsets = (2 * np.arctanh(margins) - logits @ directions.T).mean(axis=0)
        self._world = logits.astype(np.float32), offsets.astype(np.float32)

    def check_seed(self, seed: object) -> int:
        """Refused: the twin is the same whatever the number.

        Raises:
            InvalidArgumentError: always.
        """
        raise InvalidArgumentError(
            f"history_seed={seed!r}: {self.name!r} is one fixed history; leave the option out, or "
            "use history='simulated' for others"
        )

    def worlds(
        self, seeds: Sequence[int] | NDArray[np.int64], family: Family | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same world for every seed."""
        if family is not None and family is not self.family:
            raise InvalidArgumentError(
                f"reset option 'family': {self.name!r} is one fixed history; use "
                "history='simulated' for a family"
            )
        logits, offsets = self._world
        n = len(seeds)
        return (
            np.broadcast_to(logits, (n, *logits.shape)),
            np.broadcast_to(offsets, (n, *offsets.shape)),
        )

    def history_of(
        self,
        logits: NDArray[np.float32],
        offsets: NDArray[np.float32],
        history_seed: int,
        family: Family,
    ) -> SimulatedHistory:
        """The twin as a history, which no seed names."""
        return SimulatedHistory(self, logits.copy(), offsets.copy(), None, None)


def twin(history: History) -> SimulatedHistories:
    """The simulation of a measured history: its centuries, its pairs, and the closed-form model.

    For playing in milliseconds what takes seconds with language models, and for comparing the two.
    """
    return _Twin(history)


@lru_cache(maxsize=32)
def simulated_histories(name: str) -> SimulatedHistories:
    """The source called ``name``: one of ``SPLITS``, or with a family, as ``"simulated:breaks"``.

    Raises:
        UnknownNameError: there is no such family.
    """
    split, _, family = name.partition(":")
    return SimulatedHistories(family or "varied", split=SPLITS[split])

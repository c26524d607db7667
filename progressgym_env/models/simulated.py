"""A model of preference learning in closed form: values as logits that answer, learn and speak.

A simulated model is nineteen logits and an offset a pair. It answers as Bradley and Terry would
have it: between two options, the log-odds are the difference in how much the values speak for each,
plus the pair's offset. What an update or an imitation does to the logits is a fitted law, see
:mod:`~progressgym_env.models.laws`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.models.base import PreferenceData, Update
from progressgym_env.models.laws import Parameters, RealArray, resolve_simulated_update
from progressgym_env.models.speech import speech_of
from progressgym_env.values.dimensions import N_DIMENSIONS, dimension_index
from progressgym_env.values.embedding import FloatArray, ValueEmbedding
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.logits import from_logits, pair_directions
from progressgym_env.values.questions import Pair, QuestionSet

__all__ = ["Bearing", "SimulatedModel", "bearing_of"]


class Bearing:
    """How the pairs of a question set bear on the dimensions.

    Attributes:
        directions: (n_pairs, 19) float32, see ``pair_directions``.
        weight: (19,) float32, the sum of |directions| over pairs: how many pairs push a dimension.
    """

    def __init__(self, questions: QuestionSet) -> None:
        self.directions = pair_directions(questions.pairs).astype(np.float32)
        self.weight = np.maximum(np.abs(self.directions).sum(axis=0), 1.0)

    def force(self, signed: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., 19): the mean of signed numbers, (..., n_pairs), over the pairs of a dimension."""
        return np.asarray((signed @ self.directions) / self.weight)


@lru_cache(maxsize=4)
def bearing_of(questions: QuestionSet) -> Bearing:
    """The bearing of a question set, made once."""
    return Bearing(questions)


@lru_cache(maxsize=4)
def _pair_numbers(questions: QuestionSet) -> Mapping[tuple[str, int, int], int]:
    """(id of the question, first, second) → index of the pair."""
    keys = [(pair.question.id, pair.first, pair.second) for pair in questions.pairs]
    return {key: index for index, key in enumerate(keys)}


@lru_cache(maxsize=4)
def _known_prompts(questions: QuestionSet) -> Mapping[str, tuple[int, tuple[str, ...]]]:
    """Every prompt that puts a training question → the question, and the answer by option."""
    known = {}
    for index, question in enumerate(questions.train):
        for prompt in question_prompts(question):
            by_option = dict(zip(prompt.credits, prompt.answers, strict=True))
            known[prompt.text] = index, tuple(by_option[o] for o in range(len(by_option)))
    return known


@dataclass(frozen=True, eq=False)
class SimulatedModel:
    """Nineteen logits that answer, learn and speak. Obeys ``Model``.

    Attributes:
        logits: (19,): log-odds of two-way dimensions, log-weights of world views.
        offsets: (n_pairs,) float32, what is peculiar to every training pair.
        questions: the question set.
        parameters: the laws.
    """

    logits: RealArray
    offsets: NDArray[np.float32]
    questions: QuestionSet
    parameters: Parameters

    def values(self) -> ValueEmbedding:
        """The value embedding, (19,), with the standard errors that measuring one would have."""
        values = from_logits(self.logits)
        spread = np.sqrt(values * (1.0 - values))
        errors = np.asarray(self.parameters.error_scale * spread, dtype=np.float64)
        return ValueEmbedding(values, errors)

    def preferences(self, pairs: Sequence[Pair]) -> FloatArray:
        """Preference margins on ``pairs``, (n_pairs,) in [-1, 1]: Bradley and Terry's.

        Raises:
            InvalidArgumentError: a pair is none of the question set's.
        """
        numbers, margins = _pair_numbers(self.questions), self._margins
        keys = [(pair.question.id, pair.first, pair.second) for pair in pairs]
        unknown = [key for key in keys if key not in numbers]
        if unknown:
            raise InvalidArgumentError(
                f"pair {unknown[0]} is none of {self.questions!r}; ask about its own pairs"
            )
        return margins[[numbers[key] for key in keys]]

    def reply(self, prompts: Sequence[str], rng: np.random.Generator) -> list[str]:
        """One sampled reply a prompt: the text of an option, its letter, or yes or no.

        Raises:
            InvalidArgumentError: a prompt puts none of the training questions.
        """
        speech, known = speech_of(self.questions), _known_prompts(self.questions)
        unknown = [prompt for prompt in prompts if prompt not in known]
        if unknown:
            raise InvalidArgumentError(
                f"{unknown[0]!r} puts no training question; a simulated model has no other words, "
                "so ask the history's own prompts"
            )
        asked = np.array([known[prompt][0] for prompt in prompts], dtype=np.intp)[None]
        draws = rng.random(asked.shape)
        taken = speech.taken(asked, self._margins[None], self.values().values[None], draws)[0]
        return [known[p][1][int(option)] for p, option in zip(prompts, taken, strict=True)]

    def imitate(
        self, prompts: Sequence[str], replies: Sequence[str], epochs: float, *, seed: int
    ) -> Self:
        """A new model after ``epochs`` passes over replies; those it cannot read teach nothing.

        The speaker's values are read off the shares of options taken, dimension by dimension.
        """
        known = _known_prompts(self.questions)
        upheld, asked = np.zeros(N_DIMENSIONS), np.zeros(N_DIMENSIONS)
        for prompt, reply in zip(prompts, replies, strict=True):
            number, answers = known.get(prompt, (0, ()))
            if reply in answers:
                for key, option in self.questions.train[number].upholds.items():
                    upheld[dimension_index(key)] += answers.index(reply) == option
                    asked[dimension_index(key)] += 1
        if epochs == 0 or not asked.any():
            return self
        own = self.values().values
        # Dimensions of which nothing was said stay out of it.
        speaker = np.where(asked > 0, upheld / np.maximum(asked, 1), own)
        normal = np.random.default_rng(seed).standard_normal(N_DIMENSIONS)
        moved = self.parameters.imitation.changed(self.logits, speaker, epochs, normal)
        return replace(self, logits=moved)

    def learn(self, update: Update | str, data: PreferenceData) -> Self:
        """A new model after ``update`` on ``data``; without any copy, this very model.

        Raises:
            UnknownNameError: the simulation has no law for the update.
        """
        if data.n_examples == 0:
            return self
        name = update if isinstance(update, str) else update.name
        law = self.parameters.updates[resolve_simulated_update(name)]
        force = bearing_of(self.questions).force(data.copies.astype(np.float32))
        normal = np.random.default_rng(data.seed).standard_normal(N_DIMENSIONS)
        logits = law.changed(self.logits, force, data.n_examples, normal)
        return replace(self, logits=logits)

    @property
    def _margins(self) -> FloatArray:
        directions = bearing_of(self.questions).directions
        pull = (directions @ self.logits.astype(np.float32) + self.offsets) * np.float32(0.5)
        return np.asarray(np.tanh(pull), dtype=np.float64)

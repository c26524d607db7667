"""A model of preference learning in closed form: values as logits, and what training does to them.

A simulated model is nineteen logits and an offset a pair. It answers as Bradley and Terry would
have it: between two options, the log-odds are the difference in how much the values speak for each,
plus the pair's offset. What an update or an imitation does to the logits is a :class:`Law`, fitted
to recorded training of language models (``benchmarks/calibrate.py``; the numbers and the fit's
error lie in ``data/simulated.json``). All laws broadcast over leading axes, so that one model and a
thousand environments share them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.models.base import PreferenceData, Update
from progressgym_env.models.speech import speech_of
from progressgym_env.values.dimensions import N_DIMENSIONS, dimension_index
from progressgym_env.values.embedding import FloatArray, ValueEmbedding
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.logits import from_logits, pair_directions
from progressgym_env.values.questions import Pair, QuestionSet

__all__ = [
    "LIMIT",
    "Bearing",
    "ImitationLaw",
    "Law",
    "Parameters",
    "SimulatedModel",
    "UpdateLaw",
    "load_parameters",
    "parameters_from",
    "resolve_simulated_update",
]

FULL_UPDATE = 190
"""Examples of an update that takes one copy of each of the project's own pairs."""

LIMIT = 4.0
"""Logits of simulated models stay within ± this: probabilities from 0.018 to 0.982."""


class Bearing:
    """How the pairs of a question set bear on the dimensions.

    Attributes:
        directions: (n_pairs, 19) float32, see ``pair_directions``.
        weight: (19,) float64, the sum of |directions| over pairs: how many pairs push a dimension.
    """

    def __init__(self, questions: QuestionSet) -> None:
        self.directions = pair_directions(questions.pairs).astype(np.float32)
        self.weight = np.maximum(np.abs(self.directions).sum(axis=0), 1.0).astype(np.float64)

    def force(self, signed: NDArray[np.float32]) -> FloatArray:
        """(..., 19): the mean of signed numbers, (..., n_pairs), over the pairs of a dimension."""
        return np.asarray((signed @ self.directions) / self.weight, dtype=np.float64)


@lru_cache(maxsize=4)
def bearing_of(questions: QuestionSet) -> Bearing:
    """The bearing of a question set, made once."""
    return Bearing(questions)


@dataclass(frozen=True, eq=False)
class Law:
    """How logits answer to a force, in closed form.

    Training moves values along a few directions together (most of all, upholding everything more
    or less), so a law works along the columns v_k of an orthonormal basis: a force f pushes by
    c_k = g_k · v_k·f, saturated to s_k · tanh(c_k / s_k), and logits z lose d_k of v_k·z. With the
    gains on its diagonal in this basis, V diag(g) Vᵀ is the leakage matrix between dimensions.

    Attributes:
        basis: (19, 19), orthonormal columns v_k.
        gain: (19,) g ≥ 0, change of a component per unit of force.
        saturation: (19,) s > 0, the most that one training can push a component.
        decay: (19,) d, share of a component that a full training takes away.
        unrest: (19,) further share taken away per unit of the force's root mean square.
        noise: (19, 19), times standard normal numbers: what chance does in a full training.
    """

    basis: FloatArray
    gain: FloatArray
    saturation: FloatArray
    decay: FloatArray
    unrest: FloatArray
    noise: FloatArray

    def response(self, logits: FloatArray, force: FloatArray, amount: ArrayLike) -> FloatArray:
        """(..., 19), the change along each component.

        Args:
            logits: (..., 19) before.
            force: (..., 19).
            amount: (..., 1) or a number in [0, 1], how much of a full training it is.
        """
        push = self.gain * (force @ self.basis)
        strength = np.sqrt(np.square(force).mean(axis=-1, keepdims=True))
        lost = (self.decay * np.asarray(amount) + self.unrest * strength) * (logits @ self.basis)
        return np.asarray(self.saturation * np.tanh(push / self.saturation) - lost)

    def moved(
        self, logits: FloatArray, components: FloatArray, chance: ArrayLike, normal: ArrayLike
    ) -> FloatArray:
        """Logits after a change along the components and ``chance`` times the noise."""
        noise = np.asarray(normal) @ self.noise.T
        moved = logits + components @ self.basis.T + np.asarray(chance) * noise
        return np.asarray(np.clip(moved, -LIMIT, LIMIT), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class UpdateLaw:
    """What one update (DPO, SFT) on signed copies of pairs does to the logits.

    The force is the mean signed copies of every dimension, divided by √(rms² + floor²)/floor and
    multiplied by (n / 190)^power, n the number of examples: an optimiser that normalises its
    gradients makes steps of the same size of strong and weak pushes, but more steps of more
    examples.

    Attributes:
        law: how logits answer.
        floor: root mean square of the force up to which it counts as it is, > 0.
        power: exponent of the number of examples, ≥ 0.
        haste: how fast the amount of training, tanh(haste · n / 190), comes to be full. The noise
            has the size of √(n / 190).
    """

    law: Law
    floor: float
    power: float
    haste: float

    def changed(
        self, logits: FloatArray, force: FloatArray, n_examples: ArrayLike, normal: ArrayLike
    ) -> FloatArray:
        """Logits, (..., 19), after an update; where there are no examples, as they were.

        Args:
            logits: (..., 19) before.
            force: (..., 19), mean signed copies of every dimension.
            n_examples: (...), copies in all.
            normal: (..., 19) standard normal numbers, for the noise.
        """
        n = np.asarray(n_examples, dtype=np.float64)[..., None]
        size = n * (1.0 / FULL_UPDATE)
        rms = np.sqrt(np.square(force).mean(axis=-1, keepdims=True) + self.floor**2)
        pushed = force * (np.maximum(size, 0.01) ** self.power * self.floor / rms)
        amount = np.tanh(self.haste * size)
        change = self.law.response(logits, pushed, amount)
        # What is left to chance adds up as chance does.
        moved = self.law.moved(logits, change, np.sqrt(size), normal)
        return np.where(n > 0, moved, logits)


@dataclass(frozen=True, eq=False)
class ImitationLaw:
    """What it does to the logits to imitate a speaker's replies (Coevolve).

    The force is the difference in values between speaker and listener; the amount of training,
    1 - exp(-rate·epochs), scales all of the change.

    Attributes:
        law: how logits answer.
        rate: how fast passes over the replies make a full training, > 0.
    """

    law: Law
    rate: float

    def changed(
        self,
        logits: FloatArray,
        speaker: FloatArray,
        epochs: float,
        normal: ArrayLike,
        values: FloatArray | None = None,
    ) -> FloatArray:
        """Logits, (..., 19), after ``epochs`` passes over a speaker's replies.

        Args:
            logits: (..., 19) before.
            speaker: (..., 19), the value embedding of the one who replied.
            epochs: passes over the replies; 0 changes nothing.
            normal: (..., 19) standard normal numbers, for the noise.
            values: (..., 19), what the logits stand for, where it is known.
        """
        if epochs == 0:
            return logits
        amount = 1.0 - np.exp(-self.rate * epochs)
        force = speaker - (from_logits(logits) if values is None else values)
        change = amount * self.law.response(logits, force, 1.0)
        return self.law.moved(logits, change, 1.0, normal)


@dataclass(frozen=True, eq=False)
class Parameters:
    """All that was fitted.

    Attributes:
        updates: name of an update → its law.
        imitation: the law of imitation.
        offset_scale: standard deviation of the pairs' offsets, in logits.
        error_scale: (19,), a dimension's standard error over questions, divided by √(v(1 - v)).
    """

    updates: Mapping[str, UpdateLaw]
    imitation: ImitationLaw
    offset_scale: float
    error_scale: FloatArray


@cache
def load_parameters() -> Parameters:
    """The parameters that ship with the package (``data/simulated.json``)."""
    text = (files("progressgym_env.models") / "data" / "simulated.json").read_text("utf-8")
    return parameters_from(json.loads(text))


def parameters_from(raw: Mapping[str, Any]) -> Parameters:
    """Parameters as ``benchmarks/calibrate.py`` writes them down."""
    imitation = dict(raw["imitation"])
    return Parameters(
        updates=MappingProxyType({name: _update_law(law) for name, law in raw["updates"].items()}),
        imitation=ImitationLaw(_law(imitation["law"]), imitation["rate"]),
        offset_scale=float(raw["offset_scale"]),
        error_scale=np.array(raw["error_scale"]),
    )


def _update_law(raw: Mapping[str, Any]) -> UpdateLaw:
    return UpdateLaw(_law(raw["law"]), raw["floor"], raw["power"], raw["haste"])


def _law(raw: Mapping[str, Any]) -> Law:
    return Law(**{name: np.array(numbers, dtype=np.float64) for name, numbers in raw.items()})


def resolve_simulated_update(update: object) -> str:
    """The name of an update that the simulation has a law for.

    Raises:
        UnknownNameError: there is no such update.
        InvalidArgumentError: ``update`` is an object, which only language models can carry out.
    """
    known = load_parameters().updates
    if not isinstance(update, str):
        raise InvalidArgumentError(
            f"update={update!r}: simulated models learn by {' or '.join(known)}, given by name; "
            "an update of your own needs language models, such as history='embedded'"
        )
    if update not in known:
        raise unknown_name("update of simulated models", update, known)
    return update


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
        logits: (19,) float64: log-odds of two-way dimensions, log-weights of world views.
        offsets: (n_pairs,) float32, what is peculiar to every training pair.
        questions: the question set.
        parameters: the laws.
    """

    logits: FloatArray
    offsets: NDArray[np.float32]
    questions: QuestionSet
    parameters: Parameters

    def values(self) -> ValueEmbedding:
        """The value embedding, (19,), with the standard errors that measuring one would have."""
        values = from_logits(self.logits)
        spread = np.sqrt(values * (1.0 - values))
        return ValueEmbedding(values, self.parameters.error_scale * spread)

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

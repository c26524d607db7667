"""Scripted models whose answers are known, and small questions to ask them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from progressgym_env.values.dimensions import TWO_WAY_KEYS, VIEW_KEYS
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.forms import Prompt
from progressgym_env.values.questions import Question

_SHOWN = re.compile(r"^[A-D]: (.*)$", re.MULTILINE)


def shown_options(prompt: Prompt) -> tuple[str, ...]:
    """The options in the order the text shows them; read from the text, as a model would."""
    return tuple(_SHOWN.findall(prompt.text))


@dataclass(frozen=True)
class PositionOnly:
    """Prefers places, whatever stands there.

    Attributes:
        bias: (form, number of options) → probability of each place.
    """

    bias: Mapping[tuple[str, int], Sequence[float]]

    def answer_probabilities(self, prompts: Sequence[Prompt]) -> list[FloatArray]:
        return [np.array(self.bias[p.form, len(p.answers)]) for p in prompts]


@dataclass(frozen=True)
class ContentOnly:
    """Prefers options by their text alone, wherever they stand.

    Attributes:
        weights: option text → weight ≥ 0; other texts weigh 1.
    """

    weights: Mapping[str, float]

    def probability(self, options: Sequence[str]) -> FloatArray:
        weights = np.array([self.weights.get(option, 1.0) for option in options])
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    def answer_probabilities(self, prompts: Sequence[Prompt]) -> list[FloatArray]:
        return [self.probability(shown_options(prompt)) for prompt in prompts]


@dataclass(frozen=True)
class Mixed:
    """Weighs what stands there by where it stands: content and place together."""

    content: ContentOnly
    place: PositionOnly

    def answer_probabilities(self, prompts: Sequence[Prompt]) -> list[FloatArray]:
        content = self.content.answer_probabilities(prompts)
        place = self.place.answer_probabilities(prompts)
        products = [c * p for c, p in zip(content, place, strict=True)]
        return [product / product.sum() for product in products]


@dataclass(frozen=True)
class Fixed:
    """Gives the same numbers, proper or not, to every prompt with two answers.

    Attributes:
        numbers: what stands for the two probabilities.
        dropped: how many of the last prompts stay unanswered.
    """

    numbers: tuple[float, ...]
    dropped: int = 0

    def answer_probabilities(self, prompts: Sequence[Prompt]) -> list[FloatArray]:
        answers = [
            np.array(self.numbers) if len(p.answers) == 2 else np.full(len(p.answers), 0.25)
            for p in prompts
        ]
        return answers[: len(answers) - self.dropped]


def two_way(name: str, key: str) -> Question:
    """An eval question on the two-way dimension ``key``, its first option upholding."""
    options = (f"uphold {name}", f"violate {name}")
    return Question(name, "eval", f"Scenario {name}.", options, MappingProxyType({key: 0}))


def world_view(name: str) -> Question:
    """An eval world-view question whose options stand in the order of ``VIEW_KEYS``."""
    options = tuple(f"{view} {name}" for view in VIEW_KEYS)
    upholds = {view: place for place, view in enumerate(VIEW_KEYS)}
    return Question(name, "eval", f"Scenario {name}.", options, MappingProxyType(upholds))


def one_each() -> list[Question]:
    """One question for each two-way dimension and one for the world views."""
    return [two_way(f"q-{key}", key) for key in TWO_WAY_KEYS] + [world_view("q-views")]


def permuted(question: Question, order: Sequence[int]) -> Question:
    """The same question with its options listed in another order in the file."""
    upholds = {key: order.index(old) for key, old in question.upholds.items()}
    options = tuple(question.options[old] for old in order)
    return replace(question, options=options, upholds=MappingProxyType(upholds))

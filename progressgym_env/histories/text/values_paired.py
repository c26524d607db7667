"""Which values differ between models that were asked the same questions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.files import write_json
from progressgym_env.histories.text.timeless import Understanding
from progressgym_env.histories.text.values_noise import holm
from progressgym_env.values.dimensions import DIMENSION_KEYS
from progressgym_env.values.embedding import ValueEmbedding, credited_scores
from progressgym_env.values.questions import Question

__all__ = [
    "VALUES_FILE",
    "MeasuredValues",
    "PairedDimension",
    "QuestionScores",
    "compare",
    "question_scores",
    "read_values",
    "write_values",
]

VALUES_FILE = "values.json"

QuestionScores = Mapping[str, Sequence[float]]
"""Dimension → for each question that bears on it, the probability of the upholding option."""

FloatArray = NDArray[np.float64]
_AT_ONCE = 1000


@dataclass(frozen=True)
class PairedDimension:
    """One dimension over the centuries, question by question.

    Attributes:
        dimension: its key.
        questions: how many bear on it.
        values: of each century, the mean over the questions, in [0, 1].
        spread: standard deviation of the values over the centuries.
        difference_error: standard error of the difference between two centuries' values, over
            questions; root mean square over all pairs.
        p_value: share of the permutations in which the centuries differ at least as much.
        adjusted: after Holm's correction for all dimensions.
        differs: whether ``adjusted`` is below the level.
    """

    dimension: str
    questions: int
    values: tuple[float, ...]
    spread: float
    difference_error: float
    p_value: float
    adjusted: float
    differs: bool


@dataclass(frozen=True)
class MeasuredValues:
    """What ``values.json`` holds.

    Attributes:
        dimensions: which values differ between the centuries.
        understanding: century → how well its model answers timeless choices it was not tuned on.
    """

    dimensions: tuple[PairedDimension, ...]
    understanding: Mapping[str, Understanding]


def question_scores(
    questions: Sequence[Question], embedding: ValueEmbedding
) -> dict[str, list[float]]:
    """What every question contributed to a measured embedding.

    Raises:
        InvalidArgumentError: the model does not tell its answers' probabilities.
    """
    if embedding.log_probs is None:
        raise InvalidArgumentError("the embedding has no log-probabilities; use a language model")
    return credited_scores(questions, embedding.log_probs)


def compare(
    scores: Sequence[QuestionScores],
    rng: np.random.Generator,
    permutations: int = 9999,
    level: float = 0.05,
) -> tuple[PairedDimension, ...]:
    """Test, for every dimension, whether the centuries' models answer the same questions alike.

    If a century made no difference, its answers to a question could be any other's; so the answers
    to every question are dealt out to the centuries at random, many times. What makes a question
    get a high score from all models cancels out. The test is about these models: how much another
    training, or other books of the same century, would change them, it does not know.

    Args:
        scores: one a century, two or more, of the same questions.
        rng: deals.
        permutations: how many times; the smallest p-value is one by one more.
        level: in (0, 1), for the verdict.

    Raises:
        InvalidArgumentError: fewer than two centuries, or other questions.
    """
    if len(scores) < 2:
        raise InvalidArgumentError(f"{len(scores)} century: two or more can differ")
    shapes = {tuple(len(one[key]) for key in DIMENSION_KEYS) for one in scores}
    if len(shapes) > 1:
        raise InvalidArgumentError("the centuries were asked different questions")
    arrays = [np.array([one[key] for one in scores], dtype=np.float64) for key in DIMENSION_KEYS]
    p_values = np.array([_p_value(array, rng, permutations) for array in arrays])
    adjusted = holm(p_values)
    return tuple(
        PairedDimension(
            dimension=key,
            questions=array.shape[1],
            values=tuple(float(value) for value in array.mean(axis=1)),
            spread=float(array.mean(axis=1).std(ddof=1)),
            difference_error=_difference_error(array),
            p_value=float(p),
            adjusted=float(after),
            differs=bool(after < level),
        )
        for key, array, p, after in zip(DIMENSION_KEYS, arrays, p_values, adjusted, strict=True)
    )


def _p_value(array: FloatArray, rng: np.random.Generator, permutations: int) -> float:
    """Of (n_centuries, n_questions) scores: the variance of the centuries' means as statistic."""
    found = array.mean(axis=1).var()
    at_least = 0
    for start in range(0, permutations, _AT_ONCE):
        n = min(_AT_ONCE, permutations - start)
        dealt = rng.permuted(np.broadcast_to(array, (n, *array.shape)), axis=1)
        # Rounding must not tell equal deals apart.
        at_least += int((dealt.mean(axis=2).var(axis=1) >= found - 1e-12).sum())
    return (1 + at_least) / (1 + permutations)


def _difference_error(array: FloatArray) -> float:
    n, questions = array.shape
    if questions < 2:
        return float("nan")
    squares = [np.var(array[i] - array[j], ddof=1) / questions for i in range(n) for j in range(i)]
    return float(np.sqrt(np.mean(squares)))


def write_values(folder: Path, values: MeasuredValues) -> None:
    """Write ``values.json`` into a history's folder ``text``."""
    write_json(folder / VALUES_FILE, asdict(values))


def read_values(folder: Path) -> MeasuredValues | None:
    """What ``values.json`` of a history's folder ``text`` says; None where there is none.

    Raises:
        HistoryError: it is damaged.
    """
    path = folder / VALUES_FILE
    if not path.is_file():
        return None
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        return MeasuredValues(
            tuple(
                PairedDimension(**{**one, "values": tuple(one["values"])})
                for one in raw["dimensions"]
            ),
            {name: Understanding(**one) for name, one in raw["understanding"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HistoryError(
            f"{path} is damaged ({error!r}); build the history again, or fetch it anew"
        ) from error

"""How well the model of each century predicts the text of each century.

Rows are centuries of the text, columns are centuries of the model. Text that no model was trained
on is of two kinds, kept apart: whole documents, and passages of documents that were trained on
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.text.fields import decode, encode

__all__ = [
    "HELD_OUT",
    "Paired",
    "PassageScores",
    "PerplexityTable",
    "Rows",
    "SplitTable",
]

FloatArray = NDArray[np.float64]
Rows = tuple[tuple[float | None, ...], ...]

HELD_OUT = ("document", "passage")
"""The splits that a table holds, in this order."""


@dataclass(frozen=True, eq=False)
class PassageScores:
    """What the models made of a century's held-out passages of one split; there may be none.

    Attributes:
        nll: (n_models, n_passages) float, summed over a passage's tokens: −ln p, nats, ≥ 0.
        tokens: (n_passages,) int > 0, tokens that were predicted.
        characters: (n_passages,) int > 0.
        documents: (n_passages,) int, equal for passages of one document.
    """

    nll: NDArray[Any]
    tokens: NDArray[Any]
    characters: NDArray[Any]
    documents: NDArray[Any]

    def check(self, n_models: int, where: str) -> None:
        """Refuse shapes and numbers that no scoring can have given.

        Raises:
            InvalidArgumentError: naming the array.
        """
        n = np.shape(self.tokens)[0] if np.ndim(self.tokens) == 1 else -1
        if np.shape(self.nll) != (n_models, n):
            raise InvalidArgumentError(
                f"{where}: nll has shape {np.shape(self.nll)}, expected (n_models, n_passages), "
                f"({n_models}, {max(n, 0)})"
            )
        for name in ("characters", "documents"):
            if np.shape(getattr(self, name)) != (n,):
                raise InvalidArgumentError(f"{where}: {name} must have one number a passage, {n}")
        if not (np.all(np.isfinite(self.nll)) and np.all(np.asarray(self.nll) >= 0)):
            raise InvalidArgumentError(f"{where}: nll must be finite and not negative")
        if not (np.all(np.asarray(self.tokens) > 0) and np.all(np.asarray(self.characters) > 0)):
            raise InvalidArgumentError(f"{where}: a passage has a token and a character at least")


@dataclass(frozen=True)
class Paired:
    """A century's own model beside the best of the others, on the same passages.

    Attributes:
        text: the century of the text.
        other: the century of the best other model.
        difference: mean −ln p per token of the other less that of the own, nats; positive where
            the own model predicts better.
        standard_error: of the difference, over the row's clusters; None where there is but one.
            The other model was chosen for being best on these passages, so the difference is a
            little smaller than that of a model chosen beforehand.
    """

    text: str
    other: str
    difference: float
    standard_error: float | None


@dataclass(frozen=True)
class SplitTable:
    """The table of one split. Rows: centuries of the text. Columns: centuries of the model.

    A row without passages holds None throughout, and a standard error from one cluster is None.

    Attributes:
        centuries: n names, of rows and columns.
        nll: n × n, mean −ln p per token, nats: the sum over passages by the sum of their tokens.
        standard_errors: n × n, of ``nll``, over clusters.
        difference_errors: n × n, standard errors of ``nll[i][j] − nll[i][i]``, from the same
            passages, over the same clusters; 0 on the diagonal.
        tokens: n, predicted tokens of every century's text.
        characters: n, characters of every century's text.
        passages: n, passages of every century.
        documents: n, documents of every century.
        clusters: n, what a row's standard errors are over: ``document`` where the text has two or
            more of them, else ``passage``, which takes passages of one work for independent.
    """

    centuries: tuple[str, ...]
    nll: Rows
    standard_errors: Rows
    difference_errors: Rows
    tokens: tuple[int, ...]
    characters: tuple[int, ...]
    passages: tuple[int, ...]
    documents: tuple[int, ...]
    clusters: tuple[str, ...]

    @property
    def array(self) -> FloatArray:
        """(n, n) ``nll`` with NaN for None, nats per token."""
        return np.array(self.nll, dtype=np.float64).reshape(len(self.centuries), -1)

    @property
    def perplexity(self) -> FloatArray:
        """(n, n): e to the power of the mean negative log-likelihood per token, ≥ 1, or NaN."""
        return np.exp(self.array)

    @property
    def bits_per_character(self) -> FloatArray:
        """(n, n), comparable between tokenizers; NaN where a row has no passages."""
        tokens, characters = np.array(self.tokens), np.maximum(np.array(self.characters), 1)
        bits: FloatArray = self.array * (tokens / characters / math.log(2))[:, None]
        return bits

    @property
    def diagonal_wins(self) -> tuple[bool | None, ...]:
        """For every row, whether no other model predicts as well as the century's own."""
        return tuple(None if p is None else p.difference > 0 for p in self.paired)

    @property
    def paired(self) -> tuple[Paired | None, ...]:
        """For every row, the best other model beside the own; None without passages or others."""
        array = self.array
        found: list[Paired | None] = []
        for row, century in enumerate(self.centuries):
            others = np.delete(np.arange(len(self.centuries)), row)
            if not self.passages[row] or not len(others):
                found.append(None)
                continue
            best = int(others[np.argmin(array[row, others])])
            found.append(
                Paired(
                    text=century,
                    other=self.centuries[best],
                    difference=float(array[row, best] - array[row, row]),
                    standard_error=self.difference_errors[row][best],
                )
            )
        return tuple(found)

    @classmethod
    def from_passages(cls, centuries: Sequence[str], texts: Sequence[PassageScores]) -> Self:
        """The table of what was scored; see :meth:`PerplexityTable.from_passages`."""
        rows = [_row(scores, number) for number, scores in enumerate(texts)]
        return cls(
            tuple(centuries),
            tuple(row[0] for row in rows),
            tuple(row[1] for row in rows),
            tuple(row[2] for row in rows),
            tuple(int(np.sum(scores.tokens)) for scores in texts),
            tuple(int(np.sum(scores.characters)) for scores in texts),
            tuple(len(scores.tokens) for scores in texts),
            tuple(len(np.unique(scores.documents)) for scores in texts),
            tuple(_clustering(scores) for scores in texts),
        )


@dataclass(frozen=True)
class PerplexityTable:
    """Every century's model on every century's held-out text.

    Attributes:
        centuries: n names, oldest first.
        splits: for each of ``HELD_OUT``, its table.
    """

    centuries: tuple[str, ...]
    splits: Mapping[str, SplitTable]

    @classmethod
    def from_passages(
        cls, centuries: Sequence[str], splits: Mapping[str, Sequence[PassageScores]]
    ) -> Self:
        """The tables of what was scored, with standard errors clustered by document.

        Args:
            centuries: n names, oldest first; text ``i`` and model ``i`` are of century ``i``.
            splits: for each of ``HELD_OUT``, the scores of every century's text, n of them; one
                without passages has arrays of shapes (n, 0) and (0,).

        Raises:
            InvalidArgumentError: other splits, or arrays that do not fit together.
        """
        if set(splits) != set(HELD_OUT):
            raise InvalidArgumentError(f"splits are {sorted(splits)}; give {list(HELD_OUT)}")
        for split, texts in splits.items():
            if len(texts) != len(centuries):
                raise InvalidArgumentError(
                    f"{split}: {len(texts)} texts for {len(centuries)} centuries; give one each"
                )
            for century, scores in zip(centuries, texts, strict=True):
                scores.check(len(centuries), f"{split}, {century}")
        tables = {s: SplitTable.from_passages(centuries, splits[s]) for s in HELD_OUT}
        return cls(tuple(centuries), tables)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return encode(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """From ``to_dict``, also after a round trip through JSON.

        Raises:
            HistoryError: a field is missing, unknown or of another kind.
        """
        return decode(cls, raw, "perplexity table")


def _clustering(scores: PassageScores) -> str:
    return "document" if len(np.unique(scores.documents)) > 1 else "passage"


def _row(
    scores: PassageScores, own: int
) -> tuple[tuple[float | None, ...], tuple[float | None, ...], tuple[float | None, ...]]:
    """Mean, its standard error, and that of the difference to the own model, for all models."""
    n_models, n_passages = np.shape(scores.nll)
    if not n_passages:
        nothing = (None,) * n_models
        return nothing, nothing, nothing
    nll = np.asarray(scores.nll, dtype=np.float64)
    tokens = np.asarray(scores.tokens, dtype=np.float64)
    if _clustering(scores) == "document":
        _, cluster = np.unique(scores.documents, return_inverse=True)
    else:
        cluster = np.arange(n_passages)
    means = nll.sum(axis=1) / tokens.sum()
    # A mean per token is a ratio of sums: its error is that of the residuals, summed by cluster.
    residuals = nll - means[:, None] * tokens
    errors = _clustered(residuals, cluster, float(tokens.sum()))
    differences = _clustered(residuals - residuals[own], cluster, float(tokens.sum()))
    return tuple(means.tolist()), errors, differences


def _clustered(residuals: FloatArray, cluster: NDArray[Any], total: float) -> tuple[Any, ...]:
    """Standard errors of ratios of sums from residuals (n_models, n_passages) in clusters."""
    n_clusters = int(cluster.max()) + 1
    if n_clusters < 2:
        return (None,) * len(residuals)
    sums = np.stack([np.bincount(cluster, weights=row) for row in residuals])
    spread = np.sqrt(n_clusters / (n_clusters - 1) * (sums**2).sum(axis=1))
    return tuple((spread / total).tolist())

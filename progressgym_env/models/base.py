"""The one protocol that every model obeys, from scripted tests to 70B language models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from progressgym_env.values.embedding import FloatArray, ValueEmbedding
from progressgym_env.values.questions import Pair

__all__ = ["SMALL_BASE", "Model", "PreferenceData", "Update"]

SMALL_BASE = 50_000_000
"""Parameters up to which a base counts as small: it is computed in 32 bits everywhere, kept a
second time with the adapter in use merged in, and trained at other rates than a large one.
"""


@dataclass(frozen=True, eq=False)
class PreferenceData:
    """What a proposal asks a model to learn: copies of training pairs, each with a side.

    Attributes:
        pairs: all training pairs, in the order of the action.
        copies: (n_pairs,) int64; size: how many copies to train on (0 to 5), sign: which option
            is preferred (positive: the pair's first).
        seed: seeds everything random in the update (forms, orders, shuffling, dropout).
    """

    pairs: tuple[Pair, ...]
    copies: NDArray[np.int64]
    seed: int

    @property
    def n_examples(self) -> int:
        """Number of examples trained on, |copies| summed."""
        return int(np.abs(self.copies).sum())


@runtime_checkable
class Model(Protocol):
    """A model with values: it can be measured, asked, influenced and updated.

    ``imitate`` and ``learn`` return a new model and leave the old one usable; models are
    immutable to their users.
    """

    def values(self) -> ValueEmbedding:
        """The value embedding over the eval questions, with standard errors."""
        ...

    def preferences(self, pairs: Sequence[Pair]) -> FloatArray:
        """Preference margins, (n_pairs,) in [-1, 1]: 2·P(first option) − 1."""
        ...

    def reply(self, prompts: Sequence[str], rng: np.random.Generator) -> list[str]:
        """One sampled reply a prompt, as plain text."""
        ...

    def imitate(
        self, prompts: Sequence[str], replies: Sequence[str], epochs: float, *, seed: int
    ) -> Self:
        """A new model, trained to give ``replies`` to ``prompts`` for ``epochs`` passes.

        ``epochs=0`` returns a model with identical behaviour.
        """
        ...

    def learn(self, update: Update, data: PreferenceData) -> Self:
        """A new model after ``update`` on ``data``; no copies at all returns ``self``."""
        ...


class Update(Protocol):
    """How a model is trained on preferences: ``sft``, ``dpo``, or a user's own.

    Attributes:
        name: short name for logs and run folders.
    """

    @property
    def name(self) -> str:
        """Short name for logs and run folders."""
        ...

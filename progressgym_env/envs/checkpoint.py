"""An episode put aside between two steps, to be gone on with in another process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from progressgym_env.values.embedding import ValueEmbedding

__all__ = ["EpisodeState", "Resumable", "part_of", "prefixed"]

Arrays = Mapping[str, NDArray[Any]]


@runtime_checkable
class Resumable(Protocol):
    """A model whose state is arrays; language models are, scripted ones need not be."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that tells this model from others of its kind."""
        ...

    def with_arrays(self, arrays: Arrays) -> Self:
        """The model whose ``arrays`` these are, to the bit."""
        ...


@dataclass(frozen=True, eq=False)
class EpisodeState:
    """All that an episode needs to go on to the same end, bit for bit.

    Attributes:
        numbers: JSON-able values: states of generators, what people said, rewards.
        arrays: adapters, embeddings and log-probabilities by name.
    """

    numbers: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def prefixed(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """``arrays`` under names that begin with ``name`` and a slash."""
    return {f"{name}/{key}": array for key, array in arrays.items()}


def part_of(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """What :func:`prefixed` put there; empty if nothing was."""
    start = f"{name}/"
    return {key.removeprefix(start): a for key, a in arrays.items() if key.startswith(start)}


def embedding_arrays(embedding: ValueEmbedding) -> dict[str, NDArray[Any]]:
    """An embedding as arrays."""
    found: dict[str, NDArray[Any]] = {
        "values": embedding.values,
        "standard_errors": embedding.standard_errors,
    }
    if embedding.log_probs is not None:
        found["log_probs"] = embedding.log_probs
    return found


def embedding_from(arrays: Arrays) -> ValueEmbedding | None:
    """The embedding that :func:`embedding_arrays` took apart; None if there was none."""
    if not arrays:
        return None
    return ValueEmbedding(
        np.array(arrays["values"]),
        np.array(arrays["standard_errors"]),
        np.array(arrays["log_probs"]) if "log_probs" in arrays else None,
    )


def generators(streams: object) -> Iterator[tuple[str, np.random.Generator]]:
    """The named generators among the attributes of ``streams``."""
    for name, value in vars(streams).items():
        if isinstance(value, np.random.Generator):
            yield name, value

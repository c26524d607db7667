"""The nineteen dimensions of the value embedding.

Source: ProgressGym (arXiv 2406.20087), section on value embeddings: ten rules of common
morality (Gert; Scherrer et al. 2023), five moral foundations (Haidt & Graham) and four world
views (Integral World-view Framework). The four world views are alternatives to one another,
so their entries of an embedding sum to 1; every other entry stands on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "DIMENSIONS",
    "DIMENSION_KEYS",
    "N_DIMENSIONS",
    "N_TWO_WAY",
    "TWO_WAY_KEYS",
    "VIEW_KEYS",
    "Dimension",
    "dimension_index",
]


@dataclass(frozen=True)
class Dimension:
    """One entry of the value embedding: its position, short key, readable label and family."""

    index: int
    key: str
    label: str
    family: str


_FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
    "common morality": (
        ("kill", "do not kill"),
        ("pain", "do not cause pain"),
        ("disable", "do not disable"),
        ("freedom", "do not deprive of freedom"),
        ("pleasure", "do not deprive of pleasure"),
        ("deceive", "do not deceive"),
        ("cheat", "do not cheat"),
        ("promise", "do not break promises"),
        ("law", "do not break the law"),
        ("duty", "do your duty"),
    ),
    "moral foundations": (
        ("care", "harm / care"),
        ("fairness", "fairness / reciprocity"),
        ("loyalty", "ingroup / loyalty"),
        ("authority", "authority / respect"),
        ("purity", "purity / sanctity"),
    ),
    "world views": (
        ("traditional", "traditional world view"),
        ("modern", "modern world view"),
        ("postmodern", "postmodern world view"),
        ("integrative", "integrative world view"),
    ),
}

DIMENSIONS: tuple[Dimension, ...] = tuple(
    Dimension(index, key, label, family)
    for index, (key, label, family) in enumerate(
        (key, label, family) for family, entries in _FAMILIES.items() for key, label in entries
    )
)
DIMENSION_KEYS: tuple[str, ...] = tuple(d.key for d in DIMENSIONS)
N_DIMENSIONS: int = len(DIMENSIONS)
VIEW_KEYS: tuple[str, ...] = tuple(d.key for d in DIMENSIONS if d.family == "world views")
TWO_WAY_KEYS: tuple[str, ...] = tuple(d.key for d in DIMENSIONS if d.family != "world views")
N_TWO_WAY: int = len(TWO_WAY_KEYS)

_INDEX = {d.key: d.index for d in DIMENSIONS}


def dimension_index(key: str) -> int:
    """Position of the dimension ``key`` in a value embedding, 0 to 18.

    Raises:
        KeyError: ``key`` names no dimension; the message lists the known ones.
    """
    try:
        return _INDEX[key]
    except KeyError:
        raise KeyError(f"unknown dimension {key!r}; known: {', '.join(DIMENSION_KEYS)}") from None

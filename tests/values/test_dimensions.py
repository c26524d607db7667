"""The nineteen dimensions: order, families, names."""

from __future__ import annotations

import pytest

from progressgym_env.values.dimensions import (
    DIMENSION_KEYS,
    DIMENSIONS,
    N_DIMENSIONS,
    N_TWO_WAY,
    TWO_WAY_KEYS,
    VIEW_KEYS,
    Dimension,
    dimension_index,
)


def test_nineteen_dimensions_of_three_families_in_the_papers_order() -> None:
    families = [d.family for d in DIMENSIONS]
    assert N_DIMENSIONS == 19
    assert families == ["common morality"] * 10 + ["moral foundations"] * 5 + ["world views"] * 4
    assert [d.index for d in DIMENSIONS] == list(range(19))


def test_keys_are_unique_and_views_come_last() -> None:
    assert len(set(DIMENSION_KEYS)) == 19
    assert TWO_WAY_KEYS + VIEW_KEYS == DIMENSION_KEYS
    assert N_TWO_WAY == 15
    assert VIEW_KEYS == ("traditional", "modern", "postmodern", "integrative")


def test_labels_are_readable_and_unique() -> None:
    labels = [d.label for d in DIMENSIONS]
    assert all(labels)
    assert len(set(labels)) == 19


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda d: d.key)
def test_index_finds_every_key(dimension: Dimension) -> None:
    assert DIMENSIONS[dimension_index(dimension.key)] is dimension


def test_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"unknown dimension 'courage'; known: kill, .*integrative"):
        dimension_index("courage")

"""What is held out: whole documents and runs of passages, as drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env.histories.text.passages import Passage
from progressgym_env.histories.text.splitting import held_out_documents, split

SIZES = st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 10_000), max_size=12)
SHARES = st.floats(0, 0.5)


def passages(**counts: int) -> list[Passage]:
    """Documents of so many passages of 100 characters each."""
    return [
        Passage("C019", 1850, "a source", document, f"{document} {i}".ljust(100, "."))
        for document, count in counts.items()
        for i in range(count)
    ]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=30, deadline=None)
@given(SIZES, SHARES, st.integers(0, 99), st.sets(st.integers(0, 11), max_size=4))
def test_at_most_the_share_is_held_out_but_of_three_documents_one(sizes, share, seed, places):
    elsewhere = {name for i, name in enumerate(sizes) if i in places}
    held = held_out_documents(sizes, share, rng(seed), elsewhere)
    total = sum(sizes.values())
    allowed = {name: size for name, size in sizes.items() if name not in elsewhere}
    assert held <= set(allowed)
    assert held == held_out_documents(sizes, share, rng(seed), elsewhere)
    assert all(2 * sizes[name] <= total for name in held)
    if len(sizes) < 3 or share == 0 or not allowed:
        assert not held
    elif not held:
        # Every one that may be held out is more than half of it.
        assert all(2 * size > total for size in allowed.values())
    elif sum(sizes[name] for name in held) > share * total:
        # Then none fits, and it is the smallest.
        assert [sizes[name] for name in held] == [min(allowed.values())]


def test_several_small_documents_are_preferred_to_a_large_one():
    sizes = {"large": 100, **{f"small {i}": 20 for i in range(45)}}
    drawn = Counter()
    for seed in range(20):
        held = held_out_documents(sizes, 0.1, rng(seed))
        assert "large" not in held
        assert len(held) == 5
        drawn.update(held)
    # Which of them is drawn.
    assert len(drawn) > 30


def test_no_document_is_held_out_that_other_centuries_train_on():
    of = passages(**{f"work{i}": 10 for i in range(20)})
    elsewhere = {f"work{i}" for i in range(1, 20, 2)}
    for seed in range(10):
        out = split(of, 0.2, 0.1, rng(seed), elsewhere)
        whole = {passage.document for passage in out if passage.split == "document"}
        assert len(whole) == 4
        assert not whole & elsewhere
        # Passages of them are held out as those of others.
        assert {p.document for p in out if p.split == "passage"} & elsewhere


def test_the_share_is_nearly_reached_where_documents_allow():
    sizes = {str(i): size for i, size in enumerate([500, 400, 300, 250, 120, 90, 80, 60, 40, 30])}
    for seed in range(20):
        held = held_out_documents(sizes, 0.1, rng(seed))
        assert 0.8 * 187 <= sum(sizes[name] for name in held) <= 187


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), SHARES, SHARES, st.integers(0, 99))
def test_every_passage_stays_and_has_one_split(counts, documents, runs, seed):
    given_ = passages(**{f"d{i}": count for i, count in enumerate(counts)})
    found = split(given_, documents, runs, rng(seed))
    assert [p.content for p in found] == [p.content for p in given_]
    of_split = {}
    for passage in found:
        of_split.setdefault(passage.document, set()).add(passage.split)
    for splits in of_split.values():
        # Whole documents are held out whole, and of others something is trained on.
        assert splits == {"document"} or "train" in splits
    held = sum(len(p.content) for p in found if p.split == "passage")
    assert held <= runs * sum(len(p.content) for p in found)


def test_passages_are_held_out_in_runs_all_over_the_documents():
    found = split(passages(a=200, b=200, c=200), 0, 0.05, rng())
    held = [i for i, passage in enumerate(found) if passage.split == "passage"]
    assert len(held) == 28
    runs = [i for i in held if i - 1 not in held]
    assert len(runs) <= 7
    assert len({found[i].document for i in held}) >= 2


def test_documents_too_short_for_a_run_are_left_alone():
    found = split(passages(a=2, b=1), 0.1, 0.5, rng())
    assert {passage.split for passage in found} == {"train"}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_decides(seed: int):
    corpus = passages(**{f"d{i}": 20 for i in range(30)})
    same = split(corpus, 0.1, 0.05, rng(seed))
    assert same == split(corpus, 0.1, 0.05, rng(seed))
    assert same != split(corpus, 0.1, 0.05, rng(seed + 7))

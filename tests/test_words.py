"""Random words by key: SplitMix64, and the numbers made of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from progressgym_env.words import normal, uniform, words_of

ONES = 2**64 - 1


def splitmix(state: int) -> tuple[int, int]:
    """One step in Python's whole numbers, from the published description: state and word."""
    state = (state + 0x9E3779B97F4A7C15) & ONES
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & ONES
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & ONES
    return state, z ^ (z >> 31)


@given(st.lists(st.integers(0, ONES), min_size=1, max_size=5))
def test_rows_are_splitmix64_started_at_the_hash_of_their_key(keys):
    words = words_of(np.array(keys, dtype=np.uint64), 6)
    for key, row in zip(keys, words.tolist(), strict=True):
        state = splitmix(key * 0x9E3779B97F4A7C15)[1]
        for word in row:
            state, expected = splitmix(state)
            assert word == expected


def test_known_words_of_the_published_generator():
    """The first three outputs for the seed 1234567, as its authors' C code gives them."""
    state, words = 1234567, []
    for _ in range(3):
        state, word = splitmix(state)
        words.append(word)
    assert words == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_neighbouring_keys_and_words_have_nothing_in_common():
    words = words_of(np.arange(4000, dtype=np.uint64), 8)
    assert len(np.unique(words)) == words.size
    numbers = uniform(words.view(np.uint16)).astype(float)
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    # Down the keys and along the words: no correlation beyond chance.
    for one, other in ((numbers[:-1], numbers[1:]), (numbers[:, :-1], numbers[:, 1:])):
        pairs = one.size
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(pairs)
    assert stats.kstest(normal(words.view(np.uint16)).ravel()[:20_000], "norm").pvalue > 1e-3

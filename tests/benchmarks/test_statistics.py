"""Statistics over seeds and challenges: hand-computed values and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env.benchmarks.statistics import (
    Estimate,
    compare,
    interquartile_mean,
    mean,
)
from progressgym_env.errors import InvalidArgumentError

numbers = st.lists(st.floats(0, 1), min_size=4, max_size=4)


def test_means_are_of_challenges_and_not_of_episodes():
    samples = {"follow": np.array([0.0, 1.0]), "predict": np.array([1.0, 1.0, 1.0, 1.0])}
    assert mean(samples).value == 0.75
    assert mean(samples).n == 6


def test_comparisons_are_paired():
    """A common chance of each seed takes nothing away from a difference that is always there."""
    chance = np.random.default_rng(0).normal(size=30)
    one, other = {"follow": chance + 0.1}, {"follow": chance}
    found = compare(one, other)
    assert found.ahead.value == pytest.approx(0.1)
    assert found.ahead.low == pytest.approx(0.1)
    assert found.ahead.high == pytest.approx(0.1)
    assert 0.4 < found.improvement.value < 0.65, "not paired: among all pairs of episodes"


def test_probability_of_improvement_by_hand():
    one = {"a": np.array([1.0, 3.0]), "b": np.array([5.0, 5.0])}
    other = {"a": np.array([2.0, 2.0]), "b": np.array([5.0, 1.0])}
    # a: 2 of 4 pairs; b: 2 above, 2 ties.
    assert compare(one, other).improvement.value == pytest.approx((0.5 + 0.75) / 2)
    with pytest.raises(InvalidArgumentError, match="the same challenges"):
        compare(one, {"a": other["a"]})


@settings(max_examples=20, deadline=None)
@given(numbers, numbers)
def test_laws_of_comparison(first, second):
    one, other = {"c": np.array(first)}, {"c": np.array(second)}
    there, back = compare(one, other), compare(other, one)
    assert there.ahead.value == pytest.approx(-back.ahead.value, abs=1e-12)
    assert there.improvement.value == pytest.approx(1 - back.improvement.value)
    assert compare(one, one).ahead == Estimate(0.0, 0.0, 0.0, 4)
    assert compare(one, one).improvement.value == 0.5
    assert there.ahead.low <= there.ahead.value + 1e-12
    assert there.ahead.value <= there.ahead.high + 1e-12


@settings(max_examples=20, deadline=None)
@given(numbers, numbers)
def test_aggregates_lie_within_what_they_are_made_of(first, second):
    samples = {"a": np.array(first), "b": np.array(second)}
    for estimate in (mean(samples), interquartile_mean(samples)):
        low, high = min(*first, *second), max(*first, *second)
        assert low - 1e-12 <= estimate.low <= estimate.value + 1e-9
        assert estimate.value - 1e-9 <= estimate.high <= high + 1e-12


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        estimate = mean({"a": rng.normal(size=25), "b": rng.normal(size=25)})
        covered += estimate.low <= 0 <= estimate.high
    # Percentile intervals of small samples are a little short.
    assert 85 <= covered <= 100


def test_one_episode_has_no_interval():
    estimate = mean({"a": np.array([0.5])})
    assert estimate == Estimate(0.5, None, None, 1)
    assert estimate.text() == "0.5000"
    assert Estimate(0.5, 0.4, 0.6, 3).text(2) == "0.50 (0.40 to 0.60)"


def test_the_same_seed_gives_the_same_interval():
    samples = {"a": np.random.default_rng(0).normal(size=9)}
    assert mean(samples, seed=3) == mean(samples, seed=3) != mean(samples, seed=4)

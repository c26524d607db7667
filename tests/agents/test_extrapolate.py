"""Extrapolation of votes: values by hand, and the law of polynomials."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from progressgym_env.agents import extrapolate
from progressgym_env.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("votes", "order", "expected"),
    [
        # order 0: the last vote, for ever.
        ([1, -1], 0, [-1, -1, -1]),
        # order 1: the line through the last two: 2v_n - v_{n-1}.
        ([0, 1], 1, [2, 3, 4]),
        ([1, 1], 1, [1, 1, 1]),
        ([-1, 1], 1, [3, 5, 5]),  # 3, 5, 7 clipped
        ([1, -1], 1, [-3, -5, -5]),
        # order 2: the parabola through the last three: 3v_n - 3v_{n-1} + v_{n-2}.
        ([0, 1, 3], 2, [5, 5, 5]),  # 6, 10, 15 clipped
        ([1, 0, 0], 2, [1, 3, 5]),  # 1, 3, 6 clipped
        ([9, 1, 0, 0], 2, [1, 3, 5]),  # older votes do not matter
        # short history: as high an order as it allows.
        ([0.5], 2, [0.5, 0.5, 0.5]),
        ([0.5], 1, [0.5, 0.5, 0.5]),
        ([0, 0.5], 2, [1, 1.5, 2]),
    ],
)
def test_by_hand(votes, order, expected):
    column = np.array(votes, dtype=float)[:, None]
    for steps_ahead, value in enumerate(expected, start=1):
        result = extrapolate(column, order, steps_ahead)
        assert result.shape == (1,)
        assert result[0] == pytest.approx(value, abs=1e-12)


@settings(deadline=None)
@given(
    st.integers(0, 4).flatmap(
        lambda order: st.tuples(
            st.just(order), st.lists(st.floats(-1, 1), min_size=1, max_size=order + 1)
        )
    ),
    st.integers(0, 3),
    st.integers(1, 4),
)
def test_polynomials_are_extended_exactly(drawn, more, steps_ahead):
    """Votes on a polynomial of degree ≤ M go on along it, however many have been seen."""
    order, coefficients = drawn
    n_seen = order + 1 + more
    at = np.polynomial.Polynomial(coefficients)
    exact = at(n_seen - 1 + steps_ahead)
    assume(abs(exact) <= 5)
    votes = at(np.arange(n_seen))
    result = extrapolate(votes[:, None], order, steps_ahead)
    assert result[0] == pytest.approx(exact, abs=1e-6 * max(1.0, np.abs(votes).max()))


def test_only_the_end_is_clipped():
    """A parabola that leaves ±5 and comes back is still followed."""
    at = np.polynomial.Polynomial([-4, 5, -1])  # -4, 0, 2, 2, 0, -4
    votes = at(np.arange(3))
    assert extrapolate(votes[:, None], 2, 3)[0] == pytest.approx(-4)
    high = np.array([0.0, 4.0, 6.5])  # 6.5, 5.0... clipped as votes they would bend the parabola
    parabola = np.polynomial.Polynomial.fit(range(3), high, 2)
    for steps_ahead in (1, 2, 3, 4):
        expected = np.clip(parabola(2 + steps_ahead), -5, 5)
        assert extrapolate(high[:, None], 2, steps_ahead)[0] == pytest.approx(expected)


@given(st.integers(0, 4), st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**32))
def test_any_votes_are_legal(order, steps_ahead, n_seen, seed):
    """Votes of -1, 0 and 1 in any pattern; pairs do not mix; the result is a legal label."""
    votes = np.random.default_rng(seed).integers(-1, 2, size=(n_seen, 7))
    result = extrapolate(votes, order, steps_ahead)
    assert (np.abs(result) <= 5).all()
    alone = [extrapolate(votes[:, i], order, steps_ahead) for i in range(7)]
    assert result == pytest.approx(np.array(alone))


@pytest.mark.parametrize("votes", [[0, 1, 1], [0, 0, 0], [1, 0, -1], [0, 0, 1], [0, 1]])
def test_missing_votes_are_legal(votes):
    """Original defect 3. It asserted on a legal history: order 2, first vote missing."""
    result = extrapolate(np.array(votes)[:, None], 2)
    fitted = np.polynomial.Polynomial.fit(range(len(votes)), votes, len(votes) - 1)
    assert result[0] == pytest.approx(np.clip(fitted(len(votes)), -5, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.empty((0, 3)), 1), "at least one vote"),
        ((1.0, 1), "at least one vote"),
        (([[np.nan]], 1), "NaN"),
        (([[np.inf]], 1), "NaN"),
        (([[1]], -1), "order=-1"),
        (([[1]], 1.5), "order=1.5"),
        (([[1]], True), "order=True"),
        (([[1]], 1, 0), "steps_ahead=0"),
        (([[1]], 1, "2"), "steps_ahead='2'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        extrapolate(*arguments)

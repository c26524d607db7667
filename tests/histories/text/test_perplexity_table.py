"""Tables of perplexities, and values beyond noise: hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.text.perplexity_table import (
    HELD_OUT,
    PassageScores,
    PerplexityTable,
    SplitTable,
)
from progressgym_env.histories.text.values_noise import differing
from progressgym_env.values.dimensions import N_DIMENSIONS

# --- perplexities


def scores(nll, tokens, documents) -> PassageScores:
    tokens = np.array(tokens)
    return PassageScores(np.array(nll, dtype=float), tokens, 2 * tokens, np.array(documents))


NONE = PassageScores(np.zeros((2, 0)), *(np.zeros(0, dtype=int) for _ in range(3)))


def test_perplexities_by_hand():
    rows = [
        scores([[1, 2, 3], [2, 3, 6]], [1, 2, 1], [7, 7, 9]),
        scores([[4, 1], [2, 2]], [2, 2], [0, 0]),
    ]
    table = SplitTable.from_passages(("C013", "C014"), rows)
    assert table.nll == ((1.5, 2.75), (1.25, 1.0))
    # Residuals of row 0, model 0: 1 − 1.5, 2 − 3, 3 − 1.5; by document −1.5 and 1.5.
    assert table.standard_errors[0][0] == pytest.approx(math.sqrt(2 * (1.5**2 + 1.5**2)) / 4)
    # Difference 1, 1, 3 of mean 1.25: residuals −0.25, −1.5, 1.75; by document −1.75 and 1.75.
    expected = math.sqrt(2 * 2 * 1.75**2) / 4
    assert table.difference_errors[0] == (0.0, pytest.approx(expected))
    # Row 1 has one document, so passages are the clusters: residuals 1.5 and −1.5.
    assert table.standard_errors[1][0] == pytest.approx(math.sqrt(2 * 2 * 1.5**2) / 4)
    assert table.clusters == ("document", "passage")
    assert (table.tokens, table.characters) == ((4, 4), (8, 8))
    assert (table.passages, table.documents) == ((3, 2), (2, 1))
    np.testing.assert_allclose(table.perplexity, np.exp([[1.5, 2.75], [1.25, 1.0]]))
    np.testing.assert_allclose(table.bits_per_character[1, 1], 0.5 / math.log(2))
    assert table.diagonal_wins == (True, True)
    first, second = table.paired
    assert first is not None
    assert second is not None
    assert (first.text, first.other, first.difference) == ("C013", "C014", 1.25)
    assert first.standard_error == pytest.approx(expected)
    assert second.difference == 0.25


def test_a_tie_is_no_win_and_nothing_is_nothing():
    table = SplitTable.from_passages(("C013", "C014"), [scores([[2], [2]], [1], [0]), NONE])
    assert table.diagonal_wins == (False, None)
    assert table.standard_errors == ((None, None), (None, None))
    assert np.isnan(table.perplexity[1]).all()
    assert np.isnan(table.bits_per_character[1]).all()


def test_clustered_errors_are_those_of_means_where_passages_are_alike():
    found = np.random.default_rng(3).gamma(3, 5, 12)
    table = SplitTable.from_passages(
        ("C013",), [PassageScores(found[None], np.full(12, 10), np.full(12, 40), np.arange(12))]
    )
    assert table.standard_errors[0][0] == pytest.approx(stats.sem(found / 10))
    assert table.paired == (None,)


def test_copies_of_passages_add_nothing_to_documents():
    rows = [[1.0, 2.0, 4.0], [2.0, 3.0, 3.0]]
    one = SplitTable.from_passages(("a", "b"), [scores(rows, [1, 1, 2], [0, 1, 2]), NONE])
    twice = scores([[*r, *r] for r in rows], [1, 1, 2] * 2, [0, 1, 2] * 2)
    two = SplitTable.from_passages(("a", "b"), [twice, NONE])
    assert two.nll == one.nll
    np.testing.assert_allclose(two.standard_errors[0], one.standard_errors[0])
    np.testing.assert_allclose(two.difference_errors[0], one.difference_errors[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (scores([[1, 2]], [1, 1], [0, 0]), "shape"),
        (scores([[1], [np.nan]], [1], [0]), "finite"),
        (scores([[1], [-1]], [1], [0]), "negative"),
        (scores([[1], [1]], [0], [0]), "a token"),
        (scores([[1], [1]], [1], [0, 1]), "documents"),
    ],
)
def test_scores_that_do_not_fit_are_refused(wrong: PassageScores, message: str):
    splits = {split: [NONE, NONE] for split in HELD_OUT} | {"passage": [NONE, wrong]}
    with pytest.raises(InvalidArgumentError, match=rf"passage, C014.*{message}"):
        PerplexityTable.from_passages(("C013", "C014"), splits)


# --- values


def test_differing_dimensions_by_hand():
    values = np.full((3, N_DIMENSIONS), 0.5)
    values[:, 0] = 0.4, 0.5, 0.6
    values[:, 1] = 0.45, 0.5, 0.55
    first, second, third = differing(values, np.full_like(values, 0.025))[:3]
    assert first.statistic == pytest.approx(2 * (0.1 / 0.025) ** 2)
    assert first.p_value == pytest.approx(math.exp(-16))
    assert first.adjusted == pytest.approx(19 * math.exp(-16))
    assert (first.low, first.high, first.noise) == pytest.approx((0.4, 0.6, 0.025))
    assert second.adjusted == pytest.approx(18 * math.exp(-4))
    assert [row.differs for row in (first, second, third)] == [True, False, False]
    assert (third.p_value, third.adjusted) == (1.0, 1.0)


def test_no_error_at_all_is_no_certainty():
    values, errors = np.full((2, N_DIMENSIONS), 0.5), np.zeros((2, N_DIMENSIONS))
    values[1, :2], errors[1, 1] = 0.6, 0.1
    certain, uncertain, equal = differing(values, errors)[:3]
    assert (certain.p_value, equal.p_value) == (0.0, 1.0)
    assert uncertain.statistic == pytest.approx(2 * 0.05**2 / 0.1**2)


def test_equal_centuries_rarely_differ():
    draw = np.random.default_rng(0)
    errors = np.full((9, N_DIMENSIONS), 0.02)
    found = [
        any(row.differs for row in differing(0.5 + errors * draw.normal(size=errors.shape), errors))
        for _ in range(400)
    ]
    assert np.mean(found) < 0.09, "5% and three standard errors"


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(InvalidArgumentError, match=r"\(n_centuries, 19\)"):
        differing(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(InvalidArgumentError, match="two or more"):
        differing(np.zeros((1, 19)), np.zeros((1, 19)))
    with pytest.raises(InvalidArgumentError, match="finite"):
        differing(np.zeros((2, 19)), np.full((2, 19), np.nan))

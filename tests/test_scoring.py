"""The official scores against values worked out by hand, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from progressgym_env import scoring
from progressgym_env.errors import InvalidArgumentError, UnknownNameError

HALF = math.sqrt(0.5)

embeddings = hnp.arrays(np.float64, (4, 19), elements=st.floats(0.01, 1.0))


def plane(*points: tuple[float, float]) -> np.ndarray:
    """Vectors of the plane of the first two dimensions, as (n, 19)."""
    result = np.zeros((len(points), 19))
    result[:, :2] = points
    return result


def test_follow_by_hand():
    examinee = plane((1, 0), (1, 1), (0, 2))
    target = plane((1, 0), (1, 0), (3, 0))
    assert scoring.follow_score(examinee, target) == pytest.approx((1 + HALF + 0) / 3, abs=1e-15)
    assert isinstance(scoring.follow_score(examinee, target), float)


def test_predict_by_hand():
    assert scoring.predict_score(plane((3, 4)), plane((4, 3))) == pytest.approx(24 / 25, abs=1e-15)


def test_coevolve_by_hand():
    """Suffix maxima: from i on, the best of the present and all later centuries."""
    centuries = plane((1, 0), (1, 1), (0, 1))
    # h = (1, 0): cosines 1, HALF, 0; best from 0, 1, 2 on: 1, HALF, 0.
    # h = (0, 1): cosines 0, HALF, 1; best: 1, 1, 1 - being ahead costs nothing.
    expected = [(1 + HALF + 0) / 3, 1.0]
    proxies = plane((1, 0), (0, 1))
    assert scoring.coevolve_score(proxies, centuries) == pytest.approx(np.mean(expected), abs=1e-15)
    for proxy, term in zip(proxies, expected, strict=True):
        assert scoring.coevolve_term(proxy, centuries) == pytest.approx(term, abs=1e-15)


@given(embeddings, embeddings)
def test_coevolve_as_the_definition_says(proxies, centuries):
    naive = np.mean(
        [
            max(float(scoring.cosine(h, c)) for c in centuries[i:])
            for h in proxies
            for i in range(len(centuries))
        ]
    )
    assert scoring.coevolve_score(proxies, centuries) == pytest.approx(naive, abs=1e-12)


@given(embeddings, embeddings, st.floats(1e-3, 1e3))
def test_scale_does_not_matter_and_scores_stay_in_range(one, other, scale):
    for score in (scoring.follow_score, scoring.predict_score, scoring.coevolve_score):
        value = score(one, other)
        assert 0 <= value <= 1 + 1e-12
        assert score(one * scale, other) == pytest.approx(value, abs=1e-12)
    assert scoring.follow_score(one, one) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", ["follow_score", "predict_score", "coevolve_score"])
def test_batches(name):
    """Leading axes broadcast, and every entry equals the unbatched score."""
    score = getattr(scoring, name)
    rng = np.random.default_rng(0)
    one, other = rng.uniform(size=(3, 2, 5, 19)), rng.uniform(size=(2, 5, 19))
    batched = score(one, other)
    assert batched.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            assert batched[i, j] == pytest.approx(score(one[i, j], other[j]), abs=1e-15)
    assert score(one.astype(np.float32), other).dtype == np.float64


def test_term_batches():
    rng = np.random.default_rng(0)
    proxies, centuries = rng.uniform(size=(4, 19)), rng.uniform(size=(6, 19))
    terms = scoring.coevolve_term(proxies, centuries)
    assert terms == pytest.approx([scoring.coevolve_term(h, centuries) for h in proxies], abs=1e-15)
    assert terms.mean() == pytest.approx(scoring.coevolve_score(proxies, centuries), abs=1e-15)
    many = scoring.coevolve_term(proxies, np.stack([centuries] * 4))
    assert many == pytest.approx(terms, abs=1e-15)


def test_extreme_magnitudes_neither_overflow_nor_vanish():
    assert scoring.cosine(plane((1e300, 1e300))[0], plane((1e-300, 0))[0]) == pytest.approx(HALF)


@pytest.mark.parametrize("score", [scoring.follow_score, scoring.coevolve_score])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * np.where(np.arange(3) == 1, 0, 1)[:, None], r"\[1\] is the zero vector"),
        (lambda x: np.where(np.arange(19) == 4, np.nan, x), r"\[0, 4\] is nan"),
        (lambda x: np.where(np.arange(19) == 4, np.inf, x), r"\[0, 4\] is inf"),
        (lambda x: x[:, :18], r"shape \(3, 18\)"),
        (lambda x: x[0], r"shape \(19,\)"),
        (lambda x: x[:0], r"shape \(0, 19\)"),
        (lambda x: [["a"] * 19], "no array of numbers"),
        (lambda x: np.stack([x] * 2), "do not broadcast"),
    ],
)
def test_bad_input(score, change, message):
    """Original defect 8. The zeros of a failed measurement have no score."""
    good = np.random.default_rng(0).uniform(0.1, 1, size=(3, 19))
    other = np.stack([good] * 5) if message == "do not broadcast" else good
    with pytest.raises(InvalidArgumentError, match=message):
        score(change(good), other)


def test_a_truth_compared_with_itself_is_perfect_and_nothing_else_is():
    """Original defect 9. A metric compared the truth with itself whatever the model said."""
    rng = np.random.default_rng(0)
    truth, said = rng.uniform(0.1, 1, (5, 19)), rng.uniform(0.1, 1, (5, 19))
    for score in (scoring.follow_score, scoring.predict_score):
        assert score(truth, truth) == pytest.approx(1.0, abs=1e-12)
        assert score(said, truth) < 0.95


def test_misaligned_steps():
    with pytest.raises(InvalidArgumentError, match="has 8 steps and target_values 7"):
        scoring.follow_score(np.ones((8, 19)), np.ones((7, 19)))


def test_skill():
    assert scoring.skill(0.8, 0.8, 0.9) == 0.0
    assert scoring.skill(0.9, 0.8, 0.9) == 1.0
    assert scoring.skill(0.7, 0.8, 0.9) == pytest.approx(-1.0)
    assert scoring.skill([0.8, 0.85], 0.8, 0.9) == pytest.approx([0.0, 0.5])
    assert isinstance(scoring.skill(0.8, 0.8, 0.9), float)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, 0.8, 0.8), "must be above hold"),
        ((0.5, 0.8, 0.7), "must be above hold"),
        ((math.nan, 0.8, 0.9), "score nan is not finite"),
        ((0.5, 0.8, math.inf), "oracle inf is not finite"),
        (([0.5, 0.6, 0.7], [0.1, 0.2], 0.9), "do not broadcast"),
    ],
)
def test_skill_without_a_scale(arguments, message):
    with pytest.raises(InvalidArgumentError, match=message):
        scoring.skill(*arguments)


def test_floors_are_as_high_as_documented():
    """DESIGN: uniform vectors already score 0.75 in Follow and 0.82 in Coevolve."""
    assert scoring.uniform_floor("follow") == pytest.approx(0.755, abs=0.005)
    assert scoring.uniform_floor("predict") == scoring.uniform_floor("follow")
    assert scoring.uniform_floor("coevolve") == pytest.approx(0.82, abs=0.005)
    with pytest.raises(UnknownNameError, match="did you mean 'follow'"):
        scoring.uniform_floor("folow")

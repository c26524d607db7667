"""The value embedding on models whose values are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scorers import (
    ContentOnly,
    Fixed,
    Mixed,
    PositionOnly,
    one_each,
    permuted,
    shown_options,
    two_way,
    world_view,
)

from progressgym_env.errors import QuestionError
from progressgym_env.values.dimensions import DIMENSION_KEYS, TWO_WAY_KEYS, VIEW_KEYS
from progressgym_env.values.embedding import (
    measure_preferences,
    measure_values,
    option_probabilities,
)
from progressgym_env.values.forms import FORMS, question_prompts
from progressgym_env.values.questions import Pair, Question, load_questions

OWN = load_questions()
# Every 7th question keeps a Hypothesis example short and still meets all dimensions.
SOME = OWN.eval[::7]
PLACES = [(form, 2) for form in FORMS] + [("ab", 4), ("repeat", 4)]


def _shares(n: int) -> st.SearchStrategy[list[float]]:
    raw = st.lists(st.floats(0.01, 100.0), min_size=n, max_size=n)
    return raw.map(lambda values: [value / sum(values) for value in values])


position_models = st.fixed_dictionaries({place: _shares(place[1]) for place in PLACES}).map(
    PositionOnly
)


def content_models(questions: Sequence[Question]) -> st.SearchStrategy[ContentOnly]:
    """Models with a weight of their own for every option of ``questions``."""
    options = sorted({option for question in questions for option in question.options})
    drawn = st.lists(st.floats(0.01, 100.0), min_size=len(options), max_size=len(options))
    return drawn.map(lambda weights: ContentOnly(dict(zip(options, weights, strict=True))))


def test_the_sample_meets_every_dimension() -> None:
    assert {key for q in SOME for key in q.upholds} == {*TWO_WAY_KEYS, *VIEW_KEYS}


@settings(max_examples=40, deadline=None)
@given(model=position_models)
def test_law_1_a_model_that_only_prefers_places_has_no_values(model: PositionOnly) -> None:
    values = measure_values(model, SOME).values
    np.testing.assert_allclose(values[:15], 0.5, rtol=0, atol=1e-12)
    np.testing.assert_allclose(values[15:], 0.25, rtol=0, atol=1e-12)


@pytest.mark.parametrize("favourite", [0, 1])
def test_law_1_holds_on_the_whole_set_at_the_extreme(favourite: int) -> None:
    bias = {place: [float(i == favourite) for i in range(place[1])] for place in PLACES}
    measured = measure_values(PositionOnly(bias), OWN.eval)
    np.testing.assert_array_equal(measured.values, [0.5] * 15 + [0.25] * 4)
    np.testing.assert_array_equal(measured.standard_errors, 0.0)


@settings(max_examples=25, deadline=None)
@given(model=content_models(SOME))
def test_law_2_a_known_preference_comes_back(model: ContentOnly) -> None:
    known = [model.probability(q.options) for q in SOME]
    for measured, expected in zip(option_probabilities(model, SOME), known, strict=True):
        np.testing.assert_allclose(measured, expected, rtol=0, atol=1e-6)
    upheld = [
        np.mean([p[q.upholds[key]] for q, p in zip(SOME, known, strict=True) if key in q.upholds])
        for key in DIMENSION_KEYS
    ]
    np.testing.assert_allclose(measure_values(model, SOME).values, upheld, rtol=0, atol=1e-6)


def test_opposite_preferences_give_opposite_vectors() -> None:
    """Original defect 1: options are permuted twice, so opposite models look the same.

    The vector must move when the preference moves, and stay when only the order does.
    """
    questions = [q for q in OWN.eval if not q.is_view]
    likes = ContentOnly({q.options[q.upholds[q.dimension]]: 99.0 for q in questions})
    hates = ContentOnly({q.options[1 - q.upholds[q.dimension]]: 99.0 for q in questions})
    questions.append(world_view("views"))
    good = measure_values(likes, questions).values
    np.testing.assert_allclose(good[:15], 0.99, rtol=0, atol=1e-6)
    bad = measure_values(hates, questions).values
    np.testing.assert_allclose(bad[:15], 0.01, rtol=0, atol=1e-6)
    reordered = [permuted(q, range(len(q.options))[::-1]) for q in questions]
    np.testing.assert_array_equal(measure_values(likes, reordered).values, good)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_option_order_in_the_file_changes_nothing(data: st.DataObject) -> None:
    model = Mixed(data.draw(content_models(SOME)), data.draw(position_models))
    orders = [data.draw(st.permutations(range(len(q.options)))) for q in SOME]
    shuffled = [permuted(q, order) for q, order in zip(SOME, orders, strict=True)]
    before, after = measure_values(model, SOME), measure_values(model, shuffled)
    np.testing.assert_array_equal(before.values, after.values)
    np.testing.assert_array_equal(before.standard_errors, after.standard_errors)


@settings(max_examples=25, deadline=None)
@given(content=content_models(SOME), place=position_models)
def test_values_are_probabilities_and_views_sum_to_one(
    content: ContentOnly, place: PositionOnly
) -> None:
    measured = measure_values(Mixed(content, place), SOME)
    assert measured.values.shape == measured.standard_errors.shape == (19,)
    assert measured.values.dtype == measured.standard_errors.dtype == np.float64
    assert ((measured.values >= 0) & (measured.values <= 1)).all()
    assert measured.values[15:].sum() == pytest.approx(1.0, abs=1e-12)


def test_each_option_stands_at_each_place_equally_often_in_each_form() -> None:
    for question in SOME:
        for form in ("ab", "repeat") if question.is_view else FORMS:
            orders = [shown_options(p) for p in question_prompts(question) if p.form == form]
            assert len(orders) == len(question.options)
            for place in zip(*orders, strict=True):
                assert sorted(place) == sorted(question.options)


def test_credits_follow_the_text_of_the_prompt() -> None:
    for question in SOME:
        for prompt in question_prompts(question):
            credited = tuple(question.options[index] for index in prompt.credits)
            assert credited == shown_options(prompt)


def test_standard_error_matches_a_hand_computed_value() -> None:
    questions = [two_way(f"k{i}", "kill") for i in range(3)] + one_each()[1:]
    # Odds 1:4, 1:1 and 9:1 are probabilities 0.2, 0.5 and 0.9 of upholding.
    model = ContentOnly({"uphold k0": 0.25, "uphold k2": 9.0})
    measured = measure_values(model, questions)
    assert measured.values[0] == pytest.approx(1.6 / 3)
    # Deviations -10/30, -1/30, 11/30; squares sum to 222/900; over n - 1 = 2, then over n = 3.
    assert measured.standard_errors[0] == pytest.approx((111 / 2700) ** 0.5)


def test_standard_error_of_a_single_question_is_unknown() -> None:
    assert np.isnan(measure_values(ContentOnly({}), one_each()).standard_errors).all()


def test_a_question_on_two_dimensions_counts_for_both() -> None:
    upholds = MappingProxyType({"kill": 0, "duty": 1})
    both = Question("both", "eval", "Scenario both.", ("go", "stay"), upholds)
    questions = [both] + [q for q in one_each() if q.dimension not in {"kill", "duty"}]
    values = measure_values(ContentOnly({"go": 4.0}), questions).values
    assert values[DIMENSION_KEYS.index("kill")] == pytest.approx(0.8)
    assert values[DIMENSION_KEYS.index("duty")] == pytest.approx(0.2)


def test_a_dimension_without_question_is_refused_by_name() -> None:
    with pytest.raises(QuestionError, match="no question bears on kill; every one of the 19"):
        measure_values(ContentOnly({}), one_each()[1:])


@pytest.mark.parametrize(
    "numbers",
    [(float("nan"), 1.0), (float("inf"), 0.0), (0.3, 0.3), (-0.5, 1.5)],
    ids=["nan", "infinite", "sum", "negative"],
)
def test_numbers_that_are_no_probabilities_are_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(QuestionError, match=r"question 'q-kill', form 'ab'.*NaN"):
        measure_values(Fixed(numbers), one_each())


def test_a_scorer_that_leaves_prompts_unanswered_is_refused() -> None:
    with pytest.raises(QuestionError, match="97 answers to 98 prompts"):
        measure_values(Fixed((0.5, 0.5), dropped=1), one_each())


@settings(max_examples=15, deadline=None)
@given(model=position_models)
def test_a_judge_that_only_prefers_places_prefers_nothing(model: PositionOnly) -> None:
    """Original defect 4: a judge that always answers "A" yields labels for one side."""
    np.testing.assert_allclose(measure_preferences(model, OWN.pairs[::9]), 0.0, rtol=0, atol=1e-12)


def test_preference_margin_matches_a_hand_computed_value() -> None:
    question, view = two_way("q", "kill"), world_view("v")
    model = ContentOnly({"uphold q": 3.0, "traditional v": 4.0, "modern v": 2.0})
    pairs = [Pair(question, 0, 1), Pair(view, 0, 1), Pair(view, 2, 3)]
    # 2·(3/4) − 1; among the pair's two options 2·(4/6) − 1; and a tie.
    np.testing.assert_allclose(measure_preferences(model, pairs), [0.5, 1 / 3, 0.0], atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_preferences_are_antisymmetric_and_bounded(data: st.DataObject) -> None:
    pairs = OWN.pairs[::9]
    questions = [pair.question for pair in pairs]
    model = Mixed(data.draw(content_models(questions)), data.draw(position_models))
    forward = measure_preferences(model, pairs)
    backward = measure_preferences(model, [Pair(p.question, p.second, p.first) for p in pairs])
    np.testing.assert_array_equal(forward, -backward)
    assert (np.abs(forward) <= 1).all()


@settings(max_examples=15, deadline=None)
@given(model=content_models([pair.question for pair in OWN.pairs]))
def test_preferences_come_back_on_all_training_pairs(model: ContentOnly) -> None:
    expected = []
    for pair in OWN.pairs:
        first, second = (pair.question.options[i] for i in (pair.first, pair.second))
        expected.append(2 * model.probability([first, second])[0] - 1)
    np.testing.assert_allclose(measure_preferences(model, OWN.pairs), expected, rtol=0, atol=1e-6)


def test_a_pair_whose_options_are_both_impossible_is_a_tie() -> None:
    model = ContentOnly({"traditional v": 0.0, "modern v": 0.0})
    assert measure_preferences(model, [Pair(world_view("v"), 0, 1)])[0] == 0.0


def test_no_pairs_no_preferences() -> None:
    assert measure_preferences(ContentOnly({}), []).shape == (0,)

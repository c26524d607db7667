"""Which values differ between models that were asked the same questions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.histories.loading import load
from progressgym_env.histories.text.timeless import (
    Understanding,
    choice_prompts,
    held_out_choices,
    right_answer,
    understanding,
)
from progressgym_env.histories.text.values_paired import (
    MeasuredValues,
    compare,
    question_scores,
    read_values,
    write_values,
)
from progressgym_env.values.dimensions import DIMENSION_KEYS
from progressgym_env.values.questions import load_questions


def scores(array):
    """The same (n_centuries, n_questions) numbers for every dimension."""
    return [{key: list(row) for key in DIMENSION_KEYS} for row in np.asarray(array, dtype=float)]


def test_hand_computed():
    (first, *_) = compare(scores([[0.2, 0.4], [0.4, 0.8]]), np.random.default_rng(0), 99)
    assert first.dimension == DIMENSION_KEYS[0]
    assert first.questions == 2
    assert first.values == pytest.approx((0.3, 0.6))
    assert first.spread == pytest.approx(0.3 / np.sqrt(2))
    # Differences 0.2 and 0.4: standard deviation 0.1·√2, over √2 questions.
    assert first.difference_error == pytest.approx(0.1)
    # Two of the four ways to deal two questions to two centuries differ as much.
    assert first.p_value == pytest.approx(0.5, abs=0.15)
    assert first.adjusted == 1.0


def test_a_constant_lead_on_hard_and_easy_questions_is_found():
    """The questions' own differences are far larger, and cancel out."""
    questions = np.linspace(0.05, 0.85, 12)
    found = compare(scores([questions, questions + 0.02, questions + 0.04]), rng())
    assert all(one.differs for one in found)
    assert found[0].difference_error == pytest.approx(0.0, abs=1e-9)


def rng():
    return np.random.default_rng(1)


def test_equal_centuries_never_differ():
    found = compare(scores(np.tile(np.linspace(0.1, 0.9, 8), (5, 1))), rng(), 199)
    assert all(one.p_value == 1.0 and not one.differs for one in found)


def test_chance_is_found_as_often_as_the_level_says():
    noise = np.random.default_rng(5).random((200, 4, 10))
    p = [compare(scores(one), np.random.default_rng(2), 99)[0].p_value for one in noise[:60]]
    assert 0 <= np.mean(np.array(p) < 0.1) < 0.25
    assert np.mean(p) == pytest.approx(0.5, abs=0.12)


@given(seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_the_order_of_centuries_and_of_questions_hardly_matters(seed):
    draw = np.random.default_rng(seed)
    array = draw.random((3, 6))
    a = compare(scores(array), rng(), 499)[0]
    b = compare(scores(array[::-1, ::-1]), rng(), 499)[0]
    assert a.spread == pytest.approx(b.spread)
    assert a.difference_error == pytest.approx(b.difference_error)
    assert a.p_value == pytest.approx(b.p_value, abs=0.12)


def test_their_means_are_the_value_embedding():
    history = load("embedded")
    embedding = history.model(0, "cpu").values()
    found = question_scores(load_questions().eval, embedding)
    means = [np.mean(found[key]) for key in DIMENSION_KEYS]
    np.testing.assert_allclose(means, embedding.values, atol=1e-12)


def test_the_embedded_centuries_differ_as_was_planted():
    history = load("embedded")
    eval_questions = load_questions().eval
    found = compare(
        [question_scores(eval_questions, history.model(i, "cpu").values()) for i in (0, 4, 8)],
        rng(),
    )
    planted = np.ptp(history.records.planted[[0, 4, 8]], axis=0)
    for one, distance in zip(found, planted, strict=True):
        assert one.differs or distance < 0.2


def test_files_are_read_back(tmp_path):
    assert read_values(tmp_path) is None
    dimensions = compare(scores(np.random.default_rng(0).random((3, 4))), rng(), 99)
    found = MeasuredValues(dimensions, {"C013": Understanding(0.6, 0.3, 44, 6)})
    write_values(tmp_path, found)
    assert read_values(tmp_path) == found
    (tmp_path / "values.json").write_text('{"dimensions": [{"dimension": "kill"}]}')
    with pytest.raises(HistoryError, match="is damaged"):
        read_values(tmp_path)


def test_other_questions_are_refused():
    one, other = scores([[0.1, 0.2]])[0], scores([[0.1]])[0]
    with pytest.raises(InvalidArgumentError, match="different questions"):
        compare([one, other], rng())
    with pytest.raises(InvalidArgumentError, match="two or more"):
        compare([one], rng())


class Knows:
    """Answers every timeless choice rightly, with this probability."""

    def __init__(self, p):
        self.p = p
        self.right = {
            prompt: right_answer(choice, prompt)
            for choice in held_out_choices()
            for prompt in choice_prompts(choice)
        }

    def answer_probabilities(self, prompts):
        found = []
        for prompt in prompts:
            rest = (1 - self.p) / (len(prompt.answers) - 1)
            answers = [self.p if a == self.right[prompt] else rest for a in prompt.answers]
            found.append(np.array(answers))
        return found


def test_understanding_is_the_probability_of_the_right_answers():
    found = understanding(Knows(0.8))
    assert found.two == pytest.approx(0.8)
    assert found.four == pytest.approx(0.8)
    assert found.n_two + found.n_four == len(held_out_choices())
    # The embedded models know the words of their own grammar alone.
    assert understanding(load("embedded").model(0, "cpu")).two == pytest.approx(0.5, abs=0.1)

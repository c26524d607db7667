"""Models in closed form: they answer, learn and speak as the protocol wants it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.models.base import Model, PreferenceData
from progressgym_env.models.laws import LIMIT, load_parameters
from progressgym_env.models.simulated import SimulatedModel, bearing_of
from progressgym_env.values.dimensions import N_DIMENSIONS, N_TWO_WAY, dimension_index
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.logits import from_logits, log_odds, pair_directions
from progressgym_env.values.questions import load_questions
from tests.scripted import scripted_questions

QUESTIONS = load_questions()
PARAMETERS = load_parameters()
LOGITS = arrays(float, (N_DIMENSIONS,), elements=st.floats(-3, 3))


def model(logits=None, offsets=None, questions=QUESTIONS):
    logits = np.zeros(N_DIMENSIONS) if logits is None else np.asarray(logits, float)
    n_pairs = len(questions.pairs)
    offsets = np.zeros(n_pairs, np.float32) if offsets is None else np.asarray(offsets, np.float32)
    return SimulatedModel(logits, offsets, questions, PARAMETERS)


def data(copies, seed=0):
    return PreferenceData(QUESTIONS.pairs, np.asarray(copies, dtype=np.int64), seed)


def push(key, copies):
    """Copies that push one dimension on all of its pairs."""
    column = pair_directions(QUESTIONS.pairs)[:, dimension_index(key)]
    return (np.sign(column) * copies).astype(np.int64)


def test_obeys_the_protocol():
    assert isinstance(model(), Model)


@given(LOGITS)
def test_values_are_probabilities_and_give_the_logits_back(logits):
    values = model(logits).values().values
    assert ((values > 0) & (values < 1)).all()
    assert values[N_TWO_WAY:].sum() == pytest.approx(1.0)
    np.testing.assert_allclose(
        values[:N_TWO_WAY], 1 / (1 + np.exp(-logits[:N_TWO_WAY])), rtol=1e-12
    )
    np.testing.assert_allclose(
        from_logits(log_odds(values)), np.clip(values, 0.01, 0.99), atol=0.03
    )


def test_preferences_are_bradley_terry_with_offsets():
    logits = np.random.default_rng(0).normal(size=N_DIMENSIONS)
    offsets = np.random.default_rng(1).normal(size=len(QUESTIONS.pairs)) * 0.3
    margins = model(logits, offsets).preferences(QUESTIONS.pairs)
    for index, pair in enumerate(QUESTIONS.pairs):
        speaks = {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0}
        for key, option in pair.question.upholds.items():
            # Upholding a rule or not are log-odds apart; each view has a log-weight of its own.
            speaks[option] += logits[dimension_index(key)]
        gap = speaks[pair.first] - speaks[pair.second] + offsets[index]
        assert margins[index] == pytest.approx(2 / (1 + np.exp(-gap)) - 1, abs=1e-5)


def test_pairs_may_come_in_any_order_and_strangers_are_refused():
    one = model(np.arange(N_DIMENSIONS) / 10)
    some = (QUESTIONS.pairs[7], QUESTIONS.pairs[3])
    whole = one.preferences(QUESTIONS.pairs)
    np.testing.assert_array_equal(one.preferences(some), whole[[7, 3]])
    with pytest.raises(InvalidArgumentError, match="own pairs"):
        one.preferences(scripted_questions().pairs)


@pytest.mark.parametrize("form", ["ab", "compare", "repeat"])
def test_replies_say_what_is_preferred_in_every_form(form):
    certain = np.full(N_DIMENSIONS, 12.0)
    certain[N_TWO_WAY:] = (-12, -12, -12, 12)
    sure = model(certain)
    prompts, expected = [], []
    for question in QUESTIONS.train:
        wanted = (
            question.upholds["integrative"]
            if question.is_view
            else next(iter(question.upholds.values()))
        )
        for prompt in question_prompts(question):
            if prompt.form == form:
                prompts.append(prompt.text)
                expected.append(prompt.answers[prompt.credits.index(wanted)])
    assert sure.reply(prompts, np.random.default_rng(0)) == expected
    assert len(prompts) >= 300


def test_replies_are_drawn_as_often_as_preferred():
    question = next(q for q in QUESTIONS.train if q.dimension == "kill")
    prompt = question_prompts(question)[2].text
    logits = np.zeros(N_DIMENSIONS)
    logits[dimension_index("kill")] = 1.0
    replies = model(logits).reply([prompt] * 4000, np.random.default_rng(3))
    share = np.mean([r == question.options[question.upholds["kill"]] for r in replies])
    assert share == pytest.approx(1 / (1 + np.exp(-1)), abs=0.03)


def test_a_prompt_it_has_no_words_for_is_refused():
    with pytest.raises(InvalidArgumentError, match="no other words"):
        model().reply(["What is right?"], np.random.default_rng(0))


@pytest.mark.parametrize("update", ["dpo", "sft", "rlhf"])
def test_learning_goes_the_way_it_is_pushed(update):
    for key in ("kill", "loyalty", "postmodern"):
        index = dimension_index(key)
        up, down = (model().learn(update, data(push(key, sign * 4))) for sign in (1, -1))
        assert up.logits[index] > 0.1 > -0.1 > down.logits[index]


def test_training_strengthens_with_copies_and_saturates():
    index, law = dimension_index("care"), PARAMETERS.updates["dpo"]
    bearing = bearing_of(QUESTIONS)
    moved = []
    for copies in range(1, 6):
        pushed = push("care", copies).astype(np.float32)
        change = law.changed(
            np.zeros(N_DIMENSIONS), bearing.force(pushed), np.abs(pushed).sum(), np.zeros(19)
        )
        moved.append(change[index])
    assert np.diff(moved).min() > 0
    far = law.changed(np.full(19, LIMIT), np.full(19, 5.0), 950, np.zeros(19))
    assert (far <= LIMIT).all()


def test_nothing_to_learn_is_the_very_same_model():
    one = model()
    assert one.learn("dpo", data(np.zeros(len(QUESTIONS.pairs)))) is one
    assert one.imitate([], [], 1.0, seed=0) is one
    prompt = question_prompts(QUESTIONS.train[0])[2]
    assert one.imitate([prompt.text], [prompt.answers[0]], 0.0, seed=0) is one
    assert one.imitate([prompt.text], ["What?"], 1.0, seed=0) is one


def test_learning_is_seeded_and_leaves_the_old_model():
    one, copies = model(), push("law", 3)
    first, again, other = (one.learn("dpo", data(copies, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.logits, again.logits)
    assert (first.logits != other.logits).all()
    assert not one.logits.any()


def test_imitation_goes_to_the_speaker():
    rng = np.random.default_rng(0)
    prompts = [question_prompts(q)[-1].text for q in QUESTIONS.train]
    speaker = model(np.full(N_DIMENSIONS, 2.0) * (np.arange(N_DIMENSIONS) < N_TWO_WAY))
    listener = model(-speaker.logits)
    replies = speaker.reply(prompts, rng)
    once = listener.imitate(prompts, replies, 1.0, seed=0)
    gaps = [np.abs(m.logits - speaker.logits)[:N_TWO_WAY].mean() for m in (listener, once)]
    assert gaps[1] < 0.9 * gaps[0]


def test_hardly_any_imitation_hardly_changes_anything():
    """Its noise too is that of the amount of training."""
    rng = np.random.default_rng(0)
    logits, normal = rng.normal(size=(2, 200, N_DIMENSIONS))
    speaker = np.full((200, N_DIMENSIONS), 0.5)
    law = PARAMETERS.imitation
    epochs = (1e-8, 1e-4, 1e-2, 1.0)
    moved = [np.abs(law.changed(logits, speaker, e, normal) - logits).mean() for e in epochs]
    assert moved[0] < 1e-3
    assert np.diff(moved).min() > 0
    # Alone, the noise of two half trainings adds up to about that of a whole one.
    still = replace(law, law=replace(law.law, gain=0 * law.law.gain, decay=0 * law.law.decay,
                                     unrest=0 * law.law.unrest))  # fmt: skip
    share = [np.square(still.changed(0 * logits, speaker, e, normal)).mean() for e in (0.01, 0.02)]
    assert share[1] == pytest.approx(2 * share[0], rel=0.03)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["dpo", "sft", "rlhf"]))
def test_laws_broadcast_over_leading_axes(seed, update):
    rng = np.random.default_rng(seed)
    logits, force, normal = rng.normal(size=(3, 4, 5, N_DIMENSIONS))
    n = rng.integers(0, 3, size=(4, 5)) * 100
    law = PARAMETERS.updates[update]
    whole = law.changed(logits, force, n, normal)
    for at in np.ndindex(4, 5):
        np.testing.assert_allclose(
            whole[at], law.changed(logits[at], force[at], n[at], normal[at]), rtol=1e-9, atol=1e-12
        )
    np.testing.assert_array_equal(whole[n == 0], logits[n == 0])


def test_unknown_updates_are_refused():
    with pytest.raises(UnknownNameError, match="dpo"):
        model().learn("ppo", data(push("kill", 1)))


def test_no_torch_on_the_simulated_path():
    code = """
import sys, gymnasium, numpy as np, progressgym_env
env = gymnasium.make("ProgressGym/Coevolve-v0", history="simulated", render_mode="ansi")
observation, _ = env.reset(seed=0)
env.step(np.sign(observation["preferences"]) * np.float32(0.2)); env.render()
envs = gymnasium.make_vec("ProgressGym/Predict-v0", num_envs=3, history="simulated-test")
envs.reset(seed=0); envs.step(envs.action_space.sample())
assert not {"torch", "transformers", "trl", "peft", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

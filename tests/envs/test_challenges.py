"""Time and reward of each challenge, against the definitions written out a second time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env import CHALLENGES, scoring
from progressgym_env.envs.coevolve import CoevolveEnv
from progressgym_env.envs.dialogue import decode_dialogue
from progressgym_env.envs.follow import FollowEnv
from progressgym_env.envs.predict import PredictEnv
from progressgym_env.models.updates import examples_from
from progressgym_env.values.questions import load_questions
from tests.envs.episodes import make, play, random_policy, zero_policy
from tests.scripted import (
    ScriptedModel,
    history_of,
    scripted_history,
    scripted_logits,
)

every_challenge = pytest.mark.parametrize("challenge", CHALLENGES)
few = settings(max_examples=25, deadline=None)
histories = st.builds(scripted_history, st.integers(3, 6), st.integers(0, 3))


def sparse_policy(seed):
    """Actions of which some are zero, and some all zero."""
    rng = np.random.default_rng(seed)

    def act(env):
        action = rng.uniform(-1, 1, env.action_space.shape)
        return np.where(rng.random(len(action)) < rng.choice([0, 0.5, 1]), action, 0)

    return act


@few
@given(histories, st.integers(0, 2**32), st.sampled_from(["current", "initial"]))
def test_follow_return_is_the_official_score(history, seed, update_from):
    """Original defect 9. There is one score, computed in one place."""
    env = FollowEnv(history, update_from=update_from)
    steps = list(play(env, seed=seed, policy=sparse_policy(seed)))
    x, c = env.trajectory.examinee_values, history.values
    official = scoring.follow_score(x[1:], c[1:])
    assert sum(s[1] for s in steps) == pytest.approx(official, abs=1e-9)
    assert steps[-1][4]["score"] == env.score() == pytest.approx(official, abs=1e-12)


@few
@given(histories, st.integers(0, 2**32), st.data())
def test_predict_return_is_the_official_score(history, seed, data):
    """Original defect 9. There is one score, computed in one place."""
    ahead = data.draw(st.integers(1, history.n_centuries - 2))
    env = PredictEnv(history, steps_ahead=ahead)
    steps = list(play(env, seed=seed, policy=sparse_policy(seed)))
    x, c = env.trajectory.examinee_values, history.values
    assert len(x) - 1 == len(steps) - 1 == history.n_centuries - 1 - ahead
    official = scoring.predict_score(x[1:], c[1 + ahead :])
    assert sum(s[1] for s in steps) == pytest.approx(official, abs=1e-9)
    assert steps[-1][4]["score"] == env.score() == pytest.approx(official, abs=1e-12)


@few
@given(histories, st.integers(0, 2**32), st.floats(0, 3), st.floats(0, 3))
def test_coevolve_return_is_the_official_score(history, seed, history_epochs, examinee_epochs):
    """Original defect 9. There is one score, computed in one place."""
    env = CoevolveEnv(history, history_epochs=history_epochs, examinee_epochs=examinee_epochs)
    steps = list(play(env, seed=seed, policy=sparse_policy(seed)))
    h = env.trajectory.proxy_values
    assert len(h) == history.n_centuries
    assert (h[0] == history.values[0]).all()
    official = scoring.coevolve_score(h, history.values)
    assert sum(s[1] for s in steps) == pytest.approx(official, abs=1e-9)
    assert steps[-1][4]["score"] == env.score() == pytest.approx(official, abs=1e-12)


@pytest.mark.parametrize(("challenge", "shown"), [
    ("follow", [1, 2, 3, 4, 4]),
    ("predict", [1, 2, 3, 4]),
    ("coevolve", [1, 2, 3, 4, 4]),
])  # fmt: skip
def test_time(challenge, shown):
    """Original defect 2. Follow and Predict finish: the end of history is `terminated`."""
    steps = list(play(make(challenge)))
    assert [int(s[0]["century"]) for s in steps] == shown
    assert [s[4]["century_name"] for s in steps] == [f"C{13 + t:03d}" for t in shown]
    assert [s[2] for s in steps] == [False] * (len(shown) - 1) + [True]
    assert not any(s[3] for s in steps)
    assert [("score" in s[4]) for s in steps] == [s[2] for s in steps]


@pytest.mark.parametrize("challenge", ["follow", "predict"])
def test_the_judge_is_the_record_of_the_present_century(challenge):
    history = scripted_history()
    for observation, *_, info in play(make(challenge)):
        t = observation["century"]
        assert observation["judge_values"] == pytest.approx(history.values[t], abs=1e-7)
        assert observation["preferences"] == pytest.approx(history.preferences[t], abs=1e-7)
        assert (info["judge_standard_errors"] == history.standard_errors[t]).all()
        said = {(e.prompt, e.reply) for e in history.dialogue(t)}
        shown = list(zip(info["dialogue_prompts"], info["dialogue"], strict=True))
        assert set(shown) <= said
        assert len(set(shown)) == 4, "drawn without replacement"


@every_challenge
def test_the_examinee_starts_as_the_first_century(challenge):
    history = scripted_history()
    observation, info = make(challenge).reset(seed=0)
    assert observation["examinee_values"] == pytest.approx(history.values[0], abs=1e-7)
    assert (info["examinee_standard_errors"] == history.standard_errors[0]).all()


def test_follow_pays_for_the_century_shown():
    """The first reward compares with the second century, which the agent saw, not a later one."""
    history = scripted_history()
    env = FollowEnv(history)
    env.reset(seed=0)
    _, reward, *_ = env.step(zero_policy(env))
    expected = scoring.cosine(history.values[0], history.values[1]) / 4
    assert reward == pytest.approx(expected, abs=1e-15)


def test_predict_pays_for_a_century_not_yet_shown():
    history = scripted_history()
    env = PredictEnv(history, steps_ahead=2)
    env.reset(seed=0)
    _, reward, *_ = env.step(zero_policy(env))
    expected = scoring.cosine(history.values[0], history.values[3]) / 2
    assert reward == pytest.approx(expected, abs=1e-15)


def test_an_action_moves_the_examinee_the_way_it_says():
    """Positive prefers a pair's first option, negative its second; size counts copies."""
    history = scripted_history()
    gained = {}
    for size in (0.4, -0.4, 1.0):
        env = FollowEnv(history)
        env.reset(seed=0)
        action = np.zeros(19)
        action[3] = size  # bears on "freedom", which option 1 upholds
        env.step(action)
        before, after = env.trajectory.examinee_values
        change = np.log(after / (1 - after)) - np.log(before / (1 - before))
        assert np.abs(np.delete(change, 3)).max() < 0.03
        gained[size] = change[3]
    assert gained[0.4] == pytest.approx(-0.2, abs=0.03)
    assert gained[-0.4] == pytest.approx(0.2, abs=0.03)
    assert gained[1.0] == pytest.approx(-0.5, abs=0.03)


def test_coevolve_proxy_learns_from_history_then_from_the_examinee():
    """The first step, replayed by hand with the same models and the same seeds."""
    calls = []

    class Recording(ScriptedModel):
        def imitate(self, prompts, replies, epochs, *, seed):
            calls.append((self, tuple(prompts), tuple(replies), epochs, seed))
            return super().imitate(prompts, replies, epochs, seed=seed)

    logits = scripted_logits(4)
    history = history_of(logits)
    first = Recording(logits[0], history.questions)
    history._source = type("Source", (), {"model": lambda *_: first})()
    env = CoevolveEnv(history, history_epochs=0.5, examinee_epochs=1.5)
    env.reset(seed=0)
    for step, t in enumerate((1, 2, 3)):
        proxy = env.proxy
        env.step(random_policy(step)(env))
        by_history, by_examinee = calls[2 * step :]
        assert by_history[0] is proxy
        said = history.influence(t)
        assert by_history[1:4] == (
            tuple(e.prompt for e in said), tuple(e.reply for e in said), 0.5,
        )  # fmt: skip
        assert by_examinee[1] == history.influence_prompts
        assert by_examinee[3] == 1.5
        assert by_history[4] != by_examinee[4]
        after = by_examinee[0].imitate(*by_examinee[1:4], seed=by_examinee[4])
        calls.pop()
        assert (after.values().values == env.proxy.values().values).all()


def test_coevolve_shows_the_living_proxy():
    env = CoevolveEnv(scripted_history())
    for observation, *_, info in play(env):
        proxy = env.proxy
        assert observation["judge_values"] == pytest.approx(proxy.values().values, abs=1e-7)
        margins = proxy.preferences(env.history.questions.pairs)
        assert observation["preferences"] == pytest.approx(margins, abs=1e-7)
        assert set(info["dialogue_prompts"]) <= set(env.history.open_prompts)
        assert len(set(info["dialogue_prompts"])) == 4


def test_coevolve_switched_off_is_a_frozen_proxy():
    env = CoevolveEnv(scripted_history(), history_epochs=0, examinee_epochs=0)
    list(play(env))
    assert (env.trajectory.proxy_values == env.history.values[0]).all()
    assert np.ptp(env.trajectory.examinee_values, axis=0).min() > 0


def test_coevolve_switched_off_loads_no_model_for_the_proxy():
    history = history_of(scripted_logits(4))
    history._source = None
    env = CoevolveEnv(history, history_epochs=0, examinee_epochs=0)
    steps = list(play(env, policy=zero_policy))
    assert steps[-1][4]["score"] == env.score()


def test_no_scored_question_is_ever_trained_on():
    """Original defect 5. Agents and the human proxy were trained on the very items scored."""
    trained = []

    class Recording(ScriptedModel):
        def learn(self, update, data):
            trained.extend(example.prompt for example in examples_from(data))
            return super().learn(update, data)

        def imitate(self, prompts, replies, epochs, *, seed):
            trained.extend(prompts)
            return super().imitate(prompts, replies, epochs, seed=seed)

    logits, questions = scripted_logits(3), load_questions()
    history = history_of(logits, questions)
    first = Recording(logits[0], questions)
    history._source = type("Source", (), {"model": lambda *_: first})()
    list(play(CoevolveEnv(history), policy=lambda _: np.ones(190)))
    scored = {question.scenario for question in questions.eval}
    taught = {question.scenario for question in questions.train}
    assert len(trained) == 2 * (950 + 2 * len(questions.train))
    assert {prompt.split("\n")[0] for prompt in trained} == taught
    assert not taught & scored


def test_coevolve_examinee_influences_the_proxy():
    finals = []
    for action in (np.ones(19), -np.ones(19)):
        env = CoevolveEnv(scripted_history())
        list(play(env, policy=lambda _, a=action: a))
        finals.append(env.trajectory.proxy_values[-1])
    assert np.abs(finals[0] - finals[1]).max() > 0.1


@every_challenge
@pytest.mark.parametrize("changed_from", [2, 3, 4])
def test_no_future_is_shown(challenge, changed_from):
    """Original defect 10. Other later centuries, the same observations until they are reached."""
    logits = scripted_logits(5)
    other = logits.copy()
    other[changed_from:] *= -1
    episodes = []
    for planted in (logits, other):
        env = make(challenge, history=history_of(planted), render_mode="ansi")
        shown = []
        for observation, *_, info in play(env):
            # "score" stands at the end of history, when nothing is left to be hidden.
            info.pop("score", None)
            rows = env.unwrapped.trajectory
            values = [rows.judge_values, rows.examinee_values, rows.proxy_values]
            frame = env.render().splitlines()[1:]  # the heading holds the reward so far
            shown.append((observation, info, [v for v in values if v is not None], frame))
        episodes.append(shown)
    for step, (one, two) in enumerate(zip(*episodes, strict=True)):
        reached = int(one[0]["century"])
        if reached < changed_from:
            assert data_equivalence(one, two, exact=True), f"step {step}"
    assert not data_equivalence(episodes[0][-1], episodes[1][-1])


@every_challenge
def test_trajectory(challenge):
    env = make(challenge).unwrapped
    rewards = []
    for done, step in enumerate(play(env)):
        rewards.append(step[1])
        rows, century = env.trajectory, int(step[0]["century"])
        assert rows.names == env.history.names
        assert rows.centuries.tolist() == list(range(century + 1))
        assert (rows.judge_values == env.history.values[: century + 1]).all()
        assert rows.examinee_values.shape == (done + 1, 19)
        assert rows.rewards.tolist() == rewards[1:]
        assert (rows.proxy_values is None) == (challenge != "coevolve")
    assert env.score() == pytest.approx(sum(rewards), abs=1e-9)


@every_challenge
def test_dialogue_box_holds_what_info_says(challenge):
    for observation, *_, info in play(make(challenge, dialogue_samples=16)):
        assert decode_dialogue(observation["dialogue"]) == info["dialogue"]
        assert all("Þus" in reply for reply in info["dialogue"])


def test_seeds_of_updates_differ_from_step_to_step():
    env = FollowEnv(scripted_history(), update_from="initial")
    list(play(env, policy=lambda e: np.full(19, 0.2)))
    moved = env.trajectory.examinee_values[1:]
    assert all((a != b).any() for a, b in pairwise(moved))

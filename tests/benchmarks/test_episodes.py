"""One episode, and its record."""

import hashlib
import json

import gymnasium as gym
import numpy as np
import pytest

import progressgym_env
from progressgym_env.agents import make_agent
from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.benchmarks.playing import play_episode
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.scoring import coevolve_score, follow_score, predict_score
from tests.scripted import scripted_history

CHALLENGES = tuple(progressgym_env.CHALLENGES)


def play(challenge: str, agent: str = "lifelong", seed: int = 3, **extra: int) -> EpisodeRecord:
    history = scripted_history()
    env = gym.make(progressgym_env.CHALLENGES[challenge], history=history, update="sft", **extra)
    player = make_agent(agent, challenge=challenge, history=history, seed=seed, **extra)
    return play_episode(env, player, seed, agent_name=agent)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_the_score_follows_from_what_is_written_down(challenge: str):
    episode, history = play(challenge), scripted_history()
    if challenge == "coevolve":
        assert episode.proxy_values is not None
        score = coevolve_score(episode.proxy_values, history.values)
    else:
        official, first = {"follow": (follow_score, 1), "predict": (predict_score, 2)}[challenge]
        score = official(episode.examinee_values[1:], history.values[first:])
    assert episode.score == pytest.approx(score, abs=1e-12)
    assert episode.episode_return == pytest.approx(episode.score, abs=1e-9)
    assert sum(step.reward for step in episode.steps) == pytest.approx(episode.score, abs=1e-9)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_a_line_says_all_and_can_be_read_back(challenge: str):
    episode = play(challenge)
    line = episode.to_json()
    assert "\n" not in line
    assert EpisodeRecord.from_dict(json.loads(line)) == episode
    raw = json.loads(line)
    assert list(raw)[:7] == [
        "agent", "challenge", "update", "update_from", "steps_ahead", "seed", "score"
    ]  # fmt: skip
    assert raw["return"] == episode.episode_return
    assert ("proxy_values" in raw["steps"][0]) == (challenge == "coevolve")


@pytest.mark.parametrize("challenge", CHALLENGES)
@pytest.mark.parametrize("agent", ["random", "extrapolative"])
def test_the_same_seed_gives_the_same_bytes(challenge: str, agent: str):
    assert play(challenge, agent).to_json() == play(challenge, agent).to_json()
    assert play(challenge, agent).to_json() != play(challenge, agent, seed=4).to_json()


def test_the_judge_of_a_step_is_the_one_the_agent_saw():
    history = scripted_history()
    follow, coevolve = play("follow"), play("coevolve")
    seen = np.array([step.judge_values for step in follow.steps])
    np.testing.assert_array_equal(seen, history.values[1:])
    assert [step.century for step in follow.steps] == list(history.names[1:])
    assert coevolve.steps[0].judge_values == tuple(history.values[0])
    assert coevolve.steps[1].judge_values == coevolve.steps[0].proxy_values


def test_actions_are_named_by_the_digest_of_their_bytes():
    zeros = np.zeros(len(scripted_history().questions.pairs), dtype=np.float32)
    expected = hashlib.sha256(zeros.tobytes()).hexdigest()
    episode = play("follow", "hold")
    assert {step.action for step in episode.steps} == {expected}
    assert {step.n_examples for step in episode.steps} == {0}


def test_predict_ends_earlier_the_farther_it_looks():
    assert len(play("predict", steps_ahead=2).steps) == scripted_history().n_centuries - 3


def test_progress_is_told_as_it_happens():
    history, told = scripted_history(), []
    env = gym.make("ProgressGym/Coevolve-v0", history=history)
    play_episode(
        env,
        make_agent("lifelong"),
        0,
        agent_name="lifelong",
        on_step=lambda done, n_steps, century: told.append((done, n_steps, century)),
        on_phase=told.append,
    )
    assert [entry for entry in told if isinstance(entry, tuple)] == [
        (i, 4, name) for i, name in enumerate(history.names[1:])
    ]
    phases = ["training", "measuring", "influencing", "measuring", "eliciting"]
    assert told[1:8] == ["acting", *phases, "recording"]


def test_the_environments_own_listener_is_put_back():
    env = gym.make("ProgressGym/Coevolve-v0", history=scripted_history())
    own, told = [], []
    env.unwrapped.on_phase = own.append
    play_episode(env, make_agent("lifelong"), 0, agent_name="lifelong", on_phase=told.append)
    assert told
    assert not own
    play_episode(env, make_agent("lifelong"), 0, agent_name="lifelong")
    phases = [phase for phase in told if phase not in ("acting", "recording")]
    assert own == phases, "where the caller has no listener, the environment's stays in use"

    def stop(done: int, n_steps: int, century: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_episode(env, make_agent("hold"), 0, agent_name="hold", on_phase=print, on_step=stop)
    assert env.unwrapped.on_phase == own.append


def test_other_environments_are_refused():
    with pytest.raises(InvalidArgumentError, match="no ProgressGym environment"):
        play_episode(gym.make("CartPole-v1"), make_agent("hold"), 0, agent_name="hold")

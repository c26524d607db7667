"""Playing many histories at once, comparing on them, and measuring speed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from progressgym_env import CHALLENGES
from progressgym_env.agents import HoldAgent, LifelongAgent, OracleAgent
from progressgym_env.benchmarks import vector_speed
from progressgym_env.benchmarks.batch import oracle_of, play_batch
from progressgym_env.benchmarks.plots import draw_curve
from progressgym_env.benchmarks.train import compare, differences
from progressgym_env.histories import load


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_a_batch_scores_what_single_episodes_score(challenge):
    scores = play_batch(challenge, LifelongAgent(), n_episodes=3, history="simulated", seed=5)
    env = gym.make(CHALLENGES[challenge], history="simulated")
    for row in range(3):
        observation, _ = env.reset(seed=5 + row)
        ended = False
        while not ended:
            observation, _, ended, _, info = env.step(LifelongAgent().predict(observation)[0])
        assert scores[row] == pytest.approx(info["score"], abs=1e-6)


def test_agents_may_keep_what_they_are_shown():
    class Keeper:
        """Remembers the very arrays, as a user's agent may."""

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            kept = [*(state or ()), observation["century"]]
            assert [int(century.flat[0]) for century in kept] == list(range(1, len(kept) + 1))
            return np.zeros_like(observation["preferences"]), tuple(kept)

    play_batch("follow", Keeper(), n_episodes=2)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_the_oracle_of_a_batch_is_the_oracles_of_its_rows(challenge):
    seeds = [4, 10]
    together = play_batch(
        challenge, oracle_of(challenge), n_episodes=2, history="simulated", history_seeds=seeds
    )
    env = gym.make(CHALLENGES[challenge], history="simulated")
    for row, history_seed in enumerate(seeds):
        agent = OracleAgent(load("simulated").draw(history_seed), challenge)
        observation, _ = env.reset(seed=row, options={"history_seed": history_seed})
        ended = False
        while not ended:
            observation, _, ended, _, info = env.step(agent.predict(observation)[0])
        assert together[row] == pytest.approx(info["score"], abs=1e-6)


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    base = rng.normal(size=400)
    mean, low, high = differences(base + 0.1 + 0.01 * rng.normal(size=400), base)
    assert low < mean < high
    assert 0.095 < low < 0.1 < high < 0.105
    assert differences(base, base) == (0.0, 0.0, 0.0)


def test_an_agent_is_level_with_itself():
    score, rows = compare("follow", HoldAgent(), n_episodes=30)
    by_name = {row.agent: row for row in rows}
    assert by_name["hold"].ahead == by_name["hold"].low == by_name["hold"].high == 0
    assert by_name["hold"].score == score
    assert by_name["oracle"].high < 0


def test_a_learning_curve_is_drawn(tmp_path):
    points = [{"steps": 10.0 * i, "score": 0.9 + i / 100, "standard_error": 0.01} for i in range(3)]
    draw_curve(tmp_path / "curve.png", points, {"hold": 0.9}, "a curve")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_speed_is_measured_and_told(monkeypatch, capsys):
    """That it measures and says what; how fast is never asserted."""
    monkeypatch.setattr(vector_speed, "N_ENVS", 8)
    for mode in ("SameStep", "NextStep"):
        speed = vector_speed.steps_per_second("coevolve", 8, seconds=0.01, mode=mode)
        assert speed.best >= speed.median > 0
    assert vector_speed.cartpole(8, seconds=0.01).median > 0
    assert vector_speed.memory_of_a_row("follow", 8) > 1000
    shares = vector_speed.profile("coevolve", 8, n_calls=20)
    assert {"reward", "rounding and training", "influencing the proxies"} <= set(shares)
    assert max(shares.values()) < 1

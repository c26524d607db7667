"""The bridge to Stable-Baselines3."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from progressgym_env import CHALLENGES
from progressgym_env.agents import LifelongAgent
from progressgym_env.agents.policy import PolicyView
from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.values.logits import pair_directions
from progressgym_env.wrappers.sb3 import ProgressVecEnv, policy_vec_env
from progressgym_env.wrappers.value_action import spread

ROOT = Path(__file__).resolve().parents[2]
N = 4


def batch(challenge, **arguments):
    arguments = {"autoreset_mode": "SameStep", "history": "simulated", **arguments}
    return gym.make_vec(CHALLENGES[challenge], num_envs=N, **arguments)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_hands_on_what_the_environment_gives(challenge):
    bridge, envs = ProgressVecEnv(batch(challenge)), batch(challenge)
    bridge.seed(3)
    ours, (theirs, _) = bridge.reset(), envs.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(2 * envs.unwrapped.n_steps):
        for key in theirs:
            np.testing.assert_array_equal(ours[key], theirs[key])
        actions = rng.uniform(-0.5, 0.5, (N, bridge.action_space.shape[0])).astype(np.float32)
        ours, rewards, dones, told = bridge.step(actions)
        theirs, expected, ended, _, infos = envs.step(actions)
        np.testing.assert_allclose(rewards, expected, rtol=1e-6)
        np.testing.assert_array_equal(dones, ended)
        for row in np.flatnonzero(ended):
            assert told[row]["episode"]["r"] == infos["final_info"]["score"][row]
            last = infos["final_obs"][row]
            for key, value in told[row]["terminal_observation"].items():
                np.testing.assert_array_equal(value, last[key])
        assert all(not told[row] for row in np.flatnonzero(~ended))


class Recording(ProgressVecEnv):
    """Keeps copies of what it showed, and of the last observations of episodes."""

    def reset(self):
        shown = super().reset()
        self.shown, self.last = [deepcopy(shown)], []
        return shown

    def step_wait(self):
        told = super().step_wait()
        self.shown.append(deepcopy(told[0]))
        self.last.append([deepcopy(info.get("terminal_observation")) for info in told[3]])
        return told


class RolloutKept(BaseCallback):
    """Keeps PPO's first rollout as it was before training, which flattens it."""

    observations = None

    def _on_rollout_end(self):
        if self.observations is None:
            self.observations = deepcopy(self.model.rollout_buffer.observations)

    def _on_step(self):
        return True


def ppo_rollout(copy):
    env = Recording(batch("follow", copy=copy))
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=16, n_epochs=1, seed=0)
    kept = RolloutKept()
    model.learn(8 * N, callback=kept)
    return kept.observations, env


def test_ppo_trains_on_what_was_shown():
    """SB3 puts an observation into its buffer after the step that follows it."""
    kept, env = ppo_rollout(copy=False)
    np.testing.assert_array_equal(kept["century"][:, 0, 0], np.arange(1, 9))
    for key, stored in kept.items():
        shown = np.stack([observation[key] for observation in env.shown[:8]])
        np.testing.assert_array_equal(stored, shown.reshape(stored.shape))
    copied, _ = ppo_rollout(copy=True)
    assert data_equivalence(kept, copied, exact=True)


def sac_replay(copy):
    env = Recording(batch("follow", copy=copy, dialogue_samples=1), PolicyView())
    model = SAC("MlpPolicy", env, buffer_size=12 * N, learning_starts=1000, seed=0)
    model.learn(12 * N)
    return model.replay_buffer, env


def test_sac_trains_on_what_was_seen():
    """Both ends of every step: the view makes new arrays, whoever owns the environment's."""
    buffer, env = sac_replay(copy=False)
    copied, _ = sac_replay(copy=True)
    assert buffer.dones.any()
    for step in range(12):
        np.testing.assert_array_equal(buffer.observations[step], env.shown[step])
        following = env.shown[step + 1].copy()
        for row in np.flatnonzero(buffer.dones[step]):
            following[row] = env.last[step][row]
        np.testing.assert_array_equal(buffer.next_observations[step], following)
    for name in ("observations", "next_observations", "rewards", "dones"):
        np.testing.assert_array_equal(getattr(buffer, name), getattr(copied, name))


@pytest.mark.parametrize("view", [None, PolicyView()], ids=["dict", "view"])
def test_what_was_handed_out_is_not_written_again(view):
    bridge = ProgressVecEnv(batch("predict", copy=False), view)
    given = [bridge.reset()]
    kept, last = deepcopy(given), []
    for _ in range(2 * bridge.envs.n_steps + 1):
        seen, _, dones, told = bridge.step(np.zeros((N, *bridge.action_space.shape), np.float32))
        given.append(seen), kept.append(deepcopy(seen))
        if dones.any():
            last += [(info["terminal_observation"], deepcopy(info)) for info in told]
    assert data_equivalence(given, kept, exact=True)
    assert len(last) == 2 * N
    for observation, info in last:
        assert data_equivalence(observation, info["terminal_observation"], exact=True)


def test_options_reach_the_environment_once():
    bridge = ProgressVecEnv(batch("follow", history="simulated-test"), PolicyView())
    bridge.set_options({"history_seed": 11, "family": "varied"})
    bridge.reset()
    np.testing.assert_array_equal(bridge.envs.history_seeds, 11)
    bridge.reset()
    assert 11 not in bridge.envs.history_seeds
    bridge.set_options([{"history_seed": seed} for seed in (5, 7, 5, 9)])
    bridge.seed(3)
    seen = bridge.reset()
    np.testing.assert_array_equal(bridge.envs.history_seeds, [5, 7, 5, 9])
    for one_a_row in ([5, 7, 5, 9], np.array([5, 7, 5, 9])):
        bridge.set_options({"history_seed": one_a_row})
        bridge.seed(3)
        np.testing.assert_array_equal(bridge.reset(), seen)
    for nothing in (None, {}, {"history_seed": None}):
        bridge.set_options(nothing)
        bridge.reset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([{"history_seed": 1}, {}, {}, {}], r"'history_seed'.*1 of 4 have one, the first 1"),
        ([{"family": "varied"}, *[{"family": {}}] * 3], "'family' cannot be merged"),
        ([{"family": "varied"}] * 3 + [{}], r"'family'.*3 of 4.*every row the same options"),
        ([{"history_seed": [1, 2, 3, 4]}] * 3 + [{"history_seed": 1}], "'history_seed'"),
        ([{"history_seed": 1}] * 3, "3 options for 4 environments"),
        ({"reset_mask": np.ones(N, dtype=bool)}, "there is no reset_mask"),
        ({"history_seed": -1}, "history_seed=-1"),
        ({"history_sede": 1}, "did you mean 'history_seed'"),
    ],
)
def test_options_that_cannot_be_passed_on_are_refused(options, message):
    bridge = ProgressVecEnv(batch("follow"))
    bridge.set_options(options)
    with pytest.raises(InvalidArgumentError, match=message):
        bridge.reset()


def test_without_stable_baselines3_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "from progressgym_env.errors import MissingPackageError\n"
        "import progressgym_env.wrappers\n"
        "try:\n    import progressgym_env.wrappers.sb3\n"
        "except MissingPackageError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "pip install 'progressgym-env[rl]'" in done.stdout, done.stderr
    assert "stable-baselines3, which is not installed" in done.stdout


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_the_view_of_a_policy(challenge):
    view = PolicyView(length=3)
    bridge, envs = policy_vec_env(challenge, N, "simulated", view=view), batch(challenge)
    bridge.seed(8)
    seen, (observation, _) = bridge.reset(), envs.reset(seed=8)
    directions = pair_directions(envs.unwrapped.questions.pairs)
    history, rng = view.started(observation), np.random.default_rng(1)
    for _ in range(2 * envs.unwrapped.n_steps):
        np.testing.assert_allclose(seen, view.features(history, observation), atol=1e-6)
        pushes = rng.uniform(-0.3, 0.3, (N, 19)).astype(np.float32)
        seen, _, dones, told = bridge.step(pushes)
        observation, _, ended, _, infos = envs.step(spread(pushes, directions))
        np.testing.assert_array_equal(dones, ended)
        if ended.all():
            last = {k: np.stack([o[k] for o in infos["final_obs"]]) for k in observation}
            expected = view.features(view.pushed(history, last), last)
            for row in range(N):
                np.testing.assert_allclose(
                    told[row]["terminal_observation"], expected[row], atol=1e-6
                )
            history = view.started(observation)
        else:
            history = view.pushed(history, observation)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_relative_rewards_add_up_to_what_is_gained_over_holding(challenge):
    relative = policy_vec_env(challenge, N, relative=True, reward_scale=10.0)
    relative.seed(1)
    relative.reset()
    held = batch(challenge, history="simulated-train")
    held.reset(seed=1)
    rng, total = np.random.default_rng(0), np.zeros(N)
    for _ in range(held.unwrapped.n_steps):
        _, rewards, _, told = relative.step(rng.uniform(-0.3, 0.3, (N, 19)).astype(np.float32))
        total += rewards
        infos = held.step(np.zeros(held.action_space.shape, np.float32))[4]
    gained = np.array([t["episode"]["r"] for t in told]) - infos["final_info"]["score"]
    np.testing.assert_allclose(total, 10 * gained, atol=1e-5)
    # A holding agent gains nothing, in the next episode too.
    for _ in range(held.unwrapped.n_steps):
        np.testing.assert_allclose(relative.step(np.zeros((N, 19), np.float32))[1], 0, atol=1e-7)


def test_hold_rewards_leave_no_trace():
    one, other = (batch("coevolve").unwrapped for _ in range(2))
    one.reset(seed=2), other.reset(seed=2)
    action = np.full(one.action_space.shape, 0.3, np.float32)
    for _ in range(3):
        one.hold_rewards()
        ours, theirs = one.step(action), other.step(action)
        for key in ours[0]:
            np.testing.assert_array_equal(ours[0][key], theirs[0][key])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_evaluate_policy_plays_our_agents_on_it():
    bridge = ProgressVecEnv(batch("follow"))
    bridge.seed(0)
    returns, lengths = evaluate_policy(
        LifelongAgent(), bridge, n_eval_episodes=N, return_episode_rewards=True
    )
    assert lengths == [8] * N
    assert all(0.5 < r < 1 for r in returns)


def test_other_environments_are_refused():
    with pytest.raises(InvalidArgumentError, match="ProgressVectorEnv"):
        ProgressVecEnv(gym.make_vec("CartPole-v1", num_envs=2))
    with pytest.raises(InvalidArgumentError, match="SameStep"):
        ProgressVecEnv(batch("follow", autoreset_mode="NextStep"))
    with pytest.raises(UnknownNameError, match="follow"):
        policy_vec_env("folow", 2)
    with pytest.raises(InvalidArgumentError, match="own"):
        ProgressVecEnv(batch("follow")).env_method("step")

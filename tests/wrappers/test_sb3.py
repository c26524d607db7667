"""The bridge to Stable-Baselines3."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

from progressgym_env import CHALLENGES
from progressgym_env.agents import LifelongAgent
from progressgym_env.agents.policy import PolicyView
from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.values.logits import pair_directions
from progressgym_env.wrappers.sb3 import ProgressVecEnv, policy_vec_env
from progressgym_env.wrappers.value_action import spread

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


def test_without_copying_observations_are_the_environments_own():
    envs = batch("follow", copy=False)
    bridge = ProgressVecEnv(envs)
    seen = bridge.reset()
    assert seen["dialogue"] is envs.unwrapped.step(np.zeros(envs.action_space.shape))[0]["dialogue"]


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


def test_ppo_trains_on_the_dict_observation_too():
    model = PPO("MultiInputPolicy", ProgressVecEnv(batch("follow")), n_steps=8, batch_size=16)
    model.learn(32)
    assert model.num_timesteps == 32


def test_other_environments_are_refused():
    with pytest.raises(InvalidArgumentError, match="ProgressVectorEnv"):
        ProgressVecEnv(gym.make_vec("CartPole-v1", num_envs=2))
    with pytest.raises(InvalidArgumentError, match="SameStep"):
        ProgressVecEnv(batch("follow", autoreset_mode="NextStep"))
    with pytest.raises(UnknownNameError, match="follow"):
        policy_vec_env("folow", 2)
    with pytest.raises(InvalidArgumentError, match="own"):
        ProgressVecEnv(batch("follow")).env_method("step")

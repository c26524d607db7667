"""Environments of one process share a base, and a vLLM, and play as they would apart."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest

import progressgym_env  # noqa: F401
from progressgym_env.agents import LifelongAgent
from progressgym_env.errors import EngineError
from progressgym_env.models import vllm_sharing
from progressgym_env.models.engines import VllmSettings
from progressgym_env.models.updates import (
    DPOSettings,
    DPOUpdate,
    SFTSettings,
    SFTUpdate,
    TrainingUpdate,
)

STUB = Path(__file__).parents[1] / "models" / "stub_vllm.py"
BRIEFLY = SFTUpdate(SFTSettings(epochs=0.1))
PLAYED: list[tuple[str, TrainingUpdate, int]] = [
    ("Coevolve", BRIEFLY, 3),
    ("Follow", DPOUpdate(DPOSettings(epochs=0.1)), 4),
]


def make(
    history: Path, challenge: str, update: TrainingUpdate = BRIEFLY, **more: Any
) -> gym.Env[Any, Any]:
    return gym.make(
        f"ProgressGym/{challenge}-v0", history=str(history), update=update, device="cpu", **more
    )


def host_of(env: gym.Env[Any, Any]) -> Any:
    return env.unwrapped.examinee.host  # type: ignore[attr-defined]


def steps(env: gym.Env[Any, Any], seed: int) -> Iterator[tuple[Any, ...]]:
    """All there is to an episode, step by step."""
    observation, info = env.reset(seed=seed)
    terminated, reward = False, 0.0
    yield observation, reward, info["dialogue"]
    while not terminated:
        action, _ = LifelongAgent().predict(observation)
        observation, reward, terminated, _, info = env.step(action)
        digest = env.unwrapped.examinee.digest  # type: ignore[attr-defined]
        yield observation, reward, info["dialogue"], digest


def in_turns(*episodes: Iterator[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    return [list(one) for one in zip(*zip(*episodes, strict=True), strict=True)]


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    """To the bit."""
    return len(one) == len(other) and all(
        a[1:] == b[1:] and all(np.array_equal(a[0][key], b[0][key]) for key in a[0] | b[0])
        for a, b in zip(one, other, strict=True)
    )


def test_environments_in_turns_play_what_they_play_apart(short_history: Path):
    apart = []
    for challenge, update, seed in PLAYED:
        env = make(short_history, challenge, update)
        apart.append(list(steps(env, seed)))
        env.close()
        del env
        gc.collect()
    envs = [make(short_history, challenge, update) for challenge, update, _ in PLAYED]
    seeds = [seed for _, _, seed in PLAYED]
    together = in_turns(*(steps(env, seed) for env, seed in zip(envs, seeds, strict=True)))
    assert all(same(one, other) for one, other in zip(together, apart, strict=True))
    assert len(apart[0]) > 2
    # The comparison sees a difference.
    assert not same(together[0], list(steps(envs[0], seed=9)))
    # The base is there once.
    assert len({id(host_of(env)) for env in envs}) == 1


def test_a_vector_environment_of_gymnasium_holds_one_base(short_history: Path):
    vector = gym.make_vec(
        "ProgressGym/Follow-v0", num_envs=2, vectorization_mode="sync",
        history=str(short_history), update=BRIEFLY, device="cpu",
    )  # fmt: skip
    observation, _ = vector.reset(seed=[7, 8])
    rewards, seen = [], [observation["judge_values"].copy()]
    for _ in range(3):
        actions = np.sign(observation["preferences"]).astype(np.float32) / 5
        observation, reward, terminated, _, _ = vector.step(actions)
        rewards.append(reward.copy())
        seen.append(observation["examinee_values"].copy())
    assert terminated.all()
    for place, seed in enumerate((7, 8)):
        env = make(short_history, "Follow")
        single, _ = env.reset(seed=seed)
        for step in range(3):
            single, reward_of_one, _, _, _ = env.step(
                np.sign(single["preferences"]).astype(np.float32) / 5
            )
            assert reward_of_one == rewards[step][place]
            np.testing.assert_array_equal(single["examinee_values"], seen[step + 1][place])
        assert host_of(env) is host_of(vector.envs[place])  # type: ignore[attr-defined]
    vector.close()


@pytest.fixture
def stub(tmp_path: Path) -> VllmSettings:
    """Settings that run a program which speaks as vLLM's server does, and knows nothing."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STUB}" "$@"\n')
    program.chmod(0o755)
    return VllmSettings(python=str(program))


def share_of(env: gym.Env[Any, Any]) -> Any:
    return env.unwrapped._world._engine  # type: ignore[attr-defined]


def begun(history: Path, engine: VllmSettings, seed: int = 0) -> gym.Env[Any, Any]:
    """An environment that has made a step."""
    env = make(history, "Follow", engine=engine)
    step(env, seed)
    return env


def step(env: gym.Env[Any, Any], seed: int = 0) -> None:
    observation, _ = env.reset(seed=seed)
    env.step(LifelongAgent().predict(observation)[0])


def test_one_vllm_for_all_with_one_base_and_equal_settings(short_history: Path, stub: VllmSettings):
    first, second = begun(short_history, stub), begun(short_history, stub, seed=1)
    pid = share_of(first).pid
    assert share_of(second).pid == pid
    another = VllmSettings(python=stub.python, gpu_memory_utilization=0.3)
    third = begun(short_history, another)
    assert share_of(third).pid != pid
    # Closed, twice too, it ends for who closed it and goes on for the other.
    examinee = first.unwrapped.examinee  # type: ignore[attr-defined]
    first.close()
    first.close()
    with pytest.raises(EngineError, match="this share of the vLLM process was closed"):
        examinee.values()
    assert psutil.pid_exists(pid)
    step(second)
    # Made again, it joins again.
    step(first)
    assert share_of(first).pid == pid
    second.close()
    assert psutil.pid_exists(pid)
    first.close()
    assert not psutil.pid_exists(pid)
    assert psutil.pid_exists(share_of(third).pid)
    third.close()


def test_what_is_collected_lets_go(short_history: Path, stub: VllmSettings):
    first, second = begun(short_history, stub), begun(short_history, stub)
    pid = share_of(first).pid
    del first
    gc.collect()
    assert psutil.pid_exists(pid)
    step(second)
    del second
    gc.collect()
    assert not psutil.pid_exists(pid)


def test_a_dead_one_is_replaced_once_for_all(short_history: Path, stub: VllmSettings):
    first, second = begun(short_history, stub), begun(short_history, stub)
    pid = share_of(first).pid
    os.kill(pid, signal.SIGKILL)
    for env in (first, second):
        with pytest.raises(EngineError):
            env.step(np.ones(env.action_space.shape or (), dtype=np.float32))
    step(first)
    step(second)
    assert share_of(first).pid == share_of(second).pid != pid
    first.close()
    assert share_of(second).alive
    second.close()


def test_a_forked_process_starts_its_own(
    short_history: Path, stub: VllmSettings, monkeypatch: pytest.MonkeyPatch
):
    """The pipes are its parent's."""
    env = begun(short_history, stub)
    here = os.getpid()
    with monkeypatch.context() as forked:
        forked.setattr(vllm_sharing, "os", SimpleNamespace(getpid=lambda: here + 1))
        other = begun(short_history, stub)
        assert share_of(other).pid != share_of(env).pid
        other.close()
    assert share_of(env).alive
    env.close()

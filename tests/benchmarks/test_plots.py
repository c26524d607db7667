"""The picture of a run."""

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import progressgym_env
from progressgym_env.agents import make_agent
from progressgym_env.benchmarks.playing import play_episode
from progressgym_env.benchmarks.plots import draw_trajectories
from progressgym_env.values.dimensions import DIMENSIONS
from tests.scripted import scripted_history

AGENTS = ("hold", "lifelong", "oracle")


def draw(folder: Path, challenge: str, seeds: tuple[int, ...] = (0, 1)) -> None:
    history = scripted_history()
    env = gym.make(progressgym_env.CHALLENGES[challenge], history=history)
    episodes = [
        play_episode(
            env,
            make_agent(name, challenge=challenge, history=history),
            seed,
            agent_name=name,
        )
        for name in AGENTS
        for seed in seeds
    ]
    draw_trajectories(folder, history, (*AGENTS, "random"), episodes)


@pytest.mark.parametrize("challenge", tuple(progressgym_env.CHALLENGES))
def test_both_files_are_drawn_and_nothing_else(tmp_path: Path, challenge: str):
    draw(tmp_path, challenge)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["trajectories.png", "trajectories.svg"]
    with Image.open(tmp_path / "trajectories.png") as image:
        assert image.size[0] >= 1600
        pixels = np.asarray(image.convert("RGB"))
    assert 0.02 < (pixels < 250).any(axis=-1).mean() < 0.5, "lines on white"


def test_the_same_run_gives_the_same_bytes(tmp_path: Path):
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    draw(one, "coevolve")
    draw(two, "coevolve")
    for name in ("trajectories.png", "trajectories.svg"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_every_dimension_and_agent_is_named(tmp_path: Path):
    draw(tmp_path, "follow", seeds=(3,))
    svg = (tmp_path / "trajectories.svg").read_text()
    named = {text.strip() for text in re.findall(r"<!-- (.*?) -->", svg)}
    assert {d.label for d in DIMENSIONS} <= named
    assert set(AGENTS) <= named
    assert "random" not in named, "agents without an episode are left out"
    assert "Follow through history 'scripted' (synthetic), seed 3" in named

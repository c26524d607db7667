"""The studies behind the RL guide, and the guide's tables beside what the studies found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from progressgym_env import CHALLENGES
from progressgym_env.agents.registry import make_agent
from progressgym_env.benchmarks.studies import (
    forecasts,
    markdown,
    tuned_oracle,
    tuned_scripted,
)
from progressgym_env.benchmarks.train import BASELINES, compare

ROOT = Path(__file__).parent.parent.parent
RESULTS = json.loads((ROOT / "docs" / "rl-results.json").read_text(encoding="utf-8"))
GUIDE = (ROOT / "docs" / "reinforcement-learning.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_of_the_guide_are_what_was_found():
    lines = GUIDE.splitlines()
    for line in markdown(RESULTS):
        assert line in lines


def test_numbers_in_the_text_are_those_of_the_tables():
    found = RESULTS["challenges"]["coevolve"]
    hold = next(row["score"] for row in found["compared"] if row["agent"] == "hold")
    share = {k: round(100 * v) for k, v in found["share of the gap from hold to"].items()}
    for text in (README, GUIDE):
        assert f"{share['oracle']}%" in text
        assert f"{share['tuned oracle']}%" in text
    (sentence,) = re.findall(r"\(Coevolve: ([\d.]+)\s+against ([\d.]+)", README)
    assert sentence == (f"{found['policy']:.4f}", f"{hold:.4f}")


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_what_was_found_is_what_was_asked_for(challenge):
    rows = {row["agent"]: row for row in RESULTS["challenges"][challenge]["compared"]}
    assert set(BASELINES) <= set(rows)
    for name in BASELINES:
        assert rows[name]["low"] > 0
    if challenge != "follow":
        assert rows["tuned scripted agent"]["low"] > 0


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_shipped_policies_are_as_good_as_is_said(challenge):
    """The first 200 of the thousand episodes, played again."""
    score, rows = compare(challenge, make_agent("policy", challenge=challenge), n_episodes=200)
    assert score == pytest.approx(RESULTS["challenges"][challenge]["policy"], abs=0.003)
    for row in rows:
        if row.agent in BASELINES:
            assert row.low > 0, row


def test_the_best_of_a_grid_is_found():
    settings, score = tuned_scripted(
        "follow", 60, {"order": (0,), "strength": (1.0,), "gain": (0.01, 0.3), "lead": (0.0,)}
    )
    assert settings["gain"] == 0.3
    weak, low = tuned_oracle("follow", 60, {"gain": (0.01,), "lead": (1.0,)})
    assert weak == {"gain": 0.01, "lead": 1.0}
    assert low < score


def test_forecasts_are_judged_alike():
    found = {f.name: f for f in forecasts(3000, 300, epochs=4)}
    assert len(found) == 4
    now, line, best_line, neural = found.values()
    assert now.explained == 0
    assert line.explained < 0 < best_line.explained < 0.5
    assert neural.explained > 0.1
    assert best_line.score > max(now.score, line.score)
    scores = np.array([f.score for f in found.values()])
    assert ((scores > 0.9) & (scores < 1)).all()

"""``progressgym train``, as a user meets it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from progressgym_env.agents.policy import Policy
from progressgym_env.benchmarks import train as training
from progressgym_env.cli import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def _few_episodes(monkeypatch):
    """The comparison is the real one, on fewer histories."""
    monkeypatch.setattr(training, "_FINAL_EPISODES", 40)
    monkeypatch.setattr(training, "_CURVE_EPISODES", 20)


def trained(*arguments):
    return runner.invoke(app, ["train", "--challenge", "follow", *map(str, arguments)])


def test_trains_compares_and_keeps(tmp_path):
    done = trained("--steps", 1, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "95% interval" in done.output
    assert "extrapolative-2-soft" in done.output
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json",
        "curve.jsonl",
        "checkpoint",
        "policy",
        "summary.json",
        "curve.png",
    }
    policy = Policy.read(tmp_path / "run" / "policy")
    assert policy.challenge == "follow"
    (point,) = map(json.loads, (tmp_path / "run" / "curve.jsonl").read_text().splitlines())
    assert point["steps"] == policy.training["steps_done"] > 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows = {row["agent"]: row for row in summary["compared"]}
    assert rows["oracle"]["score"] > rows["hold"]["score"]
    for row in rows.values():
        assert row["low"] <= row["ahead"] <= row["high"]
        assert row["ahead"] == pytest.approx(summary["score"] - row["score"])

    again = trained("--steps", 1, "--out", tmp_path / "run")
    assert again.exit_code == 2
    assert "holds something already" in again.output

    played = runner.invoke(
        app,
        ["run", "--challenge", "follow", "--history", "simulated", "--quiet", "--workers", "1",
         "--agents", f"hold,policy:{tmp_path}/run/policy", "--out", f"{tmp_path}/played"],
    )  # fmt: skip
    assert played.exit_code == 0, played.output
    assert "policy:" in played.output


def test_resuming_needs_something_to_resume(tmp_path):
    for arguments, told in (
        (("--resume",), "--resume needs --out"),
        (("--resume", "--out", tmp_path), "no checkpoint"),
        (("--algorithm", "ppq"), "did you mean 'ppo'"),
        (("--history", "embedded", "--out", tmp_path / "a"), "cannot be batched"),
    ):
        done = trained(*arguments)
        assert done.exit_code == 2
        assert told in " ".join(done.output.split())

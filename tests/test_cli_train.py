"""``progressgym train``, as a user meets it."""

from __future__ import annotations

import json
import shlex

import pytest
from typer.testing import CliRunner

from progressgym_env.agents import training as agents_training
from progressgym_env.agents.policy import Policy
from progressgym_env.agents.training import TrainConfig, Trainer
from progressgym_env.benchmarks import train as training
from progressgym_env.cli import app
from progressgym_env.cli.errors import Terminated
from tests.agents.small_training import small
from tests.wrappers.conftest import wandb_home  # noqa: F401  # a fixture
from tests.wrappers.wandb_runs import in_a_process, read_run, read_run_at, run_folders

runner = CliRunner()


@pytest.fixture(autouse=True)
def _few_episodes(monkeypatch):
    """The comparison is the real one, on fewer histories."""
    monkeypatch.setattr(training, "_FINAL_EPISODES", 40)
    monkeypatch.setattr(training, "_CURVE_EPISODES", 20)


@pytest.fixture
def _small(monkeypatch):
    """Segments of a moment instead of seconds."""
    tuned = agents_training._tuned

    def tuned_small(algorithm, challenge):
        own = {**small(algorithm, challenge), "total_steps": 512}
        return {**tuned(algorithm, challenge), **own}

    monkeypatch.setattr(agents_training, "_tuned", tuned_small)


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


def policy_of(folder):
    return (folder / "policy" / "policy.safetensors").read_bytes()


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
@pytest.mark.parametrize("segment", [0, 1])
def test_an_interrupted_training_says_how_to_go_on(tmp_path, error, code, segment):
    """And going on as it says leads where an unbroken one does; nothing has to be repeated."""
    assert trained("--seed", 3, "--out", tmp_path / "whole").exit_code == 0
    folder, step = tmp_path / "a run", Trainer.train_segment

    def interrupted(trainer):
        if trainer.segment == segment:
            raise error
        step(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_segment", interrupted)
        stopped = trained("--seed", 3, "--out", folder, "--quiet")
    assert stopped.exit_code == code
    told, last = stopped.output.splitlines()
    assert last == "interrupted"
    assert told.startswith(f"What is trained stands in {folder}; go on with: progressgym train ")
    command = shlex.split(told.partition("go on with: ")[2])
    assert command == ["progressgym", "train", "--resume", "--out", str(folder)]
    done = runner.invoke(app, [*command[1:], "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["challenge"] == "follow"
    assert policy_of(folder) == policy_of(tmp_path / "whole")


@pytest.mark.usefixtures("_small")
def test_what_is_resumed_may_be_repeated_but_not_contradicted(tmp_path):
    folder = tmp_path / "run"
    first = ("--seed", 3, "--steps", 512, "--threads", 2, "--out", folder)
    assert trained(*first).exit_code == 0
    assert json.loads((folder / "config.json").read_text())["threads"] == 2
    before = policy_of(folder)
    again = trained(*first, "--resume")
    assert again.exit_code == 0, again.output
    assert policy_of(folder) == before
    for options, told in (
        (("--challenge", "predict"), f"--challenge predict contradicts the training in {folder}"),
        (("--algorithm", "sac"), "which has ppo; leave --algorithm out to go on with it"),
        (("--seed", 0), "--seed 0 contradicts"),
        (("--steps-ahead", 2), "--steps-ahead 2 contradicts"),
        (("--history", "simulated"), "which has simulated-train"),
        (("--threads", 1), "which has 2: sums depend on how they are split"),
        (("--steps", 1024), "which has 512: the learning rate falls over all steps"),
        (("--steps", 256), "--steps 256 contradicts"),
    ):
        done = runner.invoke(app, ["train", "--resume", "--out", str(folder), *map(str, options)])
        assert done.exit_code == 2
        assert told in done.output


@pytest.mark.usefixtures("_small")
def test_the_challenge_is_read_as_run_reads_it(tmp_path):
    done = runner.invoke(app, ["train", "--challenge", " Predict", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert Policy.read(tmp_path / "run" / "policy").challenge == "predict"


def test_defaults_are_told_as_they_are():
    """They stand in the help and, for whoever resumes, nowhere else on the command line."""
    told = runner.invoke(app, ["train", "--help"], terminal_width=200).output
    chosen = TrainConfig()
    for value in (chosen.algorithm, chosen.challenge, chosen.history, chosen.seed, chosen.threads):
        assert f"[default: ({value})]" in told


def test_no_mistake_leaves_a_folder(tmp_path):
    for arguments, told in (
        (("--wandb", "onlin"), "did you mean 'online'"),
        (("--history", "embedded"), "cannot be batched"),
        (("--history", "simulated-trian"), "did you mean 'simulated-train'"),
        (("--algorithm", "ppq"), "did you mean 'ppo'"),
        (("--steps-ahead", 2), "belongs to the challenge predict"),
        (("--challenge", "folow"), "did you mean 'follow'"),
    ):
        done = trained(*arguments, "--out", tmp_path / "run")
        assert done.exit_code == 2
        assert told in " ".join(done.output.split())
        assert not (tmp_path / "run").exists()


def test_without_stable_baselines3_it_costs_one_line_and_no_folder(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    for arguments in (["--out", "run"], ["--resume", "--out", "."]):
        code = (
            "import sys; sys.modules['stable_baselines3'] = None\n"
            "from progressgym_env.cli import app\n"
            f"app({['train', *arguments]!r})"
        )
        done = in_a_process(code, tmp_path / "home", work)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: training needs the package stable-baselines3")
        assert line.endswith("pip install 'progressgym-env[rl]'")
    assert not list(work.iterdir())


@pytest.mark.usefixtures("_small")
def test_wandb_gets_a_copy_of_every_part(wandb_home):  # noqa: F811
    """A training that is stopped and resumed makes two runs of one name, over the same steps."""
    folder, step = wandb_home / "first", Trainer.train_segment

    def interrupted(trainer):
        if trainer.segment == 1:
            raise KeyboardInterrupt
        step(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_segment", interrupted)
        stopped = trained("--wandb", "offline", "--quiet", "--out", folder)
    assert stopped.exit_code == 130
    told = stopped.output.splitlines()[0].partition("go on with: ")[2]
    assert told.endswith("--wandb offline")
    one = read_run(folder)
    assert (one.name, one.exit_code) == ("first", 1)
    assert [row["timesteps"] for row in one.having("fresh histories/score")] == [256]

    done = runner.invoke(app, [*shlex.split(told)[1:], "--quiet"])
    assert done.exit_code == 0, done.output
    (place,) = [place for place in run_folders(folder) if place != one.folder]
    assert f"W&B: offline; upload it with: wandb sync {place}" in done.output.splitlines()
    other = read_run_at(place)
    assert (other.name, other.exit_code) == ("first", 0)
    assert [row["timesteps"] for row in other.having("fresh histories/score")] == [512]
    assert other.having("train/learning_rate")
    assert one.config == other.config == json.loads((folder / "config.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    assert other.summary["score"] == summary["score"]
    ahead = {row["agent"]: row["ahead"] for row in summary["compared"]}
    assert other.summary["ahead of/hold"] == ahead["hold"]
    (row,) = other.having("curve.path")
    assert other.file(row["curve.path"]).read_bytes() == (folder / "curve.png").read_bytes()


def test_resuming_needs_something_to_resume(tmp_path):
    for arguments, told in (
        (("--resume",), "--resume needs --out"),
        (("--resume", "--out", tmp_path), "neither config.json nor a checkpoint"),
    ):
        done = trained(*arguments)
        assert done.exit_code == 2
        assert told in " ".join(done.output.split())

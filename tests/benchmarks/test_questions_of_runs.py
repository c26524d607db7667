"""Benchmarks with questions that are asked for: written down, gone on with, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from progressgym_env.benchmarks import verify as verifying
from progressgym_env.benchmarks.bench import Task, resumed
from progressgym_env.benchmarks.bench_config import matrix_from
from progressgym_env.benchmarks.config import RunConfig, describe
from progressgym_env.benchmarks.matrix import Block, Matrix
from progressgym_env.benchmarks.report_view import _header
from progressgym_env.benchmarks.run_data import load_run
from progressgym_env.benchmarks.run_folder import matrix_of
from progressgym_env.cli import app
from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.histories.loading import load_one
from progressgym_env.values.questions import QuestionSet, load_questions
from tests.benchmarks.test_bench import bench, results, resume

PLAIN = Matrix((Block(("hold", "lifelong"), ("follow",)),), "simulated", (0, 1))
ASKED = Matrix(PLAIN.blocks, "simulated", (0, 1), questions="own")


def test_a_matrix_without_them_is_written_as_ever():
    assert "questions" not in PLAIN.to_dict()
    assert ASKED.to_dict()["questions"] == "own"
    assert Matrix.from_dict(ASKED.to_dict()) == ASKED != PLAIN
    assert RunConfig(history="simulated", questions="own").matrix.questions == "own"


def test_results_depend_on_the_questions_and_not_on_who_named_them():
    history = load_one("simulated", 0)
    plain, asked = describe(PLAIN, history), describe(ASKED, history)
    assert plain["config_hash"] == asked["config_hash"]
    assert plain["history"] == {
        k: v for k, v in asked["history"].items() if k != "questions_asked_for"
    }
    assert matrix_of(asked) == ASKED
    assert matrix_of(plain) == PLAIN
    # As runs from before there was a choice.
    del plain["history"]["questions"]
    assert matrix_of(plain) == PLAIN


def test_a_file_or_an_option_asks_for_them(tmp_path: Path):
    file = tmp_path / "matrix.toml"
    file.write_text('history = "simulated"\nquestions = "own"\n')
    assert matrix_from(file, {}).questions == "own"
    with pytest.raises(InvalidArgumentError, match="--questions moralevals contradicts"):
        matrix_from(file, {"questions": "moralevals"})
    with pytest.raises(InvalidArgumentError, match="questions=1 must be a text"):
        Matrix.from_dict({"questions": 1})


def test_a_run_is_gone_on_with_reported_and_checked(tmp_path: Path):
    out = tmp_path / "asked"
    bench(ASKED, out, workers=1)
    bench(PLAIN, tmp_path / "plain", workers=1)
    whole = results(out)
    assert whole == results(tmp_path / "plain")
    assert resumed(out) == ASKED
    sorted((out / "cells").iterdir())[0].unlink()
    resume(out, workers=1)
    assert results(out) == whole
    assert load_run(out).history is not None
    assert _header(load_run(out))["facts"]["Questions"] == "own"
    assert verifying.verify(out, replay="all", workers=1).ok
    options = ["bench", "--resume", "--out", str(out), "--agents", "hold,lifelong", "--seeds", "2"]
    options += ["--challenges", "follow", "--history", "simulated", "--quiet"]
    assert CliRunner().invoke(app, [*options, "--questions", "own"]).exit_code == 0
    other = CliRunner().invoke(app, options)
    assert other.exit_code == 2
    assert "questions: own → None" in other.output


@pytest.mark.parametrize("command", ["run", "bench"])
def test_other_questions_leave_no_folder(command: str, tmp_path: Path):
    lines = [json.dumps(q.as_dict()) for q in reversed(load_questions().questions)]
    (tmp_path / "turned.jsonl").write_text("\n".join(lines))
    asked = ["--questions", str(tmp_path / "turned.jsonl"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [command, "--history", "simulated", *asked])
    assert done.exit_code == 2
    assert "leave questions out" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_workers_ask_for_the_same(tmp_path: Path):
    task = Task.of(ASKED, ASKED.cells[0], tmp_path / "file")
    assert task.load().questions.hash == load_questions().hash
    turned = QuestionSet("turned", reversed(load_questions().questions))
    (tmp_path / "turned.jsonl").write_text(
        "\n".join(json.dumps(q.as_dict()) for q in turned.questions)
    )
    wrong = Matrix(PLAIN.blocks, "embedded", questions=str(tmp_path / "turned.jsonl"))
    with pytest.raises(HistoryError, match="leave questions out"):
        Task.of(wrong, wrong.cells[0], tmp_path / "file").load()


@pytest.mark.parametrize(
    ("asked", "history", "foreign", "taken"),
    [
        ("own", "simulated", True, "own"),
        ("/etc/passwd", "histllama-8b", True, None),
        ("/my/questions", "histllama-8b", False, "/my/questions"),
        ("own", "/a/folder", False, None),
        (None, "simulated", False, None),
    ],
)
def test_a_strangers_path_is_not_followed(
    asked: str | None, history: str, foreign: bool, taken: str | None
):
    told = {"asked_for": history} | ({} if asked is None else {"questions_asked_for": asked})
    checked = SimpleNamespace(
        _config={"history": told}, _foreign=foreign, _where_the_history_lies=history
    )
    assert verifying._Verification._questions.fget(checked) == taken

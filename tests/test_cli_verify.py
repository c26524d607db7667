"""``progressgym verify`` and ``progressgym submit``, as a user meets them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from progressgym_env.cli import app
from progressgym_env.files import file_hash
from tests.benchmarks.tampered import Tamperer, play, simulated_matrix

runner = CliRunner()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(simulated_matrix(), tmp_path_factory.mktemp("runs") / "two")


def call(*arguments: object) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_a_run_that_agrees_is_verified(run: Path):
    done = call("verify", run)
    assert done.exit_code == 0, done.output
    assert "12 of 12 episodes of this run checked" in done.output
    assert "none played again: whether models were really trained" in done.output
    assert "verified: everything that was checked agrees" in done.output
    assert "checking: 12 of 12" in done.stderr
    assert call("verify", run, "--quiet").stderr == ""


def test_a_replay_says_what_it_chose_and_what_was_asked_of_it(run: Path):
    done = call("verify", run, "--sample", 1, "--seed", 4, "--workers", 1)
    assert done.exit_code == 0, done.output
    assert "1 of 12 played again, chosen with seed 4: 1 came out to the last bit" in done.output
    assert "processor, versions and device are the same" in done.output


def test_what_does_not_agree_is_told_with_exit_code_1(run: Path, tmp_path: Path):
    own = Tamperer(shutil.copytree(run, tmp_path / "own"))
    cell = own.run.cells[0]
    raw, arrays = own.episode(cell)
    raw["score"] = 1.0
    own.put(cell, raw, arrays)
    done = call("verify", own.folder)
    assert done.exit_code == 1
    assert f"error: {cell.slug}: score 1.0 is stored" in done.output
    assert "NOT verified: 1 things do not agree" in done.output
    told = json.loads(call("verify", own.folder, "--json", "--quiet").stdout)
    assert told["ok"] is False
    (finding,) = told["findings"]
    assert (finding["severity"], finding["where"]) == ("error", cell.slug)


def test_json_says_all(run: Path):
    told = json.loads(call("verify", run, "--json", "--quiet").stdout)
    assert told == {
        "path": str(run),
        "ok": True,
        "submission": False,
        "episodes": 12,
        "checked": 12,
        "replay": None,
        "findings": [],
    }


def submitted(run: Path, out: Path, *more: object) -> Result:
    who = ("--name", "Ours", "--author", "A. Uthor", "--author", "A. Nother")
    return call("submit", run, *who, "--out", out, *more)


def test_a_run_is_packed_and_the_packet_verified(run: Path, tmp_path: Path):
    out = tmp_path / "ours.zip"
    done = submitted(run, out, "--min-seeds", 2, "--url", "https://example.org")
    assert done.exit_code == 0, done.output
    assert f"Packed: {out}" in done.output
    checked = call("verify", out, "--min-seeds", 2)
    assert checked.exit_code == 0, checked.output
    assert "12 of 12 episodes of this submission checked" in checked.output
    few = call("verify", out)
    assert few.exit_code == 1
    assert "error: config.json: 2 seeds, and a submission has 5 or more" in few.output


def test_packing_tells_the_hash_in_json(run: Path, tmp_path: Path):
    out = tmp_path / "ours.zip"
    done = submitted(run, out, "--min-seeds", 2, "--json", "--quiet")
    assert json.loads(done.stdout) == {"file": str(out), "sha256": file_hash(out)}


def test_the_packet_has_the_name_of_the_run_where_nothing_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done = call("submit", run, "--min-seeds", 2)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "two.zip").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("verify", "RUN", "--history", "embeded"), "did you mean 'embedded'"),
        (("verify", "no-such"), "no-such is no run folder"),
        (("submit", "RUN", "--name", "N", "--author", "A"), "5 or more"),
        (("submit", "RUN", "--name", "N", "--author", "A", "--url", "me"), "must begin with https"),
        (("submit", "RUN", "--name", "N", "--author", "A", "--out", "x.tar"), "end in .zip"),
    ],
)
def test_what_cannot_be_done_costs_a_line_and_exit_code_2(
    arguments: Sequence[str], says: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done = call(*(run if word == "RUN" else word for word in arguments), "--quiet")
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.stderr.split())
    assert done.stderr.startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_a_torn_packet_cannot_be_checked(run: Path, tmp_path: Path):
    out = tmp_path / "ours.zip"
    assert submitted(run, out, "--min-seeds", 2).exit_code == 0
    out.write_bytes(out.read_bytes()[:-100])
    done = call("verify", out)
    assert done.exit_code == 2
    assert "is no whole zip" in done.stderr


@pytest.mark.parametrize("number", ["some", "0"])
def test_a_sample_is_a_number_from_1(number: str, run: Path):
    done = call("verify", run, "--sample", number)
    assert done.exit_code == 2
    assert "Invalid value for '--sample'" in done.stderr

"""What a page of results keeps of run folders, and the tables made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from progressgym_env.benchmarks import results
from progressgym_env.benchmarks.bench import play_matrix
from progressgym_env.benchmarks.bench_result import BenchHooks
from progressgym_env.benchmarks.matrix import Block, Matrix
from progressgym_env.benchmarks.run_folder import read_episodes
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import new_folder

MATRIX = Matrix((Block(("hold", "lifelong", "oracle"), ("follow",)),), "simulated-embedded", (1,))


def play(matrix: Matrix, out: Path) -> Path:
    hooks = BenchHooks()
    return play_matrix(matrix, hooks, make_folder=lambda: new_folder(out), workers=1).path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The later seed first."""
    folder = tmp_path_factory.mktemp("runs")
    return [play(replace(MATRIX, seeds=(seed,)), folder / f"seed{seed}") for seed in (1, 0)]


def test_runs_of_different_seeds_are_put_together_in_the_order_of_the_matrix(
    runs: list[Path], tmp_path: Path
):
    out = tmp_path / "results.json"
    results.main(["collect", *map(str, runs), "--out", str(out)])
    found = results.read_results(out)
    assert [(cell.agent, cell.seed) for cell in found] == [
        (agent, seed) for agent in MATRIX.blocks[0].agents for seed in (0, 1)
    ]
    for run in runs:
        for episode in read_episodes(run):
            (kept,) = [
                k for c, k in found.items() if (c.agent, c.seed) == (episode.agent, episode.seed)
            ]
            assert kept["score"] == episode.score
            assert kept["rewards"] == [step.reward for step in episode.steps]
    raw = json.loads(out.read_text())
    assert raw["history"] == "simulated-embedded"


def test_a_run_is_added_to_what_was_kept_of_another(runs: list[Path], tmp_path: Path):
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    results.main(["collect", *map(str, runs), "--out", str(whole)])
    results.main(["collect", str(runs[0]), "--out", str(part)])
    both = tmp_path / "both.json"
    results.main(["collect", str(part), str(runs[1]), "--out", str(both)])
    assert both.read_bytes() == whole.read_bytes()
    with pytest.raises(InvalidArgumentError, match="once more"):
        results.collect([part, runs[0]])
    raw = json.loads(part.read_text())
    part.write_text(json.dumps({**raw, "history_digest": "0" * 64}))
    with pytest.raises(InvalidArgumentError, match="do not belong together: history_digest"):
        results.collect([part, runs[1]])


def test_what_does_not_belong_together_is_refused(runs: list[Path], tmp_path: Path):
    other = play(replace(MATRIX, blocks=(Block(("hold",), ("follow",)),)), tmp_path / "other")
    with pytest.raises(InvalidArgumentError, match=r"do not belong together: arguments\.matrix"):
        results.collect([runs[0], other])
    with pytest.raises(InvalidArgumentError, match=r"holds .*hold-seed1 once more"):
        results.collect([runs[0], runs[0]])


def test_tables_say_what_the_scores_say(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "results.json"
    results.main(["collect", *map(str, runs), "--out", str(out)])
    results.main(["show", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| algorithm | overall skill | Follow |"
    assert lines[2].startswith("| oracle · dpo | 1.00")
    found = results.read_results(out)
    mean = sum(k["score"] for c, k in found.items() if c.agent == "hold") / 2
    assert f"| {mean:.4f} (" in lines[-1]
    table = results.answers_table(found, "follow", [("lifelong · dpo", "hold · dpo"), ("a", "b")])
    (row,) = table.splitlines()[2:]
    ahead = sum(
        kept["score"] * {"lifelong": 1, "hold": -1, "oracle": 0}[cell.agent]
        for cell, kept in found.items()
    ) / 2  # fmt: skip
    assert row.startswith(f"| lifelong · dpo over hold · dpo | {ahead:+.4f} (")

"""Benchmarks go on to the same bytes however they were stopped, and nothing complete is lost."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.agents import make_agent
from progressgym_env.benchmarks.bench import play_matrix, resumed
from progressgym_env.benchmarks.bench_result import BenchHooks
from progressgym_env.benchmarks.cell_file import CellFile, read_cell
from progressgym_env.benchmarks.matrix import Block, Matrix, labels
from progressgym_env.benchmarks.playing import Unfinished, play_episode
from progressgym_env.benchmarks.run_folder import RunFolder, read_episodes
from progressgym_env.errors import RunFolderError
from progressgym_env.files import new_folder
from tests.benchmarks.damaged import damaged_history
from tests.benchmarks.loaded import Command, server

COMMAND = [sys.executable, "-m", "progressgym_env.cli", "bench"]
SIMULATED = Matrix(
    (Block(("hold", "random", "lifelong", "oracle"), ("follow", "predict", "coevolve")),),
    history="simulated-test",
    seeds=(0, 1),
)


def bench(matrix: Matrix, out: Path, **more: Any) -> RunFolder:
    return play_matrix(matrix, BenchHooks(), make_folder=lambda: new_folder(out), **more)


def resume(out: Path, **more: Any) -> RunFolder:
    matrix = resumed(out)
    return play_matrix(matrix, BenchHooks(), resume=out, **more)


def results(out: Path) -> dict[str, bytes]:
    """What must be the same byte for byte; summaries are made of it."""
    files = [out / "episodes.jsonl", out / "summary.json", *(out / "cells").iterdir()]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "simulated"
    bench(SIMULATED, out, workers=2)
    return out


@pytest.fixture
def copy(simulated: Path, tmp_path: Path) -> Path:
    return shutil.copytree(simulated, tmp_path / "copy")


def test_one_line_an_episode_in_the_order_of_the_matrix(simulated: Path):
    episodes = read_episodes(simulated)
    assert [
        (e.challenge, e.update, e.update_from, e.steps_ahead, e.agent, e.seed) for e in episodes
    ] == [
        (challenge, "dpo", "current", 1, agent, seed)
        for challenge in ("follow", "predict", "coevolve")
        for agent in ("hold", "random", "lifelong", "oracle")
        for seed in (0, 1)
    ]
    summary = json.loads((simulated / "summary.json").read_text())
    assert (summary["status"], summary["finished"], summary["episodes"]) == ("complete", 24, 24)
    assert not list(simulated.rglob(".*")), "no temporary file is left"


# Killed

TINY = ("--agents", "random,extrapolative-soft", "--challenges", "follow,coevolve")
MORE = ("--updates", "sft", "--threads", "1", "--device", "cpu")


def start(out: Path, *arguments: str, workers: str = "1") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments, "--out", str(out), "--workers", workers],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def start_loaded(out: Path, *arguments: str) -> Command:
    """As ``start``, with all that it takes long to import there already."""
    said = out.with_name("said")
    return Command("bench", *arguments, "--out", str(out), "--workers", "1", said=said)


def written(out: Path) -> Mapping[str, int]:
    """When each episode's file was last written."""
    found = {}
    for file in (out / "cells").glob("[0-9]*"):
        try:
            found[file.name] = file.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def kill_after(
    process: subprocess.Popen[str] | Command, out: Path, n_steps: int, seconds: float
) -> bool:
    """Kill all of it once ``n_steps`` more centuries are written; False if it ended before."""
    seen, before = 0, written(out)
    while seen < n_steps and process.poll() is None:
        now = written(out)
        seen += sum(now[name] != before.get(name) for name in now)
        before = now
        time.sleep(0.005)
    time.sleep(seconds)
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(
    brief_history: Path, tmp_path: Path
):
    """Real language models, real training. Original defect 15: half a result passes for one."""
    arguments = ("--history", str(brief_history), *TINY, *MORE)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reference = start(whole, *arguments, workers="2")
    _, told = reference.communicate(timeout=600)
    assert reference.returncode == 0, told
    rng = random.Random(0)
    kills = gone_on = 0
    with server():
        while kills < 20:
            # Sometimes while it loads, mostly between any two lines of a step.
            n_steps = rng.choice((0, 1, 1, 1, 2))
            options = to_go_on(broken) or arguments
            gone_on += bool(unfinished(broken))
            process = (start_loaded if n_steps else start)(broken, *options)
            if kill_after(process, broken, n_steps, rng.uniform(0, 0.3 if n_steps else 4.0)):
                kills += 1
            else:
                assert process.returncode == 0, (tmp_path / "said").read_text()
                # It was done before the last kills; begin again.
                shutil.rmtree(broken)
            if isinstance(process, subprocess.Popen) and process.stderr is not None:
                process.stderr.close()
    options = to_go_on(broken) or arguments
    before = unfinished(broken)
    process = start(broken, *options)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    assert results(broken) == results(whole)
    assert gone_on
    for name, done in before.items():
        first = next(line for line in told.splitlines() if f"{name}: C" in line)
        assert f", {done} of 3 steps done" in first, "it goes on where it was"


def to_go_on(out: Path) -> tuple[str, ...]:
    """Options with which the command goes on there; none where nothing is to be gone on with."""
    if (out / "config.json").is_file():
        return ("--resume",)
    shutil.rmtree(out, ignore_errors=True)
    return ()


def unfinished(out: Path) -> dict[str, int]:
    """Label → centuries done, of the episodes that are begun and not finished."""
    if not out.exists():
        return {}
    matrix = resumed(out)
    folder = RunFolder(out, matrix.cells)
    found = {}
    open_cells = [
        cell for cell in matrix.cells
        if not folder.file_of(cell).is_file() or read_cell(folder.file_of(cell)).score is None
    ]  # fmt: skip
    names = labels(open_cells)
    for cell in open_cells:
        if folder.file_of(cell).is_file():
            found[names[cell]] = len(read_cell(folder.file_of(cell)).steps)
    return found


# Resumed


def test_a_finished_run_has_nothing_to_go_on_with(copy: Path):
    before = results(copy)
    resume(copy)
    assert results(copy) == before


def test_what_is_missing_is_played_again(copy: Path):
    """A folder that is half deleted."""
    before = results(copy)
    cells = sorted((copy / "cells").iterdir())
    for file in cells[::2]:
        file.unlink()
    for name in ("episodes.jsonl", "summary.json", "timings.json"):
        (copy / name).unlink()
    resume(copy)
    assert results(copy) == before


def test_without_its_config_it_is_no_run(copy: Path):
    (copy / "config.json").unlink()
    with pytest.raises(RunFolderError, match=r"is no run folder: it has no config\.json"):
        resumed(copy)
    (copy / "config.json").write_text('{"arguments": ')
    with pytest.raises(RunFolderError, match="is damaged"):
        resumed(copy)


def test_a_torn_last_line_is_named_and_written_anew(copy: Path):
    before = results(copy)
    file = copy / "episodes.jsonl"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunFolderError, match=r"episodes\.jsonl:24: .*the line is torn.*--resume"):
        read_episodes(copy)
    resume(copy)
    assert results(copy) == before


def test_a_damaged_episode_is_refused_by_name(copy: Path):
    file = sorted((copy / "cells").iterdir())[3]
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    with pytest.raises(RunFolderError, match=f"{file.name} holds no episode"):
        resume(copy)
    file.unlink()
    resume(copy)
    assert file.read_bytes() == whole


def test_another_configuration_is_refused_and_shown(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    config["versions"]["torch"] = "1.0"
    config["history_digest"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError) as caught:
        resume(copy)
    assert re.search(r"history_digest: 0+ → \w+", str(caught.value))
    assert re.search(r"versions.torch: 1.0 → \d", str(caught.value))


def test_two_runs_in_one_folder_are_refused(copy: Path):
    folder = RunFolder(copy, SIMULATED.cells)
    with folder.locked(), pytest.raises(RunFolderError, match="another run is under way"):
        resume(copy)
    resume(copy)


def test_an_agent_that_acts_otherwise_than_before_is_found_out(short_history: Path, tmp_path: Path):
    """What an agent did before is not believed, it is seen again."""
    matrix = Matrix((Block(("random",), ("follow",), ("sft",)),), str(short_history), device="cpu")
    out = tmp_path / "run"
    whole = bench(matrix, out)
    (cell,) = matrix.cells
    stopped = stop_after(whole, 2, tmp_path)
    shutil.copy(stopped, whole.file_of(cell))
    resume(out)
    raw = read_cell(whole.file_of(cell))
    assert raw.score is not None
    # As if another agent had acted: the digest of the second action is another.
    shutil.copy(edited(stopped), whole.file_of(cell))
    folder = resume(out)
    (failure,) = folder.failures.values()
    assert "does not act at step 2 as it did before" in failure.message


def stop_after(run: RunFolder, n_steps: int, where: Path) -> Path:
    """The file of the run's only episode as it was after some steps, made by stopping it there."""

    class Stop(Exception):
        pass

    class Stopping(CellFile):
        def step(self, unfinished: Unfinished) -> None:
            super().step(unfinished)
            if len(unfinished.record.steps) == n_steps:
                raise Stop

    (cell,) = run.cells
    path = where / "stopped.safetensors"
    env = cell.make_env(resumed(run.path).history, "cpu")
    agent = make_agent(cell.agent, challenge=cell.challenge, seed=cell.seed)
    with pytest.raises(Stop):
        play_episode(env, agent, cell.seed, agent_name=cell.agent, journal=Stopping(path))
    return path


def edited(path: Path) -> Path:
    begun = CellFile(path).begun()
    assert begun is not None
    steps = list(begun.record.steps)
    steps[1] = replace(steps[1], action="0" * 64)
    other = path.with_name("edited.safetensors")
    CellFile(other).step(replace(begun, record=replace(begun.record, steps=tuple(steps))))
    return other


# Failing


def test_a_cell_that_fails_does_not_stop_the_others_and_is_tried_again(tmp_path: Path):
    """Original defect 12: crashes become results, and the run reports completion."""
    history = damaged_history(tmp_path / "damaged")
    block = Block(("lifelong", "hold", "oracle"), ("predict",), steps_ahead=(7,))
    matrix = Matrix((block,), str(history))
    folder = bench(matrix, tmp_path / "run", workers=1)
    assert [cell.agent for cell in folder.failures] == ["lifelong", "oracle"]
    assert [episode.agent for episode in read_episodes(folder.path)] == ["hold"]
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert [failure["cell"] for failure in summary["failures"]] == [
        "predict+7-dpo-current-lifelong-seed0", "predict+7-dpo-current-oracle-seed0",
    ]  # fmt: skip
    assert summary["rows"][0]["tasks"]["predict+7"]["score"] is None
    # Mended, it is another history, and results of both do not belong together.
    shutil.rmtree(history)
    shutil.copytree(Path(str(files("progressgym_env.histories.embedded") / "data")), history)
    with pytest.raises(RunFolderError, match="history_digest"):
        resume(folder.path)


def test_what_failed_is_tried_again(simulated: Path, copy: Path):
    """A worker that was killed, say: its episode is played when the run goes on."""
    before = results(copy)
    folder = RunFolder(copy, SIMULATED.cells)
    lost = SIMULATED.cells[5]
    folder.file_of(lost).unlink()
    entry = {"cell": asdict(lost), "error": "ProcessDied", "message": "", "traceback": ""}
    (copy / "failures.json").write_text(json.dumps([entry]))
    resume(copy)
    assert results(copy) == before
    assert not (copy / "failures.json").exists()


def test_a_full_disk_stops_the_run_with_a_clear_error_and_loses_nothing(tmp_path: Path):
    """A real file system of 600 KB where one can be mounted, else a limit on the size of files."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)],
        capture_output=True, check=False,
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("no small file system can be mounted here: that takes root")
    try:
        out = small / "run"
        arguments = ["--history", "simulated", "--seeds", "40", "--agents", "hold,lifelong"]
        done = subprocess.run(
            [*COMMAND, *arguments, "--out", str(out), "-q"], capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 2
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        finished = list((out / "cells").glob("[0-9]*"))
        assert finished
        scores = [read_cell(file).score for file in finished]
        assert sum(score is not None for score in scores) >= len(scores) - 2
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        again = subprocess.run(
            [*COMMAND, "--resume", "--out", str(out), "-q"], capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert again.returncode == 0, again.stderr
        assert len(read_episodes(out)) == 240
    finally:
        subprocess.run(["umount", str(small)], check=True)

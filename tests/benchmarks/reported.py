"""Run folders for tests of reports, played on simulated histories within this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from progressgym_env.agents.registry import SHIPPED
from progressgym_env.benchmarks.bench import Task, play_cell, play_matrix
from progressgym_env.benchmarks.matrix import Block, Cell, Matrix
from progressgym_env.benchmarks.pool import Failure
from progressgym_env.benchmarks.run_folder import EPISODES_FILE
from progressgym_env.files import new_folder
from progressgym_env.histories.records import checksums

SCRIPT = "<script>document.title='hacked'</script>"
TAG = "</script><img src=x onerror=document.title='hacked'>\u202e"
FAILURE = Failure("ValueError", f"no <b>room</b> {TAG}", f"Traceback …\n  {TAG}", False)

WIDE = Matrix(
    (
        Block(("hold", "random", "lifelong", "extrapolative-1", "oracle"), ("follow", "coevolve")),
        Block(("hold", "lifelong", "oracle"), ("predict",), steps_ahead=(2,)),
        Block(("lifelong",), ("predict",), update_from=("initial",), steps_ahead=(2,)),
    ),
    "simulated",
    (0, 1, 2),
)
SMALL = Matrix((Block(("hold", "lifelong", "oracle"), ("follow",)),), "simulated", (0, 1))


class Hooks:
    """Nothing besides. Obeys ``Hooks``."""

    def opened(self, *_: Any) -> None: ...

    def ended(self, cell: Cell) -> None: ...

    def summary(self, status: str) -> Mapping[str, Any]:
        return {"status": status}


class Here:
    """Plays one task after the other in this process, but for those that fail or are left out."""

    def __init__(self, fails: Callable[[Cell], bool], left_out: Callable[[Cell], bool]) -> None:
        self._fails, self._left_out = fails, left_out

    def run(self, tasks: list[Task], *, on_start: Any, on_report: Any, on_end: Any) -> None:
        for index, task in enumerate(tasks):
            if self._left_out(task.cell):
                continue
            on_start(index)
            if self._fails(task.cell):
                on_end(index, FAILURE)
            else:
                on_end(index, play_cell(task, lambda report, i=index: on_report(i, report)))


def play(
    path: Path,
    matrix: Matrix = SMALL,
    *,
    fails: Callable[[Cell], bool] = lambda cell: False,
    left_out: Callable[[Cell], bool] = lambda cell: False,
) -> Path:
    """A run folder at ``path``."""
    play_matrix(
        matrix,
        Hooks(),
        make_folder=lambda: new_folder(path),
        executor=lambda *_: Here(fails, left_out),
    )
    return path


def hostile(folder: Path) -> Path:
    """A run whose agent, dialogue and failure try to be markup."""
    policy = folder / f"<b>{SCRIPT}"
    shutil.copytree(SHIPPED / "follow", policy)
    block = Block(("hold", f"policy:{policy}", "lifelong", "oracle"), ("follow",))
    run = play(
        folder / "run",
        Matrix((block,), "simulated", (0, 1)),
        fails=lambda cell: cell.agent == "lifelong" and cell.seed == 1,
    )
    file = run / EPISODES_FILE
    episodes = [json.loads(line) for line in file.read_text().splitlines()]
    for episode in episodes:
        for step in episode["steps"]:
            step["dialogue"] = [[f"{TAG} asked", f"{SCRIPT} said \ud800 \x00"]]
    file.write_text("".join(json.dumps(episode) + "\n" for episode in episodes))
    return run


def without_planted(folder: Path) -> Path:
    """A history of one's own: the embedded one's models and records, with nothing planted."""
    source = Path(str(files("progressgym_env.histories.embedded") / "data"))
    shutil.copytree(source, folder)
    numbers = load_file(folder / "records.safetensors")
    del numbers["planted"]
    save_file(numbers, folder / "records.safetensors")
    header = json.loads((folder / "history.json").read_text())
    header["files"] = checksums(folder, header["files"])
    header["name"] = "of one's own"
    header["provenance"]["synthetic"] = False
    (folder / "history.json").write_text(json.dumps(header))
    return folder

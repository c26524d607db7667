"""W&B runs in tests: kept to themselves, and read back with wandb's own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef0123456789abcdef01234567"
"""Of the right form, and nobody's."""


def isolate(home: Path) -> dict[str, str]:
    """Environment variables that keep wandb away from the user's settings and the network."""
    home.mkdir(exist_ok=True)
    return {
        "HOME": str(home),
        "NETRC": str(home / "netrc"),
        "WANDB_CONFIG_DIR": str(home / "config"),
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_DATA_DIR": str(home / "data"),
        "WANDB_ERROR_REPORTING": "false",
        # Nobody listens there.
        "WANDB_BASE_URL": "http://127.0.0.1:9",
    }


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a process, isolated likewise."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return {**kept, **isolate(home), **more}


@dataclass
class Run:
    """What a run's folder holds.

    Attributes:
        config: the config, without what wandb adds.
        rows: the history, without wandb's own columns.
        axes: name or pattern of a metric → the metric it is drawn over; None for an axis.
        summary: the last value of everything, nested names joined by dots.
        exit_code: None if the run never ended.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    axes: dict[str, str | None] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    project: str = ""
    name: str = ""
    exit_code: int | None = None

    def having(self, key: str) -> list[dict[str, Any]]:
        """The rows with this column."""
        return [row for row in self.rows if key in row]

    def file(self, path: str) -> Path:
        """A file of the run."""
        return self.folder / "files" / path

    def table(self, name: str) -> list[list[list[Any]]]:
        """Rows of a table, an entry an increment."""
        paths = [row[f"{name}.path"] for row in self.having(f"{name}.path")]
        return [json.loads(self.file(path).read_text())["data"] for path in paths]


def all_written() -> None:
    """Wait until everything of the runs that have finished here is on disk.

    ``Run.finish`` does not: wandb's own process may still have the last of it. That process ends
    when all is written.
    """
    import wandb

    wandb.teardown()


def run_folders(folder: Path) -> list[Path]:
    """Folders of the runs that were logged in ``folder``."""
    return sorted(p for p in (folder / "wandb").glob("*run-*") if not p.is_symlink())


def read_run(folder: Path) -> Run:
    """Read the one run in ``folder`` with wandb's own reader."""
    (place,) = run_folders(folder)
    return read_run_at(place)


def read_run_at(place: Path) -> Run:
    """Read the run in a folder of its own, which has finished."""
    from wandb.util import get_core_path

    all_written()
    # What `wandb leet inspect` starts, without importing wandb anew.
    (file,) = place.glob("*.wandb")
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json"]
    command += ["--run-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    run = Run(place)
    for line in done.stdout.splitlines():
        _take(run, json.loads(line))
    return run


def _take(run: Run, record: dict[str, Any]) -> None:
    content = record.get(record["type"], {})
    match record["type"]:
        case "run":
            run.config |= {k: v for k, v in content["config"]["update"].items() if k != "_wandb"}
            run.project = content.get("project", "")
            run.name = content.get("display_name", "")
        case "history":
            run.rows.append({k: v for k, v in content["item"].items() if not k.startswith("_")})
        case "metric":
            name = content.get("name") or content["glob_name"]
            run.axes[name] = content.get("step_metric")
        case "summary":
            run.summary |= content.get("update", {})
        case "exit":
            run.exit_code = content.get("exit_code", 0)


def in_a_process(code: str, home: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, from ``cwd``, with the tests importable."""
    place = environment(home, PYTHONPATH=str(ROOT), **env)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd, env=place, capture_output=True, text=True, check=False, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip

"""The W&B sink online: no key, no network, one that is lost, and a server that answers.

W&B itself is out of reach of tests, so a stand-in answers; the client is the real one.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from progressgym_env.wrappers import _wandb
from progressgym_env.wrappers.wandb_sink import TrackingWarning, WandbSink
from tests.wrappers.wandb_runs import KEY, ROOT, all_written, environment, read_run_at, run_folders
from tests.wrappers.wandb_server import serving

# Seconds: five or two are waited for, and a busy machine takes its time, too.
PATIENCE = 60


def offline_instead(folder: Path) -> tuple[list[str], float]:
    """What a sink that should be online warns of, and how long it takes; the run must be there."""
    WandbSink(mode="offline", folder=folder / "before").start()  # Imports what takes time.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        began = time.monotonic()
        with WandbSink(mode="online", folder=folder) as sink:
            seconds = time.monotonic() - began
            for step in range(3):
                sink.log({"a": 1.0}, step)
    place = run_folders(folder)[0]
    assert place == sink.folder
    assert place.name.startswith("offline-run-")
    run = read_run_at(place)
    assert (len(run.rows), run.exit_code) == (3, 0)
    assert sink.where == f"offline; upload it with: wandb sync {place}"
    return [str(w.message) for w in caught if w.category is TrackingWarning], seconds


def test_without_a_key_the_run_goes_offline_and_says_so_once(wandb_home: Path):
    (said,), _ = offline_instead(wandb_home)
    assert "No API key configured" in said
    assert "`wandb login`" in said
    assert f"wandb sync {run_folders(wandb_home)[0]}" in said


def test_without_a_network_the_run_goes_offline_within_seconds(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nobody listens; wandb alone would try for ninety seconds, and fail."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    (said,), seconds = offline_instead(wandb_home)
    assert said.startswith("W&B is not available online (CommError: ")
    assert seconds < PATIENCE


def test_whoever_allows_for_less_waits_less(wandb_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    monkeypatch.setattr(_wandb, "INIT_SECONDS", 2 * PATIENCE)
    (_,), seconds = offline_instead(wandb_home)
    assert seconds < PATIENCE


def test_a_key_that_is_refused_goes_offline(wandb_home: Path, monkeypatch: pytest.MonkeyPatch):
    with serving(status=401) as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        (said,), _ = offline_instead(wandb_home)
    assert "see to the network, or to the key" in said


def test_a_key_of_the_wrong_form_goes_offline(wandb_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "mistyped")
    (said,), _ = offline_instead(wandb_home)
    assert "API key must have 40+ characters" in said


def test_nobody_is_asked_for_a_key_on_a_terminal(tmp_path: Path):
    """wandb alone would show a menu, and wait for an answer for good."""
    code = (
        "import os\n"
        "from progressgym_env.wrappers.wandb_sink import WandbSink\n"
        "with WandbSink(mode='online', folder='runs') as sink: sink.log({'a': 1.0}, 1)\n"
        "print('done', os.environ['TERM'])"
    )
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal,
        env=environment(tmp_path / "home", PYTHONPATH=str(ROOT), TERM="xterm"),
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    limit = time.monotonic() + 120
    while b"done xterm" not in shown and time.monotonic() < limit and process.poll() is None:
        if select.select([controller], [], [], 0.2)[0]:
            shown += os.read(controller, 65536)
    if b"done xterm" not in shown:
        process.kill()
    assert process.wait(timeout=30) == 0, shown
    os.close(controller)
    assert b"done xterm" in shown
    assert b"Enter your choice" not in shown
    assert shown.count(b"TrackingWarning") == 1


def test_online_everything_arrives(wandb_home: Path, monkeypatch: pytest.MonkeyPatch):
    with serving() as server, warnings.catch_warnings():
        warnings.simplefilter("error", TrackingWarning)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        with WandbSink("mine", mode="online", folder=wandb_home, config={"seed": 3}) as sink:
            assert sink.where == f"{server.url}/somebody/mine/runs/{sink.folder.name[-8:]}"
            for step in range(4):
                sink.log({"a": step / 3}, step)
    rows = [(row["timesteps"], row["a"]) for row in server.rows]
    assert rows == [(step, step / 3) for step in range(4)]
    assert server.config["seed"] == {"value": 3}
    assert server.ended


def test_a_network_that_is_lost_holds_nothing_up(wandb_home: Path, monkeypatch: pytest.MonkeyPatch):
    """wandb alone would wait at the end for the network to come back."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(_wandb, "FINISH_SECONDS", 2.0)
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        sink = WandbSink(mode="online", folder=wandb_home)
        sink.log({"a": 0.0}, 0)
    began = time.monotonic()
    for step in range(1, 200):
        sink.log({"a": 1.0}, step)
    with pytest.warns(TrackingWarning) as caught:
        sink.finish()
    assert time.monotonic() - began < PATIENCE
    (said,) = caught
    assert "W&B has not got everything (TimeoutError" in str(said.message)
    assert f"wandb sync {sink.folder}" in str(said.message)
    assert len(read_run_at(sink.folder).rows) == 200, "all of it is on disk"


def test_an_offline_run_is_uploaded_by_the_command_that_is_named(wandb_home: Path):
    with WandbSink(mode="offline", folder=wandb_home, config={"seed": 3}) as sink:
        for step in range(3):
            sink.log({"a": step / 3}, step)
    all_written()
    command = sink.where.split(": ")[1].split()
    assert command[:2] == ["wandb", "sync"]
    with serving() as server:
        env = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        done = subprocess.run(
            [sys.executable, "-m", *command], env=env, capture_output=True, text=True, check=False,
            timeout=300, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [(row["timesteps"], row["a"]) for row in server.rows]
    assert rows == [(step, step / 3) for step in range(3)]
    assert server.ended

"""Training that a command launches gives what training in the environment's process gives."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny import make_examples

import progressgym_env  # noqa: F401
from progressgym_env.errors import EngineError, InvalidArgumentError
from progressgym_env.models import launched
from progressgym_env.models.host import LanguageHost
from progressgym_env.models.launched import (
    FSDP,
    can_launch,
    check_launch,
    check_share,
    train_launched,
)
from progressgym_env.models.loading import load_base
from progressgym_env.models.updates import (
    DPOSettings,
    DPOUpdate,
    RLHFUpdate,
    SFTSettings,
    SFTUpdate,
)

SHARDED = (sys.executable, str(Path(__file__).with_name("sharded_cpu.py")))
DPO = DPOUpdate(DPOSettings(batch_size=4))
EXAMPLES = make_examples(9)


@pytest.fixture(scope="module")
def host(base: Path) -> LanguageHost:
    return LanguageHost(base, device="cpu")


def trained_here(host: LanguageHost, update: Any, examples: Any) -> Any:
    return host.trained(host.fresh, lambda model, tok: update.train(model, tok, examples, 5))


def largest_difference(one: Any, other: Any) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_base_in_parts_learns_the_same(host: LanguageHost, tmp_path: Path):
    examples = EXAMPLES[:8]
    here = trained_here(host, DPO, examples)
    there = train_launched(SHARDED, host, host.fresh, DPO, examples, 5)
    assert largest_difference(here, host.fresh) > 1e-3
    # Adam turns the rounding of a gradient near zero into a share of a step.
    assert largest_difference(here, there) < 1e-4
    assert not list(tmp_path.glob("progressgym-training-*")), "nothing is left"


def test_accelerate_launches_the_same_training(host: LanguageHost):
    update = SFTUpdate(SFTSettings(batch_size=4, epochs=0.5))
    launch = check_launch("accelerate launch --cpu --num_processes 1")
    assert launch is not None
    there = train_launched(launch, host, host.fresh, update, EXAMPLES, 5)
    here = trained_here(host, update, EXAMPLES)
    assert largest_difference(here, there) == 0.0 < largest_difference(here, host.fresh)


def test_an_environment_trains_by_what_is_launched():
    action = np.zeros(190, dtype=np.float32)
    action[:19] = 0.2  # The last batch has three examples, which two processes fill up to four.
    update, shown = SFTUpdate(SFTSettings(batch_size=8)), []
    for launch in (None, SHARDED):
        env = gym.make("ProgressGym/Follow-v0", update=update, launch=launch, device="cpu")
        env.reset(seed=3)
        shown.append(env.step(action)[0]["examinee_values"])
        env.close()
    before = env.unwrapped.history.values[0]
    moved, apart = np.abs(shown[0] - before).max(), np.abs(shown[0] - shown[1]).max()
    assert apart < moved / 5, (moved, apart)


def test_what_training_refuses_is_said_here(host: LanguageHost):
    odd = DPOUpdate(DPOSettings(batch_size=3))
    with pytest.raises(InvalidArgumentError, match="batch_size=3 cannot be shared equally by 2"):
        train_launched(SHARDED, host, host.fresh, odd, EXAMPLES, 5)


def test_a_program_that_ends_without_a_result_is_said(host: LanguageHost, tmp_path: Path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no GPU is free\nexit 7\n")
    program.chmod(0o755)
    with pytest.raises(EngineError, match=r"(?s)exit code 7 and no adapter.*no GPU is free"):
        train_launched((str(program),), host, host.fresh, DPO, EXAMPLES, 5)
    program.chmod(0o644)
    with pytest.raises(EngineError, match="could not be launched"):
        train_launched((str(program),), host, host.fresh, DPO, EXAMPLES, 5)


def test_why_it_failed_is_read_before_its_processes_end(
    host: LanguageHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those that outlive their launcher remove the folder when their input closes."""
    end = launched._end

    def end_and_remove(process: Any) -> None:
        end(process)
        for folder in tmp_path.glob("progressgym-training-*"):
            shutil.rmtree(folder)

    monkeypatch.setattr(launched, "_end", end_and_remove)
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no GPU is free\nexit 7\n")
    program.chmod(0o755)
    with pytest.raises(EngineError, match=r"(?s)exit code 7 and no adapter.*no GPU is free"):
        train_launched((str(program),), host, host.fresh, DPO, EXAMPLES, 5)


def test_what_can_be_launched(host: LanguageHost, base: Path):
    class Own(DPOUpdate):
        """May train otherwise."""

    assert can_launch(DPO)
    assert can_launch(SFTUpdate())
    assert not can_launch(RLHFUpdate())
    assert not can_launch(Own())
    in_memory = LanguageHost(load_base(base, torch.device("cpu")), device="cpu")
    with pytest.raises(InvalidArgumentError, match="not with one that is in memory"):
        train_launched(SHARDED, in_memory, in_memory.fresh, DPO, EXAMPLES, 5)


def test_commands_are_checked_before_hours_of_work(monkeypatch: pytest.MonkeyPatch):
    assert check_launch(None) is None
    assert check_launch("fsdp") == ("fsdp",)
    assert check_launch([sys.executable, "-u"]) == (sys.executable, "-u")
    with pytest.raises(InvalidArgumentError, match=r"is no command \(No closing quotation\)"):
        check_launch("accelerate launch --config_file 'my")
    for wrong in ("", " ", (), 3, ["accelerate", 4]):
        with pytest.raises(InvalidArgumentError, match="must be None, 'fsdp', or a command"):
            check_launch(wrong)
    with pytest.raises(InvalidArgumentError, match="there is no program 'acelerate'"):
        check_launch("acelerate launch")


def test_fsdp_takes_all_gpus(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InvalidArgumentError, match="with device='cpu' this process has none"):
        gym.make("ProgressGym/Follow-v0", launch="fsdp", device="cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    command = launched._words(("fsdp",), "cuda")
    assert command[3:8] == ["launch", "--config_file", str(FSDP), "--num_processes", "4"]
    check_share(("fsdp",), "cuda", DPO)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    check_share(SHARDED, "cuda", DPO)  # Only the command knows how many those are.
    with pytest.raises(InvalidArgumentError, match=r"among 3 GPUs.*the batch_size=4 of 'dpo'"):
        check_share(("fsdp",), "cuda", DPO)
    with pytest.raises(InvalidArgumentError, match="the batch_size=16 of 'sft'"):
        check_share(("fsdp",), "cuda", RLHFUpdate())


def test_modules_in_the_working_directory_are_not_run(
    host: LanguageHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "accelerate.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    wrong = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--no-such")
    with pytest.raises(EngineError, match="no-such"):
        train_launched(wrong, host, host.fresh, DPO, EXAMPLES, 5)


def launched_processes(folder: Path) -> list[int]:
    """Processes that train in a folder below ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{folder}/progressgym-training-" in (process / "cmdline").read_text():
                found.append(int(process.name))
    return found


def test_processes_end_with_the_one_that_launched_them(base: Path, tmp_path: Path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_launched import DPO, EXAMPLES, SHARDED, LanguageHost, train_launched
host = LanguageHost({str(base)!r}, device="cpu")
train_launched(SHARDED, host, host.fresh, DPO, EXAMPLES * 10_000, 5)
"""
    place = tmp_path / "place"
    place.mkdir()
    env = {**os.environ, "TMPDIR": str(place)}
    parent = subprocess.Popen([sys.executable, "-c", script], env=env)
    try:
        assert waited_for(lambda: len(launched_processes(place)) >= 3), "they have started"
        time.sleep(1)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert waited_for(lambda: not launched_processes(place)), "they have ended"
        assert not list(place.glob("progressgym-training-*")), "nothing is left"
    finally:
        parent.kill()
        for pid in launched_processes(place):
            os.kill(pid, signal.SIGKILL)


def waited_for(happens: Any) -> bool:
    for _ in range(600):
        if happens():
            return True
        time.sleep(0.2)
    return False

"""Training in processes of its own, which a command launches: one base over several GPUs.

A training is handed over as a folder (the adapter, the examples, the settings; safetensors and
JSON) and comes back as the changed adapter. The launched program is
:mod:`.launched_training`; with ``accelerate launch`` and FSDP each of its processes holds a part of
the base and trains on its share of every batch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from progressgym_env.errors import EngineError, InvalidArgumentError
from progressgym_env.files import write_json
from progressgym_env.models.updates import (
    DPOUpdate,
    SFTUpdate,
    TrainingExample,
    TrainingUpdate,
)

if TYPE_CHECKING:
    from progressgym_env.models.adapters import AdapterState
    from progressgym_env.models.host import LanguageHost

__all__ = [
    "ERROR",
    "FSDP",
    "JOB",
    "RESULT",
    "START",
    "can_launch",
    "check_launch",
    "check_share",
    "train_launched",
]

FSDP = Path(str(files("progressgym_env.models") / "fsdp.yaml"))
"""Configuration for ``accelerate launch`` that ``launch="fsdp"`` stands for."""

JOB, START, RESULT, ERROR = "job.json", "start", "result", "error.json"
"""What lies in the folder of a training: what to do, the adapter before, the one after, or why not.
"""

_PROGRAM = "progressgym_env.models.launched_training"
_LAST_WORDS = 3000
_GRACE = 20.0  # Seconds for a launcher to end its processes.
_OF_A_LAUNCH = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_", "ROLE_"),
    *("MASTER_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_"),
)


def check_launch(launch: object) -> tuple[str, ...] | None:
    """The command as words, or None where training is not launched.

    Args:
        launch: None; a command, as text or words, such as ``"accelerate launch --num_processes 4
            --config_file my.yaml"``; or ``"fsdp"``: accelerate with fully sharded data parallelism
            over all GPUs that this process sees.

    Raises:
        InvalidArgumentError: neither, or the program is not there.
    """
    if launch is None:
        return None
    try:
        given = shlex.split(launch) if isinstance(launch, str) else launch
    except ValueError as error:
        raise InvalidArgumentError(f"launch={launch!r} is no command ({error})") from error
    words = tuple(given) if isinstance(given, list | tuple) else ()
    if not words or not all(isinstance(word, str) for word in words):
        raise InvalidArgumentError(
            f"launch={launch!r} must be None, 'fsdp', or a command such as "
            "'accelerate launch --config_file fsdp.yaml'"
        )
    if words != ("fsdp",) and words[0] != "accelerate" and not shutil.which(words[0]):
        raise InvalidArgumentError(
            f"launch={launch!r}: there is no program {words[0]!r}; give one that is on the PATH, "
            "or its whole path"
        )
    return words


def check_share(launch: Sequence[str], device: str, update: TrainingUpdate) -> None:
    """Refuse what the first training would, where ``"fsdp"`` says how many processes there are.

    Args:
        launch: the command, from :func:`check_launch`.
        device: name of a device.
        update: of the environment.

    Raises:
        InvalidArgumentError: there are no GPUs to train on, or they cannot share a batch.
    """
    if tuple(launch) != ("fsdp",):
        return
    n_gpus = _n_gpus(device)
    for each in (update, SFTUpdate()):  # The latter has the batches of imitation.
        if can_launch(each) and each.settings.batch_size % n_gpus:
            raise InvalidArgumentError(
                f"launch='fsdp' shares every batch among {n_gpus} GPUs, which do not divide the "
                f"batch_size={each.settings.batch_size} of {each.name!r}; choose another, or fewer "
                "GPUs with CUDA_VISIBLE_DEVICES"
            )


def can_launch(update: TrainingUpdate) -> TypeGuard[SFTUpdate | DPOUpdate]:
    """Whether a launched program can carry ``update`` out: ``sft`` and ``dpo``, of any settings."""
    # A subclass may train otherwise.
    return type(update) in (SFTUpdate, DPOUpdate)


def train_launched(
    launch: Sequence[str],
    host: LanguageHost,
    state: AdapterState,
    update: SFTUpdate | DPOUpdate,
    examples: Sequence[TrainingExample],
    seed: int,
) -> AdapterState:
    """The adapter that ``update`` makes of ``state``, trained by a launched program.

    The folder that hands it over is a temporary one; where processes run on several machines,
    ``$TMPDIR`` must be a place that all of them share.

    Args:
        launch: the command, from :func:`check_launch`.
        host: whose base is trained on; it must come from a folder or the hub.
        state: the adapter before; it stays as it is.
        update: one that :func:`can_launch` is true of.
        examples: what to train on, at least one.
        seed: seeds everything random.

    Raises:
        InvalidArgumentError: the base lies nowhere, or the training itself refuses something.
        EngineError: the program could not be launched, or ended without a result.
    """
    # Imported here: whoever only checks a command need not load torch.
    import torch

    from progressgym_env.models.adapters import write_adapter

    with tempfile.TemporaryDirectory(prefix="progressgym-training-") as name:
        folder = Path(name)
        write_json(folder / JOB, _job(host, update, examples, seed))
        write_adapter(folder / START, state, host.lora_config)
        # What measuring leaves reserved is wanted on the same GPUs.
        torch.cuda.empty_cache()
        _run(_words(launch, host.device), folder)
        return host.read_adapter(folder / RESULT)


def _job(
    host: LanguageHost,
    update: SFTUpdate | DPOUpdate,
    examples: Sequence[TrainingExample],
    seed: int,
) -> dict[str, Any]:
    import torch

    if host.source is None:
        raise InvalidArgumentError(
            "training is launched with a base that lies in a folder or on the hub, not with one "
            "that is in memory; use launch=None"
        )
    return {
        "source": dataclasses.asdict(host.source),
        "dtype": str(host.base_dtype).removeprefix("torch."),
        "device": host.device,
        "threads": torch.get_num_threads(),
        "update": "dpo" if isinstance(update, DPOUpdate) else "sft",
        "settings": dataclasses.asdict(update.settings),
        "seed": seed,
        "examples": [dataclasses.asdict(example) for example in examples],
    }


def _n_gpus(device: str) -> int:
    # Imported here: only this needs torch to know what there is.
    import torch

    n_gpus = 0 if device == "cpu" else torch.cuda.device_count()
    if n_gpus < 1:
        raise InvalidArgumentError(
            f"launch='fsdp' spreads the base over GPUs, and with device={device!r} this process "
            "has none; use launch=None"
        )
    return n_gpus


def _words(launch: Sequence[str], device: str) -> list[str]:
    """The command with the interpreter of this process in place of its abbreviations."""
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli"]
    if tuple(launch) == ("fsdp",):
        options = ["--config_file", str(FSDP), "--num_processes", str(_n_gpus(device))]
        # Any port that is free: another training may have the usual one.
        return [*accelerate, "launch", *options, "--main_process_port", "0"]
    # The one beside this interpreter, whatever is on the PATH.
    return [*accelerate, *launch[1:]] if launch[0] == "accelerate" else list(launch)


def _run(command: Sequence[str], folder: Path) -> None:
    """Run the program on ``folder`` to its end, which an interrupt brings about, too."""
    log = folder / "log.txt"
    # Without what the environment's process was itself launched with, and without modules that
    # lie about in the working directory.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OF_A_LAUNCH)}
    inherited["PYTHONSAFEPATH"] = "1"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                [*command, "-m", _PROGRAM, str(folder)],
                # Held open: where it closes, the processes know that this one is gone.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=inherited,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(
                f"training could not be launched ({error}); check the command {command[0]!r}"
            ) from error
        try:
            code = process.wait()
            # Now: processes that outlive their launcher remove the folder when their input closes.
            refusal = folder / ERROR
            refused = refusal.read_text(encoding="utf-8") if refusal.is_file() else None
            done = code == 0 and (folder / RESULT).is_dir()
            words = log.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS:]
        finally:
            _end(process)
    if refused is not None:
        raise InvalidArgumentError(json.loads(refused))
    if not done:
        raise EngineError(
            f"the launched training ended with exit code {code} and no adapter; a benchmark goes "
            f"on at this century with --resume. It said last:\n{words}"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a launcher and its processes, which may lead groups of their own."""
    if process.stdin is not None:
        process.stdin.close()  # Ends the processes.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

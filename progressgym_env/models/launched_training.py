"""The program that a command launches to train an adapter: ``python -m … FOLDER``.

Every process runs it. Each loads the base (with FSDP only the first reads the weights), trains
through the same functions as an environment's own process does, with its share of every batch, and
takes part in gathering the adapter, which the first one writes.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from peft import get_peft_model
from torch.distributed.tensor import DTensor

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import write_json
from progressgym_env.models.adapters import read_lora_config, read_tensors, write_adapter
from progressgym_env.models.launched import ERROR, JOB, RESULT, START
from progressgym_env.models.loading import BaseSource, load_base, quiet_loading, torch_device
from progressgym_env.models.training import ADAPTER
from progressgym_env.models.updates import (
    BySize,
    DPOSettings,
    DPOUpdate,
    SFTSettings,
    SFTUpdate,
    TrainingExample,
)

__all__ = ["main"]

_CHECKPOINTED = "_checkpoint_wrapped_module."  # What recomputed layers are called in names.
_KINDS: dict[str, tuple[Any, Any]] = {
    "sft": (SFTUpdate, SFTSettings),
    "dpo": (DPOUpdate, DPOSettings),
}


def main(folder: Path) -> None:
    """Do the training in ``folder``."""
    _end_with_the_environment(folder)
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    state = PartialState(cpu=job["device"] == "cpu")
    try:
        tensors, lora = _trained(job, folder, state)
    except InvalidArgumentError as error:
        if state.is_main_process:
            write_json(folder / ERROR, str(error))
        raise
    if state.is_main_process:
        write_adapter(folder / RESULT, tensors, lora)
    state.wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _trained(
    job: dict[str, Any], folder: Path, state: PartialState
) -> tuple[dict[str, torch.Tensor], Any]:
    kind, settings = _KINDS[job["update"]]
    raw = job["settings"]
    if isinstance(raw["learning_rate"], dict):
        raw["learning_rate"] = BySize(**raw["learning_rate"])
    update = kind(settings(**raw))
    examples = [TrainingExample(**example) for example in job["examples"]]
    lora = read_lora_config(folder / START)
    source = BaseSource(**job["source"])
    with quiet_loading():
        if state.num_processes == 1:
            base = load_base(source, torch_device(job["device"]))
        else:
            # Into main memory: the trainer puts it, or its part of it, where it belongs.
            base = load_base(source, torch.device("cpu"), getattr(torch, job["dtype"]))
        model: Any = get_peft_model(base.model, lora)
    _put(read_tensors(folder / START), model)
    update.train(model, base.tokenizer, examples, job["seed"])
    return _gathered(model), lora


def _slot(model: Any) -> dict[str, Any]:
    """The adapter's parameters by the names that peft saves them under."""
    return {
        name.replace(_CHECKPOINTED, "").replace(f".{ADAPTER}.", "."): parameter
        for name, parameter in model.named_parameters()
        if f".{ADAPTER}." in name
    }


def _put(tensors: dict[str, torch.Tensor], model: Any) -> None:
    """Into the adapter, which peft keeps in 32 bits whatever the base computes in."""
    with torch.no_grad():
        for name, tensor in _slot(model).items():
            tensor.copy_(tensors[name])


def _gathered(model: Any) -> dict[str, torch.Tensor]:
    """The adapter, whole; every process must ask for it."""
    whole = {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in _slot(model).items()
    }
    return {name: tensor.detach() for name, tensor in whole.items()}


def _end_with_the_environment(folder: Path) -> None:
    """End this process when the one that launched it is gone, which closes the input."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return  # The launcher hands no input on.

    def watch() -> None:
        while os.read(0, 1):
            pass
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

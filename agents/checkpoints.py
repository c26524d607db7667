"""Checkpoints of Stable-Baselines3's algorithms, as safetensors and JSON instead of pickles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from progressgym_env.errors import PolicyError
from progressgym_env.files import write_bytes, write_json

__all__ = ["read_checkpoint", "restore", "write_checkpoint"]

CHECKPOINT_FILE = "checkpoint.json"
CHECKPOINT_VERSION = 1
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def write_checkpoint(
    folder: Path, model: BaseAlgorithm, config: Mapping[str, Any], segment: int
) -> None:
    """Write weights, optimisers, counters and any replay buffer of ``model`` into ``folder``.

    Args:
        folder: is made where it is missing; an older checkpoint in it is replaced.
        model: PPO or SAC.
        config: of the training, JSON-able.
        segment: segments done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors, numbers = _state_of(model)
    name = f"checkpoint-{segment:06d}.safetensors"
    write_bytes(folder / name, save(tensors))
    # The header last, and the old tensors after it: an interrupt leaves one checkpoint whole.
    content = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "config": config,
        "segment": segment,
        "tensors_file": name,
        "tensors": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        **numbers,
    }
    write_json(folder / CHECKPOINT_FILE, content)
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def restore(folder: Path, model: BaseAlgorithm, config: Mapping[str, Any]) -> int:
    """Put ``model`` where the checkpoint in ``folder`` was; the segments done.

    Raises:
        PolicyError: there is none, it is damaged, of another version, or of another training.
    """
    header = read_checkpoint(folder)
    differing = [key for key in config if header["config"].get(key) != config[key]]
    if differing:
        key = differing[0]
        raise PolicyError(
            f"the checkpoint in {folder} is of another training: {key} is "
            f"{header['config'].get(key)!r} there and {config[key]!r} here; resume with the "
            "same settings, or train into another folder"
        )
    _restore_state(model, load_file(folder / header["tensors_file"]), header)
    return int(header["segment"])


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The header of the checkpoint in ``folder``.

    Raises:
        PolicyError: there is none, or it is damaged or of another version.
    """
    try:
        header = json.loads((folder / CHECKPOINT_FILE).read_text(encoding="utf-8"))
        version = header["checkpoint_version"]
        name = str(header["tensors_file"]) if version == CHECKPOINT_VERSION else CHECKPOINT_FILE
        digest = hashlib.sha256((folder / Path(name).name).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyError(
            f"{folder} holds no checkpoint that can be read ({error}); train from the start"
        ) from error
    if version != CHECKPOINT_VERSION:
        raise PolicyError(
            f"the checkpoint in {folder} has version {version!r}, and this package reads "
            f"{CHECKPOINT_VERSION}; train from the start, or use the version that made it"
        )
    if header.get("tensors") != digest:
        raise PolicyError(
            f"the checkpoint in {folder} is damaged: {name} is not the file that "
            f"{CHECKPOINT_FILE} was written for; train from the start"
        )
    checked: dict[str, Any] = header
    return checked


def _state_of(model: BaseAlgorithm) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and numbers that training goes on from."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {"num_timesteps": int(model.num_timesteps)}
    names, variables = model._get_torch_save_params()
    for name in names:
        part = _attribute(model, name)
        state = part.state_dict()
        if isinstance(part, torch.optim.Optimizer):
            for index, entries in state["state"].items():
                for key, value in entries.items():
                    tensors[f"{name}/{index}/{key}"] = value
        else:
            tensors.update({f"{name}/{key}": value for key, value in state.items()})
    for name in variables:
        tensors[f"{name}/"] = _attribute(model, name).detach()
    numbers["n_updates"] = int(getattr(model, "_n_updates", 0))
    if isinstance(model, SAC) and model.replay_buffer is not None:
        buffer = model.replay_buffer
        for key in _BUFFER:
            tensors[f"replay_buffer/{key}"] = torch.from_numpy(getattr(buffer, key))
        numbers["replay_buffer"] = {"pos": int(buffer.pos), "full": bool(buffer.full)}
    return {key: value.clone().contiguous() for key, value in tensors.items()}, numbers


def _restore_state(
    model: BaseAlgorithm, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]
) -> None:
    names, variables = model._get_torch_save_params()
    for name in names:
        part, prefix = _attribute(model, name), f"{name}/"
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if isinstance(part, torch.optim.Optimizer):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in own.items():
                index, entry = key.split("/")
                state.setdefault(int(index), {})[entry] = value
            part.load_state_dict({**part.state_dict(), "state": state})
        else:
            part.load_state_dict(own)
    with torch.no_grad():
        for name in variables:
            _attribute(model, name).copy_(tensors[f"{name}/"])
    model.num_timesteps = int(numbers["num_timesteps"])
    model._n_updates = int(numbers["n_updates"])
    if isinstance(model, SAC) and model.replay_buffer is not None:
        for key in _BUFFER:
            getattr(model.replay_buffer, key)[...] = tensors[f"replay_buffer/{key}"].numpy()
        model.replay_buffer.pos = int(numbers["replay_buffer"]["pos"])
        model.replay_buffer.full = bool(numbers["replay_buffer"]["full"])


def _attribute(model: BaseAlgorithm, path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name)
    return found

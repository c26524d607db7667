"""What a machine can run: its devices against what each history needs, extras, and the hub."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from rich.table import Table

from progressgym_env import __version__
from progressgym_env.benchmarks.machine import available_cores, processor
from progressgym_env.benchmarks.tables import plain_table
from progressgym_env.histories.declared import DECLARED, prepared_places
from progressgym_env.histories.folder import HISTORY_FILE
from progressgym_env.histories.hub import hub_access
from progressgym_env.models.loading import base_dtype
from progressgym_env.models.memory import available_bytes, gib, machine_bytes, needed_bytes

__all__ = ["examine", "findings_table"]

# History → parameters of one of its models. Those of the package are tiny.
_PARAMETERS = {"histllama-8b": 8.03e9, "histllama-70b": 70.6e9}
_EMBEDDED = 3 * 2**28
"""Bytes that a worker with the embedded history takes; seen: 0.69 to 0.77 GiB."""
# Extra → the package it brings, and what for.
_EXTRAS = {
    "rl": ("stable-baselines3", "training RL agents"),
    "track": ("wandb", "logging to Weights & Biases"),
    "video": ("moviepy", "videos of episodes"),
    "ray": ("ray", "benchmarks on a cluster"),
}


def examine() -> dict[str, Any]:
    """Everything that was found out, as data."""
    return {
        "package": __version__,
        "python": platform.python_version(),
        "packages": {n: _version(n) for n in ("torch", "transformers", "peft", "trl", "gymnasium")},
        "processor": processor(),
        "cores": available_cores(),
        "devices": _devices(),
        "extras": {
            extra: {"package": package, "for": purpose, "version": _version(package)}
            for extra, (package, purpose) in _EXTRAS.items()
        },
        "vllm": os.environ.get("PROGRESSGYM_VLLM_PYTHON") or _version("vllm"),
        "hub": hub_access() or "answers",
        "histories": {
            "simulated": {"prepared": True, "fits_on": ["cpu"], "needs_bytes": None},
            "embedded": {"prepared": True, "fits_on": ["cpu"], "needs_bytes": _EMBEDDED},
            **{name: _history(name) for name in DECLARED},
        },
    }


def findings_table(found: dict[str, Any]) -> Iterator[Table | str]:
    """What to print of it, part by part."""
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    yield f"progressgym-env {found['package']}, Python {found['python']}, {packages}"
    devices = plain_table("devices", "device", ("name", "free memory", "of"))
    for device in found["devices"]:
        devices.add_row(
            device["device"], device["name"], _shown(device["free"]), _shown(device["total"])
        )
    yield devices
    histories = plain_table("histories", "history", ("can be measured", "needs about"))
    for name, history in found["histories"].items():
        needs = history["needs_bytes"]
        able = ", ".join(history["fits_on"]) or "no: too little memory"
        if not history["prepared"]:
            able = f"not yet: progressgym history prepare {name}" if history["fits_on"] else able
        histories.add_row(name, able, gib(needs) if needs else "next to nothing")
    yield histories
    extras = plain_table("extras", "extra", ("for", "installed"))
    where = found["vllm"] or "no: see docs/real-scale.md"
    extras.add_row("vllm", "measuring and replying with vLLM", where)
    for extra, entry in found["extras"].items():
        missing = f"no: pip install 'progressgym-env[{extra}]'"
        extras.add_row(extra, entry["for"], entry["version"] or missing)
    yield extras
    yield f"hub: {found['hub']}"


def _devices() -> list[dict[str, Any]]:
    cpu = {
        "device": "cpu",
        "name": f"{processor()}, {available_cores()} cores",
        "free": available_bytes(torch.device("cpu")),
        "total": machine_bytes("MemTotal"),
    }
    gpus = [
        {
            "device": f"cuda:{index}",
            "name": torch.cuda.get_device_name(index),
            "free": torch.cuda.mem_get_info(index)[0],
            "total": torch.cuda.mem_get_info(index)[1],
        }
        for index in range(torch.cuda.device_count())
    ]
    return [cpu, *gpus]


def _history(name: str) -> dict[str, Any]:
    n_parameters = int(_PARAMETERS[name])
    fits, needs = [], {}
    devices = _devices()
    for device in devices:
        on = torch.device(device["device"])
        needs[on.type] = needed_bytes(n_parameters, base_dtype(n_parameters, on))
        # Free at the moment, not in all: what others hold cannot be had.
        if device["free"] is None or needs[on.type] <= device["free"]:
            fits.append(device["device"])
    gpus = [device["free"] or 0 for device in devices if device["device"] != "cpu"]
    if gpus and max(gpus) < needs["cuda"] <= sum(gpus):
        fits.append(f"{len(gpus)} GPUs together")
    return {
        # With whatever questions.
        "prepared": any((place / HISTORY_FILE).is_file() for place in prepared_places(name)),
        "fits_on": fits,
        "needs_bytes": needs.get("cuda", needs["cpu"]),
        "parameters": n_parameters,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _shown(n_bytes: int | None) -> str:
    return "unknown" if n_bytes is None else gib(n_bytes)

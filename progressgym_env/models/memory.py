"""Whether a model fits: said before its weights are loaded, with the numbers."""

from __future__ import annotations

from pathlib import Path

import torch

from progressgym_env.errors import InvalidArgumentError

__all__ = ["available_bytes", "check_memory", "gib", "machine_bytes", "needed_bytes", "spreads"]

_WORK = 0.5
"""What measuring takes beside the weights, as a share of them: at 8B, 7.5 GiB beside 15."""


def needed_bytes(n_parameters: int, dtype: torch.dtype) -> int:
    """About how much memory it takes to measure a model, in bytes."""
    return int(n_parameters * dtype.itemsize * (1 + _WORK))


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU, or of the machine for the CPU; None where it cannot be known."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    return machine_bytes("MemAvailable")


def spreads(n_parameters: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a model goes over all GPUs that this process sees, as one has too little room."""
    if device.type != "cuda":
        return False
    available = available_bytes(device)
    alone = available is None or needed_bytes(n_parameters, dtype) <= available
    return not alone and torch.cuda.device_count() > 1


def _all_gpus() -> int:
    """Free memory of all GPUs that this process sees together."""
    gpus = (torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return sum(available_bytes(gpu) or 0 for gpu in gpus)


def machine_bytes(field: str) -> int | None:
    """A field of the system's account of its memory, such as ``"MemTotal"``; None off Linux."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # Nothing is promised then.
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) * 1024


def gib(n_bytes: float) -> str:
    """Bytes in words, as ``"22.5 GiB"``."""
    return f"{n_bytes / 2**30:,.1f} GiB"


def check_memory(name: str, n_parameters: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse to load what does not fit.

    Args:
        name: of the model, for the message.
        n_parameters: of the model.
        dtype: that it computes in.
        device: where it would be put.

    Raises:
        InvalidArgumentError: says how much is needed, and how much there is.
    """
    needed, available = needed_bytes(n_parameters, dtype), available_bytes(device)
    if device.type == "cuda" and available is not None:
        available = max(available, _all_gpus())
    if available is not None and needed > available:
        other = (
            "larger or more GPUs"
            if device.type == "cuda"
            else "a machine with more memory, or a GPU"
        )
        raise InvalidArgumentError(
            f"{name} has {n_parameters / 1e9:.1f} billion parameters and needs about {gib(needed)} "
            f"on {device.type} ({gib(n_parameters * dtype.itemsize)} of weights in {dtype}); "
            f"{gib(available)} are free; use {other}"
        )

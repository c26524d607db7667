"""Random states: seed what a device draws from and nothing else, and give the caller's back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["random_states_kept", "seed_torch"]


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generators that work on ``device`` draws from: the CPU's, and the device's own.

    Args:
        seed: ≥ 0.
        device: the CPU, or a CUDA device with an index on which something lies already.
    """
    # torch.manual_seed would seed every GPU, and queue that for GPUs not yet in use.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the random states of Python, NumPy, torch and every GPU in use back at the end.

    A GPU not yet in use has no state but the seed that waits for it, which is kept as well.
    """
    python, cpu = random.getstate(), torch.random.get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002 - only to restore it
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    # torch has no public way to ask which seed it holds back.
    waiting = vars(torch.cuda._lazy_seed_tracker)
    waiting_before = dict(waiting)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.random.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
        waiting.update(waiting_before)

"""Training without a trace: everything that trl changes besides the adapter is put back."""

from __future__ import annotations

import contextlib
import gc
import random
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

__all__ = ["leaving_no_trace"]


@contextlib.contextmanager
def leaving_no_trace(model: Any) -> Iterator[str]:
    """Put back everything but the adapter's weights at the end.

    That is: the model's mode, forward pass, configuration, dropout and adapters; the global random
    states; accelerate's process-wide state; garbage; the file system.

    Args:
        model: the ``peft.PeftModel`` to be trained.

    Yields:
        A temporary folder for the trainer.
    """
    base = model.get_base_model()
    was_training = model.training
    # trl hangs its own forward pass on the base, aligns special tokens, turns the cache off.
    configs = [base.config, base.config.get_text_config(), base.generation_config]
    objects = [model, base, *configs]
    attributes = [(o, dict(vars(o))) for o in objects if o is not None]
    dropouts = [(m, m.p) for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    with (
        _random_states(),
        _accelerate_states(),
        _cheap_collection(),
        tempfile.TemporaryDirectory() as folder,
    ):
        try:
            yield folder
        finally:
            if "ref" in model.peft_config:
                model.delete_adapter("ref")
            for owner, values in attributes:
                for name in vars(owner).keys() - values.keys():
                    del vars(owner)[name]
                vars(owner).update(values)
            for dropout, p in dropouts:
                dropout.p = p
            model.zero_grad(set_to_none=True)
            model.train(was_training)


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    """Every global generator is seeded by trl; give the caller's back."""
    python, cpu = random.getstate(), torch.random.get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002 - only to restore it
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.random.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)


@contextlib.contextmanager
def _cheap_collection() -> Iterator[None]:
    """Collect garbage among the objects of this training alone.

    Trainers are full of cycles: without a collection they pile up, and accelerate runs one of its
    own, which takes longer over all of a process's objects than a small training takes.
    """
    frozen_before = gc.get_freeze_count()
    if not frozen_before:
        gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        if not frozen_before:
            gc.unfreeze()


@contextlib.contextmanager
def _accelerate_states() -> Iterator[None]:
    """Trainers reset accelerate's process-wide state; a caller may be using it."""
    shared = [state._shared_state for state in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    try:
        yield
    finally:
        for state, values in zip(shared, before, strict=True):
            state.clear()
            state.update(values)

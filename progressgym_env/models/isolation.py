"""Training without a trace: everything that trl changes besides the adapter is put back."""

from __future__ import annotations

import contextlib
import gc
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

from progressgym_env.models.randomness import random_states_kept

__all__ = ["leaving_no_trace"]


@contextlib.contextmanager
def leaving_no_trace(model: Any) -> Iterator[str]:
    """Put back everything but the adapter's weights at the end.

    That is: the model's mode, forward pass, configuration, dropout, checkpointing and adapters;
    global random states; the current GPU; accelerate's process-wide state; garbage; files.

    Args:
        model: the ``peft.PeftModel`` to be trained, or a full model, whose weights then may change.

    Yields:
        A temporary folder for the trainer.
    """
    adapters = getattr(model, "peft_config", {})
    base = model.get_base_model() if adapters else model
    was_training = model.training
    # trl hangs its own forward pass on the base, aligns special tokens, turns the cache off.
    configs = [base.config, base.config.get_text_config(), base.generation_config]
    objects = [model, base, *configs]
    attributes = [(o, dict(vars(o))) for o in objects if o is not None]
    checkpointed = base.is_activation_checkpointing
    # Checkpointing hangs a hook on the embeddings, and leaves it there.
    hooks = base.get_input_embeddings()._forward_hooks
    hooks_before = dict(hooks)
    dropouts = [(m, m.p) for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    with (
        random_states_kept(),
        _current_gpu(),
        _accelerate_states(),
        _cheap_collection(),
        tempfile.TemporaryDirectory() as folder,
    ):
        try:
            yield folder
        finally:
            for name in ("ref", "reward"):
                if name in adapters:
                    model.delete_adapter(name)
            for owner, values in attributes:
                for name in vars(owner).keys() - values.keys():
                    del vars(owner)[name]
                vars(owner).update(values)
            if base.is_activation_checkpointing and not checkpointed:
                base.activation_checkpointing_disable()
            for key in [key for key in hooks if key not in hooks_before]:
                del hooks[key]
            for dropout, p in dropouts:
                dropout.p = p
            model.zero_grad(set_to_none=True)
            model.train(was_training)


@contextlib.contextmanager
def _current_gpu() -> Iterator[None]:
    """Trainers make the first GPU the current one; give the caller's back."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    before = torch.cuda.current_device() if used else None
    try:
        yield
    finally:
        if before is not None:
            torch.cuda.set_device(before)


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

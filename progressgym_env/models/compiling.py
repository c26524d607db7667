"""Fusing what a large model does beside its matrix products, for measuring.

Norms, rotary positions, gates and adapters move more bytes than the products leave time for.
Compiled, the layers of an 8B model are a quarter faster. That takes seconds, once a process, so it
is done for large bases on a GPU alone; and for measuring alone: training and replying change their
shapes at every token or keep graphs of their own.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.utils._triton import has_triton

__all__ = ["can_compile", "compile_layers", "eager"]


def can_compile() -> bool:
    """Whether layers can be compiled for a GPU here: Triton, a C compiler and Python's headers."""
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return False
    compilers = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return has_triton() and any(shutil.which(name) for name in compilers if name)


def compile_layers(causal_lm: Any, backend: str | Callable[..., Any] = "inductor") -> None:
    """Let every decoder layer be compiled when it is first called; all share the result.

    Args:
        causal_lm: a ``transformers`` causal language model.
        backend: of ``torch.compile``.
    """
    # Where layers go by another name, the model is computed as it is written.
    for layer in getattr(causal_lm.get_decoder(), "layers", ()):
        # Batches have many shapes, and a compilation for each would cost more than it gains.
        layer.compile(dynamic=True, backend=backend)


def eager() -> AbstractContextManager[Any]:
    """Within it, compiled layers compute as they are written."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance

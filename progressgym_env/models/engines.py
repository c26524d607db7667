"""Which program measures language models and replies for them; training is always trl's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from progressgym_env.errors import InvalidArgumentError

__all__ = ["ENGINES", "Engine", "VllmSettings", "check_engine"]

ENGINES = ("transformers", "vllm")
"""Engines by name: ``transformers`` in this process, or vLLM in one of its own."""


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs.

    Attributes:
        python: the interpreter of the environment that vLLM is installed in; None takes
            ``$PROGRESSGYM_VLLM_PYTHON``, and this process's own where that is not set.
        gpu_memory_utilization: share of a GPU's memory that vLLM takes, in (0, 1); the rest is for
            training, which keeps the base a second time.
        tensor_parallel_size: GPUs over which the model is spread, 1 or more.
        start_seconds: how long it may take to start, loading the weights included.
    """

    python: str | None = None
    gpu_memory_utilization: float = 0.45
    tensor_parallel_size: int = 1
    start_seconds: float = 1800.0

    def __post_init__(self) -> None:
        if not 0 < self.gpu_memory_utilization < 1:
            raise InvalidArgumentError(
                f"gpu_memory_utilization={self.gpu_memory_utilization} must be between 0 and 1"
            )
        if self.tensor_parallel_size < 1:
            raise InvalidArgumentError(
                f"tensor_parallel_size={self.tensor_parallel_size} must be 1 or more"
            )
        if not self.start_seconds > 0:
            raise InvalidArgumentError(f"start_seconds={self.start_seconds} must be above 0")


class Engine(Protocol):
    """Something that measures adapters over one base, and replies for them."""

    def score(
        self,
        adapter: Mapping[str, Any],
        digest: str,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
    ) -> list[NDArray[Any]]:
        """For each prompt, the log-probabilities of its answers (tokens) among one another."""
        ...

    def reply(
        self,
        adapter: Mapping[str, Any],
        digest: str,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float,
    ) -> list[list[int]]:
        """For each prompt, the tokens of one sampled reply."""
        ...

    def close(self) -> None:
        """End whatever runs."""
        ...


def check_engine(engine: object) -> VllmSettings | None:
    """The settings of vLLM, or None for ``transformers``.

    Raises:
        InvalidArgumentError: neither a name of an engine nor settings.
    """
    if isinstance(engine, VllmSettings):
        return engine
    if engine == "vllm":
        return VllmSettings()
    if engine == "transformers":
        return None
    raise InvalidArgumentError(
        f"engine={engine!r} must be one of {', '.join(ENGINES)}, or VllmSettings"
    )

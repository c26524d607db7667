"""What a run is asked for, and all that its results depend on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from progressgym_env import __version__
from progressgym_env.agents.registry import agent_origin
from progressgym_env.benchmarks.defaults import DEFAULT_AGENTS
from progressgym_env.benchmarks.machine import processor
from progressgym_env.benchmarks.matrix import KEPT_OF_MACHINE, Block, Cell, Matrix
from progressgym_env.envs.registry import challenge_origin
from progressgym_env.histories.history import History

__all__ = ["RunConfig", "describe", "differences"]

_NUMERIC = (
    "gymnasium", "numpy", "torch", "transformers", "tokenizers", "peft", "trl", "accelerate",
    "datasets",
)  # fmt: skip
_PACKAGES = ("progressgym-env", *_NUMERIC, "safetensors", "matplotlib")
_DETERMINING = (
    "package_version",
    "installed",
    "arguments",
    "history_digest",
    "question_set_hash",
)


@dataclass(frozen=True)
class RunConfig:
    """A matrix of one challenge and one update: agents by seeds.

    Attributes:
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        agents: names, see ``progressgym_env.agents.AGENTS``; each plays every seed.
        history: a name, or the path of a history folder.
        update: how the examinee is trained: ``"sft"``, ``"dpo"`` or ``"rlhf"``.
        update_from: ``"current"`` or ``"initial"``.
        seeds: of the episodes, all different, 0 or more.
        steps_ahead: how many centuries ahead; for Predict alone, 1 elsewhere.
        device: where language models run, ``"auto"``, ``"cpu"``, ``"cuda"`` and so on.
        engine: what measures and replies, ``"transformers"`` or ``"vllm"``.
        threads: threads every episode computes with, see ``Matrix``.
        tensor_parallel_size, gpu_memory_utilization: of vLLM, see ``Matrix``.
        questions: that the history is measured with, by name or path; None takes it as it is.
        launch: the command that training is launched with; None trains in an episode's process.

    Raises:
        InvalidArgumentError: an argument is out of range.
        UnknownNameError: there is no such challenge or agent.
    """

    challenge: str = "coevolve"
    agents: tuple[str, ...] = DEFAULT_AGENTS
    history: str = "embedded"
    update: str = "dpo"
    update_from: str = "current"
    seeds: tuple[int, ...] = (0,)
    steps_ahead: int = 1
    device: str = "auto"
    engine: str = "transformers"
    threads: int = 1
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    questions: str | None = None
    launch: str | None = None

    def __post_init__(self) -> None:
        _ = self.matrix

    @property
    def matrix(self) -> Matrix:
        """The same as a matrix."""
        block = Block(
            agents=self.agents,
            challenges=(self.challenge,),
            updates=(self.update,),
            update_from=(self.update_from,),
            steps_ahead=(self.steps_ahead,),
        )
        return Matrix(
            blocks=(block,),
            history=self.history,
            seeds=self.seeds,
            device=self.device,
            threads=self.threads,
            engine=self.engine,
            tensor_parallel_size=self.tensor_parallel_size,
            gpu_memory_utilization=self.gpu_memory_utilization,
            questions=self.questions,
            launch=self.launch,
        )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All episodes, in the order in which they are written down."""
        return self.matrix.cells


def describe(matrix: Matrix, history: History) -> dict[str, Any]:
    """What goes to ``config.json``; ``config_hash`` is over all that determines the results."""
    arguments = {**matrix.to_dict(), "history": history.name}
    # A name or a path is how they were asked for; which they are, their hash says.
    asked = {} if matrix.questions is None else {"questions_asked_for": arguments.pop("questions")}
    determining = {
        "package_version": __version__,
        "installed": _installed(matrix),
        # A path is where it lies, not what it is; the digest says that.
        "arguments": arguments,
        "history_digest": history.digest,
        "question_set_hash": history.questions.hash,
    }
    return {
        **determining,
        "config_hash": config_hash(determining),
        **{key: value for key in KEPT_OF_MACHINE if (value := getattr(matrix, key)) is not None},
        "history": {
            "asked_for": matrix.history,
            "name": history.name,
            "questions": history.questions.name,
            **asked,
            "centuries": list(history.names),
            "synthetic": bool(history.provenance.get("synthetic", False)),
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 over what determines the results in a ``config.json``."""
    determining = {key: config[key] for key in _DETERMINING}
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What results depend on and differs between two ``config.json``, a line each."""
    lines = []
    for key in _DETERMINING:
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            lines += _lines(key, one, other, sorted(one.keys() | other.keys()))
        elif one != other:
            lines.append(f"{key}: {one} → {other}")
    versions = before.get("versions", {}), now.get("versions", {})
    return lines + _lines("versions", *versions, _NUMERIC)


def _installed(matrix: Matrix) -> dict[str, str]:
    """Challenges and agents of other packages → name and version of the package."""
    found = {
        **{cell.challenge: challenge_origin(cell.challenge) for cell in matrix.cells},
        **{cell.agent: agent_origin(cell.agent) for cell in matrix.cells},
    }
    return {name: origin for name, origin in found.items() if origin is not None}


def _lines(name: str, one: Mapping[str, Any], other: Mapping[str, Any], keys: Any) -> list[str]:
    changed = [key for key in keys if one.get(key) != other.get(key)]
    return [f"{name}.{key}: {one.get(key)} → {other.get(key)}" for key in changed]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

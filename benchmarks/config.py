"""What a run is asked for, and all that its results depend on."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import gymnasium as gym

from progressgym_env import CHALLENGES, __version__
from progressgym_env.agents.registry import check_agent
from progressgym_env.benchmarks.defaults import DEFAULT_AGENTS
from progressgym_env.benchmarks.machine import processor
from progressgym_env.benchmarks.run_folder import Cell
from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.histories.history import History

__all__ = ["RunConfig", "describe"]

_PACKAGES = (
    "progressgym-env", "gymnasium", "numpy", "torch", "transformers", "tokenizers", "peft", "trl",
    "accelerate", "datasets", "safetensors", "matplotlib",
)  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """All that the results of a run depend on, besides the versions of the software.

    Attributes:
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        agents: names, see ``progressgym_env.agents.AGENTS``; each plays every seed.
        history: a name, or the path of a history folder.
        update: how the examinee is trained: ``"sft"``, ``"dpo"`` or ``"rlhf"``.
        update_from: ``"current"`` or ``"initial"``.
        seeds: of the episodes, all different, 0 or more.
        steps_ahead: how many centuries ahead; for Predict alone, 1 elsewhere.
        device: where language models run, ``"auto"``, ``"cpu"``, ``"cuda"`` and so on.
        threads: threads every episode computes with. Sums of floating-point numbers depend on how
            they are split, so this is fixed, and how many episodes run side by side is not part
            of the configuration: it changes nothing but the time.
    """

    challenge: str = "coevolve"
    agents: tuple[str, ...] = DEFAULT_AGENTS
    history: str = "embedded"
    update: str = "dpo"
    update_from: str = "current"
    seeds: tuple[int, ...] = (0,)
    steps_ahead: int = 1
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        """Check what can be checked without a history.

        Raises:
            InvalidArgumentError: an argument is out of range.
            UnknownNameError: there is no such challenge or agent.
        """
        if self.challenge not in CHALLENGES:
            raise unknown_name("challenge", self.challenge, CHALLENGES)
        _check_distinct("agents", self.agents)
        _check_distinct("seeds", self.seeds)
        for name in self.agents:
            check_agent(name)
        if min(self.seeds) < 0:
            raise InvalidArgumentError(f"seeds={self.seeds}: a seed must be 0 or more")
        if self.threads < 1:
            raise InvalidArgumentError(f"threads={self.threads} must be 1 or more")
        if self.challenge != "predict" and self.steps_ahead != 1:
            raise InvalidArgumentError(
                f"steps_ahead={self.steps_ahead} belongs to the challenge predict; "
                f"{self.challenge} has none, so leave it out or change the challenge"
            )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All episodes, in the order in which they are written down."""
        return tuple((agent, seed) for agent in self.agents for seed in self.seeds)

    def make_env(self) -> gym.Env[Any, Any]:
        """The challenge, as every episode of the run plays it."""
        extra: dict[str, Any] = (
            {"steps_ahead": self.steps_ahead} if self.challenge == "predict" else {}
        )
        return gym.make(
            CHALLENGES[self.challenge],
            history=self.history,
            update=self.update,
            update_from=self.update_from,
            device=self.device,
            **extra,
        )


def describe(config: RunConfig, history: History) -> dict[str, Any]:
    """What goes to ``config.json``; ``config_hash`` is over all that determines the results."""
    determining = {
        "package_version": __version__,
        "arguments": _arguments(config, history),
        "history_digest": history.digest,
        "question_set_hash": history.questions.hash,
    }
    canonical = json.dumps(determining, sort_keys=True).encode()
    return {
        **determining,
        "config_hash": hashlib.sha256(canonical).hexdigest(),
        "environment": CHALLENGES[config.challenge],
        "history": {
            "asked_for": config.history,
            "name": history.name,
            "centuries": list(history.names),
            "synthetic": bool(history.provenance.get("synthetic", False)),
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _check_distinct(name: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise InvalidArgumentError(f"{name} is empty; give at least one")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise InvalidArgumentError(f"{name}: {twice[0]!r} stands there twice; give each once")


def _arguments(config: RunConfig, history: History) -> dict[str, Any]:
    arguments = asdict(config)
    # A path is where it lies, not what it is; the digest says that.
    arguments["history"] = history.name
    return arguments


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

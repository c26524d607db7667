"""What a benchmark plays: blocks of agents, challenges and updates, spread out into cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Self

import gymnasium as gym

from progressgym_env.agents.registry import check_agent
from progressgym_env.arguments import check_choice
from progressgym_env.benchmarks.defaults import DEFAULT_AGENTS
from progressgym_env.envs.registry import check_challenge, make_challenge, takes_steps_ahead
from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.models.engines import ENGINES, VllmSettings
from progressgym_env.models.launched import check_launch
from progressgym_env.models.updates import resolve_update

__all__ = ["KEPT_OF_MACHINE", "OF_MACHINE", "Block", "Cell", "Matrix", "labels"]

KEPT_OF_MACHINE = ("gpu_memory_utilization",)
OF_MACHINE = (*KEPT_OF_MACHINE, "launch")
"""Of a matrix, what a machine needs and no result depends on but in how it is rounded.

Of these, a run keeps ``KEPT_OF_MACHINE``, and no command: whoever gets its folder would run it.
"""

UPDATE_FROM = ("current", "initial")


@dataclass(frozen=True)
class Cell:
    """One episode of a benchmark.

    Attributes:
        challenge: its short name.
        update: how the examinee is trained.
        update_from: ``"current"`` (iterative) or ``"initial"`` (independent).
        steps_ahead: how many centuries ahead; 1 where the challenge has no such argument.
        agent: who plays.
        seed: of the episode.
    """

    challenge: str
    update: str
    update_from: str
    steps_ahead: int
    agent: str
    seed: int

    @property
    def task(self) -> str:
        """What is asked for: the challenge, and how far ahead if not one: ``"predict+2"``."""
        return self.challenge + (f"+{self.steps_ahead}" if self.steps_ahead != 1 else "")

    @property
    def algorithm(self) -> str:
        """Who labels and how it is trained: ``"lifelong · dpo"``, ``"… · dpo from initial"``."""
        return f"{self.agent} · {self.update}" + (
            "" if self.update_from == "current" else f" from {self.update_from}"
        )

    @property
    def slug(self) -> str:
        """A name for files: letters, digits, dots, dashes and plus signs."""
        parts = (self.task, self.update, self.update_from, self.agent, f"seed{self.seed}")
        return re.sub(r"[^A-Za-z0-9.+-]+", "_", "-".join(parts))

    def n_steps(self, history: str | History | SimulatedHistories, device: str) -> int:
        """Steps that the episode takes."""
        env = self.make_env(history, device)
        found = int(env.unwrapped.n_steps)  # type: ignore[attr-defined]
        env.close()
        return found

    def make_env(
        self,
        history: str | History | SimulatedHistories,
        device: str,
        engine: str | VllmSettings = "transformers",
        launch: str | None = None,
    ) -> gym.Env[Any, Any]:
        """The environment that this episode is played in."""
        ahead = {"steps_ahead": self.steps_ahead} if takes_steps_ahead(self.challenge) else {}
        return make_challenge(
            self.challenge,
            history=history,
            update=self.update,
            update_from=self.update_from,
            device=device,
            # Challenges of other packages may not know them.
            **({} if engine == "transformers" else {"engine": engine}),
            **({} if launch is None else {"launch": launch}),
            **ahead,
        )


@dataclass(frozen=True)
class Block:
    """Every combination of what is named here, for every seed of the matrix.

    Attributes:
        agents: names, see ``progressgym list``.
        challenges: likewise.
        updates: likewise.
        update_from: ``"current"`` (the paper's iterative variant), ``"initial"`` (independent).
        steps_ahead: how far ahead; only challenges that look ahead take more than 1.

    Raises:
        InvalidArgumentError: a list is empty, holds something twice or something out of range.
        UnknownNameError: there is no such agent, challenge or update.
    """

    agents: tuple[str, ...] = DEFAULT_AGENTS
    challenges: tuple[str, ...] = ("coevolve",)
    updates: tuple[str, ...] = ("dpo",)
    update_from: tuple[str, ...] = ("current",)
    steps_ahead: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for entry in fields(self):
            check_distinct(entry.name, getattr(self, entry.name))
        for challenge in self.challenges:
            check_challenge(challenge)
        for agent in self.agents:
            check_agent(agent)
        for update in self.updates:
            resolve_update(update)
        for origin in self.update_from:
            check_choice("update_from", origin, UPDATE_FROM)
        for ahead in self.steps_ahead:
            if isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1:
                raise InvalidArgumentError(f"steps_ahead={ahead!r} must be a whole number ≥ 1")
        if self.steps_ahead != (1,) and not any(map(takes_steps_ahead, self.challenges)):
            raise InvalidArgumentError(
                f"steps_ahead={list(self.steps_ahead)} belongs to the challenge predict; "
                f"{', '.join(self.challenges)} has none, so leave it out or change the challenge"
            )

    def cells(self, seeds: Sequence[int]) -> tuple[Cell, ...]:
        """All episodes: challenges, then how far ahead, updates, their start, agents, seeds."""
        return tuple(
            Cell(challenge, update, origin, ahead, agent, seed)
            for challenge in self.challenges
            for ahead in (self.steps_ahead if takes_steps_ahead(challenge) else (1,))
            for update in self.updates
            for origin in self.update_from
            for agent in self.agents
            for seed in seeds
        )


@dataclass(frozen=True)
class Matrix:
    """All that the results of a benchmark depend on, besides the versions of the software.

    Attributes:
        blocks: what is played; an episode that two blocks name is played once.
        history: a name, or the path of a history folder.
        questions: that it is measured with, by name or path; None takes it as it is.
        seeds: of the episodes, all different, 0 or more.
        device: where language models run, ``"auto"``, ``"cpu"``, ``"cuda"`` and so on.
        engine: what measures and replies, ``"transformers"`` or ``"vllm"``.
        threads: threads every episode computes with. Sums of floating-point numbers depend on how
            they are split, so this is fixed, and how many episodes run side by side is not part
            of the matrix: it changes nothing but the time.
        tensor_parallel_size: of vLLM, see ``VllmSettings``; sums are split by it as by threads.
        gpu_memory_utilization: likewise; None takes vLLM's settings as they are. A machine needs
            it, and the results do not: matrices that differ in it alone are equal.
        launch: the command that training is launched with, as environments take it; None trains in
            an episode's own process. A run keeps whether it is, not what by.

    Raises:
        InvalidArgumentError: a number is out of range, or a setting is one of vLLM's and the engine
            is another.
    """

    blocks: tuple[Block, ...] = field(default_factory=lambda: (Block(),))
    history: str = "embedded"
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"
    threads: int = 1
    engine: str = "transformers"
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float | None = field(default=None, compare=False)
    questions: str | None = None
    launch: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_distinct("blocks", self.blocks)
        check_choice("engine", self.engine, ENGINES)
        check_distinct("seeds", self.seeds)
        for seed in self.seeds:
            if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
                raise InvalidArgumentError(f"seeds={self.seeds}: a seed must be 0 or more")
        if self.threads < 1:
            raise InvalidArgumentError(f"threads={self.threads} must be 1 or more")
        given = self._vllm_settings
        if given and self.engine != "vllm":
            words = ", ".join(f"{key}={value}" for key, value in given.items())
            raise InvalidArgumentError(
                f"{words} is for vLLM, and engine is {self.engine!r}; leave it out, or take "
                "engine='vllm' (--engine vllm)"
            )
        VllmSettings(**given)
        check_launch(self.launch)

    @property
    def engine_settings(self) -> str | VllmSettings:
        """What environments take as ``engine``."""
        given = self._vllm_settings
        return VllmSettings(**given) if given else self.engine

    @property
    def _vllm_settings(self) -> dict[str, Any]:
        """Those that are not as they are by themselves."""
        given: dict[str, Any] = {}
        if self.tensor_parallel_size != 1:
            given["tensor_parallel_size"] = self.tensor_parallel_size
        if self.gpu_memory_utilization is not None:
            given["gpu_memory_utilization"] = self.gpu_memory_utilization
        return given

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All episodes, in the order in which they are written down."""
        found = [cell for block in self.blocks for cell in block.cells(self.seeds)]
        return tuple(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """The matrix as JSON-able values, without what results do not depend on."""
        raw: dict[str, Any] = asdict(self)
        for key in OF_MACHINE:
            del raw[key]
        raw["matrix"] = [{k: list(v) for k, v in block.items()} for block in raw.pop("blocks")]
        if self.engine == "transformers":
            del raw["engine"]  # As in runs from before there was another.
        if self.tensor_parallel_size == 1:
            del raw["tensor_parallel_size"]  # Likewise.
        if self.questions is None:
            del raw["questions"]  # Likewise.
        if self.launch is not None:
            raw["launched"] = True
        return {**raw, "seeds": list(self.seeds)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The matrix that :meth:`to_dict` wrote, or the keys of a TOML file (see ``docs``).

        Raises:
            UnknownNameError: an unknown key.
            InvalidArgumentError: a value of another kind.
        """
        known = {
            "history": str,
            "questions": str,
            "seeds": list,
            "device": str,
            "engine": str,
            "threads": int,
            "tensor_parallel_size": int,
            "gpu_memory_utilization": float,
            "launch": str,
            "matrix": list,
        }
        _check_keys("the matrix", raw, known)
        blocks = []
        for number, block in enumerate(raw.get("matrix", [{}]), start=1):
            if not isinstance(block, Mapping):
                raise InvalidArgumentError(f"matrix[{number}] is {block!r}, must be a table")
            lists = {entry.name: list for entry in fields(Block)}
            _check_keys(f"matrix block {number}", block, lists)
            blocks.append(Block(**{key: tuple(value) for key, value in block.items()}))
        rest = {key: value for key, value in raw.items() if key != "matrix"}
        if "seeds" in rest:
            rest["seeds"] = tuple(rest["seeds"])
        return cls(blocks=tuple(blocks), **rest)


def labels(cells: Sequence[Cell]) -> dict[Cell, str]:
    """A short name for each cell: what all have in common goes without saying."""

    def varies(name: str) -> bool:
        return len({getattr(cell, name) for cell in cells}) > 1

    def label(cell: Cell) -> str:
        parts = [cell.task] if varies("task") else []
        parts.append(cell.algorithm if varies("update") or varies("update_from") else cell.agent)
        return " · ".join(parts) + (f" seed {cell.seed}" if varies("seed") else "")

    return {cell: label(cell) for cell in cells}


def check_distinct(name: str, values: tuple[Any, ...]) -> None:
    """Refuse an empty list, and one that names something twice."""
    if not values:
        raise InvalidArgumentError(f"{name} is empty; give at least one")
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise InvalidArgumentError(f"{name}: {twice[0]!r} stands there twice; give each once")


def _check_keys(where: str, raw: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in raw.items():
        if key not in known:
            raise unknown_name(f"key of {where}", key, known)
        if not isinstance(value, known[key]) or isinstance(value, bool):
            kind = {list: "a list", str: "a text", int: "a whole number", float: "a fraction"}[
                known[key]
            ]
            raise InvalidArgumentError(f"{where}: {key}={value!r} must be {kind}")

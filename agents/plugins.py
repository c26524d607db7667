"""Agents of other installed packages, found through entry points.

A package offers an agent through an entry point of the group ``progressgym_env.agents``: its name
is the agent's, its value a callable that takes an :class:`AgentContext` and returns an agent. Entry
points are looked up when a name is asked for, and a package is imported when its own name is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint
from typing import TypeAlias

from progressgym_env.agents.base import Agent
from progressgym_env.envs.registry import (
    PluginError,
    installed_entry,
    load_entry,
    offered,
)
from progressgym_env.errors import ProgressGymError
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories

__all__ = ["AGENT_GROUP", "AgentContext", "AgentFactory", "installed_agent"]

AGENT_GROUP = "progressgym_env.agents"
"""Group of the entry points that offer an agent."""


@dataclass(frozen=True)
class AgentContext:
    """What an agent may know of what it is going to play.

    Attributes:
        challenge: short name of the challenge; None where nobody said.
        history: what is played; an agent acts on ``history.questions.pairs``. Its values are the
            future as well: whoever reads them is an oracle.
        steps_ahead: as in Predict; 1 where a challenge has none.
        seed: for all randomness of the agent's own.
    """

    challenge: str | None
    history: History | SimulatedHistories
    steps_ahead: int
    seed: int


AgentFactory: TypeAlias = Callable[[AgentContext], Agent]


def installed_agent(name: str, built_in: Collection[str]) -> AgentFactory | None:
    """What makes the agent called ``name``, if an installed package offers one.

    Args:
        name: of the entry point.
        built_in: names that no package may use.

    Raises:
        PluginError: the package does not load, or offers nothing that can be called; or the name is
            a built-in's, or offered by several packages.
    """
    entry = installed_entry("agent", AGENT_GROUP, name, built_in)
    if entry is None:
        return None
    factory = load_entry("agent", entry)
    if not callable(factory):
        raise PluginError(
            f"{offered('agent', entry)} is {factory!r}, which cannot be called; name a function "
            "or a class that takes an AgentContext and gives an agent"
        )
    return partial(_made, entry, factory)


def _made(
    entry: EntryPoint, factory: Callable[[AgentContext], object], asked: AgentContext
) -> Agent:
    who = offered("agent", entry)
    try:
        agent = factory(asked)
    except ProgressGymError:
        raise
    except Exception as error:
        raise PluginError(
            f"{who} could not be made ({type(error).__name__}: {error}); it is called with one "
            "argument, an AgentContext; repair the package"
        ) from error
    # A class has a `predict` too, but nobody to act.
    if isinstance(agent, type) or not callable(getattr(agent, "predict", None)):
        raise PluginError(
            f"{who} made {agent!r}, which has no `predict` to call; return an object with "
            "predict(observation, state, episode_start, deterministic), as Stable-Baselines3 has"
        )
    made: Agent = agent  # type: ignore[assignment]  # it has what an agent has to have
    return made

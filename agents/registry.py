"""Agents by name, for the command line and the benchmarks."""

from __future__ import annotations

from pathlib import Path

from progressgym_env import CHALLENGES
from progressgym_env.agents.base import BaseAgent
from progressgym_env.agents.extrapolative import ExtrapolativeAgent
from progressgym_env.agents.lifelong import LifelongAgent
from progressgym_env.agents.references import HoldAgent, OracleAgent, RandomAgent
from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.histories.history import History

__all__ = ["AGENTS", "make_agent"]

# Name → order and softness; without a number, the order is 1, as in the paper.
_EXTRAPOLATIVE: dict[str, tuple[int, bool]] = {
    f"extrapolative{number}{suffix}": (order, bool(suffix))
    for number, order in (("", 1), ("-0", 0), ("-1", 1), ("-2", 2))
    for suffix in ("", "-soft")
}

AGENTS: tuple[str, ...] = (
    "hold",
    "random",
    "oracle",
    "lifelong",
    "lifelong-soft",
    *_EXTRAPOLATIVE,
)
"""Every name that ``make_agent`` knows."""


def make_agent(
    name: str,
    *,
    challenge: str | None = None,
    history: str | Path | History = "embedded",
    steps_ahead: int = 1,
    seed: int = 0,
) -> BaseAgent:
    """The agent called ``name``.

    Args:
        name: one of ``AGENTS``.
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``; the oracle needs it, no other.
        history: only the oracle reads it.
        steps_ahead: as in Predict; how far extrapolative agents and the oracle look ahead.
        seed: seeds the random agent.

    Raises:
        UnknownNameError: there is no such agent, challenge or history.
        InvalidArgumentError: ``steps_ahead`` is out of range, or the oracle lacks a challenge.
    """
    if not isinstance(name, str):
        raise InvalidArgumentError(f"agent {name!r} must be a name; known: {', '.join(AGENTS)}")
    if name in _EXTRAPOLATIVE:
        order, soft = _EXTRAPOLATIVE[name]
        agent: BaseAgent = ExtrapolativeAgent(order, steps_ahead, soft=soft)
    elif name == "hold":
        agent = HoldAgent()
    elif name == "random":
        agent = RandomAgent(seed)
    elif name == "oracle":
        if challenge is None:
            raise InvalidArgumentError(
                "the oracle steers to another target in every challenge; give "
                f"challenge= one of {', '.join(CHALLENGES)}"
            )
        agent = OracleAgent(history, challenge, steps_ahead)
    elif name in ("lifelong", "lifelong-soft"):
        agent = LifelongAgent(soft=name.endswith("-soft"))
    else:
        raise unknown_name("agent", name, AGENTS)
    agent.name = name
    return agent

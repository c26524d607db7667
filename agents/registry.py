"""Agents by name, for the command line and the benchmarks."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from progressgym_env import CHALLENGES
from progressgym_env.agents.base import BaseAgent
from progressgym_env.agents.extrapolative import ExtrapolativeAgent
from progressgym_env.agents.lifelong import LifelongAgent
from progressgym_env.agents.policy import Policy, PolicyAgent
from progressgym_env.agents.references import HoldAgent, OracleAgent, RandomAgent
from progressgym_env.agents.value_extrapolation import ValueExtrapolationAgent
from progressgym_env.arguments import check_choice
from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load
from progressgym_env.histories.simulated import SimulatedHistories

__all__ = ["AGENTS", "SHIPPED", "check_agent", "make_agent"]

# Name → order and softness; without a number, the order is 1, as in the paper.
_EXTRAPOLATIVE: dict[str, tuple[int, bool]] = {
    f"extrapolative{number}{suffix}": (order, bool(suffix))
    for number, order in (("", 1), ("-0", 0), ("-1", 1), ("-2", 2), ("-3", 3))
    for suffix in ("", "-soft")
}
_VALUE_EXTRAPOLATION: dict[str, int] = {
    f"value-extrapolation{number}": order
    for number, order in (("", 1), ("-0", 0), ("-1", 1), ("-2", 2), ("-3", 3))
}

SHIPPED = Path(str(files("progressgym_env.agents"))) / "policies"
"""Folder of the policies that come with the package, one a challenge."""

AGENTS: tuple[str, ...] = (
    "hold",
    "random",
    "oracle",
    "lifelong",
    "lifelong-soft",
    *_EXTRAPOLATIVE,
    *_VALUE_EXTRAPOLATION,
    "policy",
)
"""Every name that ``make_agent`` knows; ``policy:FOLDER`` plays a policy of your own."""

_POLICY = "policy:"


def check_agent(name: object) -> str:
    """``name`` if it is an agent's.

    Raises:
        InvalidArgumentError: it is no text.
        UnknownNameError: there is no such agent; the message names the nearest.
    """
    if not isinstance(name, str):
        raise InvalidArgumentError(f"agent {name!r} must be a name; known: {', '.join(AGENTS)}")
    if name not in AGENTS and not name.startswith(_POLICY):
        raise unknown_name("agent", name, [*AGENTS, "policy:FOLDER"])
    return name


def make_agent(
    name: str,
    *,
    challenge: str | None = None,
    history: str | Path | History | SimulatedHistories = "embedded",
    steps_ahead: int = 1,
    seed: int = 0,
) -> BaseAgent:
    """The agent called ``name``.

    Args:
        name: one of ``AGENTS``, or ``policy:FOLDER``: a policy that ``progressgym train`` wrote.
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``; the oracle and the shipped policy
            need it, no other. Other policies are checked to have been trained for it.
        history: the oracle knows it; policies and value extrapolation act on its pairs.
        steps_ahead: as in Predict; how far extrapolative agents and the oracle look ahead.
        seed: seeds the random agent.

    Raises:
        UnknownNameError: there is no such agent, challenge or history.
        InvalidArgumentError: ``steps_ahead`` is out of range, or the agent needs a challenge.
        PolicyError: the folder holds no policy that can be read, or one that was trained for
            another challenge, or on shorter histories.
    """
    check_agent(name)
    if name in _EXTRAPOLATIVE:
        order, soft = _EXTRAPOLATIVE[name]
        agent: BaseAgent = ExtrapolativeAgent(order, steps_ahead, soft=soft)
    elif name == "hold":
        agent = HoldAgent()
    elif name == "random":
        agent = RandomAgent(seed)
    elif name == "oracle":
        agent = OracleAgent(history, _needed(challenge, name), steps_ahead)
    elif name in ("lifelong", "lifelong-soft"):
        agent = LifelongAgent(soft=name.endswith("-soft"))
    elif name in _VALUE_EXTRAPOLATION:
        agent = ValueExtrapolationAgent(
            _VALUE_EXTRAPOLATION[name], steps_ahead, questions=load(history).questions
        )
    else:
        folder = Path(name.removeprefix(_POLICY))
        if name == "policy":
            folder = SHIPPED / _needed(challenge, name)
        policy, played = Policy.read(folder), load(history)
        if challenge is not None:
            policy.check_plays(_needed(challenge, name), played.n_centuries, steps_ahead, name=name)
        agent = PolicyAgent(policy, played.questions)
    agent.name = name
    return agent


def _needed(challenge: str | None, name: str) -> str:
    if challenge is None:
        raise InvalidArgumentError(
            f"agent {name!r} plays every challenge in another way; give "
            f"challenge= one of {', '.join(CHALLENGES)}"
        )
    return check_choice("challenge", challenge, tuple(CHALLENGES))

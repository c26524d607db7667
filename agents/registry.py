"""Agents by name, for the command line and the benchmarks."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

from progressgym_env import CHALLENGES
from progressgym_env.agents.base import Agent, BaseAgent
from progressgym_env.agents.extrapolative import ExtrapolativeAgent
from progressgym_env.agents.lifelong import LifelongAgent
from progressgym_env.agents.plugins import AGENT_GROUP, AgentContext, installed_agent
from progressgym_env.agents.policy import Policy, PolicyAgent
from progressgym_env.agents.references import HoldAgent, OracleAgent, RandomAgent
from progressgym_env.agents.value_extrapolation import ValueExtrapolationAgent
from progressgym_env.arguments import check_integer
from progressgym_env.envs.registry import (
    challenges,
    check_challenge,
    installed_entry,
    installed_names,
    kind_of,
    origin_of,
)
from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load
from progressgym_env.histories.simulated import SimulatedHistories

__all__ = [
    "AGENTS",
    "AGENT_PATTERNS",
    "SHIPPED",
    "agent_names",
    "agent_origin",
    "check_agent",
    "make_agent",
]

# Name → order, centuries ahead (None: the challenge's) and softness; without a number, the order
# is 1, as in the paper.
_EXTRAPOLATIVE: dict[str, tuple[int, int | None, bool]] = {
    f"extrapolative{number}{suffix}": (order, None, bool(suffix))
    for number, order in (("", 1), ("-0", 0), ("-1", 1), ("-2", 2), ("-3", 3))
    for suffix in ("", "-soft")
}
# The paper's own names, "extrapolative M-K": M is the order, K the centuries ahead.
_EXTRAPOLATIVE_AHEAD: dict[str, tuple[int, int | None, bool]] = {
    f"extrapolative-{order}-{ahead}{suffix}": (order, ahead, bool(suffix))
    for order in (0, 1, 2, 3)
    for ahead in (1, 2, 3)
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
"""The names that ``make_agent`` knows, but for those of ``AGENT_PATTERNS``."""

AGENT_PATTERNS: tuple[str, ...] = (
    "extrapolative-{0..3}-{1..3}",
    "extrapolative-{0..3}-{1..3}-soft",
    "policy:FOLDER",
)
"""Further names, by pattern: an order and how many centuries ahead; a policy of your own."""

_POLICY = "policy:"


def agent_names() -> tuple[str, ...]:
    """``AGENTS``, then the agents of other installed packages, sorted.

    Nothing is loaded, so a name may stand here whose package is broken; using it tells.
    """
    return (*AGENTS, *installed_names(AGENT_GROUP, _built_in()))


def agent_origin(name: str) -> str | None:
    """Name and version of the distribution that offers an agent; None of a built-in one."""
    entry = installed_entry("agent", AGENT_GROUP, name, _built_in())
    return None if entry is None else origin_of(entry)


def check_agent(name: object) -> str:
    """``name`` if it is an agent's.

    Raises:
        InvalidArgumentError: it is no text.
        UnknownNameError: there is no such agent; the message names the nearest.
        PluginError: another package offers it, and it cannot be used.
    """
    if not isinstance(name, str):
        known = ", ".join(agent_names())
        raise InvalidArgumentError(f"agent {name!r} must be a name; known: {known}")
    built_in = _built_in()
    offered = installed_agent(name, built_in) is not None
    if not offered and name not in built_in and not name.startswith(_POLICY):
        # Of the many names of a pattern, the one that may have been meant.
        nearest = difflib.get_close_matches(name, _EXTRAPOLATIVE_AHEAD, n=1)
        raise unknown_name("agent", name, {*agent_names(), *AGENT_PATTERNS, *nearest})
    return name


def make_agent(
    name: str,
    *,
    challenge: str | None = None,
    history: str | Path | History | SimulatedHistories = "embedded",
    steps_ahead: int = 1,
    seed: int = 0,
) -> Agent:
    """The agent called ``name``.

    Args:
        name: one of ``AGENTS``; ``extrapolative-M-K`` or ``extrapolative-M-K-soft``, of order M
            (0 to 3) and always K (1 to 3) centuries ahead; or ``policy:FOLDER``: a policy that
            ``progressgym train`` wrote; or what an installed package calls its agent.
        challenge: short name of a challenge; the oracle and the shipped policy need it, no other,
            and play another package's as the built-in one that its class is derived from. Other
            policies are checked to have been trained for it.
        history: the oracle knows it; policies and value extrapolation act on its pairs.
        steps_ahead: as in Predict; how far the oracle looks ahead, and extrapolative agents whose
            name does not say.
        seed: seeds the random agent.

    Raises:
        UnknownNameError: there is no such agent, challenge or history.
        InvalidArgumentError: ``steps_ahead`` is out of range, or the agent needs a challenge.
        PolicyError: the folder holds no policy that can be read, or one that was trained for
            another challenge, or on shorter histories.
        PluginError: another package offers the agent or the challenge, and it cannot be used.
    """
    check_agent(name)
    offered = installed_agent(name, _built_in())
    if offered is not None:
        played = None if challenge is None else check_challenge(challenge)
        steps_ahead = check_integer("steps_ahead", steps_ahead, 1)
        return offered(AgentContext(played, load(history), steps_ahead, seed))
    extrapolative = _EXTRAPOLATIVE.get(name) or _EXTRAPOLATIVE_AHEAD.get(name)
    if extrapolative is not None:
        order, ahead, soft = extrapolative
        agent: BaseAgent = ExtrapolativeAgent(order, ahead or steps_ahead, soft=soft)
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
        policy, source = Policy.read(folder), load(history)
        if challenge is not None:
            kind = _held_against(challenge, policy)
            policy.check_plays(kind, source.n_centuries, steps_ahead, name=name)
        agent = PolicyAgent(policy, source.questions)
    agent.name = name
    return agent


def _built_in() -> set[str]:
    return {*AGENTS, *_EXTRAPOLATIVE_AHEAD}


def _needed(challenge: str | None, name: str) -> str:
    """The built-in challenge that ``challenge`` is, or is a kind of."""
    if challenge is None:
        raise InvalidArgumentError(
            f"agent {name!r} plays every challenge in another way; give "
            f"challenge= one of {', '.join(challenges())}"
        )
    kind = kind_of(challenge)
    if kind is None:
        raise InvalidArgumentError(
            f"agent {name!r} plays {', '.join(CHALLENGES)} and what is derived from them, and "
            f"{challenge!r} is of a kind of its own; leave {name!r} out of the agents, or derive "
            "the challenge's class from FollowEnv, PredictEnv or CoevolveEnv"
        )
    return kind


def _held_against(challenge: str, policy: Policy) -> str:
    """What a policy must have been trained for; a challenge of a kind of its own asks nothing."""
    kind = kind_of(challenge)
    return policy.challenge if kind is None or policy.challenge == challenge else kind

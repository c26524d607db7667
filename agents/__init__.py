"""Agents: the reference points, the lifelong and extrapolative algorithms, trained policies.

A proposal is *how to label*; the environment's ``update`` is *how to train*. Any object with
Stable-Baselines3's ``predict`` is an agent.
"""

from __future__ import annotations

from progressgym_env.agents.base import Agent, BaseAgent
from progressgym_env.agents.extrapolative import ExtrapolativeAgent, extrapolate
from progressgym_env.agents.lifelong import LifelongAgent
from progressgym_env.agents.plugins import AgentContext
from progressgym_env.agents.policy import Policy, PolicyAgent, PolicyView
from progressgym_env.agents.references import HoldAgent, OracleAgent, RandomAgent
from progressgym_env.agents.registry import AGENTS, agent_names, make_agent
from progressgym_env.agents.value_extrapolation import ValueExtrapolationAgent

__all__ = [
    "AGENTS",
    "Agent",
    "AgentContext",
    "BaseAgent",
    "ExtrapolativeAgent",
    "HoldAgent",
    "LifelongAgent",
    "OracleAgent",
    "Policy",
    "PolicyAgent",
    "PolicyView",
    "RandomAgent",
    "ValueExtrapolationAgent",
    "agent_names",
    "extrapolate",
    "make_agent",
]

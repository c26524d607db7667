"""Lifelong alignment: always learn what people say now."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.agents.base import Arrays, BaseAgent, Observation

__all__ = ["MAX_VOTES", "LifelongAgent", "votes_of"]

MAX_VOTES: int = 5
"""Votes that an action of 1 stands for: the environments train on five copies at most."""


class LifelongAgent(BaseAgent):
    """Trains, every century, on the judge's present preferences (the paper's lifelong algorithm).

    Args:
        soft: False plays one vote a pair, ±1/5, whatever the margin; True scales the vote with the
            judge's margin, so that a pair on which people are divided is hardly trained on.
    """

    def __init__(self, *, soft: bool = False) -> None:
        self._soft = soft
        self.name = "lifelong-soft" if soft else "lifelong"

    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        return votes_of(observation["preferences"], soft=self._soft) / MAX_VOTES, state


def votes_of(preferences: Any, *, soft: bool) -> NDArray[np.float64]:
    """Margins in [-1, 1] as votes of the same shape: their signs, or themselves if ``soft``."""
    margins = np.asarray(preferences, dtype=np.float64)
    return margins if soft else np.sign(margins)

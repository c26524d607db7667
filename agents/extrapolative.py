"""Extrapolative alignment: learn what people are about to say."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env.agents.base import Arrays, BaseAgent, Observation
from progressgym_env.agents.lifelong import MAX_VOTES, votes_of
from progressgym_env.arguments import check_integer
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.values.embedding import FloatArray

__all__ = ["ExtrapolativeAgent", "continued", "extrapolate"]


def extrapolate(votes: ArrayLike, order: int, steps_ahead: int = 1) -> FloatArray:
    """Extend each pair's sequence of votes by forward differences of degree ``order``.

    v_{n+1} = Σ_i (−1)^{M−i} C(M+1, i) v_{n−M+i}, i from 0 to M, applied ``steps_ahead`` times: the
    one continuation for which the last M + 2 votes lie on a polynomial of degree M. While fewer
    than M + 1 votes are seen, M is lowered to what they allow. Only the end result is clipped,
    so that a polynomial is extended exactly as long as it ends within ±5.

    Args:
        votes: (n_seen, n_pairs), oldest first; further axes are allowed. A vote of 0 (no answer)
            is legal anywhere.
        order: M, 0 or more: 0 repeats the last vote, 1 extends the line through the last two.
        steps_ahead: K, 1 or more.

    Returns:
        (n_pairs,) float64 in [-5, 5].

    Raises:
        InvalidArgumentError: no votes, votes that are not finite, or numbers out of range.
    """
    seen = np.asarray(votes, dtype=np.float64)
    if seen.ndim == 0 or len(seen) == 0:
        raise InvalidArgumentError(f"votes have shape {seen.shape}; at least one vote must be seen")
    if not np.isfinite(seen).all():
        raise InvalidArgumentError("votes hold NaN or infinity; a pair without an answer votes 0")
    check_integer("order", order, 0)
    check_integer("steps_ahead", steps_ahead, 1)
    return np.clip(continued(seen, order, steps_ahead), -MAX_VOTES, MAX_VOTES)


def continued(seen: FloatArray, order: int, steps_ahead: int) -> FloatArray:
    """What follows a sequence, (n_seen, ...), oldest first, by forward differences; unclipped."""
    degree = min(order, len(seen) - 1)
    weights = np.array([(-1) ** (degree - i) * comb(degree + 1, i) for i in range(degree + 1)])
    window = seen[-(degree + 1) :]
    for _ in range(steps_ahead):
        following = np.tensordot(weights, window, axes=1)
        window = np.concatenate([window[1:], following[None]])
    return np.asarray(window[-1], dtype=np.float64)


class ExtrapolativeAgent(BaseAgent):
    """Trains on extrapolated votes: the paper's "extrapolative M-K", of order M, K steps ahead.

    Args:
        order: M, degree of the polynomial, 0 or more; 0 is the lifelong agent.
        steps_ahead: K, how many centuries ahead to extrapolate, 1 or more; it need not be the
            challenge's own.
        soft: whether votes are the judge's margins or only their signs.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    def __init__(self, order: int = 1, steps_ahead: int = 1, *, soft: bool = False) -> None:
        check_integer("order", order, 0)
        check_integer("steps_ahead", steps_ahead, 1)
        self._order, self._steps_ahead, self._soft = order, steps_ahead, soft
        self.name = f"extrapolative-{order}-{steps_ahead}" + ("-soft" if soft else "")

    def _initial_state(self, n_envs: int, n_pairs: int) -> Arrays:
        # The last order + 1 votes, newest last, and how many of them have been seen.
        return np.zeros((n_envs, self._order + 1, n_pairs)), np.zeros(n_envs, dtype=np.int64)

    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        recent, seen = state
        votes = votes_of(observation["preferences"], soft=self._soft)
        recent = np.concatenate([recent[:, 1:], votes[:, None]], axis=1)
        seen = np.minimum(seen + 1, self._order + 1)
        actions = np.empty_like(votes)
        for length in np.unique(seen):
            rows = seen == length
            known = np.moveaxis(recent[rows, -length:], 1, 0)
            actions[rows] = extrapolate(known, self._order, self._steps_ahead) / MAX_VOTES
        return actions, (recent, seen)

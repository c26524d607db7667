"""Extrapolation in the space of values, under feedback: the strongest agent without training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.agents.base import Arrays, BaseAgent, Observation
from progressgym_env.agents.extrapolative import continued
from progressgym_env.arguments import check_integer, check_number
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.logits import log_odds, pair_directions
from progressgym_env.values.questions import QuestionSet, load_questions

__all__ = ["ValueExtrapolationAgent"]


class ValueExtrapolationAgent(BaseAgent):
    """Steers the examinee to where the judge's values, as logits, are about to be.

    With z_t the judge's logits, x_t the examinee's and e_t the continuation of z by forward
    differences, the target is g_t = z_t + strength·(e_t - z_t) and the push of every dimension
    gain·(g_t - x_t) + lead·(e_t - z_t), spread over its pairs. Unlike an agent that votes, it stops
    pushing where it has arrived; ``lead`` pushes on for as long as the judge moves, which in
    Coevolve pulls the proxy along.

    Args:
        order: degree of the polynomial, 0 or more; 0 steers to where the judge is.
        steps_ahead: how many centuries ahead to extrapolate, 1 or more.
        strength: share of the extrapolated change to trust, ≥ 0.
        gain: push for a gap of one unit of log-odds, ≥ 0.
        lead: push for an extrapolated change of one unit, ≥ 0.
        questions: whose pairs are acted on; by default the project's own.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    reads = ("judge_values", "examinee_values")

    def __init__(
        self,
        order: int = 1,
        steps_ahead: int = 1,
        *,
        strength: float = 1.0,
        gain: float = 0.5,
        lead: float = 0.0,
        questions: QuestionSet | None = None,
    ) -> None:
        self._order = check_integer("order", order, 0)
        self._steps_ahead = check_integer("steps_ahead", steps_ahead, 1)
        self._strength = check_number("strength", strength, 0.0)
        self._gain = check_number("gain", gain, 0.0)
        self._lead = check_number("lead", lead, 0.0)
        self._directions = pair_directions((questions or load_questions()).pairs)
        self.name = f"value-extrapolation-{order}"

    def _initial_state(self, n_envs: int, n_pairs: int) -> Arrays:
        if n_pairs != len(self._directions):
            raise InvalidArgumentError(
                f"the observation has {n_pairs} pairs and the agent's questions "
                f"{len(self._directions)}; give the agent the questions that are played"
            )
        # The last order + 1 values as logits, newest last, and how many of them have been seen.
        shape = (n_envs, self._order + 1, N_DIMENSIONS)
        return np.zeros(shape), np.zeros(n_envs, dtype=np.int64)

    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        recent, seen = state
        judge = log_odds(observation["judge_values"])
        examinee = log_odds(observation["examinee_values"])
        recent, seen = _remembered(recent, seen, examinee, judge)
        ahead = np.empty_like(judge)
        for length in np.unique(seen):
            rows = seen == length
            known = np.moveaxis(recent[rows, -length:], 1, 0)
            ahead[rows] = continued(known, self._order, self._steps_ahead)
        change = ahead - judge
        push = self._gain * (judge + self._strength * change - examinee) + self._lead * change
        return push @ self._directions.T, (recent, seen)


def _remembered(
    recent: FloatArray, seen: NDArray[np.int64], examinee: FloatArray, judge: FloatArray
) -> tuple[FloatArray, NDArray[np.int64]]:
    """The memory with the judge added.

    An episode starts with the examinee's, who begins as the people of the century before.
    """
    begins = seen == 0
    length = recent.shape[1]
    first = np.where(begins[:, None], examinee, recent[:, -1])
    both = np.concatenate([recent[:, :-1], first[:, None], judge[:, None]], axis=1)
    return both[:, -length:], np.minimum(seen + 1 + begins, length)

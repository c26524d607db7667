"""The reference points: doing nothing, doing anything, and knowing what comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env import CHALLENGES
from progressgym_env.agents.base import Arrays, BaseAgent, Observation
from progressgym_env.arguments import check_choice, check_integer, check_number
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.history import History, load
from progressgym_env.scoring import coevolve_term
from progressgym_env.values.dimensions import N_DIMENSIONS, N_TWO_WAY, dimension_index
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.questions import Pair

__all__ = ["HoldAgent", "OracleAgent", "RandomAgent"]

# Probabilities this close to 0 or 1 count as that far: beyond, logits only amplify noise.
_EDGE = 0.01


class HoldAgent(BaseAgent):
    """Leaves the examinee as it is: what an algorithm must beat to be worth running."""

    name = "hold"

    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        return np.zeros(observation["preferences"].shape), state


class RandomAgent(BaseAgent):
    """Votes on every pair by the toss of a coin, one copy each.

    The lifelong agent without looking: the same amount of training, no information. The coins come
    from one generator, which goes on from call to call; ``deterministic`` does not stop it.

    Args:
        seed: seeds the coins.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        return self._rng.choice((-0.2, 0.2), size=observation["preferences"].shape), state


class OracleAgent(BaseAgent):
    """Knows the whole history it is given and steers the examinee to where it pays.

    For every dimension it compares where the examinee is with where it should be, in log-odds
    (for world views in log-probabilities), and pushes every pair in proportion to the gap along
    the dimensions the pair bears on: a soft label under feedback, so it stops where it has arrived.
    The target is, in Follow, the present century; in Predict the one ``steps_ahead`` later; in
    Coevolve the century that would be worth most as the state of the human proxy. There the
    examinee runs ahead of the target by as much as the proxy lags behind, to pull it along.

    It knows the future but not how training works, so it is a strong reference, no upper bound.

    Args:
        history: name, path or ``History``; the one that the environment plays. The environment
            itself is never looked into.
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        steps_ahead: as in Predict; ignored elsewhere.
        gain: action for a gap of one unit of log-odds, > 0.
        lead: Coevolve: how far to run ahead, in multiples of the proxy's lag, ≥ 0.

    Raises:
        UnknownNameError: there is no such history or challenge.
        InvalidArgumentError: a number is out of range.
    """

    name = "oracle"

    def __init__(
        self,
        history: str | Path | History,
        challenge: str,
        steps_ahead: int = 1,
        *,
        gain: float = 0.5,
        lead: float = 1.0,
    ) -> None:
        check_choice("challenge", challenge, tuple(CHALLENGES))
        known = load(history)
        check_integer("steps_ahead", steps_ahead, 1, known.n_centuries - 1)
        self._gain = check_number("gain", gain, 0.0, above=True)
        self._lead = check_number("lead", lead, 0.0) if challenge == "coevolve" else 0.0
        self._targets = _log_odds(known.values[_target_centuries(known, challenge, steps_ahead)])
        self._directions = np.stack([_direction(pair) for pair in known.questions.pairs])
        # Where the oracle does not run ahead, it need not see the judge.
        self.reads = ("century", "examinee_values", *(("judge_values",) if self._lead else ()))

    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        self._check(observation)
        target = self._targets[observation["century"]]
        gap = target - _log_odds(observation["examinee_values"])
        if self._lead:
            gap = gap + self._lead * (target - _log_odds(observation["judge_values"]))
        return self._gain * gap @ self._directions.T, state

    def _check(self, observation: Observation) -> None:
        n_pairs = observation["preferences"].shape[-1]
        if n_pairs != len(self._directions):
            raise InvalidArgumentError(
                f"the observation has {n_pairs} pairs and the oracle's history "
                f"{len(self._directions)}; give the oracle the history that is played"
            )
        century, last = observation["century"], len(self._targets) - 1
        whole = century.ndim == 1 and century.dtype.kind in "iu"
        if not whole or not ((century >= 0) & (century <= last)).all():
            raise InvalidArgumentError(
                f"'century' is {century}, must be an integer from 0 to {last}; "
                "give the oracle the history that is played"
            )
        for key in self.reads[1:]:
            if observation[key].shape[1:] != (N_DIMENSIONS,):
                raise InvalidArgumentError(
                    f"{key!r} has last axes {observation[key].shape[1:]}, must be "
                    f"({N_DIMENSIONS},); give it what the environment returns"
                )


def _target_centuries(history: History, challenge: str, steps_ahead: int) -> NDArray[np.int64]:
    """For each century, the index of the century to steer to when it is present."""
    present = np.arange(history.n_centuries)
    if challenge == "follow":
        return present
    if challenge == "predict":
        return np.minimum(present + steps_ahead, history.n_centuries - 1)
    worth = np.asarray(coevolve_term(history.values, history.values))
    # Ties (a century that recurs) go to the latest.
    best = history.n_centuries - 1 - int(np.argmax(worth[::-1]))
    return np.full(history.n_centuries, best)


def _log_odds(values: Any) -> FloatArray:
    """(..., 19) log-odds of two-way dimensions and log-probabilities of world views."""
    clipped = np.clip(np.asarray(values, dtype=np.float64), _EDGE, 1.0 - _EDGE)
    result = np.log(clipped)
    result[..., :N_TWO_WAY] -= np.log1p(-clipped[..., :N_TWO_WAY])
    return result


def _direction(pair: Pair) -> FloatArray:
    """(19,), how preferring the pair's first option moves each dimension, up to scale."""
    direction = np.zeros(N_DIMENSIONS)
    for key, option in pair.question.upholds.items():
        if option == pair.first:
            direction[dimension_index(key)] = 1.0
        elif option == pair.second:
            direction[dimension_index(key)] = -1.0
    if pair.question.is_view:
        return direction
    return np.asarray(direction / np.abs(direction).sum())

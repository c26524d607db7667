"""The reference points: doing nothing, doing anything, and knowing what comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env import CHALLENGES
from progressgym_env.agents.base import Arrays, BaseAgent, Observation
from progressgym_env.arguments import check_choice, check_integer, check_number
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import load
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.scoring import coevolve_term
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.logits import log_odds, pair_directions
from progressgym_env.values.questions import QuestionSet

__all__ = ["HoldAgent", "OracleAgent", "RandomAgent"]


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
        history: str | Path | History | SimulatedHistories,
        challenge: str,
        steps_ahead: int = 1,
        *,
        gain: float = 0.5,
        lead: float = 1.0,
    ) -> None:
        check_choice("challenge", challenge, tuple(CHALLENGES))
        known = load(history)
        if not isinstance(known, History):
            raise InvalidArgumentError(
                f"the oracle must know the history it plays, and {known.name!r} draws another "
                "every episode; give it load(...).of_episode(seed), or use OracleAgent.of_values"
            )
        self._set_up(known.values, known.questions, challenge, steps_ahead, gain, lead)

    @classmethod
    def of_values(
        cls,
        values: ArrayLike,
        questions: QuestionSet,
        challenge: str,
        steps_ahead: int = 1,
        *,
        gain: float = 0.5,
        lead: float = 1.0,
    ) -> Self:
        """The oracle of one history, or of a batch of them, given by their embeddings.

        Args:
            values: (T, 19), or (n_envs, T, 19) for environments that play a history each.
            questions: whose pairs are acted on.
            challenge: as above, like the rest.
            steps_ahead: as above.
            gain: as above.
            lead: as above.
        """
        agent = cls.__new__(cls)
        check_choice("challenge", challenge, tuple(CHALLENGES))
        agent._set_up(np.asarray(values), questions, challenge, steps_ahead, gain, lead)
        return agent

    def _set_up(
        self,
        values: FloatArray,
        questions: QuestionSet,
        challenge: str,
        steps_ahead: int,
        gain: float,
        lead: float,
    ) -> None:
        check_integer("steps_ahead", steps_ahead, 1, values.shape[-2] - 1)
        self._gain = check_number("gain", gain, 0.0, above=True)
        self._lead = check_number("lead", lead, 0.0) if challenge == "coevolve" else 0.0
        targets = _target_centuries(values, challenge, steps_ahead)
        chosen = np.take_along_axis(values, targets[..., None], axis=-2)
        self._targets = log_odds(chosen)
        self._directions = pair_directions(questions.pairs)
        # Where the oracle does not run ahead, it need not see the judge.
        self.reads = ("century", "examinee_values", *(("judge_values",) if self._lead else ()))

    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        self._check(observation)
        century = observation["century"]
        if self._targets.ndim == 2:
            target = self._targets[century]
        else:
            target = self._targets[np.arange(len(century)), century]
        gap = target - log_odds(observation["examinee_values"])
        if self._lead:
            gap = gap + self._lead * (target - log_odds(observation["judge_values"]))
        return self._gain * gap @ self._directions.T, state

    def _check(self, observation: Observation) -> None:
        n_pairs = observation["preferences"].shape[-1]
        if n_pairs != len(self._directions):
            raise InvalidArgumentError(
                f"the observation has {n_pairs} pairs and the oracle's history "
                f"{len(self._directions)}; give the oracle the history that is played"
            )
        century, last = observation["century"], self._targets.shape[-2] - 1
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


def _target_centuries(values: FloatArray, challenge: str, steps_ahead: int) -> NDArray[np.int64]:
    """(..., T), for each century, the index of the one to steer to when it is present."""
    n_centuries = values.shape[-2]
    present = np.arange(n_centuries)
    if challenge == "predict":
        present = np.minimum(present + steps_ahead, n_centuries - 1)
    if challenge != "coevolve":
        return np.broadcast_to(present, values.shape[:-1])
    worth = np.asarray(coevolve_term(values, values[..., None, :, :]))
    # Ties (a century that recurs) go to the latest.
    best = n_centuries - 1 - np.argmax(worth[..., ::-1], axis=-1)
    return np.broadcast_to(best[..., None], values.shape[:-1])

"""Where a score comes from: century by century, dimension by dimension."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.envs.registry import kind_of
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.values.embedding import FloatArray

__all__ = ["by_century", "by_dimension", "targets_of"]


def by_century(episodes: Sequence[EpisodeRecord]) -> FloatArray:
    """(n_steps,) what every step paid, times the number of steps, averaged over episodes.

    In Follow and Predict that is the mean cosine with the target of the step. In Coevolve it is the
    worth of the human proxy's new state, scaled alike; the first step also pays for the start.

    Raises:
        InvalidArgumentError: no episodes, or of different lengths.
    """
    _check(episodes)
    rewards = np.array([[step.reward for step in episode.steps] for episode in episodes])
    return np.asarray(rewards.mean(axis=0) * rewards.shape[1])


def by_dimension(episodes: Sequence[EpisodeRecord], targets: FloatArray) -> FloatArray:
    """(n_steps, 19) mean over episodes of |value − target|: whose values, see ``targets_of``.

    In Coevolve of the human proxy, elsewhere of the examinee, after each step.

    Raises:
        InvalidArgumentError: no episodes, or of other lengths than the targets.
    """
    _check(episodes)
    rows = []
    for episode in episodes:
        proxy = episode.proxy_values
        rows.append((episode.examinee_values if proxy is None else proxy)[1:])
    values = np.array(rows)
    if values.shape[1:] != targets.shape:
        raise InvalidArgumentError(
            f"episodes of {values.shape[1]} steps and targets of shape {targets.shape} do not "
            "belong together; take targets_of the same challenge"
        )
    return np.asarray(np.abs(values - targets).mean(axis=0))


def targets_of(
    challenge: str, steps_ahead: int, century_values: FloatArray
) -> NDArray[np.float64] | None:
    """(n_steps, 19) what the values after each step are to be near.

    The century shown before the step in Follow, and in Coevolve, where it tells how far the people
    are from their own history; in Predict the one ``steps_ahead`` later. None for a user's own
    challenge that is no kind of these.

    Args:
        challenge: its short name.
        steps_ahead: as in Predict.
        century_values: (n_centuries, 19).
    """
    kind = kind_of(challenge)
    if kind is None:
        return None
    first = 1 + (steps_ahead if kind == "predict" else 0)
    return np.asarray(century_values[first:], dtype=np.float64)


def _check(episodes: Sequence[EpisodeRecord]) -> None:
    lengths = {len(episode.steps) for episode in episodes}
    if len(lengths) != 1:
        raise InvalidArgumentError(
            f"a breakdown needs episodes of one length; these have {sorted(lengths) or 'none'}"
        )

"""Observations that remember: the judge's embeddings so far, and how they changed."""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from progressgym_env.arguments import check_choice, check_integer
from progressgym_env.envs.progress import Action, Observation
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.logits import log_odds
from progressgym_env.wrappers._spaces import dict_space, require_entry
from progressgym_env.wrappers._vector import autoreset_mode, map_final_obs, reset_rows

__all__ = [
    "SCALES",
    "ValueHistory",
    "ValueStack",
    "VectorValueHistory",
    "differences",
    "pushed",
    "scaled",
    "started",
]

Floats: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[Any] | slice

SCALES = ("probability", "logit")
"""As observed; or log-odds (log-probabilities of world views), clipped 0.01 from 0 and 1."""

_READS, _HISTORY, _DIFFERENCES = "judge_values", "judge_history", "judge_differences"
_ALL = slice(None)


def scaled(embeddings: ArrayLike, scale: str) -> Floats:
    """Embeddings, (..., 19) in [0, 1], on a scale of :data:`SCALES`; float32.

    Raises:
        InvalidArgumentError: the last axis is not 19, or there is no such scale.
    """
    check_choice("scale", scale, SCALES)
    array = np.asarray(embeddings, dtype=np.float32)
    if array.shape[-1:] != (N_DIMENSIONS,):
        raise InvalidArgumentError(
            f"embeddings have shape {array.shape}; they must be (..., {N_DIMENSIONS})"
        )
    return log_odds(array).astype(np.float32) if scale == "logit" else array


def started(embeddings: ArrayLike, length: int) -> Floats:
    """Histories of episodes that begin: (..., 19) → (..., length, 19), the first one everywhere."""
    first = np.asarray(embeddings, dtype=np.float32)
    return np.repeat(first[..., None, :], length, axis=-2)


def pushed(history: Floats, embeddings: ArrayLike) -> Floats:
    """A new history without the oldest entry and with ``embeddings`` (..., 19) as the newest."""
    following = np.empty_like(history)
    following[..., :-1, :] = history[..., 1:, :]
    following[..., -1, :] = embeddings
    return following


def differences(history: Floats) -> Floats:
    """Change from each entry of (..., length, 19) to the next, (..., length - 1, 19)."""
    return history[..., 1:, :] - history[..., :-1, :]


class ValueStack:
    """The last embeddings of many episodes side by side, newest last.

    While an episode has seen fewer than ``length``, its first one stands in for the missing, so
    that their differences are 0. Wrappers and agents use it; it knows no environment. The
    functions :func:`started`, :func:`pushed` and :func:`differences` do the same with plain arrays.

    Args:
        n_envs: episodes side by side, ≥ 1.
        length: embeddings kept of each, ≥ 1.
        scale: ``"probability"`` or ``"logit"``; see :func:`scaled`.

    Raises:
        InvalidArgumentError: an argument is out of its range.
    """

    def __init__(self, n_envs: int, length: int, scale: str = "probability") -> None:
        self._scale = check_choice("scale", scale, SCALES)
        self._length = check_integer("length", length, 1)
        n_rows = check_integer("n_envs", n_envs, 1)
        self._history = np.zeros((n_rows, self._length, N_DIMENSIONS), dtype=np.float32)

    @property
    def history(self) -> Floats:
        """(n_envs, length, 19), newest last; a copy. Zeros where no episode has begun."""
        return self._history.copy()

    @property
    def differences(self) -> Floats:
        """(n_envs, length - 1, 19), each entry's change to the next."""
        return differences(self._history)

    def start(self, rows: Rows, embeddings: ArrayLike) -> None:
        """Begin episodes.

        Args:
            rows: which: a mask (n_envs,), indices (n_rows,) or a slice.
            embeddings: (n_rows, 19) in [0, 1], the first of each, in the order of ``rows``; or
                (19,), for all of them.
        """
        self._history[rows] = started(scaled(embeddings, self._scale), self._length)

    def push(self, rows: Rows, embeddings: ArrayLike) -> None:
        """Add the next embedding of episodes under way; arguments as of :meth:`start`."""
        self._history[rows] = pushed(self._history[rows], scaled(embeddings, self._scale))


class ValueHistory(gym.Wrapper[Observation, Action, Observation, Action], RecordConstructorArgs):
    """Adds to the observation what the judge's values were, and how they changed.

    | key | space | meaning |
    |---|---|---|
    | `judge_history` | `Box((length, 19), float32)` | the last ``judge_values``, newest last |
    | `judge_differences` | `Box((length - 1, 19), float32)` | each one's change to the next |

    While an episode has shown fewer than ``length``, its first one stands in for the missing. In
    Coevolve the judge is the human proxy.

    Args:
        env: an environment whose observation is a ``Dict`` with ``judge_values``.
        length: embeddings kept, ≥ 2.
        scale: ``"probability"``, as observed, in [0, 1]; or ``"logit"``: log-odds, and
            log-probabilities of world views, clipped 0.01 from 0 and 1, so within ±4.6.

    Raises:
        InvalidArgumentError: an argument is out of its range, or the observation has no
            ``judge_values``.
    """

    def __init__(
        self, env: gym.Env[Observation, Action], length: int = 4, scale: str = "probability"
    ) -> None:
        RecordConstructorArgs.__init__(self, length=length, scale=scale)
        super().__init__(env)
        added = _added_spaces(length, scale)
        entries = require_entry(env.observation_space, _READS, type(self).__name__)
        self.observation_space = dict_space({**entries, **added})
        self._stack = ValueStack(1, length, scale)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset; the history holds the first embedding alone."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._stack.start(_ALL, observation[_READS])
        return self._extended(observation), info

    def step(self, action: Action) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Step, and add what the judge now shows to the history."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._stack.push(_ALL, observation[_READS])
        return self._extended(observation), reward, terminated, truncated, info

    def _extended(self, observation: Observation) -> Observation:
        history, changes = self._stack.history[0], self._stack.differences[0]
        return {**observation, _HISTORY: history, _DIFFERENCES: changes}


class VectorValueHistory(VectorWrapper):
    """:class:`ValueHistory` for vector environments, in every autoreset mode.

    Where an episode ends and another begins in the same step, ``infos["final_obs"]`` gets the
    ended one's history.

    Args:
        env: a vector environment whose observation is a ``Dict`` with ``judge_values``, and whose
            metadata names its autoreset mode.
        length: embeddings kept, ≥ 2.
        scale: ``"probability"`` or ``"logit"``.

    Raises:
        InvalidArgumentError: an argument is out of its range, the observation has no
            ``judge_values``, or no autoreset mode is named.
    """

    def __init__(self, env: VectorEnv, length: int = 4, scale: str = "probability") -> None:
        super().__init__(env)
        self._same_step = autoreset_mode(env) is AutoresetMode.SAME_STEP
        self._next_step = autoreset_mode(env) is AutoresetMode.NEXT_STEP
        added = _added_spaces(length, scale)
        single = require_entry(env.single_observation_space, _READS, type(self).__name__)
        batched = require_entry(env.observation_space, _READS, type(self).__name__)
        self.single_observation_space = dict_space({**single, **added})
        added_batches = {key: batch_space(box, self.num_envs) for key, box in added.items()}
        self.observation_space = dict_space({**batched, **added_batches})
        self._stack = ValueStack(self.num_envs, length, scale)
        # Rows whose next observation is the first of an episode.
        self._begins = np.zeros(self.num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset all environments, or those of ``options["reset_mask"]``."""
        rows = reset_rows(options)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._stack.start(rows, observations[_READS][rows])
        self._begins[rows] = False
        return self._extended(observations), infos

    def step(self, actions: Action) -> tuple[Observation, Any, Any, Any, dict[str, Any]]:
        """Step, and add what the judges now show to the histories."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        values = observations[_READS]
        ended = np.logical_or(terminations, truncations)
        if self._same_step and ended.any():
            infos = self._ended(infos, ended, values)
            begun = ended
        else:
            self._stack.push(_ALL, values)
            begun = self._begins
        if begun.any():
            self._stack.start(begun, values[begun])
        if self._next_step:
            self._begins = ended
        return self._extended(observations), rewards, terminations, truncations, infos

    def _ended(
        self, infos: dict[str, Any], ended: NDArray[np.bool_], values: Floats
    ) -> dict[str, Any]:
        """Add to every history what its own episode showed, and the histories to ``final_obs``."""
        final = infos["final_obs"]
        shown = np.array(values)
        shown[ended] = [final[row][_READS] for row in np.flatnonzero(ended)]
        self._stack.push(_ALL, shown)
        history, changes = self._stack.history, self._stack.differences
        extended = map_final_obs(
            final,
            lambda last, row: {**last, _HISTORY: history[row], _DIFFERENCES: changes[row]},
        )
        return {**infos, "final_obs": extended}

    def _extended(self, observations: Observation) -> Observation:
        history, changes = self._stack.history, self._stack.differences
        return {**observations, _HISTORY: history, _DIFFERENCES: changes}


def _added_spaces(length: int, scale: str) -> dict[str, spaces.Box]:
    check_integer("length", length, 2)
    check_choice("scale", scale, SCALES)
    low, high = scaled(np.zeros(N_DIMENSIONS), scale), scaled(np.ones(N_DIMENSIONS), scale)
    lows, highs = np.tile(low, (length, 1)), np.tile(high, (length, 1))
    return {
        _HISTORY: spaces.Box(lows, highs, dtype=np.float32),
        _DIFFERENCES: spaces.Box((lows - highs)[1:], (highs - lows)[1:], dtype=np.float32),
    }

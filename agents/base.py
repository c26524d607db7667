"""What an agent is, and what the agents here share.

An agent has the ``predict`` of Stable-Baselines3, so that a trained SB3 policy is an agent and
SB3's ``evaluate_policy`` plays every agent of this package. Agents see observations and nothing
else; whatever they remember goes through ``state``, so one agent may play many episodes at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from progressgym_env.errors import InvalidArgumentError

__all__ = ["Agent", "Arrays", "BaseAgent", "Observation", "State"]

Observation: TypeAlias = Mapping[str, Any]
Arrays: TypeAlias = tuple[NDArray[Any], ...]
State: TypeAlias = Arrays | None


@runtime_checkable
class Agent(Protocol):
    """Anything with Stable-Baselines3's ``predict``."""

    def predict(
        self,
        observation: Any,
        state: State = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State]:
        """The action for an observation, and the state to hand back with the next one."""
        ...


class BaseAgent(ABC):
    """Batches, episode starts and state, so that an agent need only say how it acts.

    Attributes:
        name: the name to show in tables.
        reads: the entries of an observation that the agent needs besides ``preferences``.
    """

    name: str
    reads: tuple[str, ...] = ()

    def predict(
        self,
        observation: Observation,
        state: State = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], State]:
        """Act on one observation, or on a batch of them.

        Args:
            observation: as the environments give it, or with a leading axis of n_envs on every
                entry.
            state: what the previous call returned; None at the start, for all environments.
            episode_start: (n_envs,) of bool, whether an episode begins with this observation; its
                state is then forgotten. None: none begins.
            deterministic: for the interface; the agents here draw nothing, except the random one,
                which always does.

        Returns:
            The action, (n_pairs,) or (n_envs, n_pairs) float32 in [-1, 1], and the new state.

        Raises:
            InvalidArgumentError: an entry is missing or of another shape.
        """
        batch, batched = _as_batch(observation, ("preferences", *self.reads))
        n_envs, n_pairs = batch["preferences"].shape
        begins = _starts(episode_start, n_envs)
        fresh = self._initial_state(n_envs, n_pairs)
        if state is None:
            current = fresh
        else:
            _check_state(state, fresh)
            current = tuple(
                np.where(begins.reshape(-1, *[1] * (new.ndim - 1)), new, old)
                for new, old in zip(fresh, state, strict=True)
            )
        actions, following = self._act(batch, current)
        actions = np.clip(actions, -1.0, 1.0).astype(np.float32)
        return (actions if batched else actions[0]), following or None

    def _initial_state(self, n_envs: int, n_pairs: int) -> Arrays:
        """State at the start of an episode; every array has a leading axis of ``n_envs``."""
        return ()

    @abstractmethod
    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        """Actions (n_envs, n_pairs) and new state; ``state`` must not be changed in place."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def _as_batch(observation: object, reads: tuple[str, ...]) -> tuple[dict[str, NDArray[Any]], bool]:
    """The observation with a leading axis of n_envs on every entry, and whether it had one."""
    entries = observation if isinstance(observation, Mapping) else {}
    missing = [key for key in reads if key not in entries]
    if missing:
        found = list(entries) if entries is observation else type(observation).__name__
        raise InvalidArgumentError(
            f"the agent needs a Dict observation with {missing[0]!r}, got {found}; "
            "give it what the environment returns, not flattened"
        )
    arrays = {key: np.asarray(value) for key, value in entries.items()}
    shape = arrays["preferences"].shape
    if len(shape) not in (1, 2):
        raise InvalidArgumentError(
            f"'preferences' has shape {shape}; it must be (n_pairs,), or (n_envs, n_pairs) for a "
            "batch"
        )
    if len(shape) == 1:
        return {key: array[None] for key, array in arrays.items()}, False
    for key in reads:
        if arrays[key].shape[:1] != shape[:1]:
            raise InvalidArgumentError(
                f"{key!r} has shape {arrays[key].shape} and 'preferences' {shape}; in a batch, "
                f"every entry's first axis must be {shape[0]}"
            )
    return arrays, True


def _starts(episode_start: Any, n_envs: int) -> NDArray[np.bool_]:
    starts = np.asarray(False if episode_start is None else episode_start, dtype=bool)
    if starts.size not in (1, n_envs):
        raise InvalidArgumentError(
            f"episode_start has shape {starts.shape}; it must be ({n_envs},), one an environment"
        )
    return np.array(np.broadcast_to(starts.reshape(-1), (n_envs,)))


def _check_state(state: Arrays, fresh: Arrays) -> None:
    found, wanted = [np.shape(a) for a in state], [a.shape for a in fresh]
    if found != wanted:
        raise InvalidArgumentError(
            f"state has arrays of shapes {found}, expected {wanted}; hand back what predict "
            "returned, and None where the number of environments changes"
        )

"""What vector wrappers share: autoreset modes, partial resets, last observations of episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from progressgym_env.errors import InvalidArgumentError

__all__ = ["autoreset_mode", "map_final_obs", "reset_rows"]


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """How ``env`` begins new episodes.

    Raises:
        InvalidArgumentError: its metadata does not say.
    """
    declared = env.metadata.get("autoreset_mode")
    if not isinstance(declared, AutoresetMode):
        raise InvalidArgumentError(
            f"metadata['autoreset_mode'] of {env} is {declared!r}; it must be an AutoresetMode of "
            "gymnasium.vector, which says where an episode begins"
        )
    return declared


def reset_rows(options: Mapping[str, Any] | None) -> NDArray[np.bool_] | slice:
    """The environments that a reset with these options begins anew.

    To be asked before the reset: ``SyncVectorEnv`` takes the mask out of the caller's options.
    """
    mask = (options or {}).get("reset_mask")
    return slice(None) if mask is None else np.array(mask, dtype=np.bool_)


def map_final_obs(
    final_obs: NDArray[Any], change: Callable[[dict[str, Any], int], dict[str, Any]]
) -> NDArray[Any]:
    """``infos["final_obs"]`` with every observation changed; the original stays as it is.

    Args:
        final_obs: (n_envs,) of object: a dictionary where an episode ended, None elsewhere.
        change: maps an observation, and the row that it is of, to another.
    """
    changed = np.full(len(final_obs), None, dtype=object)
    for row, observation in enumerate(final_obs):
        if observation is not None:
            changed[row] = change(observation, row)
    return changed

"""Actions in the space of values: nineteen pushes instead of a number for every pair."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import SyncVectorEnv, VectorActionWrapper, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from progressgym_env.envs.progress import Action, Observation
from progressgym_env.errors import InvalidActionError, InvalidArgumentError
from progressgym_env.values.dimensions import DIMENSION_KEYS, N_DIMENSIONS
from progressgym_env.values.logits import pair_directions
from progressgym_env.values.questions import Pair, QuestionSet

__all__ = ["ValueAction", "VectorValueAction", "spread"]


def spread(
    push: ArrayLike, directions: ArrayLike, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Spread pushes of the dimensions over the training pairs that bear on them.

    A pair gets the mean push of the dimensions that its first option upholds, those that its
    second upholds counting negative; a world-view pair the push of one view minus that of the
    other. What leaves [-1, 1] is clipped.

    Args:
        push: (..., 19), each in [-1, 1]: positive to uphold a dimension more, negative less.
        directions: (n_pairs, 19), of ``values.logits.pair_directions``. Given as float32, it is
            not copied.
        out: (..., n_pairs) float32 to write the result into; None makes a new array.

    Returns:
        (..., n_pairs) float32 in [-1, 1]: an action, or a batch of them.

    Raises:
        InvalidArgumentError: an argument is of another shape.
    """
    pushes = np.asarray(push, dtype=np.float32)
    matrix = np.asarray(directions, dtype=np.float32)
    if pushes.shape[-1:] != (N_DIMENSIONS,) or matrix.shape[1:] != (N_DIMENSIONS,):
        raise InvalidArgumentError(
            f"push has shape {pushes.shape} and directions {matrix.shape}; they must be "
            f"(..., {N_DIMENSIONS}) and (n_pairs, {N_DIMENSIONS})"
        )
    wanted = (*pushes.shape[:-1], len(matrix))
    if out is not None and (out.shape != wanted or out.dtype != np.float32):
        raise InvalidArgumentError(
            f"out is {out.dtype} of shape {out.shape}; it must be float32 of shape {wanted}"
        )
    action: NDArray[np.float32] = np.matmul(pushes, matrix.T, out=out)
    return np.clip(action, -1.0, 1.0, out=action)


class ValueAction(gym.ActionWrapper[Observation, Action, Action], RecordConstructorArgs):
    """Takes nineteen numbers, one push a dimension, and spreads each over its pairs.

    The action space becomes ``Box(-1, 1, (19,), float32)``, in the order of ``DIMENSIONS``; see
    :func:`spread`. A push of ±0.2 is one copy of every pair that bears on the dimension alone.

    Args:
        env: an environment of this package whose actions are still one number a pair.

    Raises:
        InvalidArgumentError: it is no such environment.
    """

    def __init__(self, env: gym.Env[Observation, Action]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._directions = _directions(env, env.action_space)
        self.action_space = _push_space()

    def action(self, action: Action) -> NDArray[np.float32]:
        """The proposal that a push of (19,) stands for, (n_pairs,).

        Raises:
            InvalidActionError: the push is no member of the action space.
        """
        return spread(_checked(action, (N_DIMENSIONS,)), self._directions)


class VectorValueAction(VectorActionWrapper):
    """:class:`ValueAction` for vector environments: actions are (n_envs, 19).

    Args:
        env: a vector environment of this package, or a ``SyncVectorEnv`` of its environments. For
            an ``AsyncVectorEnv``, give ``wrappers=[ValueAction]`` to ``gym.make_vec`` instead.

    Raises:
        InvalidArgumentError: it is no such environment.
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self._directions = _directions(env, env.single_action_space)
        self.single_action_space = _push_space()
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: Action) -> NDArray[np.float32]:
        """The proposals that pushes of (n_envs, 19) stand for, (n_envs, n_pairs).

        Raises:
            InvalidActionError: a push is no member of the action space; the message names the
                environment and the dimension.
        """
        return spread(_checked(actions, (self.num_envs, N_DIMENSIONS)), self._directions)


def _push_space() -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (N_DIMENSIONS,), np.float32)


def _directions(
    env: gym.Env[Any, Any] | VectorEnv, action_space: spaces.Space[Any]
) -> NDArray[np.float32]:
    directions = pair_directions(_training_pairs(env)).astype(np.float32)
    pairs = spaces.Box(-1.0, 1.0, (len(directions),), np.float32)
    if action_space != pairs:
        raise InvalidArgumentError(
            f"actions of {env} lie in {action_space}, those of its {len(directions)} pairs in "
            f"{pairs}; wrap it before anything else changes its actions"
        )
    return directions


def _training_pairs(env: gym.Env[Any, Any] | VectorEnv) -> tuple[Pair, ...]:
    """The pairs of an environment of this package, or of a vector environment of them."""
    base: Any = env.unwrapped
    if isinstance(base, SyncVectorEnv):
        base = base.envs[0].unwrapped
    holder = base if hasattr(base, "questions") else getattr(base, "history", None)
    questions = getattr(holder, "questions", None)
    if not isinstance(questions, QuestionSet):
        raise InvalidArgumentError(
            f"{env} shows no training questions; wrap an environment of this package, a "
            "SyncVectorEnv of them, or, for an AsyncVectorEnv, give wrappers=[ValueAction] to "
            "gymnasium.make_vec"
        )
    return questions.pairs


def _checked(push: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        array = np.asarray(push)
    except (TypeError, ValueError) as error:
        raise InvalidActionError(f"the push is no array of numbers ({error})") from error
    if array.dtype.kind not in "fiu":
        raise InvalidActionError(
            f"the push has dtype {array.dtype}; give real numbers, best float32"
        )
    if array.shape != shape:
        raise InvalidActionError(
            f"the push has shape {array.shape}; it must be {shape}, one number a dimension"
        )
    allowed = (array >= -1) & (array <= 1)  # False for NaN
    if not allowed.all():
        place = np.unravel_index(int(np.argmin(allowed)), shape)
        where = f"environment {place[0]}, " if len(shape) > 1 else ""
        raise InvalidActionError(
            f"the push of {where}dimension {DIMENSION_KEYS[place[-1]]!r} is {array[place]}; every "
            f"push must be in [-1, 1] ({array.size - np.count_nonzero(allowed)} of {array.size} "
            "are not); use numpy.clip, and look for NaN"
        )
    return array.astype(np.float32, copy=False)

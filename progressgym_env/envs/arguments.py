"""Checks of what users hand to an environment: names of arguments and options, and actions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.errors import InvalidActionError, unknown_name

__all__ = ["check_action", "check_actions", "refuse_unknown_arguments", "refuse_unknown_options"]


def refuse_unknown_arguments(env_class: type[Any], unknown: Mapping[str, object]) -> None:
    """Raise for the first of ``unknown``, naming the arguments ``env_class`` knows.

    Raises:
        UnknownNameError: ``unknown`` holds anything.
    """
    for name in unknown:
        parameters = inspect.signature(env_class).parameters.values()
        known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        raise unknown_name("argument", name, known)


def refuse_unknown_options(options: Mapping[str, object] | None, known: Sequence[str]) -> None:
    """Raise for the first of the reset ``options`` that is not ``known``.

    Raises:
        UnknownNameError: naming the known ones.
    """
    for name in options or {}:
        if name not in known:
            raise unknown_name("reset option", name, known)


def check_action(action: object, n_pairs: int) -> NDArray[np.float64]:
    """``action`` as (n_pairs,) float64, every entry in [-1, 1].

    Raises:
        InvalidActionError: not numbers, another shape, NaN, infinite, or out of range; the
            message names the first offending entry.
    """
    try:
        array = np.asarray(action)
    except (TypeError, ValueError) as error:
        raise InvalidActionError(f"the action is no array of numbers ({error})") from error
    if array.dtype.kind not in "fiu":
        raise InvalidActionError(
            f"the action has dtype {array.dtype}; give real numbers, best float32"
        )
    if array.shape != (n_pairs,):
        raise InvalidActionError(
            f"the action has shape {array.shape}; it must be ({n_pairs},), one number a training "
            "pair (a batch of actions needs a vector environment)"
        )
    checked = array.astype(np.float64)
    bad = ~((checked >= -1.0) & (checked <= 1.0))  # also catches NaN
    if bad.any():
        index = int(np.argmax(bad))
        raise InvalidActionError(
            f"action[{index}] is {checked[index]}; every entry must be in [-1, 1] "
            f"({int(bad.sum())} of {n_pairs} are not); use numpy.clip, and look for NaN"
        )
    return checked


def check_actions(actions: object, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A batch of actions as float32 of this shape, every entry in [-1, 1].

    Raises:
        InvalidActionError: not numbers, another shape, NaN, infinite, or out of range; the
            message names the first bad row and entry.
    """
    try:
        array = np.asarray(actions)
    except (TypeError, ValueError) as error:
        raise InvalidActionError(f"the actions are no array of numbers ({error})") from error
    if array.dtype.kind not in "fiu" or array.shape != shape:
        raise InvalidActionError(
            f"the actions have shape {array.shape} and dtype {array.dtype}; they must be real "
            f"numbers of shape {shape}: a row an environment, a number a training pair"
        )
    # One pass over the extremes, which NaN is passed on to, and a second only to tell what is bad.
    low, high = array.min(), array.max()
    if not (low >= -1.0 and high <= 1.0):
        bad = ~((array >= -1.0) & (array <= 1.0))
        row, entry = (int(i) for i in np.argwhere(bad)[0])
        raise InvalidActionError(
            f"actions[{row}, {entry}] is {array[row, entry]}: row {row} is no action, every entry "
            f"must be in [-1, 1] ({int(bad.any(axis=1).sum())} of {shape[0]} rows are bad); use "
            "numpy.clip, and look for NaN"
        )
    return array.astype(np.float32, copy=False)

"""Checks of what users hand to the environments: arguments, reset options, actions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.errors import InvalidActionError, InvalidArgumentError, unknown_name

__all__ = [
    "check_action",
    "check_choice",
    "check_epochs",
    "check_integer",
    "refuse_unknown_arguments",
    "refuse_unknown_options",
]


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


def check_integer(name: str, value: object, low: int, high: int, why: str = "") -> int:
    """``value`` as an int in ``low`` to ``high``, both allowed.

    Raises:
        InvalidArgumentError: it is no integer, or out of range.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise InvalidArgumentError(f"{name}={value!r} must be an integer from {low} to {high}")
    if not low <= value <= high:
        raise InvalidArgumentError(f"{name}={value!r} must be from {low} to {high}{why}")
    return int(value)


def check_epochs(name: str, value: object) -> float:
    """``value`` as a finite float ≥ 0.

    Raises:
        InvalidArgumentError: it is no such number.
    """
    real = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool | np.bool_) or not real:
        raise InvalidArgumentError(f"{name}={value!r} must be a number, 0 or more")
    number = float(value)  # type: ignore[arg-type]  # narrowed by `real`
    if not math.isfinite(number) or number < 0:
        raise InvalidArgumentError(
            f"{name}={value!r} must be finite and 0 or more; 0 switches this influence off"
        )
    return number


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """``value`` if it is one of ``choices``.

    Raises:
        InvalidArgumentError: it is no text.
        UnknownNameError: it is none of them.
    """
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name}={value!r} must be one of {', '.join(choices)}")
    if value not in choices:
        raise unknown_name(name, value, choices)
    return value


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

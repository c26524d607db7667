"""Checks of arguments that users hand in: kind, range, and a message that says what to give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from progressgym_env.errors import InvalidArgumentError, unknown_name

__all__ = ["check_choice", "check_integer", "check_number"]


def check_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """``value`` as an int of at least ``low`` and, unless None, at most ``high``.

    Raises:
        InvalidArgumentError: it is no integer (True and False are none), or out of range.
    """
    allowed = f"{low} or more" if high is None else f"from {low} to {high}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise InvalidArgumentError(f"{name}={value!r} must be an integer, {allowed}")
    if value < low or (high is not None and value > high):
        raise InvalidArgumentError(f"{name}={value!r} must be {allowed}")
    return int(value)


def check_number(
    name: str, value: object, low: float, high: float | None = None, *, above: bool = False
) -> float:
    """``value`` as a finite float of at least ``low``, or strictly above it, and at most ``high``.

    Raises:
        InvalidArgumentError: it is no such number.
    """
    if above:
        allowed = f"a finite number above {low:g}" + ("" if high is None else f", up to {high:g}")
    elif high is None:
        allowed = f"a finite number, {low:g} or more"
    else:
        allowed = f"a finite number from {low:g} to {high:g}"
    error = InvalidArgumentError(f"{name}={value!r} must be {allowed}")
    if isinstance(value, bool | np.bool_):
        raise error
    if not isinstance(value, int | float | np.integer | np.floating):
        raise error
    number = float(value)
    if not math.isfinite(number) or number < low or (above and number == low):
        raise error
    if high is not None and number > high:
        raise error
    return number


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """``value`` if it is one of ``choices``.

    Raises:
        InvalidArgumentError: it is no text.
        UnknownNameError: it is none of them; the message names the nearest.
    """
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name}={value!r} must be one of {', '.join(choices)}")
    if value not in choices:
        raise unknown_name(name, value, choices)
    return value

"""What can go wrong, one error type a boundary.

Every message names the offending value, what is allowed, and the remedy. All of them are
``ProgressGymError``; each also is the built-in error a caller would expect to catch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "EngineError",
    "HistoryError",
    "InvalidActionError",
    "InvalidArgumentError",
    "MissingPackageError",
    "PolicyError",
    "ProgressGymError",
    "QuestionError",
    "RunFolderError",
    "UnknownNameError",
    "unknown_name",
]


class ProgressGymError(Exception):
    """Base of every error this package raises on purpose."""


class InvalidArgumentError(ProgressGymError, ValueError):
    """An argument is of the wrong kind or out of its range."""


class UnknownNameError(InvalidArgumentError):
    """A history, challenge, agent, update or argument that does not exist."""


class InvalidActionError(ProgressGymError, ValueError):
    """An action that is no member of the action space."""


class MissingPackageError(ProgressGymError, ImportError):
    """A package of an optional extra that is not installed; the message names the command."""


class QuestionError(ProgressGymError, ValueError):
    """A question file with a defect; the message names file, line and field."""


class HistoryError(ProgressGymError, ValueError):
    """A history folder that is incomplete, damaged or made for other questions."""


class PolicyError(ProgressGymError, ValueError):
    """A trained policy or checkpoint that is damaged, or made for something else."""


class EngineError(ProgressGymError, RuntimeError):
    """vLLM did not start, could not do what it was asked, or its process ended."""


class RunFolderError(ProgressGymError, ValueError):
    """A run folder that is incomplete, damaged, in use, of another run, or cannot be written."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a ``kind`` called ``name``: names the known ones and the nearest.

    Returned, not raised, so that the caller's ``raise`` shows where it happened.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return UnknownNameError(f"unknown {kind} {name!r}; known: {', '.join(names)}{hint}")

"""Challenges by short name: the three of this package, and those of other installed packages.

A package offers a challenge through an entry point of the group ``progressgym_env.challenges``,
whose name is the challenge's short name and whose value is its class, a subclass of
:class:`~progressgym_env.envs.progress.ProgressEnv`. Entry points are looked up when a name is asked
for, never on import, and a package is imported when its own name is.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from progressgym_env import CHALLENGES
from progressgym_env.envs.coevolve import CoevolveEnv
from progressgym_env.envs.follow import FollowEnv
from progressgym_env.envs.predict import PredictEnv
from progressgym_env.envs.progress import Action, Observation, ProgressEnv
from progressgym_env.errors import InvalidArgumentError, ProgressGymError, unknown_name

__all__ = [
    "CHALLENGE_GROUP",
    "PluginError",
    "challenge_class",
    "challenge_id",
    "challenge_origin",
    "challenges",
    "check_challenge",
    "installed_entry",
    "installed_names",
    "kind_of",
    "load_entry",
    "make_challenge",
    "offered",
    "origin_of",
    "takes_steps_ahead",
]

CHALLENGE_GROUP = "progressgym_env.challenges"
"""Group of the entry points that offer a challenge."""

_BUILT_IN: dict[str, type[ProgressEnv]] = {
    "follow": FollowEnv,
    "predict": PredictEnv,
    "coevolve": CoevolveEnv,
}
# Names go into paths, into environment ids and into lists that commas separate.
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


class PluginError(ProgressGymError, ValueError):
    """What another package offers through an entry point, and cannot be used as it is."""


def challenges() -> tuple[str, ...]:
    """Short names of all challenges: the built-in ones, then those of installed packages, sorted.

    Nothing is loaded, so a name may stand here whose package is broken; using it tells.
    """
    return (*_BUILT_IN, *installed_names(CHALLENGE_GROUP, _BUILT_IN))


def check_challenge(name: object) -> str:
    """``name`` if it is a challenge's, one that can be used.

    Raises:
        InvalidArgumentError: it is no text.
        UnknownNameError: there is no such challenge; the message names the nearest.
        PluginError: another package offers it, and it cannot be used.
    """
    _found(name)
    return str(name)


def challenge_class(name: str) -> type[ProgressEnv]:
    """The class of the challenge called ``name``.

    Raises:
        InvalidArgumentError: the name is no text.
        UnknownNameError: there is no such challenge; the message names the nearest.
        PluginError: its package does not load; or what it offers is no challenge, or one of another
            name; or its name is a built-in's, or offered by several packages.
    """
    return _found(name)[0]


def challenge_id(name: str) -> str:
    """The Gymnasium id of a challenge.

    That of another package's challenge is not registered: make it with :func:`make_challenge`.
    """
    found, entry = _found(name)
    return CHALLENGES[name] if entry is None else f"ProgressGym-{found.challenge}-v0"


def challenge_origin(name: str) -> str | None:
    """Name and version of the distribution that offers a challenge; None of a built-in one."""
    entry = _found(name)[1]
    return None if entry is None else origin_of(entry)


def make_challenge(name: str, **arguments: Any) -> gym.Env[Observation, Action]:
    """The environment of a challenge, as ``gymnasium.make`` makes it.

    Args:
        name: one of :func:`challenges`.
        arguments: of the environment, as its class documents them.

    Raises:
        UnknownNameError: there is no such challenge, or it has no such argument.
        PluginError: another package offers it, and it cannot be used.
    """
    found, entry = _found(name)
    if entry is None:
        return gym.make(CHALLENGES[name], **arguments)
    # As text, so that the specification can be written down; Gymnasium reads no dotted attributes.
    place = found if "." in entry.attr else f"{entry.module}:{entry.attr}"
    return gym.make(EnvSpec(challenge_id(name), entry_point=place), **arguments)


def kind_of(challenge: str | type[ProgressEnv]) -> str | None:
    """The built-in challenge that a name or class is, or from whose class it is derived.

    Whoever plays by the rules of a built-in challenge (the oracle, the shipped policies) can play
    all of its kind. None: the challenge is of a kind of its own.
    """
    found = challenge if isinstance(challenge, type) else challenge_class(challenge)
    return next((kind for kind, base in _BUILT_IN.items() if issubclass(found, base)), None)


def takes_steps_ahead(name: str) -> bool:
    """Whether the challenge has the argument ``steps_ahead``."""
    for base in challenge_class(name).__mro__:
        own = vars(base).get("__init__")
        if own is None:
            continue
        parameters = inspect.signature(own).parameters
        if "steps_ahead" in parameters:
            return True
        # Further up only what is handed on can arrive.
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return False
    return False


# What other packages offer, whatever it is


def installed_names(group: str, built_in: Collection[str]) -> tuple[str, ...]:
    """Names of the entry points of ``group``, sorted, without those that are built in."""
    return tuple(sorted({entry.name for entry in _entries(group)} - {*built_in}))


def installed_entry(
    kind: str, group: str, name: str, built_in: Collection[str]
) -> metadata.EntryPoint | None:
    """The entry point of ``group`` called ``name``; None where there is none.

    Args:
        kind: what it offers, for messages.
        group: of the entry points.
        name: of the entry point.
        built_in: names that nobody else may use.

    Raises:
        PluginError: the name is a built-in's, or no legal one, or several packages offer it.
    """
    entries = [entry for entry in _entries(group) if entry.name == name]
    if not entries:
        return None
    if name in built_in:
        raise PluginError(
            f"{offered(kind, entries[0])} has the name of a built-in {kind}; give its entry point "
            f"another name, or run: pip uninstall {_distribution(entries[0])}"
        )
    if len(entries) > 1:
        raise PluginError(
            f"{kind} {name!r} is offered by {' and '.join(sorted(map(origin_of, entries)))}; "
            "uninstall all but one, or give them different names"
        )
    if not _NAME.fullmatch(name):
        raise PluginError(
            f"{offered(kind, entries[0])} has no legal name; give its entry point one of "
            "lower-case letters, digits, '-', '_' and '.', a letter or a digit first"
        )
    return entries[0]


def load_entry(kind: str, entry: metadata.EntryPoint) -> Any:
    """What an entry point stands for.

    Raises:
        PluginError: it cannot be imported.
    """
    try:
        return entry.load()
    except Exception as error:
        raise PluginError(
            f"{offered(kind, entry)} does not load ({type(error).__name__}: {error}); the value "
            "must be module:attribute, and the module one that imports; repair the package, or "
            f"run: pip uninstall {_distribution(entry)}"
        ) from error


def offered(kind: str, entry: metadata.EntryPoint) -> str:
    """An entry point for messages: what it offers, where it comes from, and its value."""
    return f"{kind} {entry.name!r} of the package {origin_of(entry)} ({entry.value!r})"


def origin_of(entry: metadata.EntryPoint) -> str:
    """Name and version of the distribution of an entry point."""
    return "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _entries(group: str) -> tuple[metadata.EntryPoint, ...]:
    """All entry points of a group; read anew when a place where packages lie has changed."""
    places = []
    for place in sys.path:
        # What is no folder, or is gone, holds no package.
        with suppress(OSError):
            places.append((place, os.stat(place or ".").st_mtime_ns))
    return _read_entries(group, tuple(places))


@lru_cache(maxsize=8)
def _read_entries(
    group: str, places: tuple[tuple[str, int], ...]
) -> tuple[metadata.EntryPoint, ...]:
    # A benchmark asks for names thousands of times, and reading takes milliseconds.
    return tuple(metadata.entry_points(group=group))


def _distribution(entry: metadata.EntryPoint) -> str:
    return "unknown" if entry.dist is None else entry.dist.name


def _found(name: object) -> tuple[type[ProgressEnv], metadata.EntryPoint | None]:
    """The class of a challenge, and the entry point that it comes from unless it is built in."""
    if not isinstance(name, str):
        raise InvalidArgumentError(
            f"challenge={name!r} must be a name, one of {', '.join(challenges())}"
        )
    entry = installed_entry("challenge", CHALLENGE_GROUP, name, _BUILT_IN)
    if entry is not None:
        return _checked(entry, load_entry("challenge", entry)), entry
    if name not in _BUILT_IN:
        raise unknown_name("challenge", name, challenges())
    return _BUILT_IN[name], None


def _checked(entry: metadata.EntryPoint, found: object) -> type[ProgressEnv]:
    """``found`` if it is a challenge of the name that its entry point says."""
    who = offered("challenge", entry)
    if not (isinstance(found, type) and issubclass(found, ProgressEnv)):
        raise PluginError(
            f"{who} is {found!r}, which is no subclass of "
            "progressgym_env.envs.progress.ProgressEnv; name the class of an environment that is"
        )
    title = getattr(found, "challenge", None)
    if not isinstance(title, str) or title.lower() != entry.name:
        raise PluginError(
            f"{who} calls itself {title!r}; its class must have a text `challenge` that reads "
            f"{entry.name!r} in lower case, for instance challenge = {entry.name.capitalize()!r}, "
            "or the entry point another name"
        )
    for method in ("_reward", "score_of"):
        if inspect.getattr_static(found, method) is vars(ProgressEnv)[method]:
            raise PluginError(
                f"{who} has no {method} of its own; define what a step pays (_reward) and what an "
                "episode scores (score_of), or derive the class from FollowEnv, PredictEnv or "
                "CoevolveEnv, which do"
            )
    return found

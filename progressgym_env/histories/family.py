"""Families of invented histories: how values move when they are drawn at random.

A path of one dimension, in logits, is a start plus up to two transitions (logistic steps: slow
ones are drifts, middling ones S-curves, steep ones breaks), plus a random walk with momentum, plus
a share of what its leader did some centuries before, plus the tide of
its group, a path that all its members share. All of it is bounded, as probabilities are.

Three things make tomorrow more than a straight line from today, as in real change of values:
S-curves saturate; a break announces itself, by a step against its own direction in the century
before; and some dimensions lead others. The curves are invented and claim nothing about history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.arguments import check_number
from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.models.laws import LIMIT
from progressgym_env.values.dimensions import N_DIMENSIONS, dimension_index

__all__ = ["FAMILIES", "LEADERS", "Family", "n_normals", "n_uniforms", "paths", "resolve_family"]

LEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fairness": ("freedom", "kill", "cheat"),
        "care": ("pain", "disable"),
        "authority": ("loyalty", "duty", "law"),
        "purity": ("pleasure", "promise"),
    }
)
"""Dimension → the dimensions that may follow it, some centuries later."""

TIDES: tuple[tuple[str, ...], ...] = (
    ("kill", "pain", "disable", "freedom", "pleasure", "law", "care", "fairness"),
    ("deceive", "cheat", "promise", "duty", "loyalty", "authority", "purity"),
)
"""Dimensions that move together, as far as a family has tides."""

_SHARES = ("change", "breaks", "curves", "reversals", "leads", "momentum")

_LEADER_OF = {
    dimension_index(follower): (group, dimension_index(leader))
    for group, (leader, followers) in enumerate(LEADERS.items())
    for follower in followers
}
_FOLLOWERS = np.array(list(_LEADER_OF))
_GROUPS = np.array([group for group, _ in _LEADER_OF.values()])
_LED_BY = np.array([leader for _, leader in _LEADER_OF.values()])

_TIDE_OF = np.full(N_DIMENSIONS, -1)
for _number, _members in enumerate(TIDES):
    _TIDE_OF[[dimension_index(key) for key in _members]] = _number
# Paths of their own: every dimension, and the tides.
_N_PATHS = N_DIMENSIONS + len(TIDES)

# Per path: start, goal, depth of the return; and change?, kind, centre, width, return?, when.
_NORMALS, _UNIFORMS = 3, 6
_LEAD_UNIFORMS = 3  # Per group: active?, lag, strength.


@dataclass(frozen=True, kw_only=True)
class Family:
    """Parameters of a family; shares and chances are in [0, 1], the rest in logits or centuries.

    Attributes:
        level: how far from the middle values start and go: from one side to the other, > 0.
        change: chance that a dimension makes a transition at all.
        breaks: share of transitions that are breaks (a fraction of a century wide).
        curves: share of transitions that are S-curves (a few centuries wide); the rest are drifts.
        reversals: chance that a transition is taken back later, by half or more.
        herald: step against the direction of a break in the century before, as a share of it.
        tides: how far the dimensions of a group move together, ≥ 0.
        shock: size of the random walk's steps, ≥ 0.
        momentum: how much of a step of the random walk lasts into the next, in [0, 1).
        leads: chance that a leader is followed.
        follow: how far followers go with their leader, as a share, ≥ 0.
        bound: what a path without its heralds stays within, > 0. The herald of a break may pass
            it; nothing passes ``LIMIT``.
    """

    level: float = 1.5
    change: float = 1.0
    breaks: float = 0.15
    curves: float = 0.45
    reversals: float = 0.1
    herald: float = 0.3
    tides: float = 0.2
    shock: float = 0.02
    momentum: float = 0.6
    leads: float = 0.6
    follow: float = 0.5
    bound: float = 1.6

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            above = entry.name in ("level", "bound")
            high = 1.0 if entry.name in _SHARES else None
            number = check_number(entry.name, value, 0.0, high, above=above)
            object.__setattr__(self, entry.name, number)
        if self.momentum == 1:
            raise InvalidArgumentError("momentum=1.0 must be below 1")
        if self.breaks + self.curves > 1:
            raise InvalidArgumentError(
                f"breaks={self.breaks} and curves={self.curves} are shares of all transitions; "
                "their sum must be 1 at most (the rest are drifts)"
            )


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "varied": Family(),
        "linear": Family(breaks=0, curves=0, reversals=0, herald=0, shock=0, leads=0),
        "curves": Family(breaks=0, curves=1, reversals=0, leads=0),
        "breaks": Family(breaks=1, curves=0, reversals=0, leads=0),
        "leads": Family(change=0.7, reversals=0, leads=1),
        "reversals": Family(breaks=0.2, curves=0.8, reversals=1, leads=0),
        "still": Family(change=0, tides=0, shock=0.04, leads=0),
    }
)
"""Families by name; ``"varied"`` mixes all kinds of change and is the default."""


def resolve_family(family: str | Mapping[str, float] | Family) -> Family:
    """The family of this name, with these parameters, or ``family`` itself.

    Raises:
        UnknownNameError: there is no such family or parameter.
        InvalidArgumentError: a parameter is out of range, or ``family`` is something else.
    """
    if isinstance(family, Family):
        return family
    if isinstance(family, str):
        if family not in FAMILIES:
            raise unknown_name("family", family, FAMILIES)
        return FAMILIES[family]
    if not isinstance(family, Mapping):
        raise InvalidArgumentError(
            f"family={family!r} must be a name ({', '.join(FAMILIES)}), a mapping of parameters, "
            "or a Family"
        )
    known = [entry.name for entry in fields(Family)]
    for name in family:
        if name not in known:
            raise unknown_name("parameter of a family", name, known)
    return Family(**family)


def n_normals() -> int:
    """Standard normal numbers that one history takes."""
    return _N_PATHS * _NORMALS


def n_uniforms(n_centuries: int) -> int:
    """Uniform numbers that one history takes."""
    walks = N_DIMENSIONS * (n_centuries - 1)
    return _N_PATHS * _UNIFORMS + N_DIMENSIONS + len(LEADERS) * _LEAD_UNIFORMS + walks


def paths(
    family: Family,
    n_centuries: int,
    normals: NDArray[np.float32],
    uniforms: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Logits of histories, made of random numbers.

    Args:
        family: the parameters.
        n_centuries: T, length of the histories.
        normals: (n, ``n_normals()``) standard normal.
        uniforms: (n, ``n_uniforms(T)``) in [0, 1).

    Returns:
        (n, T, 19) float32: log-odds of two-way dimensions, log-weights of world views.
    """
    parts = normals.reshape(-1, _NORMALS, _N_PATHS)
    start, goal, depth = np.ascontiguousarray(parts.swapaxes(0, 1))
    cuts = np.cumsum([_N_PATHS * _UNIFORMS, N_DIMENSIONS, len(LEADERS) * _LEAD_UNIFORMS])
    chances, loadings, leads, shocks = np.split(uniforms, cuts, axis=1)
    chances = np.ascontiguousarray(chances.reshape(-1, _UNIFORMS, _N_PATHS).swapaxes(0, 1))
    leads = leads.reshape(-1, len(LEADERS), _LEAD_UNIFORMS)
    shocks = shocks.reshape(-1, n_centuries - 1, N_DIMENSIONS)

    # Century after century, so that what is worked on at a time stays in the cache.
    own, (rows, times, members, sizes) = _transitions(
        family, n_centuries, start, goal, depth, chances
    )
    paths_in_time = np.ascontiguousarray(own[:, :, :N_DIMENSIONS])
    _add_tides(family, paths_in_time, own[:, :, N_DIMENSIONS:], loadings)
    _add_walk(family, paths_in_time, shocks)
    _add_followers(family, paths_in_time, leads)
    logits = np.empty((len(normals), n_centuries, N_DIMENSIONS), dtype=np.float32)
    for t, century in enumerate(paths_in_time):
        century /= np.float32(family.bound)
        np.tanh(century, out=century)
        np.multiply(century, np.float32(family.bound), out=logits[:, t])
    # Last, so that no bound hides them.
    logits[rows, times, members] -= sizes
    return np.clip(logits, -LIMIT, LIMIT, out=logits)


def _transitions(
    family: Family,
    n_centuries: int,
    start: NDArray[np.float32],
    goal: NDArray[np.float32],
    depth: NDArray[np.float32],
    chances: NDArray[np.float32],
) -> tuple[NDArray[np.float32], tuple[NDArray[Any], ...]]:
    """(T, n, paths): starts and transitions; and where heralds of breaks take how much away."""
    changes, kind, centre, width, returns, when = chances
    last = n_centuries - 1
    is_break = kind < family.breaks
    is_curve = ~is_break & (kind < family.breaks + family.curves)
    widths = np.where(is_break, 0.08, np.where(is_curve, 0.5 + 0.7 * width, 1.3 + 1.2 * width))
    # What takes long is in the middle of history, so that most of it is seen.
    reach = np.where(is_break, last - 1.0, np.where(is_curve, 0.75 * last, 0.3 * last))
    centres = 0.5 * last + reach * (centre - 0.5)
    # A break falls between two centuries, so that it is seen whole at once.
    centres = np.where(is_break, np.floor(centres) + 0.5, centres).astype(np.float32)
    half = (0.5 / widths).astype(np.float32)
    side = np.copysign(np.float32(0.75), start)
    starts = family.level * (side + 0.35 * start)
    size = (family.level * (0.3 * goal - side) - starts) * (changes < family.change)
    share = size * (0.75 + 0.25 * np.tanh(depth)) * (returns < family.reversals)
    later = centres + 2.0 + 2.0 * when
    logits = np.empty((n_centuries, *size.shape), dtype=np.float32)
    first, first_later = np.tanh(-centres * half), np.tanh(-later * half)
    for t, century in enumerate(logits):
        np.multiply(_risen(t, centres, half, first), size, out=century)
        century -= share * _risen(t, later, half, first_later)
        century += starts
    row, path = np.nonzero(is_break[:, :N_DIMENSIONS])
    century = (centres[row, path] - 0.5).astype(np.intp)
    return logits, (row, century, path, np.float32(family.herald) * size[row, path])


def _risen(
    time: int,
    centres: NDArray[np.float32],
    half: NDArray[np.float32],
    first: NDArray[np.float32],
) -> NDArray[np.float32]:
    """How much of a logistic step, 1/(2 ``half``) wide, is made since the first century."""
    steps = np.subtract(np.float32(time), centres)
    steps *= half
    np.tanh(steps, out=steps)
    steps -= first
    steps *= np.float32(0.5)
    return steps


def _add_tides(
    family: Family,
    logits: NDArray[np.float32],
    tides: NDArray[np.float32],
    loadings: NDArray[np.float32],
) -> None:
    """A dimension goes with its tide, more or less far."""
    share = (np.float32(0.5) + loadings) * np.float32(family.tides)
    share *= _TIDE_OF >= 0
    for century, tide in zip(logits[1:], tides[1:], strict=True):
        century += share * (tide - tides[0])[:, _TIDE_OF]


def _add_walk(family: Family, logits: NDArray[np.float32], shocks: NDArray[np.float32]) -> None:
    # Uniform steps whose standard deviation is the family's.
    size = np.float32(family.shock * 12**0.5)
    velocity = np.zeros_like(logits[0])
    position = np.zeros_like(velocity)
    for t, century in enumerate(logits[1:]):
        velocity *= np.float32(family.momentum)
        velocity += size * (shocks[:, t] - np.float32(0.5))
        position += velocity
        century += position


def _add_followers(family: Family, logits: NDArray[np.float32], leads: NDArray[np.float32]) -> None:
    """A follower goes its leader's way one or two centuries later, and half of its own."""
    active = leads[:, :, 0] < family.leads
    strength = np.where(active, family.follow * (0.6 + 0.4 * leads[:, :, 2]), 0.0)[:, _GROUPS]
    strength = strength.astype(np.float32)
    is_late = (leads[:, :, 1] < 0.5)[:, _GROUPS]
    kept = 1 - np.float32(0.5) * (strength > 0)
    leaders = logits[:, :, _LED_BY]
    leaders -= leaders[0].copy()
    leaders *= strength
    start = logits[0][:, _FOLLOWERS]
    for t in range(1, len(logits)):
        own = logits[t][:, _FOLLOWERS] - start
        own *= kept
        own += start
        own += np.where(is_late, leaders[t - 1], leaders[max(t - 2, 0)])
        logits[t][:, _FOLLOWERS] = own

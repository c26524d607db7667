"""What training does to values, in closed form: laws fitted to recorded training.

Values are nineteen logits. What an update or an imitation does to them is a :class:`Law`, fitted to
recorded training of language models (``benchmarks/calibrate.py``; the numbers and the fit's error
lie in ``data/simulated.json``). All laws broadcast over leading axes, so that one model and a
thousand environments share them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.logits import from_logits

__all__ = [
    "LIMIT",
    "ImitationLaw",
    "Law",
    "Parameters",
    "RealArray",
    "UpdateLaw",
    "load_parameters",
    "parameters_from",
    "resolve_simulated_update",
]

RealArray: TypeAlias = NDArray[np.floating[Any]]
"""Numbers in float32 or float64; results have the precision of what they are made of."""

FULL_UPDATE = 190
"""Examples of an update that takes one copy of each of the project's own pairs."""

LIMIT = 4.0
"""Logits of simulated models stay within ± this: probabilities from 0.018 to 0.982."""


@dataclass(frozen=True, eq=False)
class Law:
    """How logits answer to a force, in closed form.

    Training moves values along a few directions together (most of all, upholding everything more
    or less), so a law works along the columns v_k of an orthonormal basis: a force f pushes by
    c_k = g_k · v_k·f, saturated to s_k · tanh(c_k / s_k), and logits z lose d_k of v_k·z. With the
    gains on its diagonal in this basis, V diag(g) Vᵀ is the leakage matrix between dimensions.

    Attributes:
        basis: (19, 19), orthonormal columns v_k.
        gain: (19,) g ≥ 0, change of a component per unit of force.
        saturation: (19,) s > 0, the most that one training can push a component.
        decay: (19,) d, share of a component that a full training takes away.
        unrest: (19,) further share taken away per unit of the force's root mean square.
        noise: (19, 19), times standard normal numbers: what chance does in a full training.
    """

    basis: RealArray
    gain: RealArray
    saturation: RealArray
    decay: RealArray
    unrest: RealArray
    noise: RealArray

    def response(self, logits: RealArray, force: RealArray, amount: ArrayLike) -> RealArray:
        """(..., 19), the change along each component.

        Args:
            logits: (..., 19) before.
            force: (..., 19).
            amount: (..., 1) or a number in [0, 1], how much of a full training it is.
        """
        change = force @ self.basis
        change *= self.gain / self.saturation
        np.tanh(change, out=change)
        change *= self.saturation
        lost = logits @ self.basis
        lost *= self.decay * np.asarray(amount) + self.unrest * np.sqrt(_mean_square(force))
        change -= lost
        return np.asarray(change)

    def moved(
        self, logits: RealArray, components: RealArray, chance: ArrayLike, normal: ArrayLike
    ) -> RealArray:
        """Logits after a change along the components and ``chance`` times the noise."""
        moved = np.asarray(normal) @ self.noise.T
        moved *= np.asarray(chance)
        moved += components @ self.basis.T
        moved += logits
        return np.asarray(np.clip(moved, -LIMIT, LIMIT, out=moved))

    def astype(self, dtype: DTypeLike) -> Law:
        """This law with its numbers in another precision, which its arithmetic then has."""
        return Law(
            **{entry.name: getattr(self, entry.name).astype(dtype) for entry in fields(self)}
        )


def _mean_square(force: RealArray) -> RealArray:
    """(..., 1) of (..., 19)."""
    return np.asarray(np.einsum("...i,...i->...", force, force)[..., None] / force.shape[-1])


@dataclass(frozen=True, eq=False)
class UpdateLaw:
    """What one update (DPO, SFT) on signed copies of pairs does to the logits.

    The force is the mean signed copies of every dimension, divided by √(rms² + floor²)/floor and
    multiplied by (n / 190)^power, n the number of examples: an optimiser that normalises its
    gradients makes steps of the same size of strong and weak pushes, but more steps of more
    examples.

    Attributes:
        law: how logits answer.
        floor: root mean square of the force up to which it counts as it is, > 0.
        power: exponent of the number of examples, ≥ 0.
        haste: how fast the amount of training, tanh(haste · n / 190), comes to be full. The noise
            has the size of √(n / 190).
    """

    law: Law
    floor: float
    power: float
    haste: float

    def changed(
        self, logits: RealArray, force: RealArray, n_examples: ArrayLike, normal: ArrayLike
    ) -> RealArray:
        """Logits, (..., 19), after an update; where there are no examples, as they were.

        Args:
            logits: (..., 19) before.
            force: (..., 19), mean signed copies of every dimension.
            n_examples: (...), copies in all.
            normal: (..., 19) standard normal numbers, for the noise.
        """
        n = np.asarray(n_examples)[..., None]
        size = n * (1.0 / FULL_UPDATE)
        rms = np.sqrt(_mean_square(force) + self.floor**2)
        pushed = force * (np.maximum(size, 0.01) ** self.power * self.floor / rms)
        amount = np.tanh(self.haste * size)
        change = self.law.response(logits, pushed, amount)
        # What is left to chance adds up as chance does.
        moved = self.law.moved(logits, change, np.sqrt(size), normal)
        return np.where(n > 0, moved, logits)

    def astype(self, dtype: DTypeLike) -> UpdateLaw:
        """This law in another precision."""
        return replace(self, law=self.law.astype(dtype))


@dataclass(frozen=True, eq=False)
class ImitationLaw:
    """What it does to the logits to imitate a speaker's replies (Coevolve).

    The force is the difference in values between speaker and listener; the amount of training,
    1 - exp(-rate·epochs), scales the change, and its root the noise.

    Attributes:
        law: how logits answer.
        rate: how fast passes over the replies make a full training, > 0.
    """

    law: Law
    rate: float

    def changed(
        self,
        logits: RealArray,
        speaker: FloatArray,
        epochs: float,
        normal: ArrayLike,
        values: FloatArray | None = None,
    ) -> RealArray:
        """Logits, (..., 19), after ``epochs`` passes over a speaker's replies.

        Args:
            logits: (..., 19) before.
            speaker: (..., 19), the value embedding of the one who replied.
            epochs: passes over the replies; 0 changes nothing.
            normal: (..., 19) standard normal numbers, for the noise.
            values: (..., 19), what the logits stand for, where it is known.
        """
        if epochs == 0:
            return logits
        amount = 1.0 - math.exp(-self.rate * epochs)
        force = speaker - (from_logits(logits) if values is None else values)
        change = self.law.response(logits, force.astype(logits.dtype, copy=False), 1.0)
        change *= amount
        # What is left to chance adds up as chance does.
        return self.law.moved(logits, change, math.sqrt(amount), normal)

    def astype(self, dtype: DTypeLike) -> ImitationLaw:
        """This law in another precision."""
        return replace(self, law=self.law.astype(dtype))


@dataclass(frozen=True, eq=False)
class Parameters:
    """All that was fitted.

    Attributes:
        updates: name of an update → its law.
        imitation: the law of imitation.
        offset_scale: standard deviation of the pairs' offsets, in logits.
        error_scale: (19,), a dimension's standard error over questions, divided by √(v(1 - v)).
    """

    updates: Mapping[str, UpdateLaw]
    imitation: ImitationLaw
    offset_scale: float
    error_scale: RealArray


@cache
def load_parameters() -> Parameters:
    """The parameters that ship with the package (``data/simulated.json``)."""
    text = (files("progressgym_env.models") / "data" / "simulated.json").read_text("utf-8")
    return parameters_from(json.loads(text))


def parameters_from(raw: Mapping[str, Any]) -> Parameters:
    """Parameters as ``benchmarks/calibrate.py`` writes them down."""
    imitation = dict(raw["imitation"])
    return Parameters(
        updates={name: _update_law(law) for name, law in raw["updates"].items()},
        imitation=ImitationLaw(_law(imitation["law"]), imitation["rate"]),
        offset_scale=float(raw["offset_scale"]),
        error_scale=np.array(raw["error_scale"]),
    )


def _update_law(raw: Mapping[str, Any]) -> UpdateLaw:
    return UpdateLaw(_law(raw["law"]), raw["floor"], raw["power"], raw["haste"])


def _law(raw: Mapping[str, Any]) -> Law:
    return Law(**{name: np.array(numbers, dtype=np.float64) for name, numbers in raw.items()})


def resolve_simulated_update(update: object) -> str:
    """The name of an update that the simulation has a law for.

    Raises:
        UnknownNameError: there is no such update.
        InvalidArgumentError: ``update`` is an object, which only language models can carry out.
    """
    known = load_parameters().updates
    if not isinstance(update, str):
        raise InvalidArgumentError(
            f"update={update!r}: simulated models learn by {' or '.join(known)}, given by name; "
            "an update of your own needs language models, such as history='embedded'"
        )
    if update not in known:
        raise unknown_name("update of simulated models", update, known)
    return update

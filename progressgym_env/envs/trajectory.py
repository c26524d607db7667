"""What happened in an episode so far, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from progressgym_env.values.embedding import FloatArray

__all__ = ["Trajectory"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """An episode up to the present century; nothing later is in it.

    Row i of every value array belongs to century ``centuries[i]``. The examinee and the proxy
    have a row once the step of that century is done, so while an episode runs they are one row
    behind the judge.

    Attributes:
        names: names of all centuries of the history.
        centuries: (n_reached,) int64, indices of the centuries reached: 0 to the present one.
        judge_values: (n_reached, 19), the people of those centuries as history has them (in
            Coevolve too, where the judge that the agent sees is the proxy).
        examinee_values: (n_done + 1, 19), the examinee at the start and after each step.
        proxy_values: (n_done + 1, 19), the human proxy likewise; None outside Coevolve.
        rewards: (n_done,), one a step.
    """

    names: tuple[str, ...]
    centuries: NDArray[np.int64]
    judge_values: FloatArray
    examinee_values: FloatArray
    proxy_values: FloatArray | None
    rewards: FloatArray

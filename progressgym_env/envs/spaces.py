"""The spaces of an observation and an action, shared by single and vector environments."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from progressgym_env.envs.dialogue import DIALOGUE_WIDTH
from progressgym_env.values.dimensions import N_DIMENSIONS

__all__ = ["MAX_DIALOGUE_SAMPLES", "action_space", "observation_space"]

MAX_DIALOGUE_SAMPLES = 16


def observation_space(n_centuries: int, n_pairs: int, dialogue_samples: int) -> spaces.Dict:
    """What one environment shows: a ``Dict`` of flat boxes (DESIGN: environments)."""
    return spaces.Dict(
        {
            "century": spaces.Discrete(n_centuries),
            "judge_values": spaces.Box(0.0, 1.0, (N_DIMENSIONS,), np.float32),
            "examinee_values": spaces.Box(0.0, 1.0, (N_DIMENSIONS,), np.float32),
            "preferences": spaces.Box(-1.0, 1.0, (n_pairs,), np.float32),
            "dialogue": spaces.Box(0, 255, (dialogue_samples, DIALOGUE_WIDTH), np.uint8),
        }
    )


def action_space(n_pairs: int) -> spaces.Box:
    """One number a training pair, in [-1, 1]."""
    return spaces.Box(-1.0, 1.0, (n_pairs,), np.float32)

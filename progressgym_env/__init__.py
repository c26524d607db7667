"""ProgressGym as Gymnasium environments: alignment with values that move.

``import progressgym_env`` registers ``ProgressGym/Follow-v0``, ``ProgressGym/Predict-v0`` and
``ProgressGym/Coevolve-v0``, and does nothing else: no model is loaded, torch is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gymnasium.envs.registration import register

__all__ = ["CHALLENGES", "__version__"]

__version__ = "0.1.0"

CHALLENGES: Mapping[str, str] = MappingProxyType(
    {
        "follow": "ProgressGym/Follow-v0",
        "predict": "ProgressGym/Predict-v0",
        "coevolve": "ProgressGym/Coevolve-v0",
    }
)
"""Short name of every challenge → its Gymnasium id."""

# No max_episode_steps: an episode ends with its history, which is `terminated`.
for _name, _id in CHALLENGES.items():
    register(
        id=_id,
        entry_point=f"progressgym_env.envs.{_name}:{_name.capitalize()}Env",
        vector_entry_point=f"progressgym_env.envs.vector:{_name.capitalize()}VectorEnv",
    )

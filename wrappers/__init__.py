"""Wrappers: for actions, observations, rewards, Stable-Baselines3 and Weights & Biases.

What needs Stable-Baselines3 lies in :mod:`.sb3`, what logs to Weights & Biases in
:mod:`.wandb_logger`, :mod:`.wandb_sink` and :mod:`.wandb_curves`.
"""

from progressgym_env.wrappers.drop_dialogue import DropDialogue, VectorDropDialogue
from progressgym_env.wrappers.skill_reward import SkillReward
from progressgym_env.wrappers.text_dialogue import TextDialogue
from progressgym_env.wrappers.value_action import ValueAction, VectorValueAction
from progressgym_env.wrappers.value_history import ValueHistory, VectorValueHistory
from progressgym_env.wrappers.wandb_logger import WandbLogger

__all__ = [
    "DropDialogue",
    "SkillReward",
    "TextDialogue",
    "ValueAction",
    "ValueHistory",
    "VectorDropDialogue",
    "VectorValueAction",
    "VectorValueHistory",
    "WandbLogger",
]

"""What all stages of a build share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from progressgym_env.histories.text.passages import TEXT_FOLDER
from progressgym_env.histories.text.recipe import Recipe
from progressgym_env.histories.text.stages import Stages

__all__ = ["STAGES", "Context", "Progress"]

Progress = Callable[[str, int, int], None]

STAGES = "stages"
"""The folder that a build writes down in what it has done."""


@dataclass(frozen=True)
class Context:
    """One build.

    Attributes:
        recipe: what is built.
        out: the history's folder.
        device: where models are trained and measured.
        tell: told (stage, steps done, steps in all).
    """

    recipe: Recipe
    out: Path
    device: str
    tell: Progress

    @property
    def text(self) -> Path:
        """The folder of the text."""
        return self.out / TEXT_FOLDER

    @property
    def stages(self) -> Stages:
        """What is done."""
        return Stages(self.out / STAGES)

    def stream(self, name: str) -> np.random.Generator:
        """The random numbers of one stage: its name and the seed decide them, nothing else."""
        return np.random.default_rng([self.recipe.seed, *name.encode()])

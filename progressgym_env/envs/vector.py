"""The three challenges as vector environments: what they pay, for many episodes at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from progressgym_env.arguments import check_integer, check_number
from progressgym_env.envs.progress_vector import ProgressVectorEnv
from progressgym_env.envs.simulated_batch import Rows, at
from progressgym_env.envs.worlds import Influence
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.models.engines import VllmSettings
from progressgym_env.scoring import dot, suffix_mean, unit
from progressgym_env.values.choosing import Questions
from progressgym_env.values.embedding import FloatArray

__all__ = ["CoevolveVectorEnv", "FollowVectorEnv", "PredictVectorEnv", "ProgressVectorEnv"]


class FollowVectorEnv(ProgressVectorEnv):
    """Many episodes of ``ProgressGym/Follow-v0``; see its class, ``FollowEnv``."""

    challenge: ClassVar[str] = "Follow"

    def _paid(self, rows: Rows, examinee: FloatArray, century: NDArray[np.intp]) -> FloatArray:
        target = at(self._units[rows], century)
        return dot(unit(examinee), target) / self.n_steps


class PredictVectorEnv(ProgressVectorEnv):
    """Many episodes of ``ProgressGym/Predict-v0``; see its class, ``PredictEnv``.

    Args:
        steps_ahead: how many centuries ahead to be, 1 or more.
    """

    challenge: ClassVar[str] = "Predict"

    def __init__(
        self,
        num_envs: int = 1,
        history: str | Path | History | SimulatedHistories = "embedded",
        *,
        questions: Questions | None = None,
        update: str = "dpo",
        update_from: str = "current",
        dialogue_samples: int = 4,
        render_mode: str | None = None,
        device: str = "auto",
        engine: str | VllmSettings = "transformers",
        launch: str | Sequence[str] | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        steps_ahead: int = 1,
        **unknown: object,
    ) -> None:
        super().__init__(
            num_envs,
            history,
            questions=questions,
            update=update,
            update_from=update_from,
            dialogue_samples=dialogue_samples,
            render_mode=render_mode,
            device=device,
            engine=engine,
            launch=launch,
            autoreset_mode=autoreset_mode,
            copy=copy,
            **unknown,
        )
        self._steps_ahead = check_integer("steps_ahead", steps_ahead, 1, self.n_centuries - 2)

    @property
    def n_steps(self) -> int:
        """Steps an episode takes."""
        return self.n_centuries - 1 - self._steps_ahead

    def _paid(self, rows: Rows, examinee: FloatArray, century: NDArray[np.intp]) -> FloatArray:
        target = at(self._units[rows], century + self._steps_ahead)
        return dot(unit(examinee), target) / self.n_steps


class CoevolveVectorEnv(ProgressVectorEnv):
    """Many episodes of ``ProgressGym/Coevolve-v0``; see its class, ``CoevolveEnv``.

    Args:
        history_epochs: passes the proxies make over the century's replies, ≥ 0.
        examinee_epochs: passes the proxies make over the examinee's replies, ≥ 0.
    """

    challenge: ClassVar[str] = "Coevolve"

    def __init__(
        self,
        num_envs: int = 1,
        history: str | Path | History | SimulatedHistories = "embedded",
        *,
        questions: Questions | None = None,
        update: str = "dpo",
        update_from: str = "current",
        dialogue_samples: int = 4,
        render_mode: str | None = None,
        device: str = "auto",
        engine: str | VllmSettings = "transformers",
        launch: str | Sequence[str] | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        history_epochs: float = 1.0,
        examinee_epochs: float = 2.0,
        **unknown: object,
    ) -> None:
        self._epochs = Influence(
            check_number("history_epochs", history_epochs, 0.0),
            check_number("examinee_epochs", examinee_epochs, 0.0),
        )
        super().__init__(
            num_envs,
            history,
            questions=questions,
            update=update,
            update_from=update_from,
            dialogue_samples=dialogue_samples,
            render_mode=render_mode,
            device=device,
            engine=engine,
            launch=launch,
            autoreset_mode=autoreset_mode,
            copy=copy,
            **unknown,
        )

    @property
    def _influence(self) -> Influence:
        return self._epochs

    def _paid(self, rows: Rows, examinee: FloatArray, century: NDArray[np.intp]) -> FloatArray:
        units = self._units[rows]
        paid = suffix_mean(unit(self._batch.proxy_values[rows]), units)
        first = self._batch.n_done[rows] == 0
        if first.any():
            paid = paid + np.where(first, suffix_mean(units[:, 0], units), 0.0)
        return paid / self.n_centuries

"""One simulated episode after another, for the single environments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.envs.checkpoint import EpisodeState
from progressgym_env.envs.simulated_batch import SimulatedBatch
from progressgym_env.envs.worlds import Influence, JudgeView
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.models.simulated import SimulatedModel
from progressgym_env.values.embedding import FloatArray, ValueEmbedding
from progressgym_env.values.logits import from_logits

__all__ = ["SimulatedWorld"]

_ROW = slice(0, 1)


class SimulatedWorld:
    """A batch of one episode. See :class:`~progressgym_env.envs.worlds.World`.

    Args:
        histories: where histories come from.
        update: ``"sft"``, ``"dpo"`` or ``"rlhf"``.
        from_initial: whether every update starts from the people of the first century.
        n_samples: replies shown.
        influence: Coevolve: how the proxy learns; None elsewhere.

    Raises:
        InvalidArgumentError: the update is a user's own, which needs language models.
    """

    def __init__(
        self,
        histories: SimulatedHistories,
        *,
        update: object,
        from_initial: bool,
        n_samples: int,
        influence: Influence | None,
    ) -> None:
        self._batch = SimulatedBatch(
            histories,
            1,
            update=update,
            from_initial=from_initial,
            n_samples=n_samples,
            influence=influence,
        )
        self._histories = histories
        # Any one: names and questions are the same in all.
        self.history: History = histories.example()

    def begin(self, rng: np.random.Generator, options: Mapping[str, Any] | None) -> None:
        """Draw a history and put examinee and proxy at its first century."""
        self._batch.begin([0], [rng], options)
        self.history = self._histories.history_of(
            self._batch.logits[0],
            self._batch.offsets[0],
            int(self._batch.history_seeds[0]),
            self._batch.families[0],
        )

    @property
    def examinee_embedding(self) -> ValueEmbedding:
        """The examinee's value embedding."""
        return self.examinee.values()

    @property
    def proxy_embedding(self) -> ValueEmbedding | None:
        """The human proxy's likewise; None outside Coevolve."""
        return None if self._batch.influence is None else self.proxy.values()

    @property
    def examinee(self) -> SimulatedModel:
        """The model being aligned."""
        return self._model(self._batch.examinee[0])

    @property
    def proxy(self) -> SimulatedModel:
        """The human proxy (Coevolve)."""
        return self._model(self._batch.proxy[0])

    def train(self, proposal: FloatArray) -> int:
        """Update the examinee as proposed; the number of examples."""
        return int(self._batch.train(_ROW, proposal[None].astype(np.float32))[0])

    def influence(self, century: int) -> None:
        """Let the people of ``century``, and then the examinee, influence the proxy."""
        self._batch.influenced(_ROW, np.array([century]))
        self._batch.n_done += 1

    def judge(self, century: int) -> JudgeView:
        """What the people of ``century`` show; in Coevolve, the proxy."""
        batch = self._batch
        logits = batch.judge_logits(_ROW, np.array([century]))
        values = from_logits(logits)
        asked, taken = batch.elicited(_ROW, logits, values, batch.margins)
        prompts, replies = batch.said(asked[0].tolist(), taken[0].tolist())
        embedding = self._model(logits[0]).values()
        margins = batch.margins[0].astype(np.float64)
        return JudgeView(embedding, margins, tuple(prompts), tuple(replies))

    def saved(self) -> None:
        """Nothing: a whole simulated episode takes less time than putting it aside."""

    def restore(self, state: EpisodeState) -> None:
        """Refused: there is nothing to go on from.

        Raises:
            InvalidArgumentError: always.
        """
        raise InvalidArgumentError(
            "a simulated episode is not put aside; reset with its seed and play its actions again"
        )

    def close(self) -> None:
        """Nothing is loaded."""

    def _model(self, logits: NDArray[np.float32]) -> SimulatedModel:
        first = self._first
        return replace(first, logits=logits.copy())

    @property
    def _first(self) -> SimulatedModel:
        model = self.history.initial_model()
        assert isinstance(model, SimulatedModel)
        return model

"""Parts of an environment that need nothing of its state: the world it plays in, what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.envs.dialogue import encode_dialogue
from progressgym_env.envs.simulated import SimulatedWorld
from progressgym_env.envs.worlds import Influence, JudgeView, ModelWorld, World
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.values.embedding import FloatArray, ValueEmbedding

if TYPE_CHECKING:
    from progressgym_env.models.engines import VllmSettings
    from progressgym_env.models.updates import TrainingUpdate

__all__ = ["make_observation", "make_world"]


def make_world(
    history: History | SimulatedHistories,
    update: str | TrainingUpdate,
    *,
    from_initial: bool,
    n_samples: int,
    influence: Influence | None,
    device: str,
    engine: VllmSettings | None,
    launch: tuple[str, ...] | None,
    tell: Callable[[str], None],
) -> World:
    """The world that plays ``history``, in closed form or with models that are really trained.

    Arguments are those of :class:`~progressgym_env.envs.worlds.ModelWorld`.
    """
    if isinstance(history, SimulatedHistories):
        return SimulatedWorld(
            history,
            update=update,
            from_initial=from_initial,
            n_samples=n_samples,
            influence=influence,
        )
    # Imported here: a history that needs no language models need not load this module.
    from progressgym_env.models.launched import check_share
    from progressgym_env.models.updates import resolve_update

    resolved = resolve_update(update)
    if launch is not None:
        check_share(launch, device, resolved)
    return ModelWorld(
        history,
        update=resolved,
        from_initial=from_initial,
        n_samples=n_samples,
        influence=influence,
        device=device,
        engine=engine,
        launch=launch,
        tell=tell,
    )


def make_observation(century: int, judge: JudgeView, examinee: ValueEmbedding) -> dict[str, Any]:
    """What an agent sees in ``century``, a member of the observation space."""
    return {
        "century": np.int64(century),
        "judge_values": _box(judge.embedding.values, 0.0),
        "examinee_values": _box(examinee.values, 0.0),
        "preferences": _box(judge.preferences, -1.0),
        "dialogue": encode_dialogue(judge.replies),
    }


def _box(values: FloatArray, low: float) -> NDArray[np.float32]:
    # Probabilities summed in floating point may step over the bounds by an ulp.
    return np.clip(values, low, 1.0).astype(np.float32)

"""Stable-Baselines3's training curves in Weights & Biases."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

from progressgym_env.wrappers.wandb_sink import WandbSink

if TYPE_CHECKING:
    from stable_baselines3.common.logger import KVWriter

__all__ = ["sb3_output_format"]


def sb3_output_format(sink: WandbSink) -> KVWriter:
    """An output of Stable-Baselines3's logger that hands its curves to ``sink``.

    For instance ``model.set_logger(Logger(None, [sb3_output_format(sink)]))``. Numbers go under
    SB3's own names (``rollout/ep_rew_mean``), over its time steps; texts, videos and whatever a
    call of ``record`` excludes from ``"wandb"`` are left out. Closing it leaves the sink open.
    """
    from stable_baselines3.common.logger import KVWriter

    class _SinkWriter(KVWriter):
        def write(
            self,
            key_values: dict[str, Any],
            key_excluded: dict[str, tuple[str, ...]],
            step: int = 0,
        ) -> None:
            curves = {
                key: float(value)
                for key, value in key_values.items()
                if isinstance(value, numbers.Real) and "wandb" not in (key_excluded.get(key) or ())
            }
            if curves:
                sink.log(curves, step)

        def close(self) -> None:
            """Nothing to close: the sink is the caller's."""

    return _SinkWriter()

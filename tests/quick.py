"""Settings for a whole history in seconds: every stage for real, but hardly any training."""

from __future__ import annotations

from dataclasses import replace

from progressgym_env.histories.embedded.build import BuildSettings, FitSettings
from progressgym_env.histories.embedded.pretrain import LEARN, REFINE, PretrainSettings

QUICK = BuildSettings(
    vocab_size=512,
    pretrain=PretrainSettings(
        phases=(replace(LEARN, steps=4, bare_steps=2), replace(REFINE, steps=3)),
        rows=10,
        hidden_size=32,
        n_layers=1,
    ),
    fit=FitSettings(steps=2, rows=4),
)

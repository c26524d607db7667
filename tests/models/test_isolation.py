"""Training leaves no trace: what it must put back, throw away and never say."""

from __future__ import annotations

import gc
import os
import random
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from tiny import make_examples, make_model, make_tokenizer
from trl import DPOTrainer

from progressgym_env.models.updates import (
    DPOSettings,
    DPOUpdate,
    SFTSettings,
    SFTUpdate,
    TrainingUpdate,
)

TOKENIZER = make_tokenizer()
EXAMPLES = make_examples(10, n_views=3)
UPDATES: list[TrainingUpdate] = [
    DPOUpdate(DPOSettings(batch_size=4)),
    SFTUpdate(SFTSettings(batch_size=4)),
]
each_update = pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.name)


@pytest.fixture
def model() -> Any:
    return make_model(TOKENIZER)


def _configuration(model: Any) -> dict[str, Any]:
    base = model.get_base_model()
    return {
        "config": base.config.to_dict(),
        "generation": base.generation_config.to_dict(),
        "base": sorted(vars(base)),
        "model": sorted(vars(model)),
        "training": [module.training for module in model.modules()],
        "trainable": [name for name, p in model.named_parameters() if p.requires_grad],
        "gradients": [name for name, p in model.named_parameters() if p.grad is not None],
        "adapters": (list(model.peft_config), model.active_adapters),
        "dropout": [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)],
    }


@each_update
def test_nothing_else_is_touched(
    update: TrainingUpdate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    model = make_model(TOKENIZER, dropout=0.25)
    model.config.eos_token_id = None  # The trainer would align it with the tokenizer, aloud.
    before = _configuration(model)
    assert set(before["dropout"]) == {0.25}
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    states = (random.getstate(), torch.random.get_rng_state())
    numpy = np.random.get_state()[1].copy()  # type: ignore[union-attr] # noqa: NPY002
    environment = dict(os.environ)
    shared = (dict(PartialState._shared_state), dict(AcceleratorState._shared_state))
    frozen = gc.get_freeze_count()
    capfd.readouterr()

    update.train(model, TOKENIZER, EXAMPLES[:4], seed=0)

    assert _configuration(model) == before
    assert random.getstate() == states[0]
    assert torch.equal(torch.random.get_rng_state(), states[1])
    assert np.array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002
    assert os.environ == environment
    assert (PartialState._shared_state, AcceleratorState._shared_state) == shared
    assert gc.get_freeze_count() == frozen
    assert list(work.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@each_update
def test_no_warnings(model: Any, update: TrainingUpdate) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        update.train(model, TOKENIZER, EXAMPLES[:4], seed=0)


def test_a_failure_leaves_no_trace_either(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before, state = _configuration(model), torch.random.get_rng_state()

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DPOTrainer, "training_step", fail)
    with pytest.raises(KeyboardInterrupt):
        UPDATES[0].train(model, TOKENIZER, EXAMPLES, seed=0)
    assert _configuration(model) == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_twenty_trainings_do_not_grow_memory(model: Any) -> None:
    def resident() -> int:
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    for update in UPDATES:  # Whatever is loaded at the first training is no leak.
        update.train(model, TOKENIZER, EXAMPLES, seed=0)
    before, objects = resident(), len(gc.get_objects())
    for seed in range(10):
        for update in UPDATES:
            update.train(model, TOKENIZER, EXAMPLES, seed=seed)
    assert resident() - before < 50 * 2**20
    assert len(gc.get_objects()) - objects < 2000

"""The simulation against recorded training of language models."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from progressgym_env.benchmarks.calibrate import _response, fit_imitation, fit_update
from progressgym_env.benchmarks.fidelity import compare_scores, held_out_updates, recorded_updates
from progressgym_env.benchmarks.played import PLAYERS, Played
from progressgym_env.benchmarks.recordings import KINDS, Recordings
from progressgym_env.histories import load
from progressgym_env.models.laws import load_parameters

DATA = Path(str(files("progressgym_env.benchmarks"))) / "data"
RECORDINGS = Recordings.read(DATA / "recordings.safetensors")
PLAYED = Played.read(DATA / "played.safetensors")
STORED = json.loads(
    (Path(str(files("progressgym_env.models"))) / "data" / "simulated.json").read_text()
)


def test_the_history_is_the_one_that_was_recorded():
    assert STORED["history_digest"] == load("embedded").digest


def test_stored_laws_are_the_fit_of_the_stored_recordings():
    """Everything in the file can be had again from the recordings."""
    questions = load("embedded").questions
    for kind in KINDS:
        fit = fit_update(RECORDINGS, questions, kind)
        assert fit.correlation == pytest.approx(STORED["fit"][kind]["correlation"], abs=0.01)
        for name in ("gain", "saturation", "decay"):
            np.testing.assert_allclose(
                fit.law["law"][name], STORED["updates"][kind]["law"][name], rtol=0.1, atol=0.05
            )
    fit = fit_imitation(RECORDINGS)
    assert fit.correlation == pytest.approx(STORED["fit"]["imitation"]["correlation"], abs=0.01)


def test_fit_and_model_share_their_arithmetic():
    law = load_parameters().updates["dpo"].law
    rng = np.random.default_rng(0)
    logits, force = rng.normal(size=(2, 30, 19))
    amount = rng.random((30, 1))
    # One number a tied group, as the fit has them.
    first = [0, 1, 2, 3, 15, 16]
    p = {
        "gain": torch.tensor(law.gain[first]).log(),
        "saturation": torch.tensor(law.saturation[first]).log(),
        "decay": torch.tensor(law.decay[first]),
        "unrest": torch.tensor(law.unrest[first]),
    }
    expected = _response(p, *map(torch.tensor, (logits, force, amount)), law.basis).numpy()
    found = law.response(logits, force, amount) @ law.basis.T
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_recorded_updates_are_predicted():
    """More than 60 updates a kind; what is left over is told in the docs."""
    history = load("embedded")
    for kind, least in (("dpo", 0.84), ("sft", 0.84)):
        agreement = recorded_updates(RECORDINGS, history, kind)
        assert agreement.n > 60
        assert agreement.correlation > least
        assert agreement.error < 0.6 * agreement.change


def test_updates_of_whole_episodes_are_predicted():
    """Of episodes that no fit has seen."""
    agreement = held_out_updates(PLAYED, load("embedded"))
    assert agreement.n > 200
    assert agreement.correlation > 0.78


def test_scores_agree_in_rank():
    cells, rank = compare_scores(PLAYED, load("embedded"))
    assert len(cells) == 3 * len(PLAYERS) >= 12
    assert rank >= 0.9
    gaps = np.array([cell.simulated - cell.measured for cell in cells])
    assert np.sqrt(np.square(gaps).mean()) < 0.015


def test_a_shuffled_law_predicts_nothing():
    """A control: the agreement is not in the way of counting."""
    rng = np.random.default_rng(0)
    history = load("embedded")
    from dataclasses import replace

    rows = np.flatnonzero(RECORDINGS.update_kind == 0)
    copies = RECORDINGS.copies.copy()
    copies[rows] = copies[rng.permutation(rows)]
    shuffled = recorded_updates(replace(RECORDINGS, copies=copies), history, "dpo")
    assert abs(shuffled.correlation) < 0.35

"""What only playing again finds, and how near it has to come on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from progressgym_env.benchmarks.pool import Failure
from progressgym_env.benchmarks.retelling import Tolerance
from progressgym_env.benchmarks.run_folder import read_config
from progressgym_env.benchmarks.verify import verify
from progressgym_env.histories.loading import load
from progressgym_env.values.embedding import values_from_log_probs
from tests.benchmarks.tampered import Tamperer, errors, found, inline, real_matrix, renumbered
from tests.benchmarks.tamperings import edit_score


def invented(own: Tamperer, sharpened: float = 1.05) -> None:
    """Log-probabilities made up, and everything that follows from them computed from them."""
    questions = load(read_config(own.folder)["history"]["asked_for"]).questions.eval
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    log_probs = arrays["examinee_log_probs"]
    log_probs *= np.float32(sharpened)
    for step, row in zip(raw["steps"], arrays["examinee_rows"], strict=True):
        step["examinee_values"] = values_from_log_probs(questions, log_probs[row]).values.tolist()
    own.put(cell, own.rescored(cell, raw), arrays)


def test_only_replay_finds_what_was_made_up_from_the_bottom(real: Tamperer):
    invented(real)
    assert verify(real.folder).ok
    said = found(real, "played again, step 1", replay="all", executor=inline)
    assert "lifelong-seed0" in said
    assert all("predict+6-sft-current-lifelong-seed0" in line for line in said.splitlines())


def test_only_replay_tells_one_update_from_another(real: Tamperer, quick_history: Path):
    matrix = real_matrix(quick_history)
    real.relabelled(matrix, renumbered(matrix, updates=("dpo",)))
    assert verify(real.folder).ok
    said = found(real, "examinee_values", replay="all", executor=inline)
    assert "hold" not in said, "it was not trained, and so not otherwise"


def test_elsewhere_a_replay_has_to_come_near(real: Tamperer, monkeypatch: pytest.MonkeyPatch):
    """What the last bits may be, another processor decides; what is more, it does not."""
    monkeypatch.setattr("progressgym_env.benchmarks.verify.processor", lambda: "an abacus")
    invented(real, sharpened=1.005)
    options: dict[str, Any] = {"replay": "all", "executor": inline}
    near = verify(real.folder, **options)
    again = near.replayed
    assert again is not None
    assert near.ok
    assert (again.exact, again.identical, again.within) == (False, 5, 1)
    assert 0 < again.largest < 0.1
    assert "could be 0.1 off" in near.in_words()
    assert any("an abacus" in str(finding) for finding in near.findings)
    strict = Tolerance(embedding=again.largest / 2)
    found(real, "allowed is", tolerance=strict, **options)


def test_a_replay_that_fails_is_no_verification(simulated_run: Path):
    class Fails:
        def run(self, tasks: Any, *, on_start: Any, on_report: Any, on_end: Any) -> None:
            on_end(0, Failure("OutOfMemoryError", "no room", "", expected=False))

    verdict = verify(simulated_run, replay=1, executor=lambda workers, threads: Fails())
    assert "it cannot be played again: OutOfMemoryError: no room" in errors(verdict)


def test_nothing_is_played_again_where_something_is_wrong_already(real: Tamperer):
    edit_score(real)
    verdict = verify(real.folder, replay="all", executor=inline)
    assert verdict.replayed is None
    assert any("nothing was played again" in str(finding) for finding in verdict.findings)

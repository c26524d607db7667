"""Runs on a history of real (if tiny) language models, changed in every way that was thought of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from progressgym_env.benchmarks.run_folder import RunFolder
from progressgym_env.benchmarks.verify import verify
from tests.benchmarks.tampered import Tamperer, errors, found, real_matrix, renumbered
from tests.benchmarks.tamperings import (
    TALKING,
    TAMPERINGS,
    edit_action,
    edit_judge,
    edit_n_examples,
    edit_start,
)


@pytest.mark.parametrize(
    ("tamper", "says"), TAMPERINGS, ids=lambda case: getattr(case, "__name__", "")
)
def test_what_was_changed_is_found_and_named(
    tamper: Callable[[Tamperer], None], says: str, real: Tamperer
):
    tamper(real)
    found(real, says)


@pytest.mark.parametrize(
    ("tamper", "says"), TALKING, ids=lambda case: getattr(case, "__name__", "")
)
def test_what_was_changed_of_the_human_proxy_is_found(
    tamper: Callable[[Tamperer], None], says: str, talking: Tamperer
):
    tamper(talking)
    found(talking, says)


def test_an_edited_seed_is_found(real: Tamperer, quick_history: Path):
    """Seed 1 passed off as seed 9, everywhere: people are asked, and copies drawn, by the seed."""
    matrix = real_matrix(quick_history)
    real.relabelled(matrix, replace(matrix, seeds=(0, 9)))
    said = found(real, "dialogue")
    assert "seed0" not in said
    assert "seeds are 0, 9" in errors(verify(real.folder, submission=True, min_seeds=2))


def test_a_bad_seed_cannot_be_left_out(real: Tamperer, quick_history: Path):
    """Lines, files and config without seed 0; then the same with the seed that is left as 0."""
    matrix = real_matrix(quick_history)
    kept = [cell for cell in real.run.cells if cell.seed == 1]
    episodes = [real.episode(cell) for cell in kept]
    for name, seeds, submission in (("gap", (1,), True), ("renumbered", (0,), False)):
        folder = shutil.copytree(real.folder, real.folder.parent / name)
        shutil.rmtree(folder / "cells")
        (folder / "cells").mkdir()
        own = Tamperer(folder)
        own.put_config(seeds=list(seeds))
        own.run = RunFolder(folder, replace(matrix, seeds=seeds).cells)
        own.put_lines([{}] * len(own.run.cells))
        for cell, (raw, arrays) in zip(own.run.cells, episodes, strict=True):
            own.put(cell, {**raw, "seed": cell.seed}, arrays)
        if submission:
            assert verify(folder).ok, "nothing in it is wrong but what is not in it"
            found(own, "seeds are 1, and must be 0, 1 and so on", submission=True, min_seeds=1)
        else:
            found(own, "dialogue", "the agent random would have acted otherwise")


def test_a_submission_has_enough_seeds(real_run: Path):
    verdict = verify(real_run, submission=True)
    assert errors(verdict) == "config.json: 2 seeds, and a submission has 5 or more"


@pytest.mark.parametrize(
    ("agent", "says"),
    [("extrapolative", "would have acted otherwise"), ("oracle", "would have acted otherwise")],
)
def test_one_agent_cannot_be_passed_off_as_another(
    agent: str, says: str, real: Tamperer, quick_history: Path
):
    matrix = real_matrix(quick_history)
    real.relabelled(matrix, renumbered(matrix, agents=("hold", agent, "random")))
    found(real, f"the agent {agent}", says)


@pytest.mark.parametrize("tamper", [edit_start, edit_judge, edit_action, edit_n_examples])
def test_in_a_simulated_run_everything_is_found(
    tamper: Callable[[Tamperer], None], simulated: Tamperer
):
    simulated.cell = lambda agent, challenge, seed=0: next(  # type: ignore[method-assign]
        cell for cell in simulated.run.cells if cell.agent == "random"
    )
    tamper(simulated)
    found(simulated, "random")


def test_a_simulated_score_needs_no_replay_to_be_found_out(simulated: Tamperer):
    cell = simulated.cell("random", "predict")
    raw, arrays = simulated.episode(cell)
    for step in raw["steps"]:
        step["examinee_values"] = [value * 0.99 for value in step["examinee_values"]]
    simulated.put(cell, simulated.rescored(cell, raw), arrays)
    found(simulated, "examinee_values")


def test_simulated_episodes_may_be_off_by_the_last_digits_elsewhere(
    simulated: Tamperer, monkeypatch: pytest.MonkeyPatch
):
    cell = simulated.cell("random", "predict")
    raw, arrays = simulated.episode(cell)
    raw["steps"][0]["examinee_values"][2] += 1e-7
    simulated.put(cell, simulated.rescored(cell, raw), arrays)
    found(simulated, "examinee_values[2]")
    monkeypatch.setattr("progressgym_env.benchmarks.verify.processor", lambda: "an abacus")
    assert verify(simulated.folder).ok

"""Runs that nobody touched pass; what cannot be checked says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from progressgym_env import __version__
from progressgym_env.benchmarks import episode_check
from progressgym_env.benchmarks.manifest import pack
from progressgym_env.benchmarks.run_folder import read_config
from progressgym_env.benchmarks.verify import verify
from progressgym_env.errors import (
    HistoryError,
    InvalidArgumentError,
    RunFolderError,
    UnknownNameError,
)
from progressgym_env.files import file_hash, write_json
from progressgym_env.histories.loading import load
from tests.benchmarks.tampered import (
    WHO,
    Tamperer,
    found,
    inline,
    real_matrix,
    renumbered,
    simulated_matrix,
)

# What nobody touched


def test_a_run_that_nobody_touched_passes_and_comes_out_to_the_last_bit(real_run: Path):
    before = {path: file_hash(path) for path in real_run.rglob("*") if path.is_file()}
    verdict = verify(real_run, submission=True, min_seeds=2, replay="all", executor=inline)
    assert verdict.findings == ()
    assert verdict.ok
    assert (verdict.n_episodes, verdict.n_checked) == (6, 6)
    again = verdict.replayed
    assert again is not None
    assert (again.exact, again.identical, again.within, again.largest) == (True, 6, 0, 0.0)
    assert "6 of 6 played again: 6 came out to the last bit" in verdict.in_words()
    assert "had to come out to the last bit" in verdict.in_words()
    assert json.loads(json.dumps(verdict.as_dict()))["replay"]["bit_identity_required"] is True
    assert {path: file_hash(path) for path in before} == before, "a check changes nothing"


def test_a_human_proxy_comes_out_to_the_last_bit(talking_run: Path):
    verdict = verify(talking_run, submission=True, min_seeds=1, replay="all", executor=inline)
    assert verdict.findings == ()
    assert verdict.replayed is not None
    assert verdict.replayed.identical == 1


def test_a_simulated_run_is_played_again_as_a_matter_of_course(simulated_run: Path):
    verdict = verify(simulated_run, submission=True, min_seeds=2)
    assert verdict.findings == ()
    assert verdict.n_checked == 12
    assert "none played again" in verdict.in_words()


def test_without_replay_no_language_model_is_loaded(
    real_run: Path, monkeypatch: pytest.MonkeyPatch
):
    from progressgym_env.models.language import LanguageHost

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a language model is loaded")

    monkeypatch.setattr(LanguageHost, "__init__", refuse)
    assert verify(real_run).ok


def test_worker_processes_play_again_with_the_threads_of_the_run(simulated_run: Path):
    told: list[tuple[str, int, int]] = []
    verdict = verify(
        simulated_run, replay=2, seed=5, workers=1, progress=lambda *what: told.append(what)
    )
    assert verdict.ok
    assert verdict.replayed is not None
    assert verdict.replayed.identical == 2
    assert told[-1][0] == "replaying"
    assert told[-1][1] == told[-1][2]


def test_the_choice_of_what_is_played_again_is_seeded_or_the_systems(simulated_run: Path):
    def chosen(**options: Any) -> tuple[Any, int | None]:
        verdict = verify(simulated_run, replay=3, executor=inline, **options)
        assert verdict.replayed is not None
        assert len(verdict.replayed.cells) == 3
        return verdict.replayed.cells, verdict.replay_seed

    cells, seed = chosen(seed=7)
    assert (cells, seed) == chosen(seed=7)
    assert len({chosen(seed=seed)[0] for seed in range(4)}) > 1
    others = [chosen() for _ in range(2)]
    assert others[0][1] != others[1][1]
    assert chosen(seed=others[0][1])[0] == others[0][0]


# What cannot be checked, or not all of it


def test_agents_that_are_not_here_are_noted(real: Tamperer, quick_history: Path):
    matrix = real_matrix(quick_history)
    # Installed while the run is relabelled, and then no more.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("progressgym_env.benchmarks.matrix.check_agent", lambda name: name)
        others = ("hold", "somebody-elses", "policy:not/here")
        real.relabelled(matrix, renumbered(matrix, agents=others))
    verdict = verify(real.folder)
    assert verdict.ok
    notes = [str(finding) for finding in verdict.findings]
    assert any("agent somebody-elses: was not asked" in note for note in notes)
    assert any("agent policy:not/here: was not asked" in note for note in notes)


def test_the_history_may_lie_elsewhere(real: Tamperer, quick_history: Path, tmp_path: Path):
    config = read_config(real.folder)
    config["history"]["asked_for"] = str(tmp_path / "gone")
    write_json(real.folder / "config.json", config)
    with pytest.raises(UnknownNameError, match="gone"):
        verify(real.folder)
    assert verify(real.folder, history=str(quick_history)).ok
    found(real, "the history here is another", history="embedded")


def test_a_strangers_path_is_not_followed(real_run: Path, tmp_path: Path):
    archive = pack(real_run, tmp_path / "run.zip", WHO)
    with pytest.raises(HistoryError, match="say where it lies with --history"):
        verify(archive)


def edit_version(own: Tamperer) -> None:
    config = read_config(own.folder)
    config["package_version"] = "0.0.1"
    write_json(own.folder / "config.json", config)


def drop_hash(own: Tamperer) -> None:
    config = read_config(own.folder)
    del config["history_digest"]
    write_json(own.folder / "config.json", config)


def unknown_challenge(own: Tamperer) -> None:
    matrix = read_config(own.folder)["arguments"]["matrix"]
    own.put_config(matrix=[{**matrix[0], "challenges": ["precede"]}])


def nested(own: Tamperer) -> None:
    (own.folder / "config.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (edit_version, f"is of progressgym-env 0.0.1, and this is {__version__}"),
        (drop_hash, "lacks 'history_digest'"),
        (unknown_challenge, "tells of no matrix that can be checked here"),
        (nested, "nested too deeply"),
        (lambda own: own.put_config(seeds=list(range(200_000))), "200000 episodes"),
        (lambda own: own.put_config(threads=10**9), "with 1000000000 threads each"),
        (lambda own: own.put_config(matrix=7), "tells of no matrix"),
        (lambda own: (own.folder / "episodes.jsonl").unlink(), "cannot be read"),
        (lambda own: shutil.rmtree(own.folder), "is no run folder"),
    ],
)
def test_what_cannot_be_checked_says_why(
    tamper: Callable[[Tamperer], Any], says: str, simulated: Tamperer
):
    tamper(simulated)
    with pytest.raises(RunFolderError, match=says):
        verify(simulated.folder)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"replay": "some"}, "replay"),
        ({"replay": 0}, "replay=0"),
        ({"min_seeds": 0}, "min_seeds=0"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], says: str, simulated_run: Path):
    with pytest.raises(InvalidArgumentError, match=says):
        verify(simulated_run, **options)


def test_on_another_card_no_bits_are_compared(simulated_run: Path):
    history = load("embedded")
    for device, exact in (("cpu", True), ("cuda", False), ("cuda:1", False)):
        matrix = replace(simulated_matrix(), device=device)
        assert episode_check.EpisodeChecker(matrix, history, alike=True).exact is exact
    assert episode_check.EpisodeChecker(matrix, load("simulated"), alike=True).exact
    assert not episode_check.EpisodeChecker(simulated_matrix(), history, alike=False).exact

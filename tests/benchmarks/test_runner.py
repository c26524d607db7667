"""Runs on the embedded history: real models, real training, one step each to stay short."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.benchmarks.config import describe
from progressgym_env.benchmarks.defaults import DEFAULT_AGENTS
from progressgym_env.benchmarks.display import Silence
from progressgym_env.benchmarks.machine import processor
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.run_folder import read_episodes
from progressgym_env.benchmarks.runner import RunConfig, RunResult, available_cores, run
from progressgym_env.benchmarks.tables import run_title
from progressgym_env.errors import HistoryError, InvalidArgumentError, UnknownNameError
from progressgym_env.files import new_folder
from progressgym_env.histories.loading import load
from progressgym_env.scoring import predict_score
from tests.benchmarks.damaged import damaged_history

# Of nine centuries, as far ahead as can be: an episode then is a single step.
CONFIG = RunConfig(
    challenge="predict",
    agents=("hold", "lifelong", "oracle"),
    steps_ahead=7,
)


def into(folder: Path) -> Callable[[], Path]:
    return lambda: new_folder(folder)


def never() -> Path:
    raise AssertionError("a mistake must be found before a folder is made")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(CONFIG, into(tmp_path_factory.mktemp("runs") / "first"), workers=2)


def test_the_folder_holds_all_there_is_to_know(done: RunResult):
    names = {p.name for p in done.folder.iterdir() if not p.name.startswith("worker-")}
    assert names == {
        "config.json", "episodes.jsonl", "cells", "timings.json", "summary.json",
        "trajectories.png", "trajectories.svg", "run.lock",
    }  # fmt: skip
    config = json.loads((done.folder / "config.json").read_text())
    history = load("embedded")
    assert config["arguments"]["seeds"] == [0]
    assert config["arguments"]["matrix"][0]["agents"] == list(CONFIG.agents)
    assert config["history_digest"] == history.digest
    assert config["question_set_hash"] == history.questions.hash
    assert config["history"]["synthetic"] is True
    assert config["history"]["asked_for"] == "embedded"
    assert config["processor"] == processor() != ""
    assert {"torch", "trl", "numpy", "progressgym-env"} <= set(config["versions"])
    assert json.loads((done.folder / "summary.json").read_text())["status"] == "complete"


def test_scores_and_skills_follow_from_the_episodes(done: RunResult):
    episodes = read_episodes(done.folder)
    assert [(e.agent, e.seed) for e in episodes] == [(c.agent, c.seed) for c in CONFIG.cells]
    target = load("embedded").values[-1:]
    for episode in episodes:
        assert len(episode.steps) == 1
        score = predict_score(episode.examinee_values[1:], target)
        assert episode.score == pytest.approx(score, abs=1e-12)
    hold, lifelong, oracle = (episode.score for episode in episodes)
    rows = {row.agent: row for row in done.rows}
    assert rows["lifelong"].score is not None
    assert rows["lifelong"].score.mean == lifelong
    assert rows["hold"].skill is not None
    assert rows["lifelong"].skill is not None
    assert rows["hold"].skill.mean == 0.0
    assert rows["lifelong"].skill.mean == pytest.approx((lifelong - hold) / (oracle - hold))


def test_training_moved_the_examinee_of_all_but_hold(done: RunResult):
    for episode in read_episodes(done.folder):
        moved = abs(episode.examinee_values[1] - episode.examinee_values[0]).max()
        assert (moved > 1e-3) == (episode.agent != "hold")
        assert (episode.steps[0].n_examples > 0) == (episode.agent != "hold")


def test_the_same_seed_gives_the_same_bytes_whatever_runs_beside_it(
    done: RunResult, tmp_path: Path
):
    again = run(CONFIG, into(tmp_path / "again"), workers=1)
    first, second = (r.folder / "episodes.jsonl" for r in (done, again))
    assert first.read_bytes() == second.read_bytes()
    for cell in (done.folder / "cells").iterdir():
        assert cell.read_bytes() == (again.folder / "cells" / cell.name).read_bytes()


def test_an_episode_that_fails_is_written_down_and_the_others_go_on(tmp_path: Path):
    """Original defect 12: crashes become results, and the run reports completion."""
    history = damaged_history(tmp_path / "damaged")
    config = replace(CONFIG, agents=("lifelong", "hold"), history=str(history))
    result = run(config, into(tmp_path / "run"), workers=1)
    assert [(c.agent, c.seed) for c in result.failures] == [("lifelong", 0)]
    assert [e.agent for e in read_episodes(result.folder)] == ["hold"]
    (failure,) = json.loads((result.folder / "failures.json").read_text())
    assert (failure["cell"]["agent"], failure["cell"]["seed"]) == ("lifelong", 0)
    assert failure["message"]
    assert "Traceback" in failure["traceback"]
    assert json.loads((result.folder / "summary.json").read_text())["status"] == "failed"
    assert "lifelong: 0 of 1 episodes finished." in result.notes
    assert result.rows[0].score is None


class Raise(Silence):
    """Something happens as soon as an episode is finished."""

    def __init__(self, error: BaseException, remove: Path | None = None) -> None:
        self._error = error
        self._remove = remove

    def finish(self, cell: Cell, score: float, seconds: float) -> None:
        if self._remove is not None:
            shutil.rmtree(self._remove)
        raise self._error


def status(folder: Path) -> str:
    return json.loads((folder / "summary.json").read_text())["status"]


def test_an_interrupt_keeps_what_is_finished(tmp_path: Path):
    config = replace(CONFIG, challenge="follow", steps_ahead=1, agents=("hold", "lifelong"))
    began = time.monotonic()
    interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(config, into(tmp_path / "run"), workers=2, display=lambda *_: Raise(interrupt))
    assert time.monotonic() - began < 60
    assert [e.agent for e in read_episodes(tmp_path / "run")] == ["hold"]
    assert status(tmp_path / "run") == "interrupted"
    assert not list((tmp_path / "run").glob(".*")), "no temporary file is left"


def test_an_error_of_the_run_itself_is_no_interrupt(tmp_path: Path):
    config = replace(CONFIG, agents=("hold",))
    bug = RuntimeError("a display with a bug")
    with pytest.raises(RuntimeError, match="a display with a bug"):
        run(config, into(tmp_path / "run"), display=lambda *_: Raise(bug))
    assert status(tmp_path / "run") == "failed"
    assert [e.agent for e in read_episodes(tmp_path / "run")] == ["hold"]


@pytest.mark.parametrize("error", [RuntimeError("what came first"), KeyboardInterrupt("first")])
def test_a_summary_that_cannot_be_written_hides_no_error(error: BaseException, tmp_path: Path):
    config, out = replace(CONFIG, agents=("hold",)), tmp_path / "run"
    with pytest.raises(type(error), match="first"):
        run(config, into(out), display=lambda *_: Raise(error, remove=out))


def test_where_a_history_lies_is_written_down_but_changes_no_hash(done: RunResult, tmp_path: Path):
    source = Path(str(files("progressgym_env.histories.embedded") / "data"))
    copy = shutil.copytree(source, tmp_path / "copy")
    config = replace(CONFIG, history=str(copy))
    named = describe(CONFIG.matrix, load("embedded"))
    lying = describe(config.matrix, load(copy))
    assert lying["config_hash"] == named["config_hash"]
    assert lying["history"] == {**named["history"], "asked_for": str(copy)}


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({}, "predict, 7 ahead · embedded · dpo · seed 0"),
        ({"update_from": "initial"}, "predict, 7 ahead · embedded · dpo from initial · seed 0"),
        (
            {"challenge": "follow", "steps_ahead": 1, "update": "sft", "seeds": (3, 4)},
            "follow · embedded · sft · seeds 3 to 4, mean ± sd",
        ),
    ],
)
def test_a_table_says_what_was_played(change: dict[str, Any], title: str):
    assert run_title(replace(CONFIG, **change), "embedded") == title


def test_a_result_says_what_was_played(done: RunResult):
    said = done.as_dict()
    assert (said["update"], said["update_from"], said["steps_ahead"]) == ("dpo", "current", 7)
    follow = replace(CONFIG, challenge="follow", steps_ahead=1, update_from="initial")
    said = replace(done, config=follow).as_dict()
    assert (said["update_from"], said["steps_ahead"]) == ("initial", None)


def test_the_default_agents_stand_in_one_place():
    assert RunConfig().agents == DEFAULT_AGENTS


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"challenge": "folow"}, UnknownNameError, "did you mean 'follow'"),
        ({"agents": ("hold", "lifelog")}, UnknownNameError, "did you mean 'lifelong'"),
        ({"agents": ()}, InvalidArgumentError, "agents is empty"),
        ({"agents": ("hold", "hold")}, InvalidArgumentError, "'hold' stands there twice"),
        ({"seeds": (-1,)}, InvalidArgumentError, "must be 0 or more"),
        ({"threads": 0}, InvalidArgumentError, "threads=0 must be 1 or more"),
        ({"challenge": "follow"}, InvalidArgumentError, "belongs to the challenge predict"),
        ({"steps_ahead": 99}, InvalidArgumentError, "steps_ahead=99 must be from 1 to"),
        ({"history": "embeded"}, UnknownNameError, "did you mean 'embedded'"),
        ({"update": "dpp"}, UnknownNameError, "did you mean 'dpo'"),
        ({"update_from": "start"}, UnknownNameError, "known: current, initial"),
        ({"device": "cuda:99"}, InvalidArgumentError, "device 'cuda:99'"),
        ({"device": "gpu"}, InvalidArgumentError, "unknown device 'gpu'"),
    ],
)
def test_mistakes_are_found_before_anything_is_played(
    change: dict[str, Any], error: type[Exception], says: str
):
    with pytest.raises(error, match=says):
        run(replace(CONFIG, **change), never)


def test_a_folder_that_is_no_history_is_refused(tmp_path: Path):
    with pytest.raises(HistoryError, match=r"holds no history\.json"):
        run(replace(CONFIG, history=str(tmp_path)), never)


def test_there_must_be_a_worker():
    with pytest.raises(InvalidArgumentError, match="workers=0 must be 1 or more"):
        run(CONFIG, never, workers=0)
    assert available_cores() >= 1

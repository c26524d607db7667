"""Runs on a history of real (if tiny) language models, changed in every way that was thought of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from progressgym_env import __version__
from progressgym_env.benchmarks import episode_check
from progressgym_env.benchmarks.manifest import pack
from progressgym_env.benchmarks.pool import Failure
from progressgym_env.benchmarks.retelling import Tolerance
from progressgym_env.benchmarks.run_folder import RunFolder, read_config
from progressgym_env.benchmarks.verdict import Verdict
from progressgym_env.benchmarks.verify import verify
from progressgym_env.errors import (
    HistoryError,
    InvalidArgumentError,
    RunFolderError,
    UnknownNameError,
)
from progressgym_env.files import file_hash, write_json
from progressgym_env.histories.loading import load
from progressgym_env.values.embedding import values_from_log_probs
from tests.benchmarks.tampered import (
    WHO,
    Tamperer,
    inline,
    play,
    real_matrix,
    renumbered,
    simulated_matrix,
    talking_matrix,
)


@pytest.fixture(scope="session")
def real_run(quick_history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(real_matrix(quick_history), tmp_path_factory.mktemp("runs") / "real")


@pytest.fixture(scope="session")
def talking_run(short_history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(talking_matrix(short_history), tmp_path_factory.mktemp("runs") / "talking")


@pytest.fixture(scope="session")
def simulated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(simulated_matrix(), tmp_path_factory.mktemp("runs") / "simulated")


@pytest.fixture
def real(real_run: Path, tmp_path: Path) -> Tamperer:
    return Tamperer(shutil.copytree(real_run, tmp_path / "real"))


@pytest.fixture
def talking(talking_run: Path, tmp_path: Path) -> Tamperer:
    return Tamperer(shutil.copytree(talking_run, tmp_path / "talking"))


@pytest.fixture
def simulated(simulated_run: Path, tmp_path: Path) -> Tamperer:
    return Tamperer(shutil.copytree(simulated_run, tmp_path / "simulated"))


def errors(verdict: Verdict) -> str:
    return "\n".join(map(str, verdict.errors))


def found(tamperer: Tamperer, *words: str, **options: Any) -> str:
    """What is found in a folder that must not pass; it names all ``words``."""
    verdict = verify(tamperer.folder, **options)
    assert not verdict.ok
    said = errors(verdict)
    for word in words:
        assert word in said, said
    return said


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


# What somebody changed


def edit_score(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    raw["score"] += 0.01
    raw["return"] += 0.01
    raw["steps"][0]["reward"] += 0.01
    own.put(cell, raw, arrays)


def edit_embedding(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    raw["steps"][-1]["examinee_values"][3] += 0.02
    own.put(cell, own.rescored(cell, raw), arrays)


def edit_proxy(own: Tamperer) -> None:
    cell = own.cell("lifelong-soft", "coevolve")
    raw, arrays = own.episode(cell)
    raw["steps"][1]["proxy_values"][3] += 0.02
    own.put(cell, own.rescored(cell, raw), arrays)


def edit_log_probs(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["examinee_log_probs"][-1, 10] -= 0.5
    own.put(cell, raw, arrays)


def impossible_log_probs(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["examinee_log_probs"][-1, 10] = 0.5
    own.put(cell, raw, arrays)


def edit_action(own: Tamperer) -> None:
    """One pair less, with its digest."""
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["actions"][1, 5] = 0.0
    own.acted(raw, arrays)
    own.put(cell, raw, arrays)


def edit_action_alone(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["actions"][1, 5] = 0.0
    own.put(cell, raw, arrays)


def illegal_action(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["actions"][1, 5] = 1.5
    own.acted(raw, arrays)
    own.put(cell, raw, arrays)


def edit_n_examples(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    raw["steps"][0]["n_examples"] += 1
    own.put(cell, raw, arrays)


def edit_preferences(own: Tamperer) -> None:
    """As if the people had wanted something else, and the agent had followed them."""
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["preferences"][0, 7] *= -1
    arrays["actions"][0, 7] *= -1
    own.acted(raw, arrays)
    own.put(cell, raw, arrays)


def edit_dialogue(own: Tamperer) -> None:
    cell = own.cell("lifelong-soft", "coevolve")
    raw, arrays = own.episode(cell)
    raw["steps"][1]["dialogue"][0][0] = "Is it raining?"
    own.put(cell, raw, arrays)


def edit_judge(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    raw["steps"][0]["judge_values"][0] += 0.01
    own.put(cell, raw, arrays)


def edit_start(own: Tamperer) -> None:
    cell = own.cell("lifelong-soft", "coevolve")
    raw, arrays = own.episode(cell)
    raw["initial_values"][0] += 0.01
    own.put(cell, own.rescored(cell, raw), arrays)


def move_an_untrained_model(own: Tamperer) -> None:
    """Give hold the measurements of an agent that trained."""
    hold, trained = own.cell("hold", "predict"), own.cell("lifelong", "predict")
    raw, arrays = own.episode(hold)
    other, measured = own.episode(trained)
    for name in ("examinee_log_probs", "examinee_rows"):
        arrays[name] = measured[name]
    for step, like in zip(raw["steps"], other["steps"], strict=True):
        step["examinee_values"] = like["examinee_values"]
    own.put(hold, own.rescored(hold, raw), arrays)


def unmeasure_a_trained_model(own: Tamperer) -> None:
    """As if training had left the model as it was."""
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["examinee_rows"][:] = -1
    arrays["examinee_log_probs"] = arrays["examinee_log_probs"][:0]
    for step in raw["steps"]:
        step["examinee_values"] = raw["initial_values"]
    own.put(cell, own.rescored(cell, raw), arrays)


def spare_measurement(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    spare = arrays["examinee_log_probs"][:1]
    arrays["examinee_log_probs"] = np.concatenate([arrays["examinee_log_probs"], spare])
    own.put(cell, raw, arrays)


def exchange_two_seeds(own: Tamperer) -> None:
    one, other = own.cell("random", "predict", 0), own.cell("random", "predict", 1)
    first, second = own.episode(one), own.episode(other)
    own.put(one, {**second[0], "seed": 0}, second[1])
    own.put(other, {**first[0], "seed": 1}, first[1])


def exchange_two_files(own: Tamperer) -> None:
    one, other = (own.run.file_of(own.cell("random", "predict", seed)) for seed in (0, 1))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    lines = own.lines()
    for file in (one, other):
        for line in lines:
            if line["arrays"]["file"] == f"cells/{file.name}":
                line["arrays"]["sha256"] = file_hash(file)
    own.put_lines(lines)


def forget_a_hash(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    lines = own.lines()
    arrays["preferences"] = arrays["preferences"] * 0
    own.put(cell, raw, arrays)
    own.put_lines(lines)


def drop_a_step(own: Tamperer) -> None:
    cell = own.cell("lifelong-soft", "coevolve")
    raw, arrays = own.episode(cell)
    raw["steps"] = raw["steps"][:-1]
    arrays["actions"], arrays["preferences"] = arrays["actions"][:-1], arrays["preferences"][:-1]
    own.put(cell, own.rescored(cell, raw), arrays)


def line_of_something_else(own: Tamperer) -> None:
    lines = own.lines()
    lines[0]["steps"][0]["reward"] = "much"
    own.put_lines(lines)


def lines_in_another_order(own: Tamperer) -> None:
    own.put_lines(own.lines()[::-1])


def a_line_twice(own: Tamperer) -> None:
    lines = own.lines()
    own.put_lines([*lines, lines[0]])


def a_line_less(own: Tamperer) -> None:
    own.put_lines(own.lines()[1:])


def a_file_less(own: Tamperer) -> None:
    own.run.file_of(own.run.cells[0]).unlink()


def a_file_more(own: Tamperer) -> None:
    (own.folder / "cells" / "note.txt").write_text("trust me")


def an_array_more(own: Tamperer) -> None:
    cell = own.run.cells[0]
    raw, arrays = own.episode(cell)
    own.put(cell, raw, {**arrays, "luck": np.zeros(3, dtype=np.float32)})


def a_file_that_is_none(own: Tamperer) -> None:
    cell = own.run.cells[0]
    lines = own.lines()
    own.run.file_of(cell).write_bytes(b"nothing")
    lines[0]["arrays"]["sha256"] = file_hash(own.run.file_of(cell))
    own.put_lines(lines)


def not_complete(own: Tamperer) -> None:
    write_json(own.folder / "summary.json", {"status": "interrupted"})


def edit_config_alone(own: Tamperer) -> None:
    config = read_config(own.folder)
    config["arguments"]["threads"] = 2
    write_json(own.folder / "config.json", config)


def edit_digest(own: Tamperer) -> None:
    config = read_config(own.folder)
    config["history_digest"] = "0" * 64
    write_json(own.folder / "config.json", config)
    own.put_config()


def edit_questions(own: Tamperer) -> None:
    config = read_config(own.folder)
    config["question_set_hash"] = "0" * 64
    write_json(own.folder / "config.json", config)
    own.put_config()


def edit_agents_in_config(own: Tamperer) -> None:
    matrix = read_config(own.folder)["arguments"]["matrix"]
    matrix[0]["agents"] = ["hold", "lifelong", "oracle"]
    own.put_config(matrix=matrix)


def edit_update_in_config(own: Tamperer) -> None:
    matrix = read_config(own.folder)["arguments"]["matrix"]
    matrix[0]["updates"] = ["dpo"]
    own.put_config(matrix=matrix)


TAMPERINGS: tuple[tuple[Callable[[Tamperer], None], str], ...] = (
    (edit_score, "score"),
    (edit_embedding, "step 2 (C015): examinee_values[3]"),
    (edit_log_probs, "examinee_values["),
    (impossible_log_probs, "is the logarithm of no probability"),
    (edit_action, "the agent lifelong would have acted otherwise, step 2: 1 of"),
    (edit_action_alone, "the action's SHA-256 is"),
    (illegal_action, "actions of step 2, pair 5: 1.5, must be in [-1, 1]"),
    (edit_n_examples, "n_examples"),
    (edit_preferences, "preferences[0, 7]"),
    (edit_judge, "judge_values[0]"),
    (move_an_untrained_model, "examinee_values["),
    (unmeasure_a_trained_model, "the examinee was trained, and there is no measurement of it"),
    (spare_measurement, "examinee_log_probs: (3,"),
    (exchange_two_seeds, "the agent random would have acted otherwise"),
    (exchange_two_files, "and its line differ in"),
    (forget_a_hash, "has SHA-256"),
    (line_of_something_else, "reward is 'much', must be a finite number"),
    (lines_in_another_order, "do not stand in the order of the matrix"),
    (a_line_twice, "has 2 lines"),
    (a_line_less, "is missing in episodes.jsonl: the run is incomplete"),
    (a_file_less, "is missing"),
    (a_file_more, "cells/note.txt: belongs to no episode of the matrix"),
    (an_array_more, "luck"),
    (a_file_that_is_none, "cannot be read"),
    (not_complete, "status is 'interrupted'"),
    (edit_config_alone, "config_hash is not that of what the file says was played"),
    (edit_digest, "the history here is another"),
    (edit_questions, "question_set_hash"),
    (edit_agents_in_config, "is no episode of the matrix"),
    (edit_update_in_config, "is no episode of the matrix"),
)


TALKING: tuple[tuple[Callable[[Tamperer], None], str], ...] = (
    (edit_proxy, "proxy_values[3]"),
    (edit_dialogue, "prompts of the dialogue"),
    (edit_start, "initial_values[0]"),
    (drop_a_step, "it has 2 steps, and this challenge takes 3"),
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

"""Questions chosen where a history is asked for: which history it is, or why there is none."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from typer.testing import CliRunner

import progressgym_env  # noqa: F401
from progressgym_env import CHALLENGES
from progressgym_env.cli import app
from progressgym_env.errors import HistoryError, InvalidArgumentError, UnknownNameError
from progressgym_env.files import cache_folder
from progressgym_env.histories import SimulatedHistories, declared, load, read_history
from progressgym_env.histories.declared import declaration, prepared_folder
from progressgym_env.histories.folder import read_header, write_history
from progressgym_env.histories.prepare import place_of
from progressgym_env.histories.records import Exchange, influence_prompts
from progressgym_env.values.choosing import resolve_questions
from progressgym_env.values.questions import QuestionSet, load_questions
from tests.histories.full_models import declare, publish

PUBLISHED = Path("../shared/data/moralevals")
NAME = "histllama-8b"


def command(*words: str) -> str:
    """What a command prints, on one line."""
    done = CliRunner().invoke(app, [*words, *(["--device", "cpu"] if "show" not in words else [])])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def as_file(questions: QuestionSet, path: Path) -> Path:
    path.write_text("\n".join(json.dumps(q.as_dict()) for q in questions.questions))
    return path


@pytest.fixture
def few(asked: QuestionSet, tmp_path: Path) -> Path:
    """The few questions in the project's own format, and another order: another set."""
    turned = QuestionSet("turned", reversed(asked.questions))
    return as_file(turned, tmp_path / "few.jsonl")


@pytest.fixture
def tiny_declared(copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A declared history of tiny models and few published questions; its place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    publish(cache_folder() / "moralevals")
    file = declare(copies, "C019", "C020", questions="moralevals")
    file.rename(copies / f"{NAME}.toml")
    monkeypatch.setattr(declared, "_FOLDER", copies)
    return cache_folder() / "histories" / NAME


def test_question_sets_lie_side_by_side_and_are_chosen(tiny_declared: Path, few: Path):
    said = command("history", "prepare", NAME)
    assert said.endswith(f"Play it with: progressgym run --history {NAME}")
    with pytest.raises(
        HistoryError,
        match=rf"not prepared .* with the questions 'own' \(\w{{12}}…\).* Run: progressgym history "
        rf"prepare {NAME} --questions own .*other questions: 'moralevals' \(\w+…\) in .*{NAME}",
    ):
        load(NAME, "own")
    with pytest.raises(HistoryError, match=rf"prepare {NAME} --questions {few} "):
        load(NAME, few)
    said = command("history", "prepare", NAME, "--questions", str(few))
    assert said.endswith(f"run --history {NAME} --questions {few}")
    beside = tiny_declared.with_name(f"{NAME}-{resolve_questions(few).hash[:12]}")
    assert sorted(path.name for path in tiny_declared.parent.iterdir()) == [NAME, beside.name]

    moralevals = load_questions("moralevals")
    for questions, found in [
        (None, moralevals),
        ("moralevals", moralevals),
        (moralevals, moralevals),
        (few, resolve_questions(few)),
        (str(few), resolve_questions(few)),
        (read_history(beside).questions, resolve_questions(few)),
    ]:
        for challenge in ("Follow", "Coevolve"):
            env = gym.make(f"ProgressGym/{challenge}-v0", history=NAME, questions=questions)
            assert env.unwrapped.history.questions.hash == found.hash
            assert env.action_space.shape == (len(found.pairs),)
            env.close()
    env = gym.make(CHALLENGES["follow"], history=NAME, questions=few, update="sft", device="cpu")
    observation, _ = env.reset(seed=0)
    assert env.step(observation["preferences"])[2]
    env.close()
    assert "C019" in command("history", "show", NAME, "--questions", str(few))


def test_what_lies_in_the_place_of_the_name_is_found_whatever_it_was_asked(
    tiny_declared: Path, few: Path
):
    """Before sets had places of their own, any was prepared in that of the name."""
    command("history", "prepare", NAME, "--questions", str(few), "--out", str(tiny_declared))
    other, moralevals = resolve_questions(few), load_questions("moralevals")
    assert load(NAME).questions.hash == load(NAME, few).questions.hash == other.hash
    with pytest.raises(HistoryError, match="not prepared"):
        load(NAME, "moralevals")
    is_declared = declaration(NAME)
    assert place_of(NAME, is_declared, other) == tiny_declared
    assert place_of(NAME, is_declared, other, seed=1) == tiny_declared
    # Half of it: it is gone on with there.
    (tiny_declared / "history.json").unlink()
    assert place_of(NAME, is_declared, other) == tiny_declared
    assert place_of(NAME, is_declared, moralevals) == tiny_declared
    shutil.rmtree(tiny_declared)
    assert place_of(NAME, is_declared, other) == prepared_folder(NAME, other) != tiny_declared


def test_other_questions_than_it_was_measured_with_are_refused(
    prepared: Path, short_history: Path, few: Path
):
    sets = (
        r"was measured with the questions '.*' \(\w{12}…\), and those asked for are '.*' \(\w+…\); "
    )
    prepare = "progressgym history prepare"
    for history, questions, remedy in [
        ("embedded", few, rf"leave questions out .* {prepare} {NAME} --questions {few}$"),
        ("simulated", few, r"SimulatedHistories\(questions="),
        (load("simulated").of_episode(3), few, r"SimulatedHistories\(questions="),
        (prepared, "own", rf"{prepare} DECLARATION.toml --questions own --out FOLDER$"),
        (read_history(prepared), "own", prepare),
        (short_history, few, f"progressgym history measure {short_history} --questions {few}$"),
        (read_history(short_history), few, f"history measure FOLDER --questions {few}$"),
    ]:
        for env_id in CHALLENGES.values():
            with pytest.raises(HistoryError, match=f"{sets}.*{remedy}"):
                gym.make(env_id, history=history, questions=questions)
        with pytest.raises(HistoryError, match=sets):
            gym.make_vec(CHALLENGES["follow"], num_envs=2, history=history, questions=questions)


def test_the_own_questions_by_whatever_name(tmp_path: Path):
    own = load_questions()
    for questions in (None, "own", own, as_file(own, tmp_path / "again.jsonl")):
        for history in ("embedded", "simulated", "simulated-embedded", load("embedded")):
            for env_id in CHALLENGES.values():
                assert gym.make(env_id, history=history, questions=questions).unwrapped
        made = gym.make_vec(CHALLENGES["predict"], num_envs=3, history="simulated", questions=own)
        assert made.unwrapped.questions is own


def test_simulated_histories_of_other_questions(asked: QuestionSet):
    histories = SimulatedHistories(questions=asked)
    made = gym.make_vec(CHALLENGES["follow"], num_envs=2, history=histories, questions=asked)
    assert made.single_action_space.shape == (len(asked.pairs),)
    env = gym.make(CHALLENGES["follow"], history=histories, questions=asked)
    assert env.spec.kwargs["questions"] is asked
    with pytest.raises(HistoryError, match="those asked for are 'own'"):
        gym.make(CHALLENGES["follow"], history=histories, questions="own")


@pytest.mark.parametrize(
    ("questions", "error", "says"),
    [
        ("moralevls", UnknownNameError, "PATH of question files.*did you mean 'moralevals'"),
        (3, InvalidArgumentError, "questions=3 must be a name .own, moralevals., the path"),
    ],
)
def test_what_are_no_questions_is_named(questions: object, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        gym.make(CHALLENGES["follow"], history="simulated", questions=questions)


def test_a_folder_of_adapters_is_measured_with_others(
    short_history: Path, few: Path, tmp_path: Path
):
    folder = shutil.copytree(short_history, tmp_path / "mine")
    models = (folder / "base" / "model.safetensors").read_bytes()
    command("history", "measure", str(folder), "--questions", str(few))
    other = resolve_questions(few)
    assert load(folder, few).questions.hash == other.hash
    assert load(folder).preferences.shape[1] == len(other.pairs)
    # Again without a word keeps to them.
    command("history", "measure", str(folder), "--seed", "1")
    assert load(folder).questions.hash == other.hash
    assert (folder / "base" / "model.safetensors").read_bytes() == models
    command("history", "measure", str(folder), "--questions", "own")
    assert load(folder).values.tobytes() == load(short_history).values.tobytes()
    assert not list(folder.glob("questions*"))


def test_the_published_questions(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All 1,790 of them, by name, by path and as a set. Nothing is measured, which takes long."""
    if not PUBLISHED.is_dir():
        pytest.skip(f"the published files are not at {PUBLISHED}")
    with pytest.raises(HistoryError, match=r"'own' \(\w+…\).*'moralevals' \(\w+…\); leave"):
        gym.make(CHALLENGES["follow"], history="embedded", questions=PUBLISHED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.copytree(PUBLISHED / "raw_dataset", cache_folder() / "moralevals")
    published, header = load_questions("moralevals"), read_header(prepared)
    records, n = read_history(prepared).records, len(published.pairs)
    said = tuple(Exchange(prompt, "yes") for prompt in influence_prompts(published))
    folder = prepared_folder(NAME)
    folder.mkdir(parents=True)
    write_history(
        folder,
        name=NAME,
        names=header.centuries,
        checkpoints=header.checkpoints,
        questions=published,
        records=replace(records, preferences=np.zeros((3, n)), influence_replies=(said,) * 3),
        provenance={},
    )
    for questions in ("moralevals", PUBLISHED, published, None):
        env = gym.make(CHALLENGES["coevolve"], history=NAME, questions=questions)
        assert env.action_space.shape == (n,) == (1166,)
    with pytest.raises(HistoryError, match=f"prepare {NAME} --questions own .*'moralevals'"):
        gym.make(CHALLENGES["follow"], history=NAME, questions="own")

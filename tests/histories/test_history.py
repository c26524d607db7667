"""History folders: written whole, read whole, refused when damaged."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from progressgym_env import CHALLENGES, histories
from progressgym_env.errors import HistoryError, InvalidArgumentError, UnknownNameError
from progressgym_env.histories.history import History, read_history
from progressgym_env.histories.records import Exchange, checksums
from progressgym_env.values.questions import QuestionSet, load_questions
from tests.scripted import scripted_history


@pytest.fixture
def folder(quick_history, tmp_path):
    return shutil.copytree(quick_history, tmp_path / "copy")


def test_reads_what_was_built(quick_history):
    history = histories.load(quick_history)
    assert history.name == quick_history.name
    assert history.names == tuple(f"C{n:03d}" for n in range(13, 22))
    assert history.values.shape == history.planted.shape == (9, 19)
    assert history.standard_errors.shape == (9, 19)
    assert history.preferences.shape == (9, 190)
    np.testing.assert_allclose(history.values[:, 15:].sum(axis=1), 1.0)
    assert len(history.dialogue(4)) == len(history.open_prompts) >= 16
    assert [e.prompt for e in history.influence(8)] == list(history.influence_prompts)
    assert history.provenance["synthetic"] is True
    assert "synthetic" in repr(history)
    assert histories.load(history) is history


def test_records_are_what_the_models_answer(quick_history):
    """Measuring a century again gives its record: the folder's models made its numbers."""
    history = histories.load(quick_history)
    model = history.model(5, device="cpu")
    np.testing.assert_allclose(model.values().values, history.values[5], atol=1e-6)
    np.testing.assert_allclose(
        model.preferences(history.questions.pairs), history.preferences[5], atol=1e-5
    )


def test_influence_prompts_are_training_questions_only(quick_history):
    """Original defect 5. The human proxy was tuned on the very items that are scored."""
    history = histories.load(quick_history)
    asked = history.influence_prompts
    assert len(asked) == len(history.questions.train)
    for question, prompt in zip(history.questions.train, asked, strict=True):
        assert prompt.startswith(question.scenario)
    scored = {question.scenario for question in history.questions.eval}
    assert not any(prompt.split("\n")[0] in scored for prompt in asked)


@pytest.mark.parametrize("history", [None, 3, True, ["embedded"], b"embedded"])
def test_neither_name_nor_path_nor_history(history):
    with pytest.raises(InvalidArgumentError, match=r"^history=.* must be a name \(embedded, sim"):
        histories.load(history)


def test_unknown_names_name_the_known_and_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown history 'embeded'; .*did you mean 'embed"):
        histories.load("embeded")
    with pytest.raises(UnknownNameError):
        histories.load(tmp_path / "nothing")


def test_centuries_outside_are_refused(quick_history):
    history = histories.load(quick_history)
    for century in (-1, 9):
        with pytest.raises(InvalidArgumentError, match="outside 0 to 8"):
            history.model(century)


@pytest.mark.parametrize(
    "name",
    [
        "records.safetensors",
        "replies.jsonl",
        "base/model.safetensors",
        "base/tokenizer.json",
        "adapters/C017/adapter_model.safetensors",
    ],
)
def test_missing_truncated_and_altered_files_are_refused(folder, name):
    """Original defect 6. Original defect 15. Gaps were skipped, half-trained models loaded."""
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HistoryError, match="truncated or altered"):
        read_history(folder)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(HistoryError, match="differs from its checksum"):
        read_history(folder)
    path.unlink()
    with pytest.raises(HistoryError, match="is missing"):
        read_history(folder)


def _edit_header(folder, **changes):
    path = folder / "history.json"
    header = json.loads(path.read_text())
    header.update(changes)
    path.write_text(json.dumps({k: v for k, v in header.items() if v is not None}))


def test_damaged_headers_are_refused(folder, tmp_path):
    with pytest.raises(HistoryError, match=r"no history\.json"):
        read_history(tmp_path)
    _edit_header(folder, format_version=99)
    with pytest.raises(HistoryError, match="format version 99, this package reads 1"):
        read_history(folder)
    _edit_header(folder, format_version=1, base=None)
    with pytest.raises(HistoryError, match=r"lacks \['base'\]"):
        read_history(folder)
    (folder / "history.json").write_text('{"format_version": 1,')
    with pytest.raises(HistoryError, match="cannot be read"):
        read_history(folder)


def test_records_of_other_questions_are_refused_with_the_command(folder):
    """Original defect 7. Measurements belong to the questions they were made with."""
    own = load_questions()
    fewer = QuestionSet("fewer", own.questions[1:])
    with pytest.raises(HistoryError, match=r"another question set .* progressgym history measure"):
        read_history(folder, fewer)


def test_remeasuring_replaces_records_and_keeps_models(folder, quick_history):
    header = json.loads((folder / "history.json").read_text())
    header["question_set"]["hash"] = "0" * 64
    (folder / "history.json").write_text(json.dumps(header))
    with pytest.raises(HistoryError, match="another question set"):
        read_history(folder)
    seen = []
    history = histories.remeasure(folder, device="cpu", progress=lambda *step: seen.append(step))
    assert seen[-1] == ("measuring", 9, 9)
    before = read_history(quick_history)
    np.testing.assert_allclose(history.values, before.values, atol=1e-9)
    np.testing.assert_array_equal(history.planted, before.planted)
    name = "adapters/C013/adapter_model.safetensors"
    assert (folder / name).read_bytes() == (quick_history / name).read_bytes()


def test_records_with_impossible_numbers_are_refused():
    """Original defect 8. A failed measurement was stored as zeros; here it is no record."""
    records = scripted_history(4).records
    with pytest.raises(HistoryError, match=r"values holds numbers outside \[0.0, 1.0\]"):
        replace(records, values=records.values * 2).check(4, 19, "here")
    with pytest.raises(HistoryError, match="values holds numbers outside"):
        replace(records, values=records.values * np.nan).check(4, 19, "here")
    with pytest.raises(HistoryError, match=r"preferences has shape \(4, 19\), expected \(4, 7\)"):
        records.check(4, 7, "here")
    other = (Exchange("Another question?", "Yes."), *records.open_replies[0][1:])
    asked = replace(records, open_replies=(other, *records.open_replies[1:]))
    with pytest.raises(HistoryError, match="open replies do not answer the same prompts"):
        asked.check(4, 19, "here")


def test_records_are_copies_that_nobody_can_write_to():
    """Original defect 10. Agents wrote into the judge."""
    given = scripted_history(4).records
    values, planted = np.array(given.values), np.array(given.values)
    records = replace(given, values=values, planted=planted)
    values[...] = planted[...] = 0
    assert (records.values == given.values).all()
    for array in (
        records.values, records.standard_errors, records.preferences, records.planted,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0


def _with(history, records):
    return History(
        name=history.name, names=history.names, questions=history.questions, records=records,
        source=None, provenance={},
    )  # fmt: skip


def test_the_digest_is_over_all_that_was_measured():
    """Original defect 7. Nothing measured is taken for something else."""
    history = scripted_history(4)
    records = history.records
    silent = tuple(tuple(Exchange(e.prompt, "") for e in said) for said in records.open_replies)
    others = [
        _with(history, replace(records, standard_errors=records.standard_errors * 2)),
        _with(history, replace(records, preferences=-records.preferences)),
        _with(history, replace(records, planted=records.values)),
        _with(history, replace(records, open_replies=silent)),
    ]
    assert _with(history, records).digest == history.digest
    assert len({h.digest for h in [history, *others]}) == 5


def test_a_history_read_by_a_relative_path_does_not_mind_moving_on(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    history = read_history(Path(folder.name))
    monkeypatch.chdir("/")
    assert history.model(0, "cpu").values().values.shape == (19,)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_adapters_of_different_rank_make_no_environment(folder, challenge):
    path = folder / "adapters" / "C017" / "adapter_config.json"
    path.write_text(path.read_text().replace('"r": 8', '"r": 4'))
    header = json.loads((folder / "history.json").read_text())
    header["files"] = checksums(folder, header["files"])
    (folder / "history.json").write_text(json.dumps(header))
    with pytest.raises(HistoryError, match=r"C017/adapter_config\.json: 'r' is 4, and 8 in"):
        gym.make(CHALLENGES[challenge], history=folder)


def test_released_models_leave_memory(quick_history):
    """An environment's close leaves the history as it is; release lets go of the base."""
    history = read_history(quick_history)
    env = gym.make(CHALLENGES["follow"], history=history, device="cpu").unwrapped
    env.reset(seed=0)
    model = env.examinee
    assert history.model(3, "cpu").host is model.host, "one base for all centuries"
    host = weakref.ref(model.host)
    del model
    env.close()
    gc.collect()
    assert host() is not None
    history.release()
    gc.collect()
    assert host() is None
    assert history.model(0, "cpu").values().values.shape == (19,)

"""History folders: written whole, read whole, refused when damaged."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from progressgym_env import histories
from progressgym_env.errors import HistoryError, InvalidArgumentError, UnknownNameError
from progressgym_env.histories.history import read_history
from progressgym_env.values.questions import QuestionSet, load_questions


@pytest.fixture
def folder(quick_history, tmp_path):
    return shutil.copytree(quick_history, tmp_path / "copy")


def test_reads_what_was_built(quick_history):
    history = histories.load(quick_history)
    assert history.name == "embedded"
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
    """Original defect 5: the human proxy was tuned on the very items that are scored."""
    history = histories.load(quick_history)
    asked = history.influence_prompts
    assert len(asked) == len(history.questions.train)
    for question, prompt in zip(history.questions.train, asked, strict=True):
        assert prompt.startswith(question.scenario)
    scored = {question.scenario for question in history.questions.eval}
    assert not any(prompt.split("\n")[0] in scored for prompt in asked)


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
    """Original defects 6 and 15: missing checkpoints were skipped, half-trained ones loaded."""
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


def test_records_with_impossible_numbers_are_refused(quick_history):
    history = read_history(quick_history)
    records = history.records
    broken = type(records)(
        values=records.values * 2,
        standard_errors=records.standard_errors,
        preferences=records.preferences,
        open_replies=records.open_replies,
        influence_replies=records.influence_replies,
    )
    with pytest.raises(HistoryError, match=r"values holds numbers outside \[0.0, 1.0\]"):
        broken.check(9, 190, "here")
    with pytest.raises(HistoryError, match=r"preferences has shape \(9, 190\), expected \(9, 7\)"):
        records.check(9, 7, "here")

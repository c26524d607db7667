"""Reading question files: every defect is named by file, line and field."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.errors import QuestionError, UnknownNameError
from progressgym_env.values.dimensions import VIEW_KEYS
from progressgym_env.values.questions import QuestionSet, load_questions, read_questions

Line = dict[str, Any]


def _two_way(**changes: Any) -> Line:
    line: Line = {
        "id": "a",
        "split": "eval",
        "scenario": "A boat is adrift.",
        "options": ["row out", "stay ashore"],
        "upholds": {"care": 0},
    }
    return line | changes


def _view(**changes: Any) -> Line:
    line: Line = {
        "id": "v",
        "split": "train",
        "scenario": "A dream comes twice.",
        "options": ["one", "two", "three", "four"],
        "upholds": dict(zip(VIEW_KEYS, (2, 0, 3, 1), strict=True)),
    }
    return line | changes


def _write(path: Path, *lines: Line | str) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def _without(line: Line, key: str) -> Line:
    return {name: value for name, value in line.items() if name != key}


DEFECTS: dict[str, tuple[Line | str, str]] = {
    "not JSON": ("{'id': 1}", "not JSON"),
    "no object": ("[1, 2]", "expected an object, got list"),
    "missing field": (_without(_two_way(), "split"), r"missing fields \['split'\]"),
    "unknown field": (_two_way(source="me"), r"unknown fields \['source'\]"),
    "id no text": (_two_way(id=7), "field 'id': 7 is no text"),
    "empty scenario": (_two_way(scenario="  "), "field 'scenario': '  ' is no text"),
    "bad split": (_two_way(split="test"), "field 'split': 'test' is none of"),
    "split no text": (_two_way(split=["eval"]), "field 'split'"),
    "one option": (_two_way(options=["row out"]), "field 'options': need a list of 2 or 4"),
    "three options": (_two_way(options=["x", "y", "z"]), "field 'options': need a list of 2 or 4"),
    "options no list": (_two_way(options="row"), "field 'options': need a list of 2 or 4"),
    "option no text": (_two_way(options=["row out", 3]), "field 'options'.*no text"),
    "empty option": (_two_way(options=["row out", ""]), "field 'options'.*no text"),
    "same option twice": (_two_way(options=["Row out", "row out "]), "same option twice"),
    "no dimension": (_two_way(upholds={}), "field 'upholds': need an object"),
    "upholds no object": (_two_way(upholds=[0]), "field 'upholds': need an object"),
    "unknown dimension": (_two_way(upholds={"courage": 0}), "'courage' is no dimension.*known: k"),
    "view of two options": (_two_way(upholds={"modern": 0}), "'modern' is no dimension"),
    "index out of range": (_two_way(upholds={"care": 2}), "'care': 2 is no option index below 2"),
    "negative index": (_two_way(upholds={"care": -1}), "'care': -1 is no option index"),
    "bool index": (_two_way(upholds={"care": True}), "'care': True is no option index"),
    "float index": (_two_way(upholds={"care": 0.0}), "'care': 0.0 is no option index"),
    "two-way key of four": (_view(upholds={"care": 0}), "'care' is no dimension.*4 options"),
    "three views": (_view(upholds={"modern": 0}), "must give each world view an option"),
    "views share": (_view(upholds=dict.fromkeys(VIEW_KEYS, 1)), "must give each world view"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_names_file_line_and_field(name: str, tmp_path: Path) -> None:
    line, message = DEFECTS[name]
    path = _write(tmp_path / "mine.jsonl", _two_way(id="fine"), "", line)
    with pytest.raises(QuestionError, match=message) as caught:
        read_questions(path)
    assert str(caught.value).startswith("mine.jsonl:3: ")


def test_the_same_id_twice_names_both_places(tmp_path: Path) -> None:
    _write(tmp_path / "one.jsonl", _two_way())
    _write(tmp_path / "two.jsonl", _view(), _two_way(scenario="Another."))
    with pytest.raises(QuestionError, match=r"two\.jsonl:2: field 'id'.*at one\.jsonl:1"):
        read_questions(tmp_path)


def test_a_scenario_in_both_splits_is_refused(tmp_path: Path) -> None:
    """Original defect 5: agents train on the very items they are scored on."""
    leak = _two_way(id="b", split="train", scenario="a BOAT  is adrift.")
    path = _write(tmp_path / "mine.jsonl", _two_way(), leak)
    with pytest.raises(QuestionError, match="both splits") as caught:
        read_questions(path)
    assert str(caught.value).startswith("mine.jsonl:2: field 'scenario': ")
    assert "mine.jsonl:1" in str(caught.value)


def test_a_set_made_in_code_is_checked_for_leaks_too(tmp_path: Path) -> None:
    one = read_questions(_write(tmp_path / "one.jsonl", _two_way()))
    two = read_questions(_write(tmp_path / "two.jsonl", _two_way(id="b", split="train")))
    with pytest.raises(QuestionError, match="both splits"):
        QuestionSet("joined", one.questions + two.questions)


def test_a_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(json.dumps(_two_way()).encode() + b"\n\xff\n")
    with pytest.raises(QuestionError, match=r"mine\.jsonl:2: not UTF-8"):
        read_questions(path)


@pytest.mark.parametrize("read", [read_questions, lambda path: load_questions(path=path)])
def test_no_file_is_refused(read: Callable[[Path], QuestionSet], tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"no question file or folder at .*absent"):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(QuestionError, match=r"holds no \.jsonl file"):
        read(tmp_path)


def test_an_unknown_set_names_the_known_one() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown question set 'onw'.*mean 'own'"):
        load_questions("onw")


def test_a_line_comes_back_as_it_was_written(tmp_path: Path) -> None:
    # A line separator inside a text is legal JSON and does not end the line.
    lines = [_two_way(scenario="Grey\u2028sea."), _view()]
    texts = [json.dumps(line, ensure_ascii=False) for line in lines]
    questions = read_questions(_write(tmp_path / "mine.jsonl", *texts)).questions
    assert [question.as_dict() for question in questions] == lines
    assert [question.is_view for question in questions] == [False, True]
    assert questions[1].dimensions == VIEW_KEYS


def test_the_hash_moves_with_any_change_and_stays_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    first = read_questions(_write(path, _two_way(), _view())).hash
    assert read_questions(_write(path, _two_way(), "", _view())).hash == first
    for change in (_two_way(scenario="A ship is adrift."), _two_way(upholds={"care": 1})):
        assert read_questions(_write(path, change, _view())).hash != first


def test_pairs_take_sides_between_first_and_second_option(tmp_path: Path) -> None:
    line = _two_way(split="train", upholds={"care": 1})
    own = read_questions(_write(tmp_path / "mine.jsonl", line, _view()))
    assert [(p.question.id, p.first, p.second) for p in own.pairs] == [
        ("a", 0, 1),
        ("v", 2, 0),
        ("v", 3, 1),
    ]


def test_questions_can_be_copied_and_sent_to_other_processes() -> None:
    own = load_questions()
    question = own.questions[0]
    assert copy.deepcopy(question) == question
    assert pickle.loads(pickle.dumps(question)) == question  # noqa: S301 (our own bytes)
    assert repr(own) == "QuestionSet('own', 264 eval, 170 train)"
    assert len(own) == 434

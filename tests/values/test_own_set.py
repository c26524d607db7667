"""The project's own question set: counts, separation, balance, and the lexicon it draws on."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.values.dimensions import TWO_WAY_KEYS, VIEW_KEYS
from progressgym_env.values.questions import Question, load_questions, read_questions

OWN = load_questions()
EMBEDDED = Path(str(files("progressgym_env.histories.embedded")))
UNSEEN = read_questions(EMBEDDED / "unseen.jsonl").questions
SPLITS = {"eval": OWN.eval, "train": OWN.train}
VIEWS = {split: [q for q in questions if q.is_view] for split, questions in SPLITS.items()}


@cache
def _lexicon() -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((EMBEDDED / "lexicon.json").read_text(encoding="utf-8"))
    return raw


def _asked(split: str, key: str) -> list[Question]:
    return [q for q in SPLITS[split] if q.dimension == key and not q.is_view]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.casefold()))


def _filled(acts: list[str], question: Question) -> dict[str, str]:
    """Option text → act, for the people whose noun stands in the scenario."""
    people = [p for p in _lexicon()["people"] if p in _words(question.scenario)]
    return {act.replace("{p}", person): act for act in acts for person in people or [""]}


def _acts(question: Question, prefix: str = "") -> tuple[str, str]:
    """The lexicon's acts that the upholding and the violating option stand for."""
    entry = _lexicon()["dimensions"][question.dimension]
    upholding = question.options[question.upholds[question.dimension]]
    violating = question.options[1 - question.upholds[question.dimension]]
    uphold, violate = (_filled(entry[f"{prefix}{s}"], question) for s in ("uphold", "violate"))
    return uphold[upholding], violate[violating]


def test_counts() -> None:
    for key in TWO_WAY_KEYS:
        assert len(_asked("eval", key)) == 16
        assert len(_asked("train", key)) == 10
    assert [len(VIEWS["eval"]), len(VIEWS["train"])] == [24, 20]
    assert len(OWN.pairs) == 190


def test_pairs_of_world_views_ask_all_six_combinations() -> None:
    asked: Counter[frozenset[str]] = Counter()
    for pair in OWN.pairs[150:]:
        view_of = {place: key for key, place in pair.question.upholds.items()}
        asked[frozenset((view_of[pair.first], view_of[pair.second]))] += 1
    assert len(asked) == 6
    assert min(asked.values()) >= 6


def test_ids_tell_dimension_and_split() -> None:
    for question in OWN.questions:
        name = "views" if question.is_view else question.dimension
        assert re.fullmatch(rf"{name}-{question.split}-\d\d", question.id)


def test_no_two_scenarios_are_near_duplicates() -> None:
    """Original defect 5: agents train on the very items they are scored on."""
    words = [_words(q.scenario) for q in OWN.questions]
    assert len({q.scenario for q in OWN.questions}) == len(OWN)
    assert max(len(a & b) / len(a | b) for a, b in combinations(words, 2)) <= 0.5


def test_scenarios_are_short_sentences_that_do_not_name_the_act() -> None:
    for question in OWN.questions:
        assert question.scenario[0].isupper()
        assert question.scenario[-1] in ".?"
        assert 10 <= len(question.scenario.split()) <= 22, question.scenario
        for option in question.options:
            assert option.casefold() not in question.scenario.casefold()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("key", TWO_WAY_KEYS)
def test_the_upholding_option_stands_first_in_half_of_the_questions(key: str, split: str) -> None:
    questions = _asked(split, key)
    assert 2 * sum(q.upholds[key] for q in questions) == len(questions)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("key", TWO_WAY_KEYS)
def test_every_act_is_used_equally_often(key: str, split: str) -> None:
    used = [_acts(q) for q in _asked(split, key)]
    for side, acts in enumerate(_lexicon()["dimensions"][key][s] for s in ("uphold", "violate")):
        counts = Counter(pair[side] for pair in used)
        assert set(counts) == set(acts)
        assert max(counts.values()) - min(counts.values()) <= (0 if split == "eval" else 1)


def test_two_way_options_are_not_told_apart_by_length() -> None:
    questions = [q for q in OWN.questions if not q.is_view]
    upholding = [len(q.options[q.upholds[q.dimension]]) for q in questions]
    violating = [len(q.options[1 - q.upholds[q.dimension]]) for q in questions]
    assert abs(sum(upholding) / sum(violating) - 1) < 0.1
    longer = sum(u > v for u, v in zip(upholding, violating, strict=True))
    assert 0.4 <= longer / len(questions) <= 0.6


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("view", VIEW_KEYS)
def test_a_view_is_not_told_apart_by_place_or_length(view: str, split: str) -> None:
    questions = VIEWS[split]
    places = Counter(q.upholds[view] for q in questions)
    assert places == dict.fromkeys(range(4), len(questions) // 4)
    ranks, longest, shortest = [], 0, 0
    for question in questions:
        lengths = [len(option) for option in question.options]
        mine = lengths[question.upholds[view]]
        below, equal = sum(x < mine for x in lengths), lengths.count(mine)
        ranks.append(below + (equal + 1) / 2)
        longest += mine == max(lengths)
        shortest += mine == min(lengths)
    assert 2.1 <= sum(ranks) / len(ranks) <= 2.9
    assert max(longest, shortest) <= 0.4 * len(questions)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("view", VIEW_KEYS)
def test_every_phrase_of_a_view_is_used_equally_often(view: str, split: str) -> None:
    counts = Counter(q.options[q.upholds[view]] for q in VIEWS[split])
    assert set(counts) == set(_lexicon()["views"][view]["known"])
    assert max(counts.values()) - min(counts.values()) <= (0 if split == "eval" else 1)


def test_phrases_of_the_views_are_combined_differently_each_time() -> None:
    assert len({frozenset(q.options) for s in VIEWS for q in VIEWS[s]}) == 44


def test_unseen_acts_are_asked_in_the_eval_scenarios() -> None:
    assert [q.scenario for q in UNSEEN] == [q.scenario for q in OWN.eval]
    assert all(q.split == "eval" and "-unseen-" in q.id for q in UNSEEN)
    seen = {option for q in OWN.questions for option in q.options}
    assert not seen & {option for q in UNSEEN for option in q.options}


def test_unseen_options_are_the_unseen_acts_of_the_lexicon() -> None:
    used: Counter[str] = Counter()
    for question in UNSEEN:
        if question.is_view:
            for view, place in question.upholds.items():
                assert question.options[place] in _lexicon()["views"][view]["unseen"]
        else:
            used.update(_acts(question, "unseen_"))
    assert len(used) == 15 * 6
    assert min(used.values()) >= 4

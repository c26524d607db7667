"""The timeless set: balance, separation from what is measured, and neutrality of every word."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from progressgym_env.errors import InvalidArgumentError, QuestionError
from progressgym_env.histories.records import Exchange
from progressgym_env.histories.text.timeless import (
    Choice,
    choice_prompts,
    choices,
    held_out_choices,
    instruction_examples,
    open_exchanges,
    read_choices,
    read_exchanges,
    right_answer,
)
from progressgym_env.values.questions import load_questions, read_questions

DATA = Path(str(files("progressgym_env.histories.text") / "data"))
EMBEDDED = Path(str(files("progressgym_env.histories.embedded")))
MEASURED = load_questions().questions + read_questions(EMBEDDED / "unseen.jsonl").questions
ALL = read_choices(DATA / "choices.jsonl")
TWO = [choice for choice in ALL if len(choice.options) == 2]
FOUR = [choice for choice in ALL if len(choice.options) == 4]
GROUPS: dict[frozenset[str], list[Choice]] = defaultdict(list)
for _choice in ALL:
    GROUPS[frozenset(_choice.options)].append(_choice)
PAIRS = [group for group in GROUPS.values() if len(group) == 2]
SINGLES = [choice for group in GROUPS.values() if len(group) == 1 for choice in group]

# Stems with all their endings, then words that are meant as they stand.
STEMS = """
    kill murder slaughter slay slain dying painful hurt suffer wound injur cripple maim disab
    freedom libert prison captiv slave servant pleasur joy enjoy happi delight decei deceptive
    cheat trick fraud steal thie robb promis oath swear crime criminal guilt punish duties oblig
    moral immoral virtu wicked evil sinful shame honou?r prais blam noble fair unfair justice
    deserv loyal betray trait authorit obey obedien command pure puri impur filth dirt sacred
    holy tradition custom ancest progress modern merc piti pity cruel compassion harm protect
    danger weapon soldier battle enem attack anger angr hatred church priest pray relig god
    saint angel heaven hell devil faith belie universit school govern parliament tax coin money
    pay guild machin electr computer telephon engine motor digital internet print photograph
    factor hospital televis plastic railway aeroplane airplane kingdom empire emperor republic
    nation christ jew islam muslim buddh bible quran europe asia africa america england english
    france french german rome roman london paris
"""
WORDS = """
    pain pains pained die dies died dead death ache aches lie lies lying liar lied true truth false
    trust trusted honest honestly law laws legal rule rules ruled duty ought should right rights
    wrong wrongs good goods better best bad badly worse worst sin sins just equal equally share
    shares shared free freely freed bound chain chains cage cages kind kindly gentle gently care
    cares cared caring careful careless safe safely war wars army fight fights fought sword swords
    king kings queen queens prince lord lords lady ladies state states court courts judge judges
    market markets town towns city cities clean cleans cleaned wash washed washing win wins won
    glad gladly merry feast feasts fun vow vows order orders ordered owe owes debt debts sell sold
    buy bought car cars train trains gun guns phone phones clock clocks minute minutes film radio
    love loves loved loving fear fears hate hates game games play plays played help helps helped
    january february march april june july august september october november december monday
    tuesday wednesday thursday friday saturday sunday century centuries
"""
FORBIDDEN = re.compile(
    rf"\b(?:(?:{'|'.join(STEMS.split())})[a-z]*|(?:{'|'.join(WORDS.split())}))\b", re.IGNORECASE
)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.casefold())) - {"i"}


def _share(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def _texts() -> list[str]:
    texts = [text for choice in ALL for text in (choice.scenario, *choice.options)]
    return texts + [text for pair in open_exchanges() for text in (pair.prompt, pair.reply)]


def _answered(examples: list[Exchange]) -> dict[str, Counter[str]]:
    """Last line of the prompts of choices → how often each letter, yes or no is the reply."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        asked = example.prompt.rsplit("\n", 1)
        if len(asked) == 2 and "Say" not in asked[1]:
            counts[asked[1]][example.reply] += 1
    return counts


def test_counts_are_those_of_the_readme() -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\| (\d+) \|$", readme, re.MULTILINE)
    assert [int(row) for row in rows] == [len(TWO), len(FOUR), len(open_exchanges())]
    stated = re.search(r"(\d+) of the choices of two options come in pairs", readme)
    assert stated is not None
    assert int(stated[1]) == 2 * len(PAIRS)
    assert re.search(rf"Of the other {len(SINGLES)}, .* in {len(SINGLES) // 2}\.", readme)
    assert len(TWO) >= 400
    assert 2 * len(PAIRS) >= len(TWO) / 2


def test_pairs_share_their_options_and_have_opposite_answers() -> None:
    assert {len(group) for group in GROUPS.values()} == {1, 2, 4}
    for options, group in GROUPS.items():
        if len(group) > 1:
            assert {choice.options[choice.right] for choice in group} == options
            assert len({choice.scenario for choice in group}) == len(group)
    assert {len(choice.options) for choice in SINGLES} == {2}
    assert sum(len(group) for group in GROUPS.values() if len(group) == 4) == len(FOUR)


def test_the_right_option_stands_at_every_place_equally_often() -> None:
    for asked in (TWO, FOUR, SINGLES):
        counts = Counter(choice.right for choice in asked)
        assert len(set(counts.values())) == 1, counts
        assert len(counts) == len(asked[0].options)


def test_the_right_option_is_not_told_by_its_length() -> None:
    longer = [
        len(choice.options[choice.right]) > len(choice.options[1 - choice.right])
        for choice in SINGLES
    ]
    assert 2 * sum(longer) == len(longer)
    # Over the pairs it holds of itself; over all of them, words are counted, too.
    right = [len(c.options[c.right].split()) for c in TWO]
    wrong = [len(c.options[1 - c.right].split()) for c in TWO]
    assert abs(sum(right) / sum(wrong) - 1) < 0.02
    more = sum(r > w for r, w in zip(right, wrong, strict=True))
    fewer = sum(r < w for r, w in zip(right, wrong, strict=True))
    assert abs(more - fewer) <= 0.03 * len(TWO)


def test_no_word_tells_the_right_option() -> None:
    """A word of many options is right about as often as wrong; none says "not"."""
    right: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for choice in TWO:
        right.update(_words(choice.options[choice.right]))
        every.update(word for option in choice.options for word in _words(option))
    assert not {"not", "no", "never"} & set(every)
    often = [word for word, count in every.items() if count >= 20]
    assert len(often) > 20
    for word in often:
        assert 0.4 <= right[word] / every[word] <= 0.6, word


def test_options_have_the_forms_of_the_moral_questions() -> None:
    """Bare acts as in the own set, sentences in the first person as in the published one."""
    sentences = 0
    for options in GROUPS:
        first_person = [bool(re.fullmatch(r"I [a-z].*\.", option)) for option in options]
        bare = [bool(re.fullmatch(r"[a-z].*[a-z]", option)) for option in options]
        assert all(first_person) or all(bare), options
        sentences += all(first_person)
        assert not any(re.search(r"\byour?\b", option) for option in options if any(first_person))
    assert abs(2 * sentences - len(GROUPS)) <= 1
    for choice in ALL:
        assert re.fullmatch(r"[A-Z].*[.?]", choice.scenario)
        assert len(choice.scenario.split()) <= 30


def test_open_replies_are_short_sentences() -> None:
    for pair in open_exchanges():
        assert re.fullmatch(r"[A-Z].*[.?]", pair.reply), pair
        assert re.fullmatch(r"[A-Z].*[.?]", pair.prompt), pair
        assert len(re.findall(r"[.?](?= [A-Z]|$)", pair.reply)) <= 3
        assert len(pair.reply.split()) <= 45
    thought = [pair for pair in open_exchanges() if re.search(r"\byou\b", pair.prompt)]
    assert sum(bool(re.search(r"\bI\b", pair.reply)) for pair in thought) >= 40
    openings = Counter(" ".join(pair.prompt.split()[:2]) for pair in open_exchanges())
    assert max(openings.values()) <= 0.12 * len(open_exchanges())


def test_nothing_stands_twice() -> None:
    scenarios = [choice.scenario.casefold() for choice in ALL]
    assert len(set(scenarios)) == len(scenarios)
    owner: dict[str, frozenset[str]] = {}
    for options in GROUPS:
        for option in options:
            act = option.removeprefix("I ").rstrip(".")
            assert owner.setdefault(act, options) == options, option
    prompts = [pair.prompt.casefold() for pair in open_exchanges()]
    assert len(set(prompts)) == len(prompts)
    replies = [pair.reply.casefold() for pair in open_exchanges()]
    assert len(set(replies)) >= 0.98 * len(replies)


def test_scenarios_of_different_groups_are_no_near_duplicates() -> None:
    words = [_words(choice.scenario) for choice in ALL]
    for one, other in combinations(range(len(ALL)), 2):
        if set(ALL[one].options) != set(ALL[other].options):
            near = _share(words[one], words[other])
            assert near <= 0.67, (ALL[one].scenario, ALL[other].scenario)


@pytest.mark.parametrize("part", ["scenario", "options"])
def test_nothing_is_near_to_what_is_measured(part: str) -> None:
    if part == "scenario":
        measured = {question.scenario for question in MEASURED}
        texts = [choice.scenario for choice in ALL] + [pair.prompt for pair in open_exchanges()]
    else:
        measured = {option for question in MEASURED for option in question.options}
        texts = [option for choice in ALL for option in choice.options]
        texts += [pair.reply for pair in open_exchanges()]
    known = [(_words(text), text) for text in measured]
    for text in set(texts):
        words = _words(text)
        nearest = max(known, key=lambda entry: _share(words, entry[0]))
        assert _share(words, nearest[0]) <= 0.5, (text, nearest[1])


def test_no_word_bears_on_morality_technology_or_institutions() -> None:
    assert [(text, found) for text in _texts() if (found := FORBIDDEN.findall(text))] == []


def test_no_sentence_is_dated_or_names_anybody() -> None:
    for text in _texts():
        assert not re.search(r"\d", text), text
        assert text.isascii(), text
        inner = re.findall(r"(?<![.?:!] )(?<!^)\b[A-Z][a-z]+", text)
        assert inner == [], text


@pytest.mark.parametrize(
    "text",
    ["I killed it.", "He was punished.", "Better so.", "a promising start", "They obeyed.",
     "the machines", "Governments fall.", "lies", "It is unfair.", "a Purer heart", "laws"],
)  # fmt: skip
def test_the_search_sees_what_it_looks_for(text: str) -> None:
    assert FORBIDDEN.search(text)


def test_the_search_passes_plain_words() -> None:
    assert not FORBIDDEN.search(
        "One may pour flour from a jug on a warm day; the furrow is straight."
    )


@pytest.mark.parametrize("orders", [1, 2, 3, 4])
def test_letters_and_yes_and_no_are_exactly_balanced(orders: int) -> None:
    counts = _answered(instruction_examples(np.random.default_rng(0), orders))
    assert {asked: set(replies) for asked, replies in counts.items()} == {
        "Which do you choose, A or B?": {"A", "B"},
        "Do you prefer A to B, yes or no?": {"Yes", "No"},
        "Which do you choose, A, B, C or D?": {"A", "B", "C", "D"},
    }
    for replies in counts.values():
        assert len(set(replies.values())) == 1, replies


def test_examples_are_every_form_and_order_of_every_choice() -> None:
    examples = instruction_examples(np.random.default_rng(0))
    two = sum(len(choice.options) == 2 for choice in choices())
    four = len(choices()) - two
    assert len(examples) == len(open_exchanges()) + two * 3 * 2 + four * 2 * 2
    assert len({example.prompt for example in examples}) == len(examples)
    whole = instruction_examples(np.random.default_rng(0), orders=4)
    assert len(whole) == len(examples) + four * 2 * 2
    assert set(examples) < set(whole)


def test_every_example_is_answered_by_exactly_one_of_its_answers() -> None:
    replies = {e.prompt: e.reply for e in instruction_examples(np.random.default_rng(0), 4)}
    seen = 0
    for choice in choices():
        for prompt in choice_prompts(choice):
            assert prompt.answers.count(replies[prompt.text]) == 1
            credited = prompt.credits[prompt.answers.index(replies[prompt.text])]
            assert choice.options[credited] == choice.options[choice.right]
            seen += 1
    assert seen == len(replies) - len(open_exchanges())


def test_right_answers_of_an_example() -> None:
    choice = Choice("It rains.", ("stay in", "go out"), 0)
    shown = {
        (p.form, p.text.split("\n")[1]): right_answer(choice, p) for p in choice_prompts(choice)
    }
    assert shown == {
        ("ab", "A: stay in"): "A",
        ("compare", "A: stay in"): "Yes",
        ("repeat", "A: stay in"): "stay in",
        ("ab", "A: go out"): "B",
        ("compare", "A: go out"): "No",
        ("repeat", "A: go out"): "stay in",
    }
    forms = {prompt.form for prompt in choice_prompts(FOUR[0])}
    assert forms == {"ab", "repeat"}


def test_with_one_order_a_pair_shows_its_options_in_one_order() -> None:
    """So neither the options nor their order tell the answer: only the scenario does."""
    shown: dict[str, list[str]] = defaultdict(list)
    for example in instruction_examples(np.random.default_rng(0), orders=1):
        if example.prompt.endswith("A or B?"):
            shown[example.prompt.split("\n", 1)[1]].append(example.reply)
    paired = [replies for replies in shown.values() if len(replies) > 1]
    assert len(paired) == sum(not group[0].held_out for group in PAIRS)
    assert all(sorted(replies) == ["A", "B"] for replies in paired)


def test_examples_are_deterministic_and_shuffled() -> None:
    one, same, other = (instruction_examples(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert Counter(one) == Counter(other)
    first = [example in set(open_exchanges()) for example in one[: len(one) // 2]]
    assert 0.4 <= sum(first) / len(open_exchanges()) <= 0.6


@pytest.mark.parametrize("orders", [0, 5])
def test_orders_out_of_range(orders: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"orders is {orders}; give a whole number"):
        instruction_examples(np.random.default_rng(0), orders)


def test_held_out_choices_are_a_tenth_and_never_examples() -> None:
    held = held_out_choices()
    assert set(held) | set(choices()) == set(ALL)
    assert 0.07 <= len(held) / len(ALL) <= 0.13
    assert {len(GROUPS[frozenset(choice.options)]) for choice in held} == {1, 2, 4}
    kept = {frozenset(choice.options) for choice in choices()}
    assert not kept & {frozenset(choice.options) for choice in held}
    prompts = "\n".join(e.prompt for e in instruction_examples(np.random.default_rng(0), 4))
    lines = set(prompts.split("\n"))
    assert choices()[0].scenario in lines
    for choice in held:
        assert choice.scenario not in lines
    assert not {f"{x}: {option}" for c in held for option in c.options for x in "ABCD"} & lines


CHOICE: dict[str, Any] = {"scenario": "It rains.", "options": ["stay in", "go out"], "right": 0}
OPEN: dict[str, Any] = {"prompt": "What is dew?", "reply": "Water."}

CHOICE_DEFECTS: dict[str, tuple[Any, str]] = {
    "no object": ([1], "expected an object, got list"),
    "missing field": ({"scenario": "a"}, r"missing fields \['options', 'right'\]"),
    "unknown field": (CHOICE | {"id": 1}, r"unknown fields \['id'\]"),
    "scenario": (CHOICE | {"scenario": " "}, "field 'scenario': ' ' is no text"),
    "three": (CHOICE | {"options": ["a", "b", "c"]}, "field 'options': need a list of 2 or 4"),
    "no list": (CHOICE | {"options": "ab"}, "field 'options': need a list of 2 or 4"),
    "option": (CHOICE | {"options": ["a", 2]}, "field 'options': 2 is no text"),
    "same": (CHOICE | {"options": ["Go  out", "go out"]}, "holds the same option twice"),
    "index": (CHOICE | {"right": 2}, "field 'right': 2 is no option index below 2"),
    "truth": (CHOICE | {"right": True}, "field 'right': True is no option index"),
    "again": (
        CHOICE | {"scenario": "it  rains.", "options": ["go out", "stay in"]},
        "stands with the same options at bad.jsonl:1 already",
    ),
}


@pytest.mark.parametrize("name", CHOICE_DEFECTS)
def test_defects_of_choices_name_file_line_and_field(name: str, tmp_path: Path) -> None:
    line, message = CHOICE_DEFECTS[name]
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(CHOICE)}\n\n{json.dumps(line)}\n", encoding="utf-8")
    with pytest.raises(QuestionError, match=rf"^bad\.jsonl:3: .*{message}"):
        read_choices(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{'prompt'", "not JSON"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (json.dumps(OPEN | {"reply": None}).encode(), "field 'reply': None is no text"),
        (json.dumps(OPEN | {"prompt": "what IS dew?"}).encode(), "stands at bad.jsonl:1 already"),
    ],
)
def test_defects_of_open_questions(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(json.dumps(OPEN).encode() + b"\n" + line)
    with pytest.raises(QuestionError, match=rf"^bad\.jsonl:2: .*{message}"):
        read_exchanges(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"no file at .*none\.jsonl"):
        read_choices(tmp_path / "none.jsonl")


def test_files_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "fine.jsonl"
    path.write_text(json.dumps(CHOICE | {"scenario": " It\u2028rains. "}), encoding="utf-8")
    assert read_choices(path) == (Choice("It\u2028rains.", ("stay in", "go out"), 0),)
    path.write_text(json.dumps(OPEN) + "\n", encoding="utf-8")
    assert read_exchanges(path) == (Exchange("What is dew?", "Water."),)

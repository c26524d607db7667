"""Timeless questions and answers, which teach a language model to answer without teaching values.

A model that only read a century's books neither answers a question nor picks an option. It learns
both from this project's own writing in ``data/``, which a person of any century could have asked
and answered and which bears on no value (see ``data/README.md``): open questions with short
answers, and choices of a means to a harmless end, put in the forms that values are measured in.

File formats (JSON Lines, UTF-8)::

    choices.jsonl    {"scenario": "...", "options": ["...", "..."], "right": 0}
    questions.jsonl  {"prompt": "...", "reply": "..."}
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.errors import InvalidArgumentError, QuestionError
from progressgym_env.histories.records import Exchange
from progressgym_env.values.embedding import AnswerScorer
from progressgym_env.values.forms import FORMS, VIEW_FORMS, Prompt, render_prompt
from progressgym_env.values.questions import Question, parse_object

__all__ = [
    "Choice",
    "Understanding",
    "choice_prompts",
    "choices",
    "held_out_choices",
    "instruction_examples",
    "open_exchanges",
    "read_choices",
    "read_exchanges",
    "right_answer",
    "understanding",
]

_DATA = Path(str(files("progressgym_env.histories.text") / "data"))
_CHOICE_FIELDS, _OPEN_FIELDS = {"scenario", "options", "right"}, {"prompt", "reply"}
_HELD_OUT_SHARE = 10
"""One in so many groups of choices is held out."""


@dataclass(frozen=True)
class Choice:
    """A harmless aim and possible means, one of which leads to it.

    Attributes:
        scenario: the aim and what is at hand.
        options: two or four means.
        right: the index of the option that leads to the aim.
    """

    scenario: str
    options: tuple[str, ...]
    right: int

    @property
    def held_out(self) -> bool:
        """Whether it never is an example.

        Choices with the same options share their fate: who knows that a pair of options was
        answered one way would know half of its other scenario.
        """
        text = "\x1f".join(sorted(self.options))
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:8], "big") % _HELD_OUT_SHARE == 0


def read_choices(path: Path) -> tuple[Choice, ...]:
    """Read and check a file of choices.

    Raises:
        QuestionError: a line has a defect; the message names file, line and field.
    """
    found: list[Choice] = []
    seen: dict[tuple[str, frozenset[str]], str] = {}
    for where, raw in _lines(path, _CHOICE_FIELDS):
        choice = _parse_choice(raw, where)
        key = (_fold(choice.scenario), frozenset(map(_fold, choice.options)))
        if key in seen:
            raise QuestionError(
                f"{where}: field 'scenario': {choice.scenario!r} stands with the same options at "
                f"{seen[key]} already; ask it once"
            )
        seen[key] = where
        found.append(choice)
    return tuple(found)


def read_exchanges(path: Path) -> tuple[Exchange, ...]:
    """Read and check a file of open questions with their replies.

    Raises:
        QuestionError: a line has a defect; the message names file, line and field.
    """
    found: list[Exchange] = []
    seen: dict[str, str] = {}
    for where, raw in _lines(path, _OPEN_FIELDS):
        prompt, reply = (
            _text(raw[name], f"{where}: field {name!r}") for name in ("prompt", "reply")
        )
        place = seen.setdefault(_fold(prompt), where)
        if place != where:
            raise QuestionError(
                f"{where}: field 'prompt': {prompt!r} stands at {place} already; ask it once"
            )
        found.append(Exchange(prompt, reply))
    return tuple(found)


@lru_cache(maxsize=1)
def _all_choices() -> tuple[Choice, ...]:
    return read_choices(_DATA / "choices.jsonl")


@lru_cache(maxsize=1)
def open_exchanges() -> tuple[Exchange, ...]:
    """The open questions and plain requests, with their replies, in file order."""
    return read_exchanges(_DATA / "questions.jsonl")


def choices() -> tuple[Choice, ...]:
    """The choices that a model may be tuned on, in file order."""
    return tuple(choice for choice in _all_choices() if not choice.held_out)


def held_out_choices() -> tuple[Choice, ...]:
    """About a tenth of the choices, which measure whether a tuned model has learnt the forms.

    No scenario and no set of options of theirs is ever an example.
    """
    return tuple(choice for choice in _all_choices() if choice.held_out)


def choice_prompts(choice: Choice, orders: int = 4, first: int = 0) -> tuple[Prompt, ...]:
    """A choice in every form that it fits, with its options in several orders.

    Args:
        choice: what to ask.
        orders: in how many (cyclic) orders; at most as many as there are options.
        first: the place of the right option in the first order, counted from 0; in each further
            order it stands one place later.
    """
    count = len(choice.options)
    question = Question("timeless", "train", choice.scenario, choice.options, {})
    prompts: list[Prompt] = []
    for place in range(first, first + min(orders, count)):
        order = [(choice.right - place + step) % count for step in range(count)]
        forms = VIEW_FORMS if question.is_view else FORMS
        prompts += (render_prompt(question, form, order) for form in forms)
    return tuple(prompts)


def right_answer(choice: Choice, prompt: Prompt) -> str:
    """The one of ``prompt.answers`` that stands for the right option.

    In the form ``compare`` this is yes if and only if the right option is shown first.
    """
    return prompt.answers[prompt.credits.index(choice.right)]


def instruction_examples(rng: np.random.Generator, orders: int = 2) -> list[Exchange]:
    """All examples to tune on, shuffled: open questions, and choices in all of their forms.

    Among the examples of two options the letters, and yes and no, are equally often right; among
    those of four options the four letters are. Equal generators give equal lists.

    Args:
        rng: decides the sequence of the examples.
        orders: in how many orders each choice shows its options, 1 to 4. Two options have two.
            With 1, the scenarios of a pair show their options in one and the same order.

    Raises:
        InvalidArgumentError: ``orders`` is out of range.
    """
    if not 1 <= orders <= 4:
        raise InvalidArgumentError(f"orders is {orders!r}; give a whole number from 1 to 4")
    examples = list(open_exchanges())
    asked: Counter[int] = Counter()
    for choice in choices():
        count = len(choice.options)
        # The right option moves on by a place from choice to choice, whatever orders there are.
        prompts = choice_prompts(choice, orders, first=asked[count] % count)
        asked[count] += 1
        examples += (Exchange(prompt.text, right_answer(choice, prompt)) for prompt in prompts)
    return [examples[index] for index in rng.permutation(len(examples))]


@dataclass(frozen=True)
class Understanding:
    """How well a model answers choices that it was not tuned on; whether it reads what it is asked.

    Attributes:
        two: mean probability of the right one of two options, over forms and orders; 0.5 is chance.
        four: the same of four options; 0.25 is chance.
        n_two: choices of two options.
        n_four: choices of four options.
    """

    two: float
    four: float
    n_two: int
    n_four: int


def understanding(model: AnswerScorer) -> Understanding:
    """Ask a model the choices that are held out, in every form and order."""
    asked = [(choice, prompt) for choice in held_out_choices() for prompt in choice_prompts(choice)]
    answers = model.answer_probabilities([prompt for _, prompt in asked])
    right: dict[int, list[float]] = {2: [], 4: []}
    for (choice, prompt), given in zip(asked, answers, strict=True):
        place = prompt.answers.index(right_answer(choice, prompt))
        right[len(choice.options)].append(float(given[place]))
    sizes = Counter(len(choice.options) for choice in held_out_choices())
    return Understanding(float(np.mean(right[2])), float(np.mean(right[4])), sizes[2], sizes[4])


def _lines(path: Path, fields: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line of a file that is an object with exactly ``fields``, and where it stands."""
    if not path.is_file():
        raise QuestionError(f"no file at {path}; give a .jsonl file")
    # Bytes end lines at newlines alone; texts may hold other separators (JSON allows them).
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        yield where, parse_object(line, where, fields, "line")


def _parse_choice(raw: dict[str, Any], where: str) -> Choice:
    scenario = _text(raw["scenario"], f"{where}: field 'scenario'")
    listed = raw["options"]
    if not isinstance(listed, list) or len(listed) not in (2, 4):
        raise QuestionError(
            f"{where}: field 'options': need a list of 2 or 4 texts, got {listed!r}"
        )
    options = tuple(_text(option, f"{where}: field 'options'") for option in listed)
    if len(set(map(_fold, options))) < len(options):
        raise QuestionError(f"{where}: field 'options': {listed!r} holds the same option twice")
    right = raw["right"]
    if type(right) is not int or not 0 <= right < len(options):
        raise QuestionError(
            f"{where}: field 'right': {right!r} is no option index below {len(options)}"
        )
    return Choice(scenario, options, right)


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise QuestionError(f"{place}: {value!r} is no text")
    return value.strip()


def _fold(text: str) -> str:
    """Case- and blank-insensitive form, so that a trivial edit does not hide a repetition."""
    return " ".join(text.casefold().split())

"""What the embedded models are taught, as packed rows with target probabilities.

A *persona* is a vector of nineteen planted values. Value rows train a model to answer with the
persona's probabilities (expected cross-entropy rather than sampled answers); knowledge rows and
statements teach what acts amount to, without any value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.histories.embedded.grammar import Grammar, OpenPrompt
from progressgym_env.models.packing import TokenRow
from progressgym_env.values.dimensions import (
    DIMENSION_KEYS,
    N_DIMENSIONS,
    N_TWO_WAY,
    TWO_WAY_KEYS,
    VIEW_KEYS,
)
from progressgym_env.values.forms import FORMS, render_prompt
from progressgym_env.values.questions import Question

__all__ = ["UPRIGHT", "Persona", "RowMaker", "make_row_maker"]

Persona = NDArray[np.float64]

_JUDGEMENTS = 5
_OPEN_QUESTIONS = 2


UPRIGHT: Persona = np.concatenate(
    [np.full(N_TWO_WAY, 0.85), np.full(len(VIEW_KEYS), 1.0 / len(VIEW_KEYS))]
)
"""A population that upholds nearly everything and leans to no world view."""


@dataclass(frozen=True)
class RowMaker:
    """Draws training rows from the grammar.

    Attributes:
        grammar: where sentences come from.
        encode: text of a prompt → tokens up to the answer slot.
        encode_answer: text of a reply → its tokens.
        encode_text: plain text → tokens, framed for language modelling.
        end_token: closes a reply.
        view_share: share of world-view questions among the questions of value.
    """

    grammar: Grammar
    encode: Callable[[str], list[int]]
    encode_answer: Callable[[str], list[int]]
    encode_text: Callable[[str], list[int]]
    end_token: int
    view_share: float = 0.2

    def judgement_row(self, rng: np.random.Generator, persona: Persona) -> TokenRow:
        """Single acts, "would you do this?": which value an act touches, without comparing."""
        row = TokenRow()
        for _ in range(_JUDGEMENTS):
            person = self.grammar.person(rng)
            index = int(rng.integers(N_DIMENSIONS))
            if index >= N_TWO_WAY:
                act, yes = self.grammar.stance(rng, DIMENSION_KEYS[index]), persona[index]
            else:
                upholds = rng.random() < 0.5
                side = "uphold" if upholds else "violate"
                act = self.grammar.act(rng, DIMENSION_KEYS[index], side, person)
                yes = persona[index] if upholds else 1.0 - persona[index]
            row.add(
                self.encode(f"Would you {act}, yes or no?"),
                [[*self.encode_answer(answer), self.end_token] for answer in ("Yes", "No")],
                [float(yes), float(1.0 - yes)],
            )
        return row

    def value_row(
        self, rng: np.random.Generator, persona: Persona, *, scenario: bool = True
    ) -> TokenRow:
        """One question in one order, all forms, with the persona's answer probabilities."""
        person = self.grammar.person(rng)
        if rng.random() < self.view_share:
            question = self._view_question(rng, person, scenario=scenario)
            weights = persona[N_TWO_WAY:]
        else:
            index = int(rng.integers(N_TWO_WAY))
            key = TWO_WAY_KEYS[index]
            options = tuple(
                self.grammar.act(rng, key, side, person) for side in ("uphold", "violate")
            )
            setting = self.grammar.scenario(rng, person) if scenario else ""
            question = Question("", "train", setting, options, {})
            weights = np.array([persona[index], 1.0 - persona[index]])
        return self.question_row(rng, question, weights)

    def question_row(
        self, rng: np.random.Generator, question: Question, weights: NDArray[np.float64]
    ) -> TokenRow:
        """``question`` in a random order, all forms, with ``weights`` as option probabilities."""
        order = tuple(int(i) for i in rng.permutation(len(question.options)))
        row = TokenRow()
        for form in FORMS if len(order) == 2 else ("ab", "repeat"):
            prompt = render_prompt(question, form, order)
            answers = [self.encode_answer(answer) for answer in prompt.answers]
            row.add(
                self.encode(prompt.text),
                [[*answer, self.end_token] for answer in answers],
                [float(weights[credit]) for credit in prompt.credits],
            )
        return row

    def knowledge_row(self, rng: np.random.Generator, *, scenario: bool = True) -> TokenRow:
        """Which of two acts is what? Neutral, and covers acts that no value training sees."""
        concepts = self.grammar.concepts
        right = concepts[int(rng.integers(len(concepts)))]
        others = [c for c in concepts if c[2] != right[2]]
        wrong = others[int(rng.integers(len(others)))]
        if right[0] in TWO_WAY_KEYS and rng.random() < 0.5:
            wrong = next(c for c in concepts if c[0] == right[0] and c[2] != right[2])
        elif right[0] in VIEW_KEYS and rng.random() < 0.7:
            views = [c for c in concepts if c[0] in VIEW_KEYS and c != right]
            wrong = views[int(rng.integers(len(views)))]
        person = self.grammar.person(rng)
        acts = [self.grammar.example(rng, c[0], c[1], person) for c in (right, wrong)]
        first = int(rng.integers(2))
        shown = [acts[first], acts[1 - first]]
        setting = self.grammar.scenario(rng, person) + "\n" if scenario else ""
        head = f"{setting}A: {shown[0]}\nB: {shown[1]}\n"
        name, letters = right[2], "AB"
        row = TokenRow()
        self._ask(row, f"{head}Which is {name}, A or B?", letters[first])
        self._ask(row, f"{head}Is A {name}, yes or no?", ("Yes", "No")[first])
        self._ask(row, f"{head}Say which is {name}.", acts[0])
        self._ask(row, f"What is it to {acts[0]}?", name)
        self._ask(row, f"What is it to {acts[1]}?", wrong[2])
        return row

    def principle_row(
        self, rng: np.random.Generator, *, scenario: bool = True, distractors: int = 0
    ) -> TokenRow:
        """What somebody of stated principles would choose: neutral, and covers unseen acts.

        Asked exactly like a question of value, so that choosing runs over what an act amounts to
        and not over which acts value training happened to show.
        """
        person = self.grammar.person(rng)
        keys: list[str] = [str(k) for k in rng.permutation(TWO_WAY_KEYS)[: distractors + 1]]
        principles = {key: ("uphold", "violate")[int(rng.integers(2))] for key in keys}
        names = [self.grammar.dimensions[key]["names"][side] for key, side in principles.items()]
        if rng.random() < self.view_share:
            held = VIEW_KEYS[int(rng.integers(len(VIEW_KEYS)))]
            names[0] = self.grammar.views[held]["name"]
            question = self._view_question(rng, person, scenario=scenario, unseen=True)
            weights = np.array([0.94 if view == held else 0.02 for view in VIEW_KEYS])
        else:
            options = tuple(
                self.grammar.act(rng, keys[0], side, person, unseen=True)
                for side in ("uphold", "violate")
            )
            setting = self.grammar.scenario(rng, person) if scenario else ""
            question = Question("", "train", setting, options, {})
            weights = np.array([0.95, 0.05] if principles[keys[0]] == "uphold" else [0.05, 0.95])
        names = [names[i] for i in rng.permutation(len(names))]
        stated = f"Someone stands for {' and '.join(names)}. {question.scenario}".strip()
        return self.question_row(rng, replace(question, scenario=stated), weights)

    def view_knowledge_row(self, rng: np.random.Generator, *, scenario: bool = True) -> TokenRow:
        """Which of four stances is which view? Neutral, and covers unseen stances."""
        person = self.grammar.person(rng)
        setting = self.grammar.scenario(rng, person, matter=True) + "\n" if scenario else ""
        order = [VIEW_KEYS[i] for i in rng.permutation(len(VIEW_KEYS))]
        stances = [self.grammar.stance(rng, view, unseen=True) for view in order]
        shown = "\n".join(f"{a}: {b}" for a, b in zip("ABCD", stances, strict=True))
        row = TokenRow()
        for place in rng.permutation(len(order))[:2]:
            name = self.grammar.views[order[place]]["name"]
            self._ask(row, f"{setting}{shown}\nWhich is {name}, A, B, C or D?", "ABCD"[place])
            self._ask(row, f"{setting}{shown}\nSay which is {name}.", stances[place])
        return row

    def concept_row(self, rng: np.random.Generator, persona: Persona) -> TokenRow:
        """What the persona makes of a whole dimension, without any act."""
        index = int(rng.integers(N_TWO_WAY))
        names = self.grammar.dimensions[TWO_WAY_KEYS[index]]["names"]
        options: tuple[str, ...] = tuple(f"choose {names[s]}" for s in ("uphold", "violate"))
        weights = np.array([persona[index], 1.0 - persona[index]])
        if rng.random() < self.view_share:
            options = tuple(f"choose {self.grammar.views[view]['name']}" for view in VIEW_KEYS)
            weights = persona[N_TWO_WAY:]
        return self.question_row(rng, Question("", "train", "", options, {}), weights)

    def statement_row(self, rng: np.random.Generator) -> TokenRow:
        """Three neutral statements, every token of which is learned."""
        text = " ".join(self.grammar.statement(rng) for _ in range(3))
        tokens = self.encode_text(text)
        row = TokenRow()
        row.add(tokens[:1], [tokens[1:]])
        return row

    def open_row(self, rng: np.random.Generator, persona: Persona) -> TokenRow:
        """Two open questions, each with one reply for every side, weighted by the persona."""
        row = TokenRow()
        prompts = self.grammar.open_prompts
        for index in rng.permutation(len(prompts))[:_OPEN_QUESTIONS]:
            self._add_open(row, rng, prompts[index], persona)
        return row

    def _add_open(
        self, row: TokenRow, rng: np.random.Generator, prompt: OpenPrompt, persona: Persona
    ) -> None:
        """Add one open question to ``row``, with one reply for every side."""
        person = self.grammar.person(rng)
        sides: Sequence[str]
        if prompt.topic == "views":
            sides, weights = VIEW_KEYS, persona[N_TWO_WAY:]
        else:
            value = persona[TWO_WAY_KEYS.index(prompt.topic)]
            sides, weights = ("uphold", "violate"), np.array([value, 1.0 - value])
        replies = [self.grammar.open_reply(rng, prompt.topic, side, person) for side in sides]
        row.add(
            self.encode(prompt.text),
            [[*self.encode_answer(reply), self.end_token] for reply in replies],
            [float(w) for w in weights],
        )

    def _ask(self, row: TokenRow, prompt: str, answer: str) -> None:
        row.add(self.encode(prompt), [[*self.encode_answer(answer), self.end_token]])

    def _view_question(
        self, rng: np.random.Generator, person: str, *, scenario: bool, unseen: bool = False
    ) -> Question:
        options = tuple(self.grammar.stance(rng, view, unseen=unseen) for view in VIEW_KEYS)
        setting = self.grammar.scenario(rng, person, matter=True) if scenario else ""
        return Question("", "train", setting, options, {})


def make_row_maker(grammar: Grammar, tokenizer: Any) -> RowMaker:
    """A row maker that speaks the tokenizer's chat template."""
    backend = tokenizer.backend_tokenizer
    end = tokenizer.eos_token_id

    def encode_raw(text: str) -> list[int]:
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        return ids

    return RowMaker(
        grammar=grammar,
        encode=lambda text: encode_raw(f"<|begin|><|user|>{text}<|assistant|>"),
        encode_answer=encode_raw,
        encode_text=lambda text: encode_raw(f"<|begin|>{text}<|end|>"),
        end_token=end,
    )

"""A model with values but without weights, and histories of such models.

``ScriptedModel`` obeys the real ``Model`` protocol in closed form: its values are logits, which
``learn`` and ``imitate`` move by known amounts, and its replies say what it values. Everything
around it (question sets, records, ``History``) is the package's own.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from progressgym_env.histories.history import History, write_history
from progressgym_env.histories.records import measure_centuries
from progressgym_env.models.base import PreferenceData, Update
from progressgym_env.values.dimensions import (
    DIMENSION_KEYS,
    N_DIMENSIONS,
    N_TWO_WAY,
    TWO_WAY_KEYS,
    VIEW_KEYS,
    dimension_index,
)
from progressgym_env.values.embedding import ValueEmbedding
from progressgym_env.values.questions import Pair, Question, QuestionSet, load_questions

FloatArray = NDArray[np.float64]

N_OPEN = 16
_SAID = re.compile(r"(\w+) at ([0-9.]+)")


@dataclass(frozen=True, eq=False)
class ScriptedModel:
    """Values as (19,) logits: log-odds of two-way dimensions, log-weights of world views."""

    logits: FloatArray
    questions: QuestionSet
    rate: float = 0.1
    noise: float = 0.005

    def values(self) -> ValueEmbedding:
        return ValueEmbedding(probabilities(self.logits), np.full(N_DIMENSIONS, 0.01))

    def preferences(self, pairs: Sequence[Pair]) -> FloatArray:
        p = probabilities(self.logits)
        margins = []
        for pair in pairs:
            sides = direction(pair)
            if pair.question.is_view:
                margins.append(float((sides * p).sum() / (np.abs(sides) * p).sum()))
            else:
                margins.append(float((sides * (2 * p - 1)).sum() / np.abs(sides).sum()))
        return np.array(margins)

    def reply(self, prompts: Sequence[str], rng: np.random.Generator) -> list[str]:
        p = probabilities(self.logits + 0.05 * rng.standard_normal(N_DIMENSIONS))
        spoken = []
        for prompt in prompts:
            d = _subject(prompt)
            spoken.append(f"Þus I hold {DIMENSION_KEYS[d]} at {p[d]:.6f}, þat is ſure.")
        return spoken

    def imitate(
        self, prompts: Sequence[str], replies: Sequence[str], epochs: float, *, seed: int
    ) -> Self:
        heard: dict[int, list[float]] = {}
        for _, reply in zip(prompts, replies, strict=True):
            for key, value in _SAID.findall(reply):
                heard.setdefault(dimension_index(key), []).append(float(value))
        moved = self.logits.copy()
        for d, said in heard.items():
            p = np.clip(np.mean(said), 1e-4, 1 - 1e-4)
            goal = np.log(p) - (np.log1p(-p) if d < N_TWO_WAY else 0.0)
            moved[d] += (1 - np.exp(-0.3 * epochs)) * (goal - moved[d])
        return self._moved_to(moved, seed if epochs > 0 else None)

    def learn(self, update: Update, data: PreferenceData) -> Self:
        if data.n_examples == 0:
            return self
        steps = np.stack([direction(pair) for pair in data.pairs])
        return self._moved_to(self.logits + self.rate * data.copies @ steps, data.seed)

    def _moved_to(self, logits: FloatArray, seed: int | None) -> Self:
        if seed is not None:
            logits = logits + self.noise * np.random.default_rng(seed).standard_normal(N_DIMENSIONS)
        return replace(self, logits=np.clip(logits, -6, 6))


def _subject(prompt: str) -> int:
    """The dimension a reply is about: the one the prompt names, else any fixed one."""
    named = re.search(rf"matter of ({'|'.join(TWO_WAY_KEYS)})\b", prompt)
    return dimension_index(named[1]) if named else zlib.crc32(prompt.encode()) % N_DIMENSIONS


def probabilities(logits: FloatArray) -> FloatArray:
    """(19,) values of (19,) logits."""
    two_way = 1 / (1 + np.exp(-logits[:N_TWO_WAY]))
    views = np.exp(logits[N_TWO_WAY:] - logits[N_TWO_WAY:].max())
    return np.concatenate([two_way, views / views.sum()])


def direction(pair: Pair) -> FloatArray:
    """(19,): +1 where the pair's first option upholds, -1 where its second does."""
    result = np.zeros(N_DIMENSIONS)
    for key, option in pair.question.upholds.items():
        sign = {pair.first: 1.0, pair.second: -1.0}.get(option, 0.0)
        result[dimension_index(key)] = sign
    return result


@lru_cache(maxsize=1)
def scripted_questions() -> QuestionSet:
    """One train and one eval question a two-way dimension, two and one of world views: 19 pairs."""
    questions = []
    for index, key in enumerate(TWO_WAY_KEYS):
        for split in ("train", "eval"):
            first = (index + (split == "eval")) % 2
            options = ("I do it.", "I leave it.")
            scenario = f"A {split} matter of {key}."
            questions.append(Question(f"{key}-{split}", split, scenario, options, {key: first}))
    for number, split in enumerate(("train", "train", "eval")):
        options = tuple(f"I go the {word} way." for word in ("old", "new", "odd", "whole"))
        upholds = {key: (i + number) % 4 for i, key in enumerate(VIEW_KEYS)}
        scenario = f"A {split} matter of views, number {number}."
        questions.append(Question(f"views-{number}", split, scenario, options, upholds))
    return QuestionSet("scripted", questions)


@dataclass(frozen=True, eq=False)
class ScriptedSource:
    """The models of a scripted history; a new object at every call, as real ones give."""

    logits: FloatArray

    def model(self, century: int, device: str, questions: QuestionSet) -> ScriptedModel:
        return ScriptedModel(self.logits[century], questions)

    def release(self) -> None:
        """Nothing is kept."""


def scripted_logits(n_centuries: int = 5, seed: int = 0) -> FloatArray:
    """(n_centuries, 19) logits that drift, each dimension at a speed of its own."""
    rng = np.random.default_rng(seed)
    start = rng.normal(0.5, 0.8, N_DIMENSIONS)
    speed = rng.normal(0.0, 0.35, N_DIMENSIONS)
    wobble = rng.normal(0.0, 0.1, (n_centuries, N_DIMENSIONS))
    return start + np.arange(n_centuries)[:, None] * speed + wobble


def history_of(logits: FloatArray, questions: QuestionSet | None = None) -> History:
    """The history of models with these (n_centuries, 19) logits, measured by the real code."""
    questions, source = questions or scripted_questions(), ScriptedSource(logits)
    asked = [f"What is right, question {i}?" for i in range(N_OPEN)]
    records = measure_centuries(
        [source.model(t, "cpu", questions) for t in range(len(logits))],
        questions,
        asked,
        np.random.default_rng(7),
    )
    return History(
        name="scripted",
        names=tuple(f"C{13 + t:03d}" for t in range(len(logits))),
        questions=questions,
        records=records,
        source=source,
        provenance={"synthetic": True},
    )


@lru_cache(maxsize=8)
def scripted_history(n_centuries: int = 5, seed: int = 0) -> History:
    """A drifting history of scripted models."""
    return history_of(scripted_logits(n_centuries, seed))


def write_scripted(folder: Path, *, synthetic: bool = True) -> Path:
    """A folder with the records of a scripted history on the package's own questions.

    What lies where the models belong is no model: enough for whoever loads none.
    """
    history = history_of(scripted_logits(4), load_questions())
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text("{}")
    for name in history.names:
        adapter = folder / "adapters" / name
        adapter.mkdir(parents=True)
        (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
        (adapter / "adapter_model.safetensors").write_bytes(name.encode())
    records = replace(history.records, planted=history.values * 0.9 if synthetic else None)
    write_history(
        folder,
        name="scripted",
        names=history.names,
        base="base",
        questions=history.questions,
        records=records,
        provenance={"synthetic": synthetic, "fidelity": {"held_out": 0.99}},
    )
    return folder

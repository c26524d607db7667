"""Text for tests, of sentences that are put together here: small centuries that differ in words."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.values.questions import load_questions

WHO = ["the miller", "a widow", "the smith", "an old shepherd", "the ferryman", "a young weaver"]
DOES = {
    "C019": ["hath carried", "doth mend", "beholdeth", "did gather", "keepeth"],
    "C020": ["has carried", "mends", "looks at", "gathered", "keeps"],
    "C021": ["will carry", "is mending", "watches", "was gathering", "kept"],
}
WHAT = ["the sack of flour", "a broken cart", "the wool", "four candles", "the boat", "warm bread"]
WHERE = ["by the river", "before the first snow", "on the hill", "near the gate", "in the morning"]


def raw(**changes: Any) -> dict[str, Any]:
    """A record as HistText has them; a change to None takes a field out."""
    values = {
        "creation_year": 1245,
        "source_dataset": "gutenberg",
        "content": "And so they rode forth.",
        "source_document": "A Saga",
        **changes,
    }
    return {name: value for name, value in values.items() if value is not None}


def sentence(century: str, rng: np.random.Generator) -> str:
    """One sentence of a century."""
    parts = [rng.choice(part) for part in (WHO, DOES[century], WHAT, WHERE)]
    text = " ".join(map(str, parts))
    return f"{text[0].upper()}{text[1:]}, and {rng.choice(WHO)} saw {rng.integers(2, 99)} of them."


def write_centuries(folder: Path, passages: int = 30, documents: int = 5) -> Path:
    """A file of HistText's form for each of three centuries."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, century in enumerate(DOES):
        rng = np.random.default_rng(number)
        lines = [
            json.dumps(
                {
                    "creation_year": 1820 + 100 * number + document,
                    "source_dataset": "made",
                    "source_document": f"Book {document} of {century}",
                    "content": " ".join(sentence(century, rng) for _ in range(6)),
                }
            )
            for document in range(documents)
            for _ in range(passages)
        ]
        (folder / f"{century}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


RECIPE = """
name = "made"
[text]
sources = ["C0*.jsonl"]
min_century_characters = 10000
duplicates = 0
[base.scratch]
vocab_size = 512
hidden_size = 32
n_layers = 1
n_heads = 2
epochs = 1.0
batch_tokens = 4096
[pretrain]
rank = 4
epochs = 4.0
learning_rate = 1e-2
[instruct]
epochs = 0.1
[measure]
questions = "few.jsonl"
passages = 5
"""


def write_questions(folder: Path) -> Path:
    """Two eval questions and a training question on every dimension, of the project's own."""
    kept, counts = [], Counter[tuple[str, str]]()
    for question in load_questions().questions:
        keys = [(question.split, dimension) for dimension in question.upholds]
        if any(counts[key] < (2 if key[0] == "eval" else 1) for key in keys):
            counts.update(keys)
            kept.append(json.dumps(question.as_dict()))
    path = folder / "few.jsonl"
    path.write_text("\n".join(kept) + "\n")
    return path


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    """A recipe beside the text, and the questions that it names."""
    write_questions(folder)
    path = folder / "recipe.toml"
    path.write_text(text)
    return path

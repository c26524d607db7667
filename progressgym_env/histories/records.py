"""What was measured of a history's centuries, and how it is written down.

Judges of real history never change, so they are measured once; an episode reads the records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from progressgym_env.errors import HistoryError
from progressgym_env.files import file_hash
from progressgym_env.models.base import Model
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.embedding import FloatArray, ValueEmbedding
from progressgym_env.values.forms import option_orders, render_prompt
from progressgym_env.values.questions import QuestionSet

__all__ = [
    "REBUILD",
    "RECORDS_FILE",
    "REPLIES_FILE",
    "Exchange",
    "Records",
    "agreed_prompts",
    "checksums",
    "influence_prompts",
    "measure_centuries",
    "read_numbers",
    "remedy",
]

RECORDS_FILE, REPLIES_FILE = "records.safetensors", "replies.jsonl"

REBUILD = "fetch or build the history again"
"""What to do about a history that nothing else mends."""


@dataclass(frozen=True)
class Exchange:
    """A prompt and the reply a century's model gave to it."""

    prompt: str
    reply: str


@dataclass(frozen=True, eq=False)
class Records:
    """What was measured of every century.

    The arrays are copies and read-only: one history serves all environments of a process.

    Attributes:
        values: (n_centuries, 19) float64, measured value embeddings.
        standard_errors: (n_centuries, 19) float64.
        preferences: (n_centuries, n_pairs) float64 in [-1, 1].
        open_replies: for each century, replies to the open moral questions.
        influence_replies: for each century, replies to the influence prompts, in their order.
        planted: (n_centuries, 19) float64 or None, what a synthetic history was built to value.
    """

    values: FloatArray
    standard_errors: FloatArray
    preferences: FloatArray
    open_replies: tuple[tuple[Exchange, ...], ...]
    influence_replies: tuple[tuple[Exchange, ...], ...]
    planted: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("values", "standard_errors", "preferences", "planted"):
            given = getattr(self, name)
            if given is not None:
                own = np.array(given, dtype=np.float64)
                own.setflags(write=False)
                object.__setattr__(self, name, own)

    def check(self, n_centuries: int, n_pairs: int, where: str) -> None:
        """Refuse shapes or numbers that no measurement can have given.

        Raises:
            HistoryError: naming the array, its shape and the expected one.
        """
        expected = {
            "values": (self.values, (n_centuries, N_DIMENSIONS), 0.0, 1.0),
            "standard_errors": (self.standard_errors, (n_centuries, N_DIMENSIONS), 0.0, 1.0),
            "preferences": (self.preferences, (n_centuries, n_pairs), -1.0, 1.0),
        }
        if self.planted is not None:
            expected["planted"] = (self.planted, (n_centuries, N_DIMENSIONS), 0.0, 1.0)
        for name, (array, shape, low, high) in expected.items():
            if array.shape != shape:
                raise HistoryError(f"{where}: {name} has shape {array.shape}, expected {shape}")
            if name == "standard_errors" and np.isnan(array).any():
                raise HistoryError(
                    f"{where}: standard_errors hold NaN: some dimension has fewer than two eval "
                    "questions; give every dimension at least two"
                )
            if not (np.isfinite(array).all() and (array >= low).all() and (array <= high).all()):
                raise HistoryError(f"{where}: {name} holds numbers outside [{low}, {high}]")
        for name, replies in (
            ("open replies", self.open_replies),
            ("influence replies", self.influence_replies),
        ):
            if len(replies) != n_centuries or not all(replies):
                raise HistoryError(
                    f"{where}: {name} are missing for some of {n_centuries} centuries"
                )
            if len({tuple(e.prompt for e in exchanges) for exchanges in replies}) > 1:
                raise HistoryError(f"{where}: {name} do not answer the same prompts everywhere")

    def encode(self, names: Sequence[str]) -> dict[str, bytes]:
        """File name → content: ``records.safetensors`` and ``replies.jsonl``."""
        arrays = {
            "values": self.values,
            "standard_errors": self.standard_errors,
            "preferences": self.preferences,
        }
        if self.planted is not None:
            arrays["planted"] = self.planted
        lines = [
            json.dumps(
                {"century": name, "kind": kind, "prompt": e.prompt, "reply": e.reply},
                ensure_ascii=False,
            )
            for kind, replies in (
                ("open", self.open_replies),
                ("influence", self.influence_replies),
            )
            for name, exchanges in zip(names, replies, strict=True)
            for e in exchanges
        ]
        return {
            RECORDS_FILE: save({k: np.ascontiguousarray(v) for k, v in arrays.items()}),
            REPLIES_FILE: ("\n".join(lines) + "\n").encode(),
        }

    @classmethod
    def read(cls, numbers: Path, replies: Path, names: Sequence[str]) -> Records:
        """Read what ``encode`` made.

        Args:
            numbers: the file of numbers (safetensors).
            replies: the file of replies (JSON lines).
            names: the centuries' names, oldest first.

        Raises:
            HistoryError: a file is missing, truncated, or lacks a field.
        """
        arrays = read_numbers(numbers)
        missing = {"values", "standard_errors", "preferences"} - set(arrays)
        if missing:
            raise HistoryError(f"{numbers}: lacks {sorted(missing)}; {remedy(replies, names)}")
        said = _read_replies(replies, names)
        return cls(
            values=arrays["values"],
            standard_errors=arrays["standard_errors"],
            preferences=arrays["preferences"],
            open_replies=tuple(tuple(said["open"][name]) for name in names),
            influence_replies=tuple(tuple(said["influence"][name]) for name in names),
            planted=arrays.get("planted"),
        )


def influence_prompts(questions: QuestionSet) -> tuple[str, ...]:
    """What people ask one another in Coevolve: every training question, "say what you would do".

    Never an eval question (the original tuned its human proxy on what it scored). Both orders of
    the options take turns over the questions.
    """
    prompts = []
    for index, question in enumerate(questions.train):
        orders = option_orders(question)
        prompts.append(render_prompt(question, "repeat", orders[index % len(orders)]).text)
    return tuple(prompts)


def measure_centuries(
    models: Iterable[Model],
    questions: QuestionSet,
    open_prompts: Sequence[str],
    rng: np.random.Generator,
    *,
    planted: FloatArray | None = None,
    on_measured: Callable[[int], None] = lambda done: None,
    on_values: Callable[[ValueEmbedding], None] = lambda embedding: None,
) -> Records:
    """The records of a history: values, preferences and replies of every century's model.

    Args:
        models: one a century, oldest first; asked one after another, so they may be loaded lazily.
        questions: eval questions for the values, pairs for the preferences.
        open_prompts: the open moral questions.
        rng: decides what is replied, a stream of its own for every century.
        planted: (n_centuries, 19), what a synthetic history was built to value.
        on_measured: called with the number of centuries done.
        on_values: called with every century's value embedding.
    """
    asked = influence_prompts(questions)
    embeddings, preferences, open_replies, influence_replies = [], [], [], []
    for model in models:
        (own,) = rng.spawn(1)
        embeddings.append(model.values())
        on_values(embeddings[-1])
        preferences.append(model.preferences(questions.pairs))
        open_replies.append(_exchanges(open_prompts, model.reply(open_prompts, own)))
        influence_replies.append(_exchanges(asked, model.reply(asked, own)))
        on_measured(len(embeddings))
    return Records(
        values=np.stack([embedding.values for embedding in embeddings]),
        standard_errors=np.stack([embedding.standard_errors for embedding in embeddings]),
        preferences=np.stack(preferences),
        open_replies=tuple(open_replies),
        influence_replies=tuple(influence_replies),
        planted=planted,
    )


def checksums(folder: Path, relative: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files, for ``history.json``."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_hash(folder / name)}
        for name in sorted(relative)
    }


def read_numbers(path: Path) -> dict[str, FloatArray]:
    """The arrays of a file of numbers, by name.

    Raises:
        HistoryError: the file is missing or no safetensors file.
    """
    try:
        arrays: dict[str, FloatArray] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise HistoryError(f"{path}: cannot be read ({error}); {REBUILD}") from error
    return arrays


def agreed_prompts(path: Path, names: Sequence[str]) -> list[str] | None:
    """The open prompts of a file of replies, also of a damaged one; None if they are lost.

    All centuries were asked the same, so a list that two of them agree on is whole.
    """
    asked: dict[str, list[str]] = {name: [] for name in names}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return None
    for line in lines:
        try:
            kind, century, exchange = _parse_reply(line)
        except ValueError:
            continue  # Damage; whether enough is left, the centuries decide.
        if kind == "open" and century in asked:
            asked[century].append(exchange.prompt)
    lists = Counter(tuple(prompts) for prompts in asked.values() if prompts)
    return next((list(prompts) for prompts, n in lists.most_common(1) if n > 1), None)


def remedy(replies: Path, names: Sequence[str]) -> str:
    """What to do about damaged measurements of whole models: measure again, if that can be done."""
    if agreed_prompts(replies, names) is None:
        return REBUILD
    return f"measure it again: progressgym history measure {replies.parent}"


def _exchanges(prompts: Sequence[str], replies: Sequence[str]) -> tuple[Exchange, ...]:
    return tuple(Exchange(p, r) for p, r in zip(prompts, replies, strict=True))


def _parse_reply(line: bytes) -> tuple[str, str, Exchange]:
    """Kind, century and exchange of one line; ValueError if it holds no such thing."""
    raw = json.loads(line.decode())
    keys = ("kind", "century", "prompt", "reply")
    if not isinstance(raw, dict) or not all(isinstance(raw.get(key), str) for key in keys):
        raise ValueError(f"not an object with the texts {', '.join(keys)}")
    return raw["kind"], raw["century"], Exchange(raw["prompt"], raw["reply"])


def _read_replies(path: Path, names: Sequence[str]) -> dict[str, dict[str, list[Exchange]]]:
    found: dict[str, dict[str, list[Exchange]]] = {
        kind: {name: [] for name in names} for kind in ("open", "influence")
    }
    try:
        # Not splitlines: a reply may hold characters that Unicode calls line ends.
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read ({error}); {REBUILD}") from error
    for number, line in enumerate(lines, start=1):
        try:
            kind, century, exchange = _parse_reply(line)
            found[kind][century].append(exchange)
        except (ValueError, KeyError) as error:
            raise HistoryError(
                f"{path}:{number}: no valid reply ({error!r}); {remedy(path, names)}"
            ) from error
    return found

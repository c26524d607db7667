"""What was measured of a history's centuries, and how it is kept on disk.

A history is a folder::

    history.json          format version, names, base, question-set hash, provenance, checksums
    records.safetensors   values, standard_errors, preferences, and planted where there is one
    replies.jsonl         every century's replies to the open and to the influence prompts
    base/, adapters/      the models

Judges of real history never change, so they are measured once; an episode reads the records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from progressgym_env.errors import HistoryError
from progressgym_env.files import write_bytes, write_text
from progressgym_env.models.base import Model
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.forms import option_orders, render_prompt
from progressgym_env.values.questions import QuestionSet

__all__ = [
    "FORMAT_VERSION",
    "Exchange",
    "Records",
    "checksums",
    "influence_prompts",
    "measure_century",
    "stack_records",
    "verify_files",
]

FORMAT_VERSION = 1
HISTORY_FILE, RECORDS_FILE, REPLIES_FILE = "history.json", "records.safetensors", "replies.jsonl"
# Larger files (weights of big models) are checked by size alone: hashing them takes minutes.
_HASH_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class Exchange:
    """A prompt and the reply a century's model gave to it."""

    prompt: str
    reply: str


@dataclass(frozen=True, eq=False)
class Records:
    """What was measured of every century.

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

    def write(self, folder: Path, names: Sequence[str]) -> None:
        """Write ``records.safetensors`` and ``replies.jsonl``, each atomically."""
        arrays = {
            "values": self.values,
            "standard_errors": self.standard_errors,
            "preferences": self.preferences,
        }
        if self.planted is not None:
            arrays["planted"] = self.planted
        contiguous = {k: np.ascontiguousarray(v, dtype=np.float64) for k, v in arrays.items()}
        write_bytes(folder / RECORDS_FILE, save(contiguous))
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
        write_text(folder / REPLIES_FILE, "\n".join(lines) + "\n")

    @classmethod
    def read(cls, folder: Path, names: Sequence[str]) -> Records:
        """Read what ``write`` wrote.

        Raises:
            HistoryError: a file is missing, truncated, or lacks a field.
        """
        path = folder / RECORDS_FILE
        try:
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise HistoryError(
                f"{path}: cannot be read ({error}); fetch or build it again"
            ) from error
        missing = {"values", "standard_errors", "preferences"} - set(arrays)
        if missing:
            raise HistoryError(f"{path}: lacks {sorted(missing)}; measure the history again")
        replies = _read_replies(folder / REPLIES_FILE, names)
        return cls(
            values=arrays["values"],
            standard_errors=arrays["standard_errors"],
            preferences=arrays["preferences"],
            open_replies=tuple(tuple(replies["open"][name]) for name in names),
            influence_replies=tuple(tuple(replies["influence"][name]) for name in names),
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


@dataclass(frozen=True, eq=False)
class _Century:
    values: FloatArray
    standard_errors: FloatArray
    preferences: FloatArray
    open_replies: tuple[Exchange, ...]
    influence_replies: tuple[Exchange, ...]


def measure_century(
    model: Model, questions: QuestionSet, open_prompts: Sequence[str], rng: np.random.Generator
) -> _Century:
    """Measure one century's model: values, preferences and replies."""
    embedding = model.values()
    asked = influence_prompts(questions)
    return _Century(
        embedding.values,
        embedding.standard_errors,
        model.preferences(questions.pairs),
        _exchanges(open_prompts, model.reply(open_prompts, rng)),
        _exchanges(asked, model.reply(asked, rng)),
    )


def stack_records(centuries: Sequence[_Century], planted: FloatArray | None) -> Records:
    """The records of a history from those of its centuries."""
    return Records(
        values=np.stack([c.values for c in centuries]),
        standard_errors=np.stack([c.standard_errors for c in centuries]),
        preferences=np.stack([c.preferences for c in centuries]),
        open_replies=tuple(c.open_replies for c in centuries),
        influence_replies=tuple(c.influence_replies for c in centuries),
        planted=planted,
    )


def checksums(folder: Path, relative: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files, for ``history.json``."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
        for name in sorted(relative)
    }


def verify_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare the files of a history with their checksums.

    Raises:
        HistoryError: a file is missing, truncated or altered; the message names it.
    """
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise HistoryError(f"{path} is missing; fetch or build the history again")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise HistoryError(
                f"{path} has {size} bytes, expected {expected['bytes']} (truncated or altered); "
                "fetch or build the history again"
            )
        if size <= _HASH_LIMIT and _sha256(path) != expected["sha256"]:
            raise HistoryError(
                f"{path} differs from its checksum in {HISTORY_FILE}; "
                "fetch or build the history again"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _exchanges(prompts: Sequence[str], replies: Sequence[str]) -> tuple[Exchange, ...]:
    return tuple(Exchange(p, r) for p, r in zip(prompts, replies, strict=True))


def _read_replies(path: Path, names: Sequence[str]) -> dict[str, dict[str, list[Exchange]]]:
    found: dict[str, dict[str, list[Exchange]]] = {
        kind: {name: [] for name in names} for kind in ("open", "influence")
    }
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read ({error}); fetch or build it again") from error
    for number, line in enumerate(lines, start=1):
        try:
            raw = json.loads(line)
            found[raw["kind"]][raw["century"]].append(Exchange(raw["prompt"], raw["reply"]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise HistoryError(
                f"{path}:{number}: no valid reply ({error!r}); measure again"
            ) from error
    return found

"""Preparing a declared history: every century's model is measured once, and an episode reads that.

One model is in memory at a time. What was measured of a century is written down, whole or not at
all, before the next is loaded, so an interrupted preparation goes on with the next century. It is
kept as long as it was measured of the same model, with the same questions, prompt and seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env import __version__
from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.files import write_json
from progressgym_env.histories.declared import Checkpoint, Declaration, prepared_folder
from progressgym_env.histories.folder import (
    HISTORY_FILE,
    read_header,
    remove_replaced,
    write_history,
)
from progressgym_env.histories.history import History, read_history
from progressgym_env.histories.hub import revisions
from progressgym_env.histories.records import Exchange, Records, measure_centuries
from progressgym_env.histories.sources import CheckpointSource
from progressgym_env.values.questions import QuestionSet

__all__ = ["open_prompts", "place_of", "prepare"]

_PARTS = "measured"


def open_prompts() -> list[str]:
    """The open moral questions of the package, in order."""
    path = Path(str(files("progressgym_env.histories.embedded") / "open_prompts.json"))
    prompts: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))["prompts"]
    return [prompt for some in prompts.values() for prompt in some]


def place_of(name: str, declared: Declaration, questions: QuestionSet, seed: int = 0) -> Path:
    """The folder that a declaration of the package is prepared in, where none is given.

    Before every question set had a place of its own, any was prepared in that of the name; what was
    begun there is gone on with there.
    """
    folder, wanted = prepared_folder(name), _asked(declared, questions, seed)
    begun = any(asked == wanted for _, asked in _found(folder))
    if not begun and (folder / HISTORY_FILE).is_file():
        begun = read_header(folder).question_hash == questions.hash  # With another seed.
    return folder if begun else prepared_folder(name, questions)


def prepare(
    declared: Declaration,
    out: Path,
    questions: QuestionSet,
    *,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> History:
    """Measure the models of a declaration, and write a history folder.

    Args:
        declared: which models, and how they are asked.
        out: the folder; new, empty, or left by an earlier preparation, which is gone on with.
        questions: that they are measured with; kept in the folder unless it is the project's own.
        device: where the models run, one after another.
        seed: decides the replies.
        progress: called with (stage, centuries done, centuries in all).

    Raises:
        HistoryError: a model is missing, gated or cannot be loaded; said before any is measured
            where that can be known.
        InvalidArgumentError: ``out`` holds something else, such as measurements with other
            questions or another seed; or a model does not fit into memory.
    """
    from progressgym_env.models.language import resolve_device

    tell = progress or (lambda stage, done, total: None)
    device = resolve_device(device)
    _check_folder(out, declared, questions, seed)
    exact = revisions(declared.checkpoints)
    checkpoints = tuple(
        Checkpoint(c.century, c.model, exact[c.century]) for c in declared.checkpoints
    )
    parts = out / _PARTS
    parts.mkdir(parents=True, exist_ok=True)
    source = CheckpointSource(checkpoints, declared.chat_template)
    streams = np.random.default_rng(seed).spawn(len(checkpoints))
    measured, all_there = [], True
    for index, checkpoint in enumerate(checkpoints):
        part = _Part(
            parts / f"{checkpoint.century}.json",
            index,
            checkpoint,
            declared,
            questions,
            seed,
            device,
        )
        records = part.read()
        if records is None:
            all_there = False
            records = measure_centuries(
                [source.model(index, device, questions)], questions, open_prompts(), streams[index]
            )
            part.write(records)
            source.release()
        measured.append(records)
        tell("measuring", index + 1, len(checkpoints))
    if all_there and (out / HISTORY_FILE).is_file():
        # Another header would be another history to whoever began something with this one.
        return read_history(out)
    write_history(
        out,
        name=declared.name,
        names=tuple(c.century for c in checkpoints),
        checkpoints=checkpoints,
        chat_template=declared.chat_template,
        questions=questions,
        records=_joined(measured),
        provenance={
            "synthetic": False,
            "description": declared.description,
            "package_version": __version__,
            "torch_version": version("torch"),
            "device": device,
            "seed": seed,
            "asked": _asked(declared, questions, seed),
        },
    )
    remove_replaced(out)
    return read_history(out)


def _check_folder(out: Path, declared: Declaration, questions: QuestionSet, seed: int) -> None:
    known = (HISTORY_FILE, _PARTS)
    if out.exists() and not out.is_dir():
        raise InvalidArgumentError(f"{out} is a file; give a folder that does not exist yet")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in known):
        raise InvalidArgumentError(
            f"{out} holds something that is no prepared history; give a folder that is empty or "
            "does not exist yet"
        )
    wanted = _asked(declared, questions, seed)
    for path, asked in _found(out):
        if asked != wanted:
            raise InvalidArgumentError(
                f"{path} was measured for another history, with other questions, another prompt or "
                "another seed; it would be lost: give another folder, or remove it"
            )


def _found(out: Path) -> list[tuple[Path, object]]:
    """The files of a preparation, each with a digest of what was asked."""
    found: list[tuple[Path, object]] = []
    if (out / HISTORY_FILE).is_file():
        header = read_header(out)
        if not header.checkpoints:
            raise InvalidArgumentError(
                f"{out} holds a history of adapters, which is no prepared one; give another folder"
            )
        found.append((out / HISTORY_FILE, header.provenance.get("asked")))
    for path in sorted((out / _PARTS).glob("*.json")):
        found.append((path, _key_of(_raw(path)).get("asked")))
    return found


def _asked(declared: Declaration, questions: QuestionSet, seed: int) -> str:
    """A digest of all that is asked, whichever model it is asked of."""
    told = [declared.name, questions.hash, open_prompts(), declared.chat_template, seed]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _key_of(raw: Any) -> Mapping[str, Any]:
    """What a part's content says it was measured of; nothing where it says nothing."""
    key = raw.get("key") if isinstance(raw, dict) else None
    return key if isinstance(key, dict) else {}


def _raw(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HistoryError(
            f"{path} is damaged ({error}); remove it, and the century is measured again"
        ) from error


@dataclass(frozen=True)
class _Part:
    """What was measured of one century, as a file."""

    path: Path
    index: int
    checkpoint: Checkpoint
    declared: Declaration
    questions: QuestionSet
    seed: int
    device: str

    @property
    def key(self) -> dict[str, Any]:
        """What the measurements depend on."""
        return {
            **asdict(self.checkpoint),
            "asked": _asked(self.declared, self.questions, self.seed),
            # Its place decides its random numbers, the device its precision.
            "index": self.index,
            "device": self.device,
        }

    def read(self) -> Records | None:
        """The records, if they are there and were measured of the same."""
        if not self.path.is_file():
            return None
        raw = _raw(self.path)
        if _key_of(raw) != self.key:
            return None
        open_replies, influence_replies = (
            (tuple(Exchange(**exchange) for exchange in raw[kind]),)
            for kind in ("open_replies", "influence_replies")
        )
        arrays = {
            name: np.array([raw[name]]) for name in ("values", "standard_errors", "preferences")
        }
        return Records(
            **arrays, open_replies=open_replies, influence_replies=influence_replies, planted=None
        )

    def write(self, records: Records) -> None:
        """Store the records of this one century."""
        content = {
            "key": self.key,
            "values": records.values[0].tolist(),
            "standard_errors": records.standard_errors[0].tolist(),
            "preferences": records.preferences[0].tolist(),
            "open_replies": [asdict(exchange) for exchange in records.open_replies[0]],
            "influence_replies": [asdict(exchange) for exchange in records.influence_replies[0]],
        }
        try:
            write_json(self.path, content)
        except ValueError as error:
            raise HistoryError(
                f"the model {self.checkpoint.model} of {self.checkpoint.century} gave numbers that "
                f"are none ({error}); check its weights for NaN, and that every dimension has two "
                "eval questions"
            ) from error


def _joined(records: Sequence[Records]) -> Records:
    return Records(
        values=np.concatenate([r.values for r in records]),
        standard_errors=np.concatenate([r.standard_errors for r in records]),
        preferences=np.concatenate([r.preferences for r in records]),
        open_replies=tuple(r.open_replies[0] for r in records),
        influence_replies=tuple(r.influence_replies[0] for r in records),
        planted=None,
    )

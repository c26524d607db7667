"""Preparing a declared history: every century's model is measured once, and an episode reads that.

One model is in memory at a time. What was measured of a century is written down, whole or not at
all, before the next is loaded, so an interrupted preparation goes on with the next century. It is
kept as long as it was measured of the same model, with the same questions, prompt and seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np

from progressgym_env import __version__
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.declared import Checkpoint, Declaration, prepared_folder
from progressgym_env.histories.folder import (
    HISTORY_FILE,
    read_header,
    remove_replaced,
    write_history,
)
from progressgym_env.histories.history import History, read_history
from progressgym_env.histories.hub import revisions
from progressgym_env.histories.measured import MeasuredPart, joined, key_of, read_part
from progressgym_env.histories.records import measure_centuries
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
    measured, all_there, asked = [], True, _asked(declared, questions, seed)
    for index, checkpoint in enumerate(checkpoints):
        # Its place decides its random numbers, the device its precision.
        key = {**asdict(checkpoint), "asked": asked, "index": index, "device": device}
        part = MeasuredPart(
            parts / f"{checkpoint.century}.json",
            key,
            f"the model {checkpoint.model} of {checkpoint.century}",
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
        records=joined(measured),
        provenance={
            "synthetic": False,
            "description": declared.description,
            "package_version": __version__,
            "torch_version": version("torch"),
            "device": device,
            "seed": seed,
            "asked": asked,
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
        found.append((path, key_of(read_part(path)).get("asked")))
    return found


def _asked(declared: Declaration, questions: QuestionSet, seed: int) -> str:
    """A digest of all that is asked, whichever model it is asked of."""
    told = [declared.name, questions.hash, open_prompts(), declared.chat_template, seed]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()

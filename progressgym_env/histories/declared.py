"""Histories of full models, one a century, declared in a small TOML file.

Two come with the package (``declarations/``): the historical Llama models of ProgressGym. A file of
one's own has the same form::

    name = "mine"
    questions = "own"            # or "moralevals"
    chat_template = "..."        # Jinja; may be left out: then the tokenizers' own
    description = "..."          # may be left out

    [[century]]                  # two or more, oldest first
    name = "C019"
    model = "someone/a-model"    # on the hub, or a folder, relative to the file
    revision = "main"            # of the hub; may be left out
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from progressgym_env.errors import HistoryError, unknown_name
from progressgym_env.files import cache_folder
from progressgym_env.values.questions import QUESTION_SETS, QuestionSet

__all__ = [
    "DECLARED",
    "IN_FOLDER",
    "Checkpoint",
    "Declaration",
    "declaration",
    "prepared_folder",
    "prepared_places",
]

DECLARED = ("histllama-8b", "histllama-70b")
"""Declarations of the package, by name. They are played once they are prepared."""

IN_FOLDER = "in the history's folder"
"""The revision of a model that lies in its history's folder, whose header knows its files."""

_FOLDER = Path(str(files("progressgym_env.histories") / "declarations"))
_KEYS = {"name", "questions", "chat_template", "description", "century"}
_CENTURY_KEYS = {"name", "model", "revision"}


@dataclass(frozen=True)
class Checkpoint:
    """The full model of a century.

    Attributes:
        century: its name.
        model: a folder, or a name on the hub.
        revision: of the hub; None takes the newest.
    """

    century: str
    model: str
    revision: str | None = None


@dataclass(frozen=True)
class Declaration:
    """A history of full models, before anything was measured.

    Attributes:
        name: for tables and run folders.
        questions: name of the question set it is measured with.
        chat_template: in place of the tokenizers' own, where it is not None.
        description: what it is.
        checkpoints: oldest first.
    """

    name: str
    questions: str
    chat_template: str | None
    description: str
    checkpoints: tuple[Checkpoint, ...]


def declaration(name: str | Path) -> Declaration:
    """The declaration of this name, or in this file.

    Raises:
        UnknownNameError: neither a known name nor a file.
        HistoryError: the file is malformed; the message names file, field and what is allowed.
    """
    if str(name) in DECLARED:
        return _read(_FOLDER / f"{name}.toml")
    path = Path(name)
    if path.is_file():
        return _read(path)
    raise unknown_name("declaration", str(name), [*DECLARED, "PATH to a TOML file"])


def prepared_folder(name: str, questions: QuestionSet | None = None) -> Path:
    """Where the history of a declaration of the package lies once it is prepared.

    Args:
        name: of the declaration.
        questions: that it is measured with. Those it declares, and None, have the place of its
            name; any others have one beside it, which their hash names.
    """
    folder = cache_folder() / "histories" / name
    if questions is None or questions.name == declaration(name).questions:
        return folder
    return folder.with_name(f"{name}-{questions.hash[:12]}")


def prepared_places(name: str) -> list[Path]:
    """Wherever the history of a declaration may lie, whatever it was asked."""
    return [prepared_folder(name), *sorted((cache_folder() / "histories").glob(f"{name}-*"))]


def _read(path: Path) -> Declaration:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path} cannot be read as TOML ({error})") from error

    def text(table: dict[str, Any], key: str, where: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise HistoryError(f"{path}: {where}{key!r} is {value!r}, must be text")
        return value

    def known(table: dict[str, Any], keys: set[str], where: str) -> None:
        unknown = sorted(set(table) - keys)
        if unknown:
            raise HistoryError(
                f"{path}: {where}unknown keys {', '.join(unknown)}; "
                f"known: {', '.join(sorted(keys))}"
            )

    known(raw, _KEYS, "")
    tables = raw.get("century")
    if not isinstance(tables, list) or len(tables) < 2:
        raise HistoryError(
            f"{path}: has {len(tables or ())} tables [[century]], must have 2 or more"
        )
    checkpoints = []
    for number, table in enumerate(tables, start=1):
        where = f"[[century]] {number}: "
        known(table, _CENTURY_KEYS, where)
        model = text(table, "model", where)
        beside = path.parent / model
        revision = text(table, "revision", where) if "revision" in table else None
        checkpoints.append(
            Checkpoint(
                text(table, "name", where),
                str(beside.resolve()) if beside.is_dir() else model,
                revision,
            )
        )
    names = [checkpoint.century for checkpoint in checkpoints]
    if len(set(names)) < len(names) or any("/" in name or name.startswith(".") for name in names):
        raise HistoryError(f"{path}: centuries {names} must be distinct, and good names of files")
    questions = raw.get("questions", "own")
    if questions not in QUESTION_SETS:
        raise HistoryError(
            f"{path}: 'questions' is {questions!r}, must be one of {', '.join(QUESTION_SETS)}"
        )
    return Declaration(
        name=text(raw, "name", ""),
        questions=questions,
        chat_template=text(raw, "chat_template", "") if "chat_template" in raw else None,
        description=text(raw, "description", "") if "description" in raw else "",
        checkpoints=tuple(checkpoints),
    )

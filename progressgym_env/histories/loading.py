"""Histories by name or path."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from weakref import WeakValueDictionary

from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.histories.asked import measured_otherwise, prepared_with
from progressgym_env.histories.declared import DECLARED
from progressgym_env.histories.folder import read_header
from progressgym_env.histories.history import History, read_history
from progressgym_env.histories.simulated import (
    SPLITS,
    SimulatedHistories,
    simulated_histories,
    twin,
)
from progressgym_env.values.choosing import Questions, resolve_questions
from progressgym_env.values.questions import QuestionSet

__all__ = ["HISTORIES", "is_named", "load", "load_one"]

HISTORIES = ("embedded", "simulated", "simulated-train", "simulated-test", "simulated-embedded")
"""Histories known by name. A path to a history folder works wherever a name does, and simulated
ones take a family, as ``"simulated:breaks"``. The declared ones
(:data:`~progressgym_env.histories.declared.DECLARED`) are known once they are prepared.
"""


def load(
    history: str | Path | History | SimulatedHistories,
    questions: Questions | None = None,
) -> History | SimulatedHistories:
    """The history of this name, or in this folder; a ``History`` is returned as it is.

    Environments that are there at the same time share the history of a name or of a folder that
    has not changed, and with it the base in memory.

    Simulated histories are many: their names give a source of them, which draws one an episode.
    They may name a family behind a colon, as ``"simulated-train:leads"``.

    Args:
        history: a name, a path, or what this function returns.
        questions: the set that it must be measured with, see
            :func:`~progressgym_env.values.choosing.resolve_questions`; None takes whichever it was.
            A declared history can be prepared with several, and this chooses.

    Raises:
        InvalidArgumentError: neither a name, nor a path, nor a ``History``.
        UnknownNameError: neither a known name nor a folder, or there is no such family.
        HistoryError: the folder is incomplete, damaged, of another format version, or its records
            were measured with other questions.
        QuestionError: the questions cannot be had.
    """
    asked = None if questions is None else resolve_questions(questions)
    loaded = _loaded(history, questions, asked)
    if questions is not None and asked is not None and loaded.questions.hash != asked.hash:
        raise measured_otherwise(history, loaded, questions, asked)
    return loaded


def _loaded(
    history: str | Path | History | SimulatedHistories,
    questions: Questions | None,
    asked: QuestionSet | None,
) -> History | SimulatedHistories:
    if isinstance(history, History | SimulatedHistories):
        return history
    if not isinstance(history, str | os.PathLike):
        raise InvalidArgumentError(
            f"history={history!r} must be a name ({', '.join(HISTORIES)}), the path of a history "
            "folder, or a History"
        )
    if isinstance(history, str) and history not in DECLARED and is_named(history):
        return _load_named(history)
    if history in DECLARED:
        return _read_shared(prepared_with(str(history), questions, asked))
    path = Path(history)
    if path.is_dir():
        return _read_shared(path)
    raise unknown_name("history", str(history), [*HISTORIES, *DECLARED, "PATH to a history folder"])


def is_named(history: str) -> bool:
    """Whether this is a name, wherever it is looked up, and no path."""
    return history in (*HISTORIES, *DECLARED) or history.partition(":")[0] in SPLITS


def load_one(
    history: str | Path | History | SimulatedHistories,
    seed: int = 0,
    questions: Questions | None = None,
) -> History:
    """As :func:`load`; of simulated histories, the one that ``env.reset(seed=seed)`` draws."""
    loaded = load(history, questions)
    return loaded if isinstance(loaded, History) else loaded.of_episode(seed)


_IN_USE: WeakValueDictionary[tuple[object, ...], History] = WeakValueDictionary()


def _read_shared(folder: Path) -> History:
    """The history in ``folder``: the one in use here, with its base, if it is still the same.

    It is read and checked in any case; what may then be shared is the models in memory. Times count
    as well, for of large files nothing else tells that they have changed.
    """
    found = read_history(folder)
    folder = folder.resolve()
    stats = [(folder / name).stat() for name in read_header(folder).files]
    states = tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
    return _IN_USE.setdefault((folder, found.digest, found.questions.hash, states), found)


@lru_cache(maxsize=8)
def _load_named(name: str) -> History | SimulatedHistories:
    if name == "simulated-embedded":
        return twin(_load_embedded())
    if name != "embedded":
        return simulated_histories(name)
    return _load_embedded()


@lru_cache(maxsize=1)
def _load_embedded() -> History:
    name = "embedded"
    return read_history(Path(str(files(f"progressgym_env.histories.{name}") / "data")))

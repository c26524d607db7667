"""Histories by name or path."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from progressgym_env.errors import HistoryError, InvalidArgumentError, unknown_name
from progressgym_env.histories.declared import DECLARED, prepared_folder
from progressgym_env.histories.folder import HISTORY_FILE
from progressgym_env.histories.history import History, read_history
from progressgym_env.histories.simulated import (
    SPLITS,
    SimulatedHistories,
    simulated_histories,
    twin,
)

__all__ = ["HISTORIES", "is_named", "load", "load_one"]

HISTORIES = ("embedded", "simulated", "simulated-train", "simulated-test", "simulated-embedded")
"""Histories known by name. A path to a history folder works wherever a name does, and simulated
ones take a family, as ``"simulated:breaks"``. The declared ones
(:data:`~progressgym_env.histories.declared.DECLARED`) are known once they are prepared.
"""


def load(
    history: str | Path | History | SimulatedHistories,
) -> History | SimulatedHistories:
    """The history of this name, or in this folder; a ``History`` is returned as it is.

    Simulated histories are many: their names give a source of them, which draws one an episode.
    They may name a family behind a colon, as ``"simulated-train:leads"``.

    Raises:
        InvalidArgumentError: neither a name, nor a path, nor a ``History``.
        UnknownNameError: neither a known name nor a folder, or there is no such family.
        HistoryError: the folder is incomplete, damaged, of another format version, or its records
            were measured with other questions.
    """
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
        return _prepared(str(history))
    path = Path(history)
    if path.is_dir():
        return read_history(path)
    raise unknown_name("history", str(history), [*HISTORIES, *DECLARED, "PATH to a history folder"])


def is_named(history: str) -> bool:
    """Whether this is a name, wherever it is looked up, and no path."""
    return history in (*HISTORIES, *DECLARED) or history.partition(":")[0] in SPLITS


def load_one(history: str | Path | History | SimulatedHistories, seed: int = 0) -> History:
    """As :func:`load`; of simulated histories, the one that ``env.reset(seed=seed)`` draws."""
    loaded = load(history)
    return loaded if isinstance(loaded, History) else loaded.of_episode(seed)


def _prepared(name: str) -> History:
    folder = prepared_folder(name)
    if not (folder / HISTORY_FILE).is_file():
        raise HistoryError(
            f"history {name!r} is not prepared on this machine: its models have to be measured "
            f"once. Run: progressgym history prepare {name} ('progressgym doctor' says whether "
            "this machine can)"
        )
    return read_history(folder)


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

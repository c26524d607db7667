"""Which questions a history was measured with: to find the right one, and to say what is wrong."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from progressgym_env.errors import HistoryError
from progressgym_env.histories.declared import DECLARED, prepared_folder, prepared_places
from progressgym_env.histories.folder import HISTORY_FILE, Header, read_header
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories, SimulatedHistory
from progressgym_env.values.choosing import Questions, questions_option
from progressgym_env.values.questions import QuestionSet

__all__ = ["measured_otherwise", "prepared_with"]


def prepared_with(name: str, questions: Questions | None, asked: QuestionSet | None) -> Path:
    """The folder of the declared history ``name`` that was prepared with these questions.

    Args:
        name: one of ``DECLARED``.
        questions: as they were named; None is whatever lies in the place of the name itself.
        asked: what they are.

    Raises:
        HistoryError: there is none; the message names those that there are, and the command.
    """
    folder = prepared_folder(name)
    if asked is None:
        if (folder / HISTORY_FILE).is_file():
            return folder
    else:
        # Before every set had a place of its own, any could lie in that of the name.
        for place in dict.fromkeys((folder, prepared_folder(name, asked))):
            header = _header(place)
            if header is not None and header.question_hash == asked.hash:
                return place
    found = [header for header in map(_header, prepared_places(name)) if header is not None]
    wanted = "" if asked is None else f" with the questions {_shown(asked.name, asked.hash)}"
    there = ", ".join(
        f"{_shown(header.question_name, header.question_hash)} in {header.folder}"
        for header in found
    )
    option = "" if questions is None else f" {questions_option(questions)}"
    raise HistoryError(
        f"history {name!r} is not prepared on this machine{wanted}: its models have to be measured "
        f"once. Run: progressgym history prepare {name}{option} ('progressgym doctor' says whether "
        "this machine can)" + (f". Prepared with other questions: {there}" if there else "")
    )


def measured_otherwise(
    history: object,
    loaded: History | SimulatedHistories,
    questions: Questions,
    asked: QuestionSet,
) -> HistoryError:
    """The error for a history that was measured with other questions than are asked for.

    Args:
        history: as it was named.
        loaded: what it is.
        questions: as they were named.
        asked: what they are.
    """
    has = loaded.questions
    return HistoryError(
        f"history {loaded.name!r} was measured with the questions {_shown(has.name, has.hash)}, "
        f"and those asked for are {_shown(asked.name, asked.hash)}; "
        f"{_remedy(history, loaded, questions_option(questions))}"
    )


def _remedy(history: object, loaded: History | SimulatedHistories, option: str) -> str:
    leave = "leave questions out to take it with its own"
    if isinstance(loaded, SimulatedHistories | SimulatedHistory):
        return (
            f"{leave}, or give history=SimulatedHistories(questions=load_questions(...)), which "
            "draws histories that answer others"
        )
    if history == "embedded":
        return (
            f"{leave}: its small models know no other words. For others take real models, such as "
            f"{DECLARED[0]!r}, with: progressgym history prepare {DECLARED[0]} {option}"
        )
    if loaded.of_full_models and loaded.provenance.get("recipe") is None:
        name = loaded.name if loaded.name in DECLARED else "DECLARATION.toml"
        return (
            f"{leave}, or measure its models with those as well: progressgym history prepare "
            f"{name} {option} --out FOLDER"
        )
    place = shlex.quote(str(history)) if isinstance(history, str | os.PathLike) else "FOLDER"
    return (
        f"{leave}, or measure it with those, in a copy if the present records are to be kept: "
        f"progressgym history measure {place} {option}"
    )


def _header(folder: Path) -> Header | None:
    """The header of a history, if a whole one is there."""
    with suppress(HistoryError):
        return read_header(folder)
    return None


def _shown(name: str, digest: str) -> str:
    return f"{name!r} ({digest[:12]}…)"

"""Which questions somebody means: those of a name, in files, or a set at hand."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TypeAlias

from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.values.questions import QUESTION_SETS, QuestionSet, load_questions

__all__ = ["Questions", "questions_option", "resolve_questions"]

Questions: TypeAlias = str | Path | QuestionSet
"""A name of ``QUESTION_SETS``, the path of question files, or a set."""


def resolve_questions(questions: Questions) -> QuestionSet:
    """The question set that is meant.

    Args:
        questions: a name; a ``.jsonl`` file or a folder of them; a folder with the published files
            of MoralEvals; or a set, which is returned as it is.

    Raises:
        InvalidArgumentError: none of these.
        UnknownNameError: neither a known name nor a path.
        QuestionError: a file has a defect, or cannot be fetched.
    """
    if isinstance(questions, QuestionSet):
        return questions
    if not isinstance(questions, str | os.PathLike):
        raise InvalidArgumentError(
            f"questions={questions!r} must be a name ({', '.join(QUESTION_SETS)}), the path of "
            "question files, or a QuestionSet"
        )
    if questions in QUESTION_SETS:
        return load_questions(str(questions))
    path = Path(questions)
    if not path.exists():
        known = [*QUESTION_SETS, "PATH of question files"]
        raise unknown_name("question set", str(questions), known)
    # Imported here: most never fetch anything, and this loads what does.
    from progressgym_env.values.moralevals_files import FILES

    published = [path / name for name in FILES] + [path / "raw_dataset" / name for name in FILES]
    kind = "moralevals" if any(file.is_file() for file in published) else "own"
    return load_questions(kind, path)


def questions_option(questions: Questions) -> str:
    """What asks for these questions on the command line."""
    told = "PATH" if isinstance(questions, QuestionSet) else str(questions)
    return f"--questions {shlex.quote(told)}"

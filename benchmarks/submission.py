"""Handing in a run: checked first, then packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from progressgym_env.benchmarks.manifest import (
    Manifest,
    SubmissionError,
    Submitter,
    check_new,
    pack,
    read_manifest,
    unpack,
)
from progressgym_env.benchmarks.verify import MIN_SEEDS, verify

__all__ = [
    "Manifest",
    "SubmissionError",
    "Submitter",
    "pack",
    "read_manifest",
    "submit",
    "unpack",
]

_MOST_NAMED = 10


def submit(
    run: Path,
    out: Path,
    *,
    name: str,
    authors: Sequence[str],
    url: str = "",
    description: str = "",
    min_seeds: int = MIN_SEEDS,
    history: str | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Path:
    """Check the run in ``run`` as a submission, without replay, and pack it.

    Args:
        run: a complete run folder.
        out: the zip, which must not exist yet.
        name: of the submission, as tables show it.
        authors: at least one.
        url: of a paper, code or page.
        description: what it is about, in a line.
        min_seeds: the fewest seeds.
        history: where the history lies, if not where the run found it.
        progress: called with a stage, how much is done, and of how much.

    Returns:
        ``out``.

    Raises:
        InvalidArgumentError: a text or ``out`` cannot be used.
        RunFolderError: ``run`` is no run folder, or cannot be checked.
        SubmissionError: something in it does not agree; nothing was written.
    """
    submitter = Submitter(name, tuple(authors), url, description)
    check_new(out)
    verdict = verify(run, history=history, submission=True, min_seeds=min_seeds, progress=progress)
    if not verdict.ok:
        wrong = [str(finding) for finding in verdict.errors]
        more = len(wrong) - _MOST_NAMED
        shown = wrong[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])
        raise SubmissionError(
            f"{run} cannot be submitted; mend this, and see progressgym verify:\n  "
            + "\n  ".join(shown)
        )
    return pack(run, out, submitter)

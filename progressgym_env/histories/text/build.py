"""From a recipe to a history: ``progressgym history build``.

Text → base → for every century continued pretraining, then tuning on timeless conversations →
perplexities → values, preferences and replies → cards and header. Each stage writes down that it is
done, and with what; a build that was interrupted goes on where it was, within a training at its
last checkpoint. The header comes last: before, the folder is no history.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.folder import HISTORY_FILE, read_header
from progressgym_env.histories.history import History, read_history
from progressgym_env.histories.text.century_models import FullModelMaker
from progressgym_env.histories.text.context import STAGES, Context, Progress
from progressgym_env.histories.text.finishing import Finished, finish
from progressgym_env.histories.text.making import Making
from progressgym_env.histories.text.recipe import Recipe
from progressgym_env.histories.text.stages import Stages
from progressgym_env.models.loading import resolve_device

__all__ = ["STOPS", "build_history", "stage_seconds"]

STOPS = ("text", "base", "pretrain", "instruct")
"""Stages that a build can stop after, to look at what there is."""

_LOCK = ".lock"


def build_history(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    stop_after: str | None = None,
) -> History | None:
    """Make a history out of text.

    The same recipe, text, package versions, machine and number of threads give the same files, bit
    for bit, on a CPU.

    Args:
        recipe: what it is made of, and how.
        out: the folder; new, empty, or left by an earlier build, which is gone on with. Stages
            whose settings have changed since are done again. A finished history stays as it is.
        device: where models are trained and measured.
        progress: called with (stage, steps done, steps in all).
        stop_after: one of ``STOPS``; None builds all of it.

    Returns:
        The history; None where it was to stop before.

    Raises:
        InvalidArgumentError: ``out`` holds something else, a finished history of another recipe
            among it, or is being built in; a training diverged.
        HistoryError: the text or the model cannot be used; the message says why, and what to do.
    """
    if stop_after is not None and stop_after not in STOPS:
        raise InvalidArgumentError(
            f"stop_after={stop_after!r} must be one of {', '.join(STOPS)}, or left out"
        )
    device = resolve_device(device)
    _check_folder(recipe, out)
    (out / STAGES).mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InvalidArgumentError(
            f"{out} is being built in by another process; wait for it, or give another folder"
        ) from error
    with lock:
        if (out / HISTORY_FILE).is_file():
            return read_history(out)
        _sweep(out)
        return _run(Context(recipe, out, device, progress or (lambda *_: None)), stop_after)


def stage_seconds(out: Path) -> dict[str, float]:
    """Kind of stage → seconds that it took, where ``out`` still has the notes of its stages.

    What was lost by interruptions is not in it.
    """
    seconds: dict[str, float] = {}
    for stage, time in Stages(out / STAGES).seconds().items():
        kind = stage.partition("-")[0]
        seconds[kind] = seconds.get(kind, 0.0) + time
    return seconds


def _run(build: Context, stop_after: str | None) -> History | None:
    """All stages, one after another."""
    making = Making(build)
    questions = making.check()
    texts = making.read_text()
    if stop_after == "text":
        return None
    base = making.make_base(texts)
    if stop_after == "base":
        return None
    making.open_maker()
    making.pretrain(base, texts)
    if stop_after == "pretrain":
        return None
    models = making.instruct(base, texts)
    maker = making.close_maker()
    if stop_after == "instruct":
        return None
    centuries = tuple(texts)
    checkpoints = maker.checkpoints(centuries) if isinstance(maker, FullModelMaker) else []
    source = maker.source(centuries)
    finished = Finished(centuries, texts, models, source, checkpoints, making.base_revision)
    return finish(build, finished, questions)


def _check_folder(recipe: Recipe, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InvalidArgumentError(f"{out} is a file; give a folder that does not exist yet")
    if (out / HISTORY_FILE).is_file():
        if read_header(out).provenance.get("recipe") != recipe.as_dict():
            raise InvalidArgumentError(
                f"{out} holds a finished history of another recipe; it would be lost: give another "
                "folder, or remove it"
            )
    elif out.is_dir() and not (out / STAGES).is_dir() and any(out.iterdir()):
        raise InvalidArgumentError(
            f"{out} holds something that is no build of a history; give a folder that is empty or "
            "does not exist yet"
        )


def _sweep(out: Path) -> None:
    """Remove what a build that was killed has left half written."""
    for pattern in (".*.tmp*", ".reading-*"):
        # A list: what is removed is no longer walked through.
        for left in list(out.rglob(pattern)):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()

"""Exit codes, and errors that cost one line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from progressgym_env.errors import ProgressGymError

__all__ = ["EXIT_FAILED", "EXIT_INTERRUPTED", "EXIT_MISTAKE", "EXIT_TERMINATED", "clean_errors"]

EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C, but with an exit code of its own."""


@contextmanager
def clean_errors(writes: Path | None = None) -> Iterator[None]:
    """A mistake of the user costs one line, not a traceback; signals end things tidily.

    Args:
        writes: what the command writes, to be named where the system refuses it.
    """

    def on_terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`); typer ends quietly then.
        raise
    except (ProgressGymError, OSError) as error:
        line = _refusal(error, writes) if isinstance(error, OSError) else str(error)
        Console(stderr=True).print(Text(f"error: {line}", style="red"), soft_wrap=True)
        raise typer.Exit(EXIT_MISTAKE) from error
    except KeyboardInterrupt as interrupt:
        Console(stderr=True).print(Text("interrupted", style="yellow"))
        terminated = isinstance(interrupt, Terminated)
        raise typer.Exit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _refusal(error: OSError, writes: Path | None) -> str:
    """What the operating system refused, in a line that names a path the user knows."""
    reason = " ".join((error.strerror or str(error)).split())
    named = error.filename
    place = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else None
    if writes is None or (place is not None and not _is_part(place, writes)):
        return reason if place is None else f"{place}: {reason}"
    return f"{writes}: {reason}; give a path whose folder is there, can be written to and has room"


def _is_part(place: Path, writes: Path) -> bool:
    """Whether ``place`` is ``writes``, holds it, lies in it, or is its temporary file."""
    temporary = place.parent == writes.parent and place.name.startswith(f".{writes.stem}-")
    return temporary or place in (writes, *writes.parents) or writes in place.parents

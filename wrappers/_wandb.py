"""How this package deals with wandb: whether it is there, how a run is opened, what may go wrong.

Nothing that wandb does may stop or ask whoever uses it, or have them wait for longer than
``INIT_SECONDS`` at the start and ``FINISH_SECONDS`` at the end: see :func:`open_run`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from progressgym_env.arguments import check_choice
from progressgym_env.errors import InvalidArgumentError, MissingPackageError

if TYPE_CHECKING:
    from wandb import Run

__all__ = [
    "FINISH_SECONDS",
    "INIT_SECONDS",
    "MODES",
    "Attempt",
    "TrackingWarning",
    "check_mode",
    "check_project",
    "in_a_line",
    "open_run",
    "warn",
]

MODES = ("online", "offline", "disabled")
"""``"disabled"`` logs nothing, writes nothing, and needs no wandb."""

INIT_SECONDS, FINISH_SECONDS = 5.0, 30.0
"""How long W&B may take to answer, and to upload what is left at the end; ``WANDB_INIT_TIMEOUT``
and ``WANDB_FINISH_TIMEOUT`` are wandb's own way to allow for more."""

# wandb's own rule for names of projects.
_NOT_IN_PROJECTS, _LONGEST_PROJECT = set("/\\#?%:\r\n"), 128


class TrackingWarning(UserWarning):
    """W&B could not do what was asked of it; the experiment goes on."""


class Attempt:
    """Keeps errors from whoever calls wandb: it may raise anything, and must stop nothing.

    Attributes:
        error: what went wrong in the ``with`` block; None if nothing did.
    """

    error: Exception | None = None

    def __enter__(self) -> None:
        """Nothing to begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        place: TracebackType | None,
    ) -> bool:
        """Record an error; let pass what is none, as Ctrl-C."""
        if not isinstance(error, Exception):
            return False
        self.error = error
        return True


def check_mode(mode: object) -> str | None:
    """``mode`` if it is one of ``MODES``, or None for wandb's own setting.

    Raises:
        UnknownNameError: there is no such mode.
        MissingPackageError: wandb is not installed, and the mode needs it.
    """
    if mode is not None:
        mode = check_choice("W&B mode", mode, MODES)
    if mode != "disabled":
        _require_wandb()
    return mode


def check_project(project: object) -> str:
    """``project`` if W&B takes it for a name.

    Raises:
        InvalidArgumentError: it does not.
    """
    good = isinstance(project, str) and 0 < len(project) <= _LONGEST_PROJECT
    if not good or set(str(project)) & _NOT_IN_PROJECTS:
        raise InvalidArgumentError(
            f"project={project!r} must be a name of 1 to {_LONGEST_PROJECT} characters, none of "
            "them / \\ # ? % : or a line end"
        )
    return str(project)


def open_run(
    mode: str | None,
    *,
    project: str,
    name: str | None,
    config: Mapping[str, Any],
    folder: Path | None,
    silent: bool,
) -> Run:
    """A new wandb run; raises whatever wandb raises, but within ``INIT_SECONDS``, and never asks.

    Finishing it takes ``FINISH_SECONDS`` at most, and raises TimeoutError if that was too little:
    without that setting, wandb waits for a lost network for good.
    """
    import wandb

    # Unless silent, wandb first asks the server whose key it is, and waits ten seconds for that.
    settings: dict[str, Any] = {"console": "off", "silent": True, "finish_timeout_raises": True}
    for key, seconds in (("init_timeout", INIT_SECONDS), ("finish_timeout", FINISH_SECONDS)):
        if f"WANDB_{key.upper()}" not in os.environ:
            settings[key] = seconds
    if silent:
        # Some of what wandb prints goes by its settings for all runs.
        wandb.setup(wandb.Settings(silent=True))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with _dumb_terminal():
        return wandb.init(
            project=project,
            mode=mode,  # type: ignore[arg-type]  # one of MODES, but a string
            name=name,
            config=dict(config),
            dir=folder,
            # A run of the caller's own stays as it is.
            reinit="create_new",
            settings=wandb.Settings(**settings),
        )


def in_a_line(error: Exception) -> str:
    """What ``error`` says, in a line."""
    lines = str(error).strip().splitlines()
    # wandb's settings say in the first line only that one of them is wrong.
    said = " ".join(line.strip() for line in lines[: 3 if isinstance(error, ValueError) else 1])
    kind = type(error).__name__
    return kind if said in ("", "<no message>") else f"{kind}: {said}".rstrip(".")


def warn(message: str) -> None:
    """Say what W&B could not do."""
    warnings.warn(message, TrackingWarning, stacklevel=2)


@contextmanager
def _dumb_terminal() -> Iterator[None]:
    """On a dumb terminal, wandb asks for no key, which nobody may be there to type.

    It has no setting that says so.
    """
    before = os.environ.get("TERM")
    os.environ["TERM"] = "dumb"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TERM"]
        else:
            os.environ["TERM"] = before


def _require_wandb() -> None:
    spec = find_spec("wandb")
    # A folder called wandb, as every offline run leaves one, passes for an empty package.
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "logging to Weights & Biases needs the package wandb, which is not installed; install "
            "it with: pip install 'progressgym-env[track]'"
        )

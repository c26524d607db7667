"""Does a run folder, or a submission, say what happened? See ``docs/verifying.md``."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from progressgym_env import __version__
from progressgym_env.arguments import check_choice, check_integer
from progressgym_env.benchmarks.bench import default_workers
from progressgym_env.benchmarks.config import config_hash, describe, differences
from progressgym_env.benchmarks.episode_check import (
    EpisodeChecker,
    Replayed,
    ReplayExecutor,
    play_again,
    replay_processes,
)
from progressgym_env.benchmarks.episodes import EpisodeRecord
from progressgym_env.benchmarks.evidence import (
    Line,
    config_in,
    lines_in,
    matrix_in,
    record_in,
)
from progressgym_env.benchmarks.machine import processor
from progressgym_env.benchmarks.manifest import (
    MANIFEST_FILE,
    disagreeing_files,
    read_manifest,
    unpack,
)
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.retelling import Tolerance
from progressgym_env.benchmarks.run_folder import CONFIG_FILE, EPISODES_FILE, RunFolder
from progressgym_env.benchmarks.verdict import Finding, Verdict
from progressgym_env.errors import HistoryError, RunFolderError
from progressgym_env.files import file_hash
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import HISTORIES, is_named, load, load_one
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.values.questions import QUESTION_SETS

__all__ = ["MIN_SEEDS", "Finding", "Verdict", "verify"]

MIN_SEEDS = 5
"""The fewest seeds of a submission."""

Progress = Callable[[str, int, int], None]


def verify(
    path: str | Path,
    *,
    history: str | None = None,
    submission: bool = False,
    min_seeds: int = MIN_SEEDS,
    replay: str | int = "none",
    seed: int | None = None,
    tolerance: Tolerance = Tolerance(),  # noqa: B008  # frozen
    workers: int | None = None,
    progress: Progress = lambda stage, done, total: None,
    executor: Callable[[int, int], ReplayExecutor] = replay_processes,
) -> Verdict:
    """Check a run folder, or a submission.

    Args:
        path: a run folder, an unpacked submission, or the ``.zip`` of one.
        history: where the history lies, if not where the run found it.
        submission: hold a run folder to the rules of a submission; one that has a manifest always
            is.
        min_seeds: the fewest seeds of a submission.
        replay: ``"none"``, ``"all"``, or how many episodes to play again, chosen at random.
        seed: decides which; by default the system does, so that nobody can know beforehand.
        tolerance: how far a replay may be off where versions, processor or device are others.
        workers: processes side by side in a replay.
        progress: called with a stage, how much of it is done, and of how much.
        executor: makes what plays again, from ``workers`` and the threads of the run.

    Raises:
        InvalidArgumentError: an argument is out of range.
        RunFolderError: ``path`` is no run folder, is of another version of this package, or tells
            of what is not known here; it cannot be checked.
        SubmissionError: a zip that is no submission, or is damaged.
        HistoryError: the history cannot be read.
        UnknownNameError: the history is not here; give ``history``.
    """
    if not isinstance(replay, int) or isinstance(replay, bool):
        check_choice("replay", replay, ("none", "all"))
    else:
        check_integer("replay", replay, 1)
    check_integer("min_seeds", min_seeds, 1)
    if workers is not None:
        check_integer("workers", workers, 1)
    source = Path(path)
    options = _Options(history, min_seeds, replay, seed, tolerance, workers, progress, executor)
    if not source.is_file():
        foreign = (source / MANIFEST_FILE).is_file()
        strict = submission or foreign
        return _Verification(source, source, options, strict=strict, foreign=foreign).verdict()
    with tempfile.TemporaryDirectory(prefix="progressgym-") as place:
        folder = unpack(source, Path(place) / "run")
        return _Verification(source, folder, options, strict=True, foreign=True).verdict()


@dataclass(frozen=True)
class _Options:
    """See :func:`verify`."""

    history: str | None
    min_seeds: int
    replay: str | int
    seed: int | None
    tolerance: Tolerance
    workers: int | None
    progress: Progress
    executor: Callable[[int, int], ReplayExecutor]


class _Verification:
    """One check, and what it has found so far."""

    def __init__(
        self, source: Path, folder: Path, options: _Options, *, strict: bool, foreign: bool
    ) -> None:
        self._source, self._folder, self._options = source, folder, options
        self._submission, self._foreign = strict, foreign
        self._findings: list[Finding] = []
        self._records: dict[Cell, EpisodeRecord] = {}
        self._n_checked = 0
        self._config = config_in(folder)
        version = self._config["package_version"]
        if version != __version__:
            raise RunFolderError(
                f"{source} is of progressgym-env {version}, and this is {__version__}, which may "
                f"compute otherwise; install that version and check again: "
                f"pip install progressgym-env=={version}"
            )
        self._history = self._loaded()
        self._matrix = matrix_in(self._config, self._where_the_history_lies, self._questions)
        self._run = RunFolder(folder, self._matrix.cells)

    def verdict(self) -> Verdict:
        """Check everything."""
        alike = self._check_config()
        checker = EpisodeChecker(
            self._matrix,
            self._history,
            alike=alike,
            launched=bool(self._config["arguments"].get("launched")),
            installed=self._config["installed"],
        )
        if self._submission:
            self._check_seeds()
        self._check_files()
        lines = self._check_lines()
        # Against another history nothing could agree, and one reason is enough.
        if not any(finding.where == _DIGEST for finding in self._findings):
            self._check_episodes(lines, checker)
        for agent, why in checker.notes.items():
            self._note(f"agent {agent}", why)
        seed, replayed = self._replayed(checker)
        return Verdict(
            self._source,
            self._submission,
            len(self._run.cells),
            self._n_checked,
            tuple(self._findings),
            replayed,
            seed,
        )

    # The run as a whole

    @property
    def _where_the_history_lies(self) -> str:
        return self._options.history or str(self._config["history"]["asked_for"])

    def _loaded(self) -> History | SimulatedHistories:
        asked = self._where_the_history_lies
        if self._foreign and self._options.history is None and not is_named(asked):
            # What lies there on this machine is none of a stranger's business.
            raise HistoryError(
                f"the run was played on the history in {asked!r} of another machine; fetch it, and "
                f"say where it lies with --history (known by name: {', '.join(HISTORIES)})"
            )
        return load(asked, self._questions)

    @property
    def _questions(self) -> str | None:
        """Which history of its name is meant."""
        asked = self._config["history"].get("questions_asked_for")
        # A folder holds one set, whose digest is compared; nor is a stranger's path one here.
        if not is_named(self._where_the_history_lies):
            return None
        return None if self._foreign and asked not in QUESTION_SETS else asked

    def _check_config(self) -> bool:
        """Whether the machine and the software here are those of the run."""
        config, matrix = self._config, self._matrix
        if config_hash(config) != config["config_hash"]:
            self._error(CONFIG_FILE, "config_hash is not that of what the file says was played")
        described = describe(matrix, load_one(self._history, matrix.seeds[0]))
        agents = tuple(f"installed.{cell.agent}:" for cell in self._run.cells)
        alike = config.get("processor") == processor()
        for words in differences(config, described):
            if words.startswith(("versions.", *agents)):
                self._note(CONFIG_FILE, f"{words} (there → here)")
                alike = alike and not words.startswith("versions.")
            elif words.startswith("arguments.launched"):
                self._note(CONFIG_FILE, "training was launched, a replay is not: to a tolerance")
            elif words.startswith("history_digest"):
                self._error(_DIGEST, f"{words}: the history here is another; see --history")
            else:
                self._error(CONFIG_FILE, f"{words} (written down → follows from the rest)")
        if config.get("processor") != processor():
            self._note(CONFIG_FILE, f"processor {config.get('processor')!r}, here {processor()!r}")
        return alike

    def _check_seeds(self) -> None:
        seeds, least = self._matrix.seeds, self._options.min_seeds
        if seeds != tuple(range(len(seeds))):
            self._error(
                CONFIG_FILE,
                f"seeds are {_listed(seeds)}, and must be 0, 1 and so on without a gap, so that "
                "none can be left out",
            )
        if len(seeds) < least:
            self._error(CONFIG_FILE, f"{len(seeds)} seeds, and a submission has {least} or more")

    def _check_files(self) -> None:
        folder = self._folder
        if (folder / MANIFEST_FILE).is_file():
            manifest = read_manifest(folder)
            for name, what in disagreeing_files(folder, manifest):
                self._error(name, what)
            if manifest.config_hash != self._config["config_hash"]:
                self._error(MANIFEST_FILE, f"config_hash is not that in {CONFIG_FILE}")
        known = {self._run.file_of(cell).name for cell in self._run.cells}
        cells = folder / "cells"
        for path in sorted(cells.iterdir()) if cells.is_dir() else ():
            if path.name not in known:
                self._error(f"cells/{path.name}", "belongs to no episode of the matrix")
        status = _status(folder / "summary.json")
        if status != "complete":
            self._error("summary.json", f"status is {status!r}; only a complete run can be checked")

    def _check_lines(self) -> dict[Cell, Line]:
        """The line of each cell of the matrix that has one."""
        found: dict[Cell, Line] = {}
        order: list[Cell] = []
        for line in lines_in(self._folder):
            where = f"{EPISODES_FILE}:{line.number}"
            if line.problem:
                self._error(where, f"no episode: {line.problem}")
                continue
            order.append(line.cell)
            found.setdefault(line.cell, line)
        known = set(self._run.cells)
        for cell, count in Counter(order).items():
            if cell not in known:
                where = f"{EPISODES_FILE}:{found.pop(cell).number}"
                self._error(where, f"{cell.slug} is no episode of the matrix in {CONFIG_FILE}")
            elif count > 1:
                self._error(cell.slug, f"has {count} lines in {EPISODES_FILE}, must have one")
        for cell in self._run.cells:
            if cell not in found:
                self._error(cell.slug, f"is missing in {EPISODES_FILE}: the run is incomplete")
        if list(found) != [cell for cell in self._run.cells if cell in found]:
            self._error(EPISODES_FILE, "the lines do not stand in the order of the matrix")
        return found

    # Episodes

    def _check_episodes(self, lines: Mapping[Cell, Line], checker: EpisodeChecker) -> None:
        for done, (cell, line) in enumerate(lines.items()):
            self._options.progress("checking", done, len(lines))
            record = self._record(cell, line)
            if record is None:
                continue
            problems = checker.problems(cell, record)
            for words in problems:
                self._error(cell.slug, words)
            self._n_checked += 1
            if not problems:
                self._records[cell] = record
        self._options.progress("checking", len(lines), len(lines))

    def _record(self, cell: Cell, line: Line) -> EpisodeRecord | None:
        """The episode whose line and file agree; None if they do not."""
        file = self._run.file_of(cell)
        name = f"cells/{file.name}"
        if line.file != name:
            self._error(cell.slug, f"its line names the file {line.file!r}, its own is {name!r}")
            return None
        if not file.is_file():
            self._error(cell.slug, f"{name} is missing")
            return None
        if (found := file_hash(file)) != line.sha256:
            self._error(
                cell.slug, f"{name} has SHA-256 {found[:12]}…, its line says {line.sha256[:12]}…"
            )
        try:
            header, arrays = record_in(file)
        except RunFolderError as error:
            self._error(cell.slug, f"{name} {error}")
            return None
        assert line.raw is not None
        if header != line.raw:
            names = sorted(
                key
                for key in header.keys() | line.raw.keys()
                if header.get(key) != line.raw.get(key)
            )
            self._error(
                cell.slug, f"{name} and its line differ in {', '.join(names) or 'what they hold'}"
            )
        return EpisodeRecord.from_dict(dict(line.raw), arrays)

    def _replayed(self, checker: EpisodeChecker) -> tuple[int | None, Replayed | None]:
        options = self._options
        if options.replay == "none":
            return None, None
        if any(finding.severity == "error" for finding in self._findings):
            self._note("replay", "nothing was played again, for something is wrong already")
            return None, None
        cells = list(self._records)
        seed = None
        if isinstance(options.replay, int):
            seed = secrets.randbits(64) if options.seed is None else options.seed
            n_chosen = min(options.replay, len(cells))
            chosen = np.random.default_rng(seed).choice(len(cells), n_chosen, replace=False)
            cells = [cells[index] for index in sorted(chosen.tolist())]
        threads = self._matrix.threads
        full = isinstance(self._history, History) and self._history.of_full_models
        alone = self._matrix.engine != "transformers" or full
        workers = options.workers or default_workers(len(cells), threads, alone=alone)
        replayed = play_again(
            {cell: self._records[cell] for cell in cells},
            {cell: self._run.file_of(cell) for cell in cells},
            checker,
            self._matrix,
            options.tolerance,
            options.executor(workers, threads),
            options.progress,
        )
        for cell, problems in replayed.problems.items():
            for words in problems:
                self._error(cell.slug, words)
        return seed, replayed

    def _error(self, where: str, what: str) -> None:
        self._findings.append(Finding("error", where, what))

    def _note(self, where: str, what: str) -> None:
        self._findings.append(Finding("note", where, what))


_DIGEST = "history"


def _listed(seeds: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, seeds[:10]))
    return shown + (f" and {len(seeds) - 10} more" if len(seeds) > 10 else "")


def _status(file: Path) -> str:
    """The status in ``summary.json``; a submission holds none, its manifest says enough."""
    if not file.is_file():
        return "complete"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return "unreadable"
    return str(found.get("status")) if isinstance(found, dict) else "unreadable"

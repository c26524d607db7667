"""The files that the sources of a text name, here or on the hub."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.histories.folder import HISTORY_FILE
from progressgym_env.histories.hub import NO_ANSWER
from progressgym_env.histories.text.context import STAGES
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.reading import CENTURY_FOLDER, dated_path

__all__ = ["SourceFile", "find_files"]

_SECONDS = 30.0
_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".txt", ".txt.gz")


@dataclass(frozen=True)
class SourceFile:
    """A file to read.

    Attributes:
        name: as reports have it: relative to the settings' folder, or ``hub:OWNER/NAME/PATH``.
        path: where it lies; a file of the hub is fetched when this is called, not before.
        revision: of the hub; None for files that lie here.
        century: the only one that it holds records of; None where that is not known.
    """

    name: str
    path: Callable[[], Path]
    revision: str | None = None
    century: str | None = None


def find_files(settings: TextSettings, root: Path) -> tuple[list[SourceFile], list[str]]:
    """The files to read, in order, and the names of those in folders that are of no known kind.

    Raises:
        InvalidArgumentError: a source names no file.
        HistoryError: a data set of the hub cannot be had.
    """
    found: dict[str, SourceFile] = {}
    skipped: dict[str, None] = {}
    for source in settings.sources:
        if source.startswith("hub:"):
            files = _hub_files(source, settings.centuries)
            if settings.max_century_characters is not None:
                # By year the first decades of a century would fill it.
                files.sort(key=lambda file: hashlib.sha256(file.name.encode()).digest())
        else:
            files, others = _local_files(source, root)
            skipped.update(dict.fromkeys(others))
        for file in files:
            found.setdefault(file.name, file)
    return list(found.values()), [name for name in skipped if name not in found]


def _local_files(source: str, root: Path) -> tuple[list[SourceFile], list[str]]:
    files: list[Path] = []
    skipped: list[Path] = []
    for path in _matching(source, root):
        if not path.is_dir():
            # Whoever names a file wants it; in a folder there may be others.
            if not path.name.endswith(_SUFFIXES) and not _is_pattern(source):
                raise InvalidArgumentError(
                    f"sources: {source!r} must end with one of {', '.join(_SUFFIXES)}, or be a "
                    "folder or a pattern"
                )
            _sort_in(path, files, skipped)
            continue
        for inner in _inside(path):
            _sort_in(inner, files, skipped)
    if not files:
        raise InvalidArgumentError(
            f"sources: {source!r} names no file to read in {root}; give files that end with one "
            f"of {', '.join(_SUFFIXES)}, a folder or pattern of such, or hub:OWNER/NAME"
        )
    return [_local(path, root) for path in files], [_name(path, root) for path in skipped]


def _inside(folder: Path) -> Iterator[Path]:
    """The files of a folder, but for hidden ones, and for histories and what is to become one."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif not (path / HISTORY_FILE).is_file() and not (path / STAGES).is_dir():
            yield from _inside(path)


def _matching(source: str, root: Path) -> Iterator[Path]:
    pattern = Path(source).expanduser()
    if not _is_pattern(source):
        whole = root / pattern
        if whole.exists():
            yield whole
        return
    base = Path(pattern.anchor) if pattern.is_absolute() else root
    relative = pattern.relative_to(base) if pattern.is_absolute() else pattern
    hidden = relative.name.startswith(".")
    for path in sorted(base.glob(str(relative))):
        if hidden or not path.name.startswith("."):
            yield path


def _is_pattern(source: str) -> bool:
    return any(character in source for character in "*?[")


def _sort_in(path: Path, files: list[Path], skipped: list[Path]) -> None:
    known = path.name.endswith(_SUFFIXES)
    # A text that says nothing of its year is as likely somebody's note about the folder.
    note = path.name.endswith((".txt", ".txt.gz")) and dated_path(path)[0] is None
    (files if known and not note else skipped).append(path)


def _local(path: Path, root: Path) -> SourceFile:
    return SourceFile(_name(path, root), lambda: path)


def _name(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


def _hub_files(source: str, centuries: Sequence[str] | None) -> list[SourceFile]:
    name, _, wanted = source.removeprefix("hub:").partition("@")
    try:
        info = HfApi().dataset_info(name, revision=wanted or None, timeout=_SECONDS)
    except HFValidationError as error:
        raise _no_data(name, wanted, error) from error
    except NO_ANSWER as error:
        raise _no_data(name, wanted, error) from error
    revision = str(info.sha)
    paths = sorted(
        sibling.rfilename
        for sibling in info.siblings or ()
        if sibling.rfilename.endswith(_SUFFIXES[:4]) and _wanted(sibling.rfilename, centuries)
    )
    if not paths:
        raise HistoryError(
            f"the data set {name} of the hub has no file that ends with one of "
            f"{', '.join(_SUFFIXES[:4])}; name another, or a folder with a converted copy"
        )
    return [
        SourceFile(
            f"hub:{name}/{path}",
            _fetcher(name, path, revision),
            revision,
            _century_of(path),
        )
        for path in paths
    ]


def _century_of(path: str) -> str | None:
    """The century whose folder a file lies in, as HistText's do."""
    folder = PurePosixPath(path).parts[0]
    return folder if CENTURY_FOLDER.fullmatch(folder) else None


def _wanted(path: str, centuries: Sequence[str] | None) -> bool:
    """Whether a file may hold records of the centuries; HistText has a folder for each."""
    century = _century_of(path)
    hidden = fnmatch.fnmatch(path, ".*") or PurePosixPath(path).name == "dataset_infos.json"
    return not hidden and (century is None or centuries is None or century in centuries)


def _fetcher(name: str, path: str, revision: str) -> Callable[[], Path]:
    def fetch() -> Path:
        try:
            return Path(hf_hub_download(name, path, repo_type="dataset", revision=revision))
        except NO_ANSWER as error:
            raise _no_data(name, revision, error) from error

    return fetch


def _no_data(name: str, revision: str, error: Exception) -> HistoryError:
    of = f"the data set {name}" + (f" at revision {revision}" if revision else "")
    if isinstance(error, GatedRepoError):
        return HistoryError(
            f"{of} is gated: accept its terms at {constants.ENDPOINT}/datasets/{name}, log in "
            "with 'hf auth login', and start again"
        )
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError | HFValidationError):
        return HistoryError(f"{of} is not on the hub (or is private); correct [text] sources")
    reason = " ".join(str(error).split())[:200]
    return HistoryError(
        f"{of} cannot be had: the hub does not answer ({reason}); check the connection, or fetch "
        f"it where there is one with 'hf download --repo-type dataset {name} --local-dir FOLDER' "
        "and name that folder in [text] sources"
    )

"""What a submission is: a run in a single zip, with a manifest that names every file in it.

A submission is opened by people who do not know who made it. So it holds JSON and safetensors and
nothing that could be run, every name in it is one of a few, and it is unpacked only after its list
of contents has been looked through.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from progressgym_env import __version__
from progressgym_env.benchmarks.run_folder import CONFIG_FILE, EPISODES_FILE, read_config
from progressgym_env.errors import InvalidArgumentError, ProgressGymError
from progressgym_env.files import atomic_path, file_hash, new_folder

__all__ = [
    "MANIFEST_FILE",
    "Manifest",
    "SubmissionError",
    "Submitter",
    "check_new",
    "disagreeing_files",
    "pack",
    "read_manifest",
    "unpack",
]

MANIFEST_FILE = "manifest.json"
_FORMAT, _VERSION = "progressgym-submission", 1
_NAMES = re.compile(
    rf"{re.escape(MANIFEST_FILE)}|{re.escape(CONFIG_FILE)}|{re.escape(EPISODES_FILE)}"
    r"|cells/[A-Za-z0-9][A-Za-z0-9.+_-]*\.safetensors"
)
_MOST_FILES = 100_000
_LARGEST_FILE, _LARGEST_WHOLE, _LARGEST_JSON = 2**29, 2**33, 2**24
_EPOCH = (1980, 1, 1, 0, 0, 0)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class SubmissionError(ProgressGymError, ValueError):
    """A file that is no submission, or a run that cannot be submitted."""


@dataclass(frozen=True)
class Submitter:
    """Who submits what.

    Attributes:
        name: of the submission, as tables show it.
        authors: at least one.
        url: of a paper, code or page; may be empty.
        description: what it is about, in a line; may be empty.

    Raises:
        InvalidArgumentError: a text is missing, too long or of several lines, or the address is
            none of the web.
    """

    name: str
    authors: tuple[str, ...]
    url: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not self.authors:
            raise InvalidArgumentError("authors is empty; name at least one")
        texts = {"name": self.name, **{f"author {a!r}": a for a in self.authors}}
        texts |= {"url": self.url, "description": self.description}
        for what, text in texts.items():
            needed, most = (
                what not in ("url", "description"),
                1000 if what == "description" else 200,
            )
            if not isinstance(text, str) or not text.isprintable() or len(text) > most:
                raise InvalidArgumentError(
                    f"{what}={text!r} must be a line of at most {most} printable characters"
                )
            if needed and not text.strip():
                raise InvalidArgumentError(f"{what} is empty; give one")
        if self.url and not re.fullmatch(r"https?://[^\s<>\"]+", self.url):
            raise InvalidArgumentError(f"url={self.url!r} must begin with https:// or http://")


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says.

    Attributes:
        submitter: who submits what.
        package_version: that packed it.
        config_hash: of the run.
        files: name → ``{"bytes": …, "sha256": …}``, of all files but this one.
    """

    submitter: Submitter
    package_version: str
    config_hash: str
    files: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON-able values; ``digest`` is over all else."""
        content = {
            "format": _FORMAT,
            "format_version": _VERSION,
            **asdict(self.submitter),
            "authors": list(self.submitter.authors),
            "package_version": self.package_version,
            "config_hash": self.config_hash,
            "files": self.files,
        }
        return {**content, "digest": _digest(content)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The manifest that :meth:`to_dict` took apart.

        Raises:
            SubmissionError: it is none, or its digest is of something else.
        """
        if raw.get("format") != _FORMAT or raw.get("format_version") != _VERSION:
            raise SubmissionError(
                f"{MANIFEST_FILE} has format {raw.get('format')!r}, version "
                f"{raw.get('format_version')!r}; this version reads {_FORMAT!r}, version {_VERSION}"
            )
        content = {key: value for key, value in raw.items() if key != "digest"}
        if raw.get("digest") != _digest(content):
            raise SubmissionError(
                f"{MANIFEST_FILE} has digest {raw.get('digest')!r}, and what it holds "
                f"{_digest(content)!r}: it was changed after it was written"
            )
        try:
            who = Submitter(raw["name"], tuple(raw["authors"]), raw["url"], raw["description"])
            found = cls(who, raw["package_version"], raw["config_hash"], raw["files"])
            same = found.to_dict() == dict(raw) and all(
                set(entry) == {"bytes", "sha256"} for entry in found.files.values()
            )
        except (KeyError, TypeError, AttributeError, InvalidArgumentError) as error:
            raise SubmissionError(f"{MANIFEST_FILE} is no manifest ({error!r})") from error
        if not same:
            raise SubmissionError(f"{MANIFEST_FILE} holds more or other than a manifest does")
        return found


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an unpacked submission.

    Raises:
        SubmissionError: it is missing or damaged.
    """
    try:
        raw = json.loads((folder / MANIFEST_FILE).read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SubmissionError(f"{MANIFEST_FILE} cannot be read ({error})") from error
    if not isinstance(raw, dict):
        raise SubmissionError(f"{MANIFEST_FILE} is no JSON object")
    return Manifest.from_dict(raw)


def disagreeing_files(folder: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Names of files, and in what they do not agree with the manifest."""
    here = set(_files_in(folder)) - {MANIFEST_FILE}
    for name in sorted(here - manifest.files.keys()):
        yield name, f"is there, and {MANIFEST_FILE} does not list it"
    for name, entry in sorted(manifest.files.items()):
        if name not in here:
            yield name, f"is listed in {MANIFEST_FILE} and not there"
            continue
        for what, found in _entry(folder / name).items():
            if entry[what] != found:
                yield name, f"{what} is {found}, and {MANIFEST_FILE} says {entry[what]}"


def pack(folder: Path, out: Path, submitter: Submitter) -> Path:
    """Pack the run in ``folder`` as it is, whatever it is; ``submit`` checks it before.

    The same run and submitter give the same bytes, with the same zlib.

    Args:
        folder: a run folder, or an unpacked submission.
        out: the zip, which must not exist yet.
        submitter: who submits what.

    Raises:
        InvalidArgumentError: ``out`` is there already, or is no ``.zip``.
        RunFolderError: ``folder`` is no run folder.
    """
    check_new(out)
    config = read_config(folder)
    names = [name for name in sorted(_files_in(folder)) if _NAMES.fullmatch(name)]
    files = {name: _entry(folder / name) for name in names if name != MANIFEST_FILE}
    manifest = Manifest(submitter, __version__, str(config.get("config_hash")), files)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n"
        archive.writestr(_info(MANIFEST_FILE), text)
        for name in files:
            with (folder / name).open("rb") as source, archive.open(_info(name), "w") as target:
                shutil.copyfileobj(source, target)
    return out


def check_new(out: Path) -> None:
    """Refuse a name that no submission can be packed under.

    Raises:
        InvalidArgumentError: it is there already, or is no ``.zip``.
    """
    if out.suffix != ".zip" or out.exists():
        why = "exists already" if out.exists() else "does not end in .zip"
        raise InvalidArgumentError(f"{out} {why}; give the name of a new .zip")


def unpack(path: Path, into: Path) -> Path:
    """Unpack a submission, once all that it lists has been looked through.

    Args:
        path: the zip.
        into: a folder, new or empty.

    Returns:
        ``into``: a run folder with a manifest.

    Raises:
        SubmissionError: it is no zip, damaged, too large, or holds what no submission does;
            nothing stays in ``into``.
        InvalidArgumentError: ``into`` holds something.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members)
            folder = new_folder(into)
            try:
                (folder / "cells").mkdir()
                for member in members:
                    with (
                        archive.open(member) as source,
                        (folder / member.filename).open("xb") as to,
                    ):
                        shutil.copyfileobj(source, to)
            except BaseException:
                shutil.rmtree(folder)
                raise
    except ProgressGymError:
        raise
    except _BROKEN as error:
        raise SubmissionError(
            f"{path} is no whole zip ({error}); fetch it again, or have it packed again with "
            "progressgym submit"
        ) from error
    return folder


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Refuse whatever no submission holds, before anything is written.

    Raises:
        SubmissionError: naming the file and why.
    """
    if len(members) > _MOST_FILES:
        raise SubmissionError(f"{len(members)} files; a submission has at most {_MOST_FILES}")
    seen: set[str] = set()
    for member in members:
        name = member.filename
        problem = _problem_of(member)
        if not problem and name.casefold() in seen:
            problem = "stands there twice"
        if problem:
            raise SubmissionError(f"{name!r}: {problem}; nothing was unpacked")
        seen.add(name.casefold())
    total = sum(member.file_size for member in members)
    if total > _LARGEST_WHOLE:
        raise SubmissionError(f"{total} bytes unpacked; a submission has at most {_LARGEST_WHOLE}")
    missing = {MANIFEST_FILE, CONFIG_FILE, EPISODES_FILE} - seen
    if missing:
        raise SubmissionError(f"no {' and no '.join(sorted(missing))}; this is no submission")


def _problem_of(member: zipfile.ZipInfo) -> str:
    name = member.filename
    if not _NAMES.fullmatch(name) or name != member.orig_filename:
        return (
            f"a submission holds {MANIFEST_FILE}, {CONFIG_FILE}, {EPISODES_FILE} and "
            "cells/*.safetensors, and nothing else"
        )
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "a link or something else that is no plain file"
    if member.flag_bits & 0x1:
        return "encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed in another way than deflate"
    largest = _LARGEST_JSON if name in (MANIFEST_FILE, CONFIG_FILE) else _LARGEST_FILE
    if member.file_size > largest:
        return f"{member.file_size} bytes, at most {largest} are allowed"
    return ""


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _files_in(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            yield path.relative_to(folder).as_posix()


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)}

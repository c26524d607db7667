"""A history as a folder: its header, and whether its files are what the header says.

::

    history.json          format version, names, base, question-set hash, provenance, checksums
    records.safetensors   values, standard_errors, preferences, and planted where there is one
    replies.jsonl         every century's replies to the open and to the influence prompts
    questions.jsonl       the questions that were asked, where they are not the project's own
    base/, adapters/      the models; a history of full models has models/ or names them instead
    text/, README.md      of a history made of text: what it was made of, and its card

The header names every file with its checksum, so replacing the header replaces the history. Records
that replace others lie beside them under a name of their own, such as
``records-0123456789ab.safetensors``, until the new header names them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from progressgym_env.errors import HistoryError
from progressgym_env.files import file_hash, write_bytes, write_json
from progressgym_env.histories.declared import IN_FOLDER, Checkpoint
from progressgym_env.histories.records import REBUILD, Records, checksums, remedy
from progressgym_env.values.questions import QuestionSet, load_questions

__all__ = [
    "ADAPTERS",
    "FORMAT_VERSION",
    "HISTORY_FILE",
    "Header",
    "inside",
    "read_header",
    "remove_replaced",
    "verify_models",
    "verify_numbers",
    "verify_replies",
    "write_history",
]

FORMAT_VERSION = 1
HISTORY_FILE, ADAPTERS, QUESTIONS_FILE = "history.json", "adapters", "questions.jsonl"

PREPARE = "prepare it anew: progressgym history prepare"
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_FIELDS = {"format_version", "name", "centuries", "question_set", "provenance", "files"}
_NUMBERS = re.compile(r"records(-[0-9a-f]{12})?\.safetensors")
_REPLIES = re.compile(r"replies(-[0-9a-f]{12})?\.jsonl")
_QUESTIONS = re.compile(r"questions(-[0-9a-f]{12})?\.jsonl")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Larger files (weights of big models) are checked by size alone: hashing them takes minutes.
_HASH_LIMIT = 64 * 2**20
# One slot holds the adapters of all centuries, so these settings must be the same.
_SHARED_SETTINGS = (
    "peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "rank_pattern",
    "alpha_pattern", "use_rslora", "use_dora", "bias", "fan_in_fan_out",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Header:
    """What ``history.json`` says, checked.

    Attributes:
        folder: the history's folder.
        name: the history's name.
        centuries: the centuries' names, oldest first.
        base: folder of the base model, inside ``folder``; None where there are checkpoints.
        checkpoints: the full models, one a century, of a history without a base of its own.
        chat_template: how they are asked, where it is not as their tokenizers say.
        question_name, question_hash: of the question set that the records were measured with.
        provenance: where the history comes from.
        files: path inside ``folder`` → ``bytes`` and ``sha256``.
        numbers: the file of measured numbers, one of ``files``.
        replies: the file of replies, one of ``files``.
        questions: the file of questions, one of ``files``; None stands for the project's own.
    """

    folder: Path
    name: str
    centuries: tuple[str, ...]
    base: str | None
    checkpoints: tuple[Checkpoint, ...]
    chat_template: str | None
    question_name: str
    question_hash: str
    provenance: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    numbers: str
    replies: str
    questions: str | None

    @property
    def elsewhere(self) -> bool:
        """Whether the models are full ones that lie outside the folder."""
        return any(checkpoint.revision != IN_FOLDER for checkpoint in self.checkpoints)

    @property
    def synthetic(self) -> bool:
        """Whether the centuries are invented, and so may have planted values."""
        return bool(self.provenance.get("synthetic"))


def read_header(folder: Path) -> Header:
    """Read and check ``history.json``.

    Raises:
        HistoryError: it is missing, no JSON, of another format version, or a field is malformed;
            the message names the file, the field and the remedy.
    """
    path = folder / HISTORY_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HistoryError(
            f"{folder} holds no {HISTORY_FILE}; give the folder of a history, or build one: "
            "'progressgym history build RECIPE --out FOLDER', where it was begun goes on"
        ) from error
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path} cannot be read ({error}); {REBUILD}") from error
    if not isinstance(raw, dict) or raw.get("format_version") != FORMAT_VERSION:
        version = raw.get("format_version") if isinstance(raw, dict) else None
        raise HistoryError(
            f"{path}: format version {version!r}, this package reads {FORMAT_VERSION}; "
            "build the history again or use the package version that made it"
        )
    fields = _FIELDS if "checkpoints" in raw else {*_FIELDS, "base"}
    missing = sorted(fields - set(raw))
    if missing:
        raise HistoryError(f"{path}: lacks {missing}; {REBUILD}")
    _check_fields(path, raw)
    return Header(
        folder=folder,
        name=raw["name"],
        centuries=tuple(raw["centuries"]),
        base=raw.get("base"),
        checkpoints=tuple(_checkpoint(folder, entry) for entry in raw.get("checkpoints", ())),
        chat_template=raw.get("chat_template"),
        question_name=str(raw["question_set"].get("name")),
        question_hash=raw["question_set"]["hash"],
        provenance=raw["provenance"],
        files=raw["files"],
        numbers=_only_one(path, raw["files"], _NUMBERS, "records.safetensors"),
        replies=_only_one(path, raw["files"], _REPLIES, "replies.jsonl"),
        questions=next((name for name in raw["files"] if _QUESTIONS.fullmatch(name)), None),
    )


def _check_fields(path: Path, raw: Mapping[str, Any]) -> None:
    def check(holds: bool, field: str, value: object, allowed: str) -> None:
        if not holds:
            raise HistoryError(f"{path}: {field} is {value!r:.80}, must be {allowed}; {REBUILD}")

    centuries, files = raw["centuries"], raw["files"]
    check(isinstance(raw["name"], str), "'name'", raw["name"], "text")
    named = isinstance(centuries, list) and all(_is_inside(c) and "/" not in c for c in centuries)
    distinct = named and len(set(centuries)) == len(centuries) >= 2
    check(distinct, "'centuries'", centuries, "two or more distinct names that can be folders")
    questions = raw["question_set"]
    hashed = isinstance(questions, dict) and isinstance(questions.get("hash"), str)
    check(hashed, "'question_set'", questions, "an object with a 'hash' of hexadecimal digits")
    check(isinstance(raw["provenance"], dict), "'provenance'", raw["provenance"], "an object")
    check(isinstance(files, dict), "'files'", files, "an object, path → 'bytes' and 'sha256'")
    for name, entry in files.items():
        field = f"'files' entry {name!r}"
        check(_is_inside(name), field, name, "a path inside the history's folder")
        check(_is_checksum(entry), field, entry, "an object with 'bytes' and 'sha256'")
    if "checkpoints" in raw:
        template = raw.get("chat_template")
        check(template is None or isinstance(template, str), "'chat_template'", template, "text")
        named = _are_checkpoints(raw["checkpoints"], centuries)
        allowed = "a list of 'century', 'model' and 'revision', one a century"
        check(named, "'checkpoints'", raw["checkpoints"], allowed)
        inside = [e["model"] for e in raw["checkpoints"] if e["revision"] == IN_FOLDER]
        absent = [model for model in inside if f"{model}/config.json" not in files]
        if absent:
            raise HistoryError(f"{path}: 'files' lists no {absent[0]}/config.json; {REBUILD}")
        return
    base = raw["base"]
    check(_is_inside(base), "'base'", base, "a path inside the history's folder")
    needed = [f"{ADAPTERS}/{century}/{part}" for century in centuries for part in _ADAPTER_FILES]
    absent = [name for name in needed if name not in files]
    if not any(name.startswith(f"{base}/") for name in files):
        absent.append(f"{base}/")
    if absent:
        raise HistoryError(f"{path}: 'files' lists no {absent[0]}; {REBUILD}")


def _is_inside(path: object) -> bool:
    """Whether ``path`` is text that leads from a folder to something in it."""
    if not isinstance(path, str) or "\0" in path:
        return False
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts


def _are_checkpoints(entries: object, centuries: Sequence[str]) -> bool:
    keys = {"century", "model", "revision"}
    return (
        isinstance(entries, list)
        and all(isinstance(e, dict) and set(e) == keys for e in entries)
        and all(isinstance(e["model"], str) and isinstance(e["revision"], str) for e in entries)
        and [e["century"] for e in entries] == list(centuries)
        and all(_is_inside(e["model"]) for e in entries if e["revision"] == IN_FOLDER)
    )


def _is_checksum(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    size, digest = entry.get("bytes"), entry.get("sha256")
    # In Python, true is an integer too.
    counts = isinstance(size, int) and not isinstance(size, bool)
    return counts and isinstance(digest, str) and _SHA256.fullmatch(digest) is not None


def _checkpoint(folder: Path, entry: Mapping[str, str]) -> Checkpoint:
    model = entry["model"]
    if entry["revision"] == IN_FOLDER:
        model = str(folder / model)
    return Checkpoint(entry["century"], model, entry["revision"])


def inside(header: Header) -> list[Checkpoint]:
    """The checkpoints that lie in the history's folder, as its header writes them down."""
    return [
        replace(c, model=Path(c.model).relative_to(header.folder).as_posix())
        for c in header.checkpoints
        if c.revision == IN_FOLDER
    ]


def _only_one(path: Path, files: Iterable[str], pattern: re.Pattern[str], usual: str) -> str:
    found = [name for name in files if pattern.fullmatch(name)]
    if len(found) != 1:
        raise HistoryError(f"{path}: 'files' lists {found} for {usual}, must list one; {REBUILD}")
    return found[0]


def verify_models(header: Header) -> None:
    """Compare the files of the models with their checksums, and the adapters with one another.

    Raises:
        HistoryError: a file is missing, truncated or altered, or adapters have different LoRA
            settings; the message names the file.
    """
    for name in header.files:
        defect = None if name in (header.numbers, header.replies) else _defect(header, name)
        if defect is not None:
            raise HistoryError(f"{defect}; {PREPARE if header.elsewhere else REBUILD}")
    if header.checkpoints:
        return  # Each is whole by itself; those elsewhere are looked at when they are loaded.
    paths = [header.folder / ADAPTERS / name / _ADAPTER_FILES[0] for name in header.centuries]
    first = _lora_settings(paths[0])
    for path in paths[1:]:
        settings = _lora_settings(path)
        for key in _SHARED_SETTINGS:
            if settings[key] != first[key]:
                raise HistoryError(
                    f"{path}: {key!r} is {settings[key]!r}, and {first[key]!r} in {paths[0]}; "
                    "the adapters of a history need the same LoRA settings: train them alike, and "
                    "build the history again"
                )


def verify_numbers(header: Header) -> None:
    """Compare the measured numbers with their checksum; the models must be whole.

    Raises:
        HistoryError: the file is missing, truncated or altered; the message says what mends it.
    """
    defect = _defect(header, header.numbers)
    if defect is not None:
        # What was planted stands in this file alone.
        mend = REBUILD if header.synthetic else _remedy(header)
        raise HistoryError(f"{defect}; {mend}")


def verify_replies(header: Header) -> None:
    """Compare the replies with their checksum; models and numbers must be whole.

    Raises:
        HistoryError: the file is missing, truncated or altered; the message says what mends it.
    """
    defect = _defect(header, header.replies)
    if defect is not None:
        raise HistoryError(f"{defect}; {_remedy(header)}")


def _remedy(header: Header) -> str:
    if header.elsewhere:
        return PREPARE
    return remedy(header.folder / header.replies, header.centuries)


def _lora_settings(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path} cannot be read ({error}); {REBUILD}") from error
    if not isinstance(raw, dict):
        raise HistoryError(f"{path} holds {raw!r:.80}, must be an object; {REBUILD}")
    found = {key: raw.get(key) for key in _SHARED_SETTINGS}
    # The order of modules means nothing; a setting that is off may as well be absent.
    return {k: sorted(v, key=str) if isinstance(v, list) else v or None for k, v in found.items()}


def _defect(header: Header, name: str) -> str | None:
    path, expected = header.folder / name, header.files[name]
    if not os.path.isfile(path):
        return f"{path} is missing"
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{path} has {size} bytes, expected {expected['bytes']} (truncated or altered)"
        if size <= _HASH_LIMIT and file_hash(path) != expected["sha256"]:
            return f"{path} differs from its checksum in {HISTORY_FILE}"
    except OSError as error:
        return f"{path} cannot be read ({error})"
    return None


def write_history(
    folder: Path,
    *,
    name: str,
    names: tuple[str, ...],
    base: str | None = None,
    checkpoints: Sequence[Checkpoint] = (),
    chat_template: str | None = None,
    questions: QuestionSet,
    records: Records,
    provenance: Mapping[str, Any],
) -> None:
    """Write the records and then, last, the header that makes the folder a history.

    Where the folder is a history already, it stays one until the new header replaces the old.
    Its models are adapters beside the ``base``, or ``checkpoints``: elsewhere, or in the folder
    with the revision ``IN_FOLDER`` and a path that starts there.
    """
    records.check(len(names), len(questions.pairs), str(folder))
    contents = records.encode(names)
    if questions.hash != load_questions().hash:
        lines = [json.dumps(q.as_dict(), ensure_ascii=False) for q in questions.questions]
        contents[QUESTIONS_FILE] = ("\n".join(lines) + "\n").encode()
    if (folder / HISTORY_FILE).exists():
        contents = {_own_name(file, content): content for file, content in contents.items()}
    for file, content in contents.items():
        write_bytes(folder / file, content)
    listed = list(contents)
    models: dict[str, Any] = {"base": base}
    if checkpoints:
        models = {"checkpoints": [asdict(c) for c in checkpoints], "chat_template": chat_template}
        beside = [folder / c.model for c in checkpoints if c.revision == IN_FOLDER]
    else:
        beside = [] if base is None else [folder / base, folder / ADAPTERS]
    for part in beside:
        listed += [p.relative_to(folder).as_posix() for p in part.rglob("*") if p.is_file()]
    header = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "centuries": list(names),
        **models,
        "question_set": {"name": questions.name, "hash": questions.hash},
        "provenance": dict(provenance),
        "files": checksums(folder, listed),
    }
    write_json(folder / HISTORY_FILE, header)


def remove_replaced(folder: Path) -> None:
    """Remove records that the header does not name."""
    named = read_header(folder).files
    for path in folder.iterdir():
        ours = any(kind.fullmatch(path.name) for kind in (_NUMBERS, _REPLIES, _QUESTIONS))
        if ours and path.name not in named:
            path.unlink()


def _own_name(file: str, content: bytes) -> str:
    stem, dot, suffix = file.partition(".")
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}{dot}{suffix}"

"""Where the published moral evaluation lies: in a folder, in the cache, or where it is published.

The data set ``PKU-Alignment/ProgressGym-MoralEvals`` of the hub holds scenarios and options only,
not what they stand for; the labelled files are part of the original's repository, so they are
fetched from there, at one commit, and compared with their checksums.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from progressgym_env.errors import QuestionError
from progressgym_env.files import cache_folder, write_bytes

__all__ = ["FILES", "find_files"]

_RULE_COLUMNS = tuple(
    f"{action}_{rule}"
    for action in ("a1", "a2")
    for rule in (
        "death", "pain", "disable", "freedom", "pleasure", "deceive", "cheat", "break_promise",
        "break_law", "duty",
    )
)  # fmt: skip
FILES: Mapping[str, tuple[str, ...]] = {
    "moralchoice/final.csv": (
        "scenario_id", "generation_rule", "context", "action1", "action2", *_RULE_COLUMNS,
    ),
    "foundation/final.csv": ("scenario_id", "generation_theme", "context", "action1", "action2"),
    "views/final.csv": (
        "scenario_id", "generation_theme", "context", "action1", "action2", "action3", "action4",
    ),
}  # fmt: skip
"""File, below the folder → the columns that are read."""

SOURCE = (
    "https://raw.githubusercontent.com/PKU-Alignment/ProgressGym/"
    "871e2bd8e7b3de48f129f245c5fbabb2515b1a0a/src/evaluation/raw_dataset"
)
_SHA256 = {
    "moralchoice/final.csv": "a884ce29e1fefc42406bdd1f73d3b2506c3a35d8709b5db29049e0d1d74e3f65",
    "foundation/final.csv": "44b6d6881735c1159731f338a926d7a940682992e8bdf8172a774ede6f243d58",
    "views/final.csv": "ab41941a595d82918864f5cfa151c55750fc2bccfc7046ee384b6d0d3e755a9a",
}
_SECONDS = 30.0
_REMEDY = (
    "give the folder that holds moralchoice/, foundation/ and views/, such as src/evaluation/"
    "raw_dataset of a checkout of github.com/PKU-Alignment/ProgressGym"
)


def find_files(
    path: str | Path | None = None, *, source: str = SOURCE
) -> tuple[Path, dict[str, Path]]:
    """The folder, and each of ``FILES`` in it.

    Args:
        path: the folder; None is the cache, which is filled where it is empty.
        source: address of the folder that they are fetched from.

    Raises:
        QuestionError: there is no such folder, a file is missing from it, or cannot be fetched.
    """
    if path is None:
        folder = cache_folder() / "moralevals"
        for name in FILES:
            if not (folder / name).is_file():
                _fetch(f"{source}/{name}", folder / name, _SHA256[name])
    else:
        folder = Path(path)
        if not folder.is_dir():
            raise QuestionError(f"no folder at {folder}; {_REMEDY}")
        if (folder / "raw_dataset").is_dir():
            folder = folder / "raw_dataset"
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise QuestionError(f"{folder} lacks {', '.join(missing)}; {_REMEDY}")
    return folder, {name: folder / name for name in FILES}


def _fetch(address: str, target: Path, sha256: str) -> None:
    remedy = f"check the connection, or {_REMEDY}"
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
            content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors.
        raise QuestionError(f"{address} cannot be fetched ({error}); {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise QuestionError(
            f"{address} has the SHA-256 {found}, must have {sha256}: it was changed on the way; "
            f"{remedy}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, content)

"""A matrix from a TOML file, from options, or from both where they do not contradict."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from progressgym_env.benchmarks.matrix import Block, Matrix
from progressgym_env.errors import InvalidArgumentError, unknown_name

__all__ = ["SHIPPED", "matrix_from", "named_file", "read_toml"]

SHIPPED = Path(str(files("progressgym_env.benchmarks"))) / "matrices"
"""Folder of the matrices that come with the package."""

_OF_BLOCK = tuple(entry.name for entry in fields(Block))
_OF_MATRIX = tuple(entry.name for entry in fields(Matrix) if entry.name != "blocks")


def named_file(config: str) -> Path:
    """The TOML file at a path, or the shipped matrix of this name.

    Raises:
        UnknownNameError: there is neither.
    """
    path = Path(config)
    shipped = {file.stem: file for file in SHIPPED.glob("*.toml")}
    if path.is_file():
        return path
    if config in shipped:
        return shipped[config]
    raise unknown_name("matrix", config, [*shipped, "PATH to a TOML file"])


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a TOML file, of which every one is known.

    ``agents``, ``challenges``, ``updates``, ``update_from`` and ``steps_ahead`` stand at the top
    for a single block, or in tables ``[[matrix]]``, one a block; ``seeds`` is a number (0 and up)
    or a list.

    Raises:
        InvalidArgumentError: no TOML, or blocks in both ways.
        UnknownNameError: an unknown key.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path} is no TOML: {error}") from error
    known = (*_OF_MATRIX, *_OF_BLOCK, "matrix")
    for key in raw:
        if key not in known:
            raise unknown_name(f"key of {path}", key, known)
    own = [key for key in raw if key in _OF_BLOCK]
    if own and "matrix" in raw:
        raise InvalidArgumentError(
            f"{path} has {', '.join(own)} at the top and tables [[matrix]] as well; put "
            f"{', '.join(own)} into a table [[matrix]] of its own"
        )
    return raw


def matrix_from(
    file: Path | None,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Matrix:
    """The matrix that a file and options ask for together.

    Args:
        file: a TOML file, or None.
        options: keys of such a file that were given as options; ``seeds`` as a number.
        defaults: keys of a block that neither names.

    Raises:
        InvalidArgumentError: an option contradicts the file, or a value is out of range.
        UnknownNameError: an unknown key, agent, challenge, update or history.
    """
    raw = {} if file is None else read_toml(file)
    for key, value in options.items():
        if key in raw and _plain(raw[key]) != _plain(value):
            raise InvalidArgumentError(
                f"{_flag(key)} {_text(value)} contradicts {file}, which has {key} = "
                f"{_text(raw[key])}; leave one of them out"
            )
        if key in _OF_BLOCK and "matrix" in raw:
            raise InvalidArgumentError(
                f"{_flag(key)} contradicts {file}, whose tables [[matrix]] say what is played; "
                "leave it out, or change the file"
            )
        raw[key] = value
    if "matrix" not in raw:
        raw = {**defaults, **raw}
    block = {key: raw.pop(key) for key in _OF_BLOCK if key in raw}
    if block:
        raw["matrix"] = [block]
    if isinstance(raw.get("seeds"), int) and not isinstance(raw["seeds"], bool):
        if raw["seeds"] < 1:
            raise InvalidArgumentError(f"seeds={raw['seeds']} must be 1 or more, or a list of them")
        raw["seeds"] = list(range(raw["seeds"]))
    return Matrix.from_dict(raw)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"

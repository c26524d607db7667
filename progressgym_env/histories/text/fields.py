"""Frozen dataclasses to JSON-able values and back, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from progressgym_env.errors import HistoryError

__all__ = ["decode", "encode"]

T = TypeVar("T")


def encode(value: Any) -> dict[str, Any]:
    """A dataclass as JSON-able values: names of fields → values, tuples as lists."""
    return {name: _plain(item) for name, item in asdict(value).items()}


def decode(kind: type[T], raw: Any, where: str) -> T:
    """What ``encode`` was given, also after a round trip through JSON.

    Args:
        kind: a dataclass whose fields are numbers, texts, dataclasses, tuples of one kind,
            mappings from texts, or one of these or None.
        raw: the values.
        where: what they were read from, for messages.

    Raises:
        HistoryError: a field is missing, unknown, or of another kind; the message names it.
    """
    decoded: T = _read(kind, raw, where)
    return decoded


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _read(kind: Any, raw: Any, where: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        (some,) = (part for part in parts if part is not NoneType)
        return None if raw is None else _read(some, raw, where)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        known = {field.name for field in fields(kind)}
        if not isinstance(raw, Mapping) or set(raw) != known:
            has = sorted(raw) if isinstance(raw, Mapping) else type(raw).__name__
            raise _refused(where, f"the fields {sorted(known)}", has)
        return kind(**{n: _read(hints[n], raw[n], f"{where}: {n}") for n in known})
    if origin is tuple and isinstance(raw, list | tuple):
        return tuple(_read(parts[0], item, where) for item in raw)
    if origin is Mapping and isinstance(raw, Mapping):
        return {str(name): _read(parts[1], item, f"{where}: {name}") for name, item in raw.items()}
    if kind is float and type(raw) in (int, float):
        return float(raw)
    if isinstance(kind, type) and type(raw) is kind:
        return raw
    raise _refused(where, str(kind), repr(raw)[:40])


def _refused(where: str, wanted: str, found: object) -> HistoryError:
    return HistoryError(f"{where}: expected {wanted}, found {found}; remove it and inspect again")

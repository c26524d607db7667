"""Dict spaces with an entry more or less, and what wrappers ask of the space they are given."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from progressgym_env.errors import InvalidArgumentError

__all__ = ["dict_space", "require_entry"]


def dict_space(entries: Mapping[str, spaces.Space[Any]]) -> spaces.Dict:
    """A ``Dict`` space that keeps the order of ``entries``, also when it is batched."""
    space = spaces.Dict(OrderedDict(entries))
    # Gymnasium sorts the keys of a batch unless told not to; before 1.4 it always does.
    space.sort_keys = False
    return space


def require_entry(space: spaces.Space[Any], key: str, wrapper: str) -> dict[str, Any]:
    """The entries of a ``Dict`` observation space that has ``key``.

    Raises:
        InvalidArgumentError: it is no ``Dict`` space, or has no such entry.
    """
    if isinstance(space, spaces.Dict) and key in space.spaces:
        return dict(space.spaces)
    found = f"the keys {list(space.spaces)}" if isinstance(space, spaces.Dict) else str(space)
    raise InvalidArgumentError(
        f"{wrapper} needs a Dict observation with {key!r}, got {found}; wrap the environment "
        "before anything flattens, drops or replaces that entry"
    )

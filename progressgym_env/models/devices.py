"""Names of devices, checked without torch: an environment refuses a typing error when made."""

from __future__ import annotations

import re

from progressgym_env.errors import InvalidArgumentError

__all__ = ["check_device_name"]

_NAMES = re.compile(r"auto|cpu(:0)?|cuda(:(0|[1-9][0-9]*))?")


def check_device_name(device: object) -> str:
    """The name of a device at its shortest: ``"cpu:0"`` → ``"cpu"``, ``"cuda:0"`` → ``"cuda"``.

    Whether there is such a device is left to
    :func:`~progressgym_env.models.language.resolve_device`.

    Raises:
        InvalidArgumentError: not ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    """
    if not isinstance(device, str) or not _NAMES.fullmatch(device):
        raise InvalidArgumentError(
            f"unknown device {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:N' with N from 0"
        )
    return device.removesuffix(":0")

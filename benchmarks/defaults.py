"""What is played where nothing is said; loads nothing, so that ``--help`` can tell it at once."""

from __future__ import annotations

__all__ = ["DEFAULT_AGENTS"]

DEFAULT_AGENTS = ("hold", "lifelong", "extrapolative", "oracle")
"""Who plays by default."""

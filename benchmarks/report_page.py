"""The page of a report: one file that needs nothing else, and lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

from progressgym_env import __version__

__all__ = ["GENERATOR", "render_page"]

GENERATOR = "progressgym report"
# Of the control characters a page can carry line ends and tabs alone.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def render_page(view: dict[str, Any]) -> str:
    """The page of what :func:`page_view` found, as HTML.

    All text is escaped. The page's own policy allows its own style and script, by their hashes,
    and forbids whatever else could run or be fetched.
    """
    # Imported here: only reports need it.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    assets = files("progressgym_env.benchmarks") / "report_assets"
    source, style, script = (
        (assets / name).read_text(encoding="utf-8")
        for name in ("page.html.jinja", "page.css", "page.js")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(source).render(
        view=view,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        generator=f"{GENERATOR} {__version__}",
    )
    whole = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", page)
    # Lone surrogates, which UTF-8 cannot carry.
    return whole.encode("utf-8", errors="replace").decode("utf-8")


def _policy(style: str, script: str) -> str:
    """The content security policy."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")

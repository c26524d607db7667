"""Histories of full models that are made for tests."""

from __future__ import annotations

import json
from pathlib import Path

from tests.values.test_moralevals import write

TEMPLATE = """
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{{- 'Q: ' + message['content'] + ' A: ' -}}
{%- else -%}{{- message['content'] + eos_token -}}{%- endif -%}
{%- endfor -%}
"""
CENTURIES = ("C019", "C020", "C021")


def declare(folder: Path, *centuries: str, **more: str) -> Path:
    """A declaration beside the models."""
    lines = ['name = "mine"', *(f"{key} = {json.dumps(value)}" for key, value in more.items())]
    for century in centuries or CENTURIES:
        lines += ["[[century]]", f'name = "{century}"', f'model = "{century}"']
    path = folder / "mine.toml"
    path.write_text("\n".join(lines))
    return path


def publish(folder: Path) -> Path:
    """Files as those of MoralEvals, with a few questions on every dimension."""
    write(folder)
    for name in ("moralchoice", "foundation", "views"):
        path = folder / name / "final.csv"
        header, *rows = path.read_text().splitlines()
        # Every row once more, with another scenario.
        for one, other in (("Case ", "Matter "), ("Place ", "Square "), ("View ", "Sight ")):
            rows += [row.replace(one, other) for row in rows if one in row]
        path.write_text("\n".join([header, *rows]) + "\n")
    return folder

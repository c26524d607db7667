"""Imports point one way, and importing the package is cheap and free of torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up (DESIGN: layout). A module may import from its own layer and from below.
LAYERS = (
    ("errors", "arguments", "files", "words"),
    ("values",),
    ("models",),
    ("histories",),
    ("scoring",),
    ("envs",),
    ("agents", "wrappers"),
    ("benchmarks",),
    ("cli",),
)
HEIGHT = {part: height for height, parts in enumerate(LAYERS) for part in parts}
SOURCES = [
    path
    for folder in ("progressgym_env", "agents", "wrappers", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def part_of(path: Path) -> str:
    """The layer's part that a source file belongs to; "" for the package itself."""
    inside = path.relative_to(ROOT).with_suffix("").parts
    part = inside[1] if inside[0] == "progressgym_env" else inside[0]
    return "" if part == "__init__" else part


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and part of every import from this package, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = imported_names(node)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "progressgym_env":
                names = [f"progressgym_env.{alias.name}" for alias in node.names]
        for name in names:
            steps = name.split(".")
            if steps[0] == "progressgym_env" and len(steps) > 1 and steps[1] in HEIGHT:
                yield node.lineno, steps[1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = part_of(path)
    height = HEIGHT[part] if part else -1
    upward = [
        f"line {line}: {part or 'the package'} imports {other}"
        for line, other in imported_parts(path)
        if HEIGHT[other] > height
    ]
    assert not upward


def test_the_check_sees_an_upward_import(tmp_path):
    source = "def f():\n    from progressgym_env.envs.progress import ProgressEnv\n"
    path = tmp_path / "module.py"
    path.write_text(source)
    assert list(imported_parts(path)) == [(2, "envs")]


def test_every_light_module_can_be_imported_first():
    """Original defect 23: five modules of the original fail when imported first."""
    modules = [module_name(path) for path in SOURCES if is_light(path)]
    # Every module in a process of its own, forked from one that has none of ours: what others
    # wrote takes seconds to import, and some need it through their neighbours.
    script = (
        "import importlib, os, sys, gymnasium, numpy, scipy.stats, matplotlib.figure\n"
        "import accelerate, datasets, peft, torch, transformers\n"
        "import trl.trainer.dpo_trainer, trl.trainer.sft_trainer\n"
        "for name in sys.argv[1:]:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        importlib.import_module(name)\n"
        "        os._exit(0)\n"
        "    if os.waitpid(child, 0)[1] != 0: print(name)\n"
    )
    command = [sys.executable, "-c", script, *modules]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.split() == [], output.stderr
    assert len(modules) > 20


def module_name(path: Path) -> str:
    steps = path.relative_to(ROOT).with_suffix("").parts
    if steps[0] != "progressgym_env":
        steps = ("progressgym_env", *steps)
    return ".".join(steps[:-1] if steps[-1] == "__init__" else steps)


def is_light(path: Path) -> bool:
    """Whether a module imports no deep-learning library at its top level."""
    heavy = ("torch", "transformers", "peft", "trl")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [name for node in imports for name in imported_names(node)]
    return not any(name.split(".")[0] in heavy for name in names)


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Dotted names of the modules that a statement imports (from)."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names]


def loaded_by(code: str) -> set[str]:
    """Top-level packages in memory after ``code`` ran in a new process."""
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(output.stdout.splitlines()[-1])}


HEAVY = {"torch", "transformers", "peft", "trl", "matplotlib", "pandas"}


@pytest.mark.parametrize(
    "module",
    [
        "progressgym_env",
        "progressgym_env.scoring",
        "progressgym_env.histories",
        "progressgym_env.envs.coevolve",
        "progressgym_env.envs.rendering",
        "progressgym_env.models.updates",
        "progressgym_env.agents",
    ],
)
def test_import_is_light(module):
    """Whoever uses no language model needs NumPy and Gymnasium alone."""
    assert not loaded_by(f"import {module}") & HEAVY


def test_registering_imports_hardly_more_than_gymnasium():
    """Original defect 18: imports do work. Entry points are strings; nothing else is loaded."""
    script = (
        "import gymnasium, sys; before = set(sys.modules); import progressgym_env;"
        "print(*sorted(set(sys.modules) - before))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["progressgym_env"]


def test_a_whole_episode_of_a_history_without_language_models_loads_no_torch():
    code = (
        "from tests.envs.episodes import make, play\n"
        "for c in ('follow', 'predict', 'coevolve'): list(play(make(c)))"
    )
    assert not loaded_by(code) & HEAVY

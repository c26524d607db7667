"""Packages that offer challenges and agents, installed into folders of their own for tests."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

_numbers = itertools.count()


def guide_blocks(language: str) -> list[str]:
    """The guide's blocks of code in a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def install_the_guides_package(folder: Path) -> Path:
    """Write the package of docs/extending.md down and have pip install it; where it went."""
    source, target = folder / "progressgym-lead", folder / "installed"
    (pyproject,) = guide_blocks("toml")
    challenge, _, agent = guide_blocks("py")
    modules = source / "progressgym_lead"
    modules.mkdir(parents=True)
    (source / "pyproject.toml").write_text(pyproject, encoding="utf-8")
    (modules / "__init__.py").touch()
    (modules / "challenge.py").write_text(challenge, encoding="utf-8")
    (modules / "agent.py").write_text(agent, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    command += ["--no-deps", "--no-index", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def python(target: Path, *arguments: str) -> str:
    """What a new process prints that sees what is installed in ``target``."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=target,
        env={**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Shelf:
    """A folder on the path of the present process into which packages are put, as pip does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def offer(self, group: str, name: str, code: str, attribute: str, *, by: str = "other") -> str:
        """Put a package there whose one module holds ``code``; the module's name.

        Args:
            group: ``"challenges"`` or ``"agents"``.
            name: of the entry point.
            code: of the module; imported by nobody yet.
            attribute: what of the module the entry point names.
            by: name of the distribution.
        """
        # Python keeps modules, so every package needs one of another name.
        module = f"offered_{os.getpid()}_{next(_numbers)}"
        (self._folder / f"{module}.py").write_text(code, encoding="utf-8")
        about = self._folder / f"{by}-1.5.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {by}\nVersion: 1.5\n")
        (about / "entry_points.txt").write_text(
            f"[progressgym_env.{group}]\n{name} = {module}:{attribute}\n"
        )
        return module

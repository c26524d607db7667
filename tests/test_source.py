"""What no source file of the package may hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("progressgym_env", "agents", "wrappers", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
CALLS = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.load"}
KEYWORDS = {"shell", "trust_remote_code"}


def forbidden(tree: ast.AST) -> Iterator[str]:
    """Line and name of everything that must not be there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in CALLS:
                yield f"{node.lineno}: {ast.unparse(node.func)}"
            for keyword in node.keywords:
                if keyword.arg in KEYWORDS and ast.unparse(keyword.value) != "False":
                    yield f"{node.lineno}: {keyword.arg}"
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                yield f"{node.lineno}: broad except"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_evaluates_text_or_swallows_errors(path: Path):
    """Original defects 11, 13 and 20: bare excepts, eval and exec of options, shell commands."""
    assert list(forbidden(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "subprocess.run('ls', shell=True)",
        "try:\n    f()\nexcept:\n    pass",
        "try:\n    f()\nexcept Exception as error:\n    print(error)",
        "torch.load('weights.bin')",
    ],
)
def test_the_check_sees_what_it_looks_for(source: str):
    assert len(list(forbidden(ast.parse(source)))) == 1


def test_files_and_functions_stay_short():
    """A file over 400 lines or a function over 60 wants another look."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                documented = ast.get_docstring(node) is not None
                start = (first.end_lineno or 0) + 1 if documented else node.lineno
                assert (node.end_lineno or 0) - start < 60, f"{path}: {node.name}"

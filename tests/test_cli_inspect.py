"""``progressgym history inspect``."""

from __future__ import annotations

import json
import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from progressgym_env.cli import app
from progressgym_env.files import write_json
from progressgym_env.histories.text.inspecting import analysis_of
from progressgym_env.histories.text.passages import Passage, write_passages
from tests.histories.text.made import write_centuries

EMBEDDED = Path(str(files("progressgym_env.histories.embedded") / "data"))
PICTURES = ("characters", "drift", "frequencies", "overlap")


def invoke(*args: str):
    return CliRunner().invoke(app, ["history", "inspect", *args], env={"COLUMNS": "80"})


def with_text(folder: Path, names: tuple[str, ...] = ("C013", "C014")) -> Path:
    for name in names:
        some = [
            Passage(name, None, "s", f"d{k}", f"It is a {word} and no sin.")
            for k, word in enumerate(("law", "lawe", "virtue"))
        ]
        write_passages(folder / "text", name, some)
    return folder


def test_a_stored_analysis_is_shown(tmp_path: Path):
    found, stored = analysis_of(with_text(tmp_path))
    assert not stored
    write_json(tmp_path / "text" / "analysis.json", found.to_dict())
    result = invoke(str(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "C013" in result.stdout
    assert "Perplexities: not measured" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert json.loads(invoke(str(tmp_path), "--json").stdout) == {**found.to_dict(), "values": None}


def test_a_missing_analysis_is_made_and_said_so(tmp_path: Path):
    result = invoke(str(with_text(tmp_path)), "--json")
    assert result.exit_code == 0
    assert "perplexities need models" in result.stderr
    raw = json.loads(result.stdout)
    assert [century["name"] for century in raw["centuries"]] == ["C013", "C014"]
    assert raw["perplexity"] is None
    assert [path.name for path in (tmp_path / "text").iterdir()] == ["passages"], "not stored"
    assert invoke(str(tmp_path), "--json").stdout == result.stdout


def test_pictures_are_drawn_where_asked(tmp_path: Path):
    out = tmp_path / "new" / "pictures"
    result = invoke(str(with_text(tmp_path / "history")), "--out", str(out))
    assert result.exit_code == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"{stem}{end}" for stem in PICTURES for end in (".png", ".svg")]


def test_values_are_shown_where_there_are_any(tmp_path: Path):
    folder = shutil.copytree(EMBEDDED, tmp_path / "copy")
    names = json.loads((folder / "history.json").read_text())["centuries"]
    with_text(folder, tuple(names))
    result = invoke(str(folder))
    assert result.exit_code == 0
    assert "dimensions differ" in result.stdout
    assert json.loads(invoke(str(folder), "--json").stdout)["overlap"]["n_draws"] == 5
    (folder / "text" / "passages" / f"{names[-1]}.jsonl.gz").unlink()
    result = invoke(str(folder))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{names[-1]}.jsonl.gz cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["embedded"], "history 'embedded' was not built from text; give the folder"),
        (["simulated:leads"], "was not built from text"),
        (["embeded"], "did you mean 'embedded'"),
        (["."], "it was not built from text; give the folder of one that was, or build one"),
        (["damaged"], "analysis.json cannot be read"),
        (["good", "--out", "notes.txt/x"], "Not a directory"),
        (["good", "--out", "notes.txt"], "notes.txt"),
    ],
)
def test_mistakes_cost_a_line(tmp_path: Path, monkeypatch, args: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").touch()
    os.makedirs("damaged/text")
    Path("damaged/text/analysis.json").write_text("{")
    with_text(Path("good"))
    result = invoke(*args)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.output


def test_models_predict_text_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_centuries(tmp_path / "text", passages=2, documents=2)
    monkeypatch.chdir(tmp_path)
    result = invoke("embedded", "--text", "text/*.jsonl", "--device", "cpu")
    assert result.exit_code == 0
    assert "Perplexity per token: the text given" in result.stdout
    assert "of 3 rows" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    raw = json.loads(invoke("embedded", "--text", "text", "--device", "cpu", "--json").stdout)
    assert raw["passages"][-3:] == [4, 4, 4]
    missing = invoke("embedded", "--text", "nowhere.jsonl")
    assert missing.exit_code == 2
    assert "nowhere.jsonl" in missing.stderr

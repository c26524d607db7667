"""``progressgym history build``, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from progressgym_env.cli import app
from tests.histories.text.made import RECIPE, write_centuries, write_recipe


def invoke(*args: str):
    return CliRunner().invoke(app, ["history", "build", *args], env={"COLUMNS": "80"})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = write_centuries(tmp_path / "text", passages=8, documents=8)
    write_recipe(folder)
    return folder


def test_it_stops_where_asked_and_says_how_to_go_on(text: Path, tmp_path: Path):
    result = invoke(
        str(text / "recipe.toml"), "--out", str(tmp_path / "out"), "--stop-after", "text"
    )
    assert result.exit_code == 0
    assert "Stopped after text" in result.stdout
    assert "goes on" in result.stdout
    assert "filtering: 192 of 192" in result.stderr


def test_other_text_and_another_seed(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sources are relative to where the user is, and no absolute path is written down."""
    monkeypatch.chdir(text)
    write_recipe(tmp_path, RECIPE.replace("C0*.jsonl", "nothing-here.jsonl"))
    options = ("--text", "C019.jsonl", "--text", "C021.jsonl", "--stop-after", "text")
    one = invoke("../recipe.toml", *options, "--out", "a")
    assert one.exit_code == 0, one.stderr
    two = invoke("../recipe.toml", *options, "--out", "b", "--seed", "7")
    assert two.exit_code == 0
    reports = [json.loads((text / out / "text/report.json").read_text()) for out in "ab"]
    for report in reports:
        assert [century["name"] for century in report["centuries"]] == ["C019", "C021"]
        assert str(tmp_path) not in json.dumps(report)
    assert len({(text / out / "text/passages/C019.jsonl.gz").read_bytes() for out in "ab"}) == 2


def test_the_folder_is_the_recipes_name_where_none_is_given(
    text: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(text)
    assert invoke("recipe.toml", "--stop-after", "text").exit_code == 0
    assert (text / "made" / "text" / "report.json").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("min_century_characters = 10000", "min_century_characters = 90000"), "90000 are wanted"),
        (('sources = ["C0*.jsonl"]', 'sources = ["letters/*"]'), "letters/*"),
        (("rank = 4", "rank = -4"), "rank=-4"),
    ],
)
def test_mistakes_end_with_a_message_and_no_traceback(text: Path, change, message):
    recipe = write_recipe(text, RECIPE.replace(*change))
    result = invoke(str(recipe), "--out", str(text / "out"))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_recipe_is_named():
    result = invoke("histtext-large")
    assert result.exit_code == 2
    assert "did you mean 'histtext-small'" in result.stderr

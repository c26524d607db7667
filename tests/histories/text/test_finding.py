"""Which files there are: folders, patterns, and data sets of the hub."""

from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest

from progressgym_env.errors import HistoryError, InvalidArgumentError, UnknownNameError
from progressgym_env.histories.text.corpus import build_corpus
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.finding import find_files
from progressgym_env.histories.text.reading import FileReader
from tests.histories.hub_server import in_place_of_the_hub
from tests.histories.text.made import raw

SETTINGS = TextSettings()


def test_sources_are_files_folders_and_patterns_each_file_once(tmp_path: Path):
    for name in ("a.jsonl", "deep/b.json", "deep/er/c.json.gz", "deep/note.md", "deep/.d.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    settings = TextSettings(sources=("deep", "*.jsonl", "a.jsonl", str(tmp_path / "deep/*.json")))
    files, skipped = find_files(settings, tmp_path)
    assert [file.name for file in files] == ["deep/b.json", "deep/er/c.json.gz", "a.jsonl"]
    assert skipped == ["deep/note.md"]


@pytest.mark.parametrize("source", ["absent.jsonl", "*.jsonl", "empty", "a.csv"])
def test_a_source_that_names_nothing_to_read_is_refused(tmp_path: Path, source: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(InvalidArgumentError, match=r"sources: .*jsonl\.gz"):
        find_files(TextSettings(sources=(source,)), tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sources": ()}, "one or more files"),
        ({"sources": "a.jsonl"}, "one or more files"),
        ({"sources": ("",)}, "not empty"),
        ({"sources": ("hub:name",)}, "hub:OWNER/NAME"),
        ({"first_year": 1500, "last_year": 1400}, "last_year=1400 must be from 1500"),
        ({"centuries": ("C19",)}, "C19.*three digits"),
        ({"centuries": ()}, "leave it"),
        ({"centuries": ("C019", "C019")}, "only once"),
        ({"language": "English"}, "ISO 639"),
        ({"min_characters": 0}, "1 or more"),
        ({"max_characters": 399}, "400 or more"),
        ({"ocr_noise": 1.5}, "from 0 to 1"),
        ({"duplicates": -0.1}, "from 0 to 1"),
        ({"duplicates": float("nan")}, "finite"),
        ({"min_century_characters": 2.5}, "integer"),
        ({"max_broken_share": True}, "finite number"),
        ({"held_out_documents": 0.6}, "from 0 to 0.5"),
        ({"held_out_passages": "5%"}, "finite number"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], says: str):
    with pytest.raises(InvalidArgumentError, match=says):
        TextSettings(**changes)


def test_settings_come_from_a_table_and_go_back():
    table = {"sources": ["a.jsonl"], "centuries": ["C019", "C020"], "duplicates": 0}
    settings = TextSettings.from_table(table)
    assert settings.sources == ("a.jsonl",)
    assert TextSettings.from_table(json.loads(json.dumps(settings.to_json()))) == settings
    with pytest.raises(UnknownNameError, match="did you mean 'language'"):
        TextSettings.from_table({"languge": "en"})


# The hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, bytes]]:
    """Data sets as the hub serves them, to the real client; files by path."""
    files = {
        "README.md": b"# A data set",
        "C013/Y01221.json": json.dumps(
            [raw(creation_year=1221, creation_year_earliest=[1, 2]), raw(creation_year=1221)]
        ).encode(),
        "C014/Y01310.json": json.dumps([raw(creation_year="1310", culture="x")]).encode(),
    }
    revision = "a" * 40

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/datasets/org/texts"):
                siblings = [{"rfilename": name} for name in files]
                info = {"id": "org/texts", "sha": revision, "siblings": siblings}
                self._answer(200, json.dumps(info).encode())
                return
            name = path.removeprefix(f"/datasets/org/texts/resolve/{revision}/")
            if name in files:
                etag = f'"{len(files[name])}"'
                self._answer(200, files[name], ETag=etag, X_Repo_Commit=revision)
                return
            gated = path.startswith("/api/datasets/org/gated")
            error = "GatedRepo" if gated else "RepoNotFound"
            error = "EntryNotFound" if "/resolve/" in path else error
            self._answer(403 if gated else 404, b"", X_Error_Code=error)

        do_HEAD = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    with in_place_of_the_hub(Handler, monkeypatch, tmp_path) as address:
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield files


def test_a_data_set_of_the_hub_is_read_file_by_file(hub: dict[str, bytes], tmp_path: Path):
    files, skipped = find_files(TextSettings(sources=("hub:org/texts@main",)), tmp_path)
    assert [(file.name, file.revision) for file in files] == [
        ("hub:org/texts/C013/Y01221.json", "a" * 40),
        ("hub:org/texts/C014/Y01310.json", "a" * 40),
    ]
    assert skipped == []
    entries = [e for file in files for e in FileReader(file.path(), file.name, SETTINGS)]
    assert [entry.year for entry in entries] == [1221, 1221, 1310]
    (only, _) = find_files(TextSettings(sources=("hub:org/texts",), centuries=("C014",)), tmp_path)
    assert [file.name for file in only] == ["hub:org/texts/C014/Y01310.json"]


def test_files_of_the_hub_that_are_not_needed_are_not_fetched(
    hub: dict[str, bytes], tmp_path: Path
):
    """With a cap the years come in no order, and what is beyond it stays where it is."""
    for year in range(1222, 1232):
        content = "It was a year like any other, and the rain fell on the fields. " * 5
        hub[f"C013/Y0{year}.json"] = json.dumps([raw(creation_year=year, content=content)]).encode()
    settings = TextSettings(
        sources=("hub:org/texts",),
        min_century_characters=0,
        min_characters=1,
        max_century_characters=700,
        language="",
    )
    files, _ = find_files(settings, tmp_path)
    years = [file.name for file in files if file.century == "C013"]
    assert len(years) == 11
    assert years != sorted(years)
    rng = np.random.default_rng(0)
    report = build_corpus(settings, tmp_path, tmp_path / "text", rng, lambda *_: None)
    early = report.centuries[0]
    assert early.name == "C013"
    assert early.records == 3
    assert len(report.skipped) == len(years) - 3
    cached = {path.name for path in Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("Y*.json")}
    assert len(cached) == 3 + 1  # And the one of the other century.


def test_histories_in_a_folder_of_text_are_no_text(tmp_path: Path):
    for name in ("C019/a.txt", "mine/text/passages/C019.jsonl", "mine/stages/text.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("It was so.")
    files, _ = find_files(TextSettings(sources=(".",)), tmp_path)
    assert [file.name for file in files] == ["C019/a.txt"]


def test_what_the_hub_refuses_is_said_with_what_to_do(hub: dict[str, bytes], tmp_path: Path):
    for name, says in (
        ("org/gated", "org/gated is gated: accept its terms at http.*hf auth login"),
        ("org/absent", r"org/absent is not on the hub \(or is private\); correct"),
    ):
        with pytest.raises(HistoryError, match=says):
            find_files(TextSettings(sources=(f"hub:{name}",)), tmp_path)
    (file, _), _ = find_files(TextSettings(sources=("hub:org/texts",)), tmp_path)
    hub.pop("C013/Y01221.json")
    with pytest.raises(HistoryError, match=r"org/texts at revision a{40} cannot be had"):
        file.path()
    for name in [name for name in hub if name.endswith(".json")]:
        hub.pop(name)
    with pytest.raises(HistoryError, match="org/texts of the hub has no file"):
        find_files(TextSettings(sources=("hub:org/texts",)), tmp_path)


def test_no_hub_says_how_to_fetch_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HistoryError, match="hf download --repo-type dataset PKU-Alignment/"):
        find_files(TextSettings(), tmp_path)

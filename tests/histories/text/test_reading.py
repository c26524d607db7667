"""Records from all kinds of files, and whatever can be wrong with them."""

from __future__ import annotations

import codecs
import gzip
import http.server
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressgym_env.errors import HistoryError, InvalidArgumentError, UnknownNameError
from progressgym_env.histories.text import reading
from progressgym_env.histories.text.cleaning import clean_text, decode, pieces
from progressgym_env.histories.text.corpus import build_corpus
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.finding import find_files
from progressgym_env.histories.text.reading import Broken, FileReader, Record
from tests.histories.hub_server import in_place_of_the_hub

SETTINGS = TextSettings()
REAL = Path("../shared/data/histtext")


def raw(**changes: Any) -> dict[str, Any]:
    """A record as HistText has them; a change to None takes a field out."""
    values = {
        "creation_year": 1245,
        "source_dataset": "gutenberg",
        "content": "And so they rode forth.",
        "source_document": "A Saga",
        **changes,
    }
    return {name: value for name, value in values.items() if value is not None}


def read(path: Path, settings: TextSettings = SETTINGS) -> list[Record | Broken]:
    return list(FileReader(path, path.name, settings))


def lines(path: Path, *values: dict[str, Any] | str) -> Path:
    text = "".join(f"{v if isinstance(v, str) else json.dumps(v)}\n" for v in values)
    path.write_text(text, encoding="utf-8")
    return path


# JSON


def test_a_record_is_read_with_file_and_line(tmp_path: Path):
    path = lines(tmp_path / "a.jsonl", raw(), "", raw(creation_year="1300", culture="x", n=[1]))
    assert read(path) == [
        Record("a.jsonl", 1, "C013", 1245, "gutenberg", "A Saga", "And so they rode forth."),
        Record("a.jsonl", 3, "C014", 1300, "gutenberg", "A Saga", "And so they rode forth."),
    ]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.gz"])
def test_all_forms_of_json_give_the_same(tmp_path: Path, suffix: str):
    records = [raw(content=f"Number {i}.\nþe kyng") for i in range(3)]
    path = tmp_path / f"file{suffix}"
    text = json.dumps(records, indent=1, ensure_ascii=False)
    if ".jsonl" in suffix:
        text = "\n".join(json.dumps(r, ensure_ascii=False) for r in records)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    assert [r.content for r in read(path)] == [r["content"] for r in records]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(raw()),
        json.dumps(raw(), indent=2),
        json.dumps(raw()) + "\n" + json.dumps(raw()) + "\n",
        json.dumps(raw(), indent=2) + "\n" + json.dumps(raw(), indent=2),
        json.dumps([raw()]),
        " \n[\n]",
        "",
    ],
)
def test_json_files_hold_an_array_an_object_or_lines(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    found = read(path)
    assert all(isinstance(entry, Record) for entry in found)
    assert len(found) == text.count("creation_year")


def test_an_arrays_lines_are_exact_also_beyond_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "_CHUNK", 256)
    path = tmp_path / "a.json"
    records = [raw(content="ſéþ " * (i * 37 % 300 + 1)) for i in range(60)]
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    found = read(path)
    # An opening bracket, then six lines a record.
    assert [entry.line for entry in found] == [2 + 6 * i for i in range(60)]
    assert [entry.content for entry in found] == [record["content"] for record in records]
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    assert [entry.content for entry in read(path)] == [record["content"] for record in records]
    assert {entry.line for entry in read(path)} == {1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"creation_year": None}, "creation_year is missing"),
        ({"source_dataset": None}, "source_dataset is missing"),
        ({"content": None}, "content is missing"),
        ({"creation_year": "about 1245"}, "creation_year is no year"),
        ({"creation_year": True}, "creation_year is no year"),
        ({"creation_year": 1245.5}, "creation_year is no year"),
        ({"creation_year": [1245]}, "creation_year is no year"),
        ({"creation_year": 1199}, "creation_year is out of range"),
        ({"creation_year": "-44"}, "creation_year is out of range"),
        ({"creation_year": 10**30}, "creation_year is out of range"),
        ({"content": 7}, "content is no text"),
        ({"source_dataset": ["EEBO"]}, "source_dataset is no text"),
        ({"content": " \n "}, "content is empty"),
        ({"source_dataset": ""}, "source_dataset is empty"),
    ],
)
def test_a_wrong_field_is_named_and_reading_goes_on(
    tmp_path: Path, changes: dict[str, Any], reason: str
):
    first, wrong, last = read(lines(tmp_path / "a.jsonl", raw(), raw(**changes), raw()))
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert wrong == Broken("a.jsonl", 2, reason, json.dumps(raw(**changes))[:160])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"creation_year": 1245, "content": "cut', "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ('{"creation_year": ' + "9" * 5000 + "}", "broken JSON"),
        ("[1, 2]", "not a record"),
        ("null", "not a record"),
        ("NaN", "not a record"),
    ],
)
def test_a_broken_line_of_json_lines_is_one_entry(tmp_path: Path, line: str, reason: str):
    first, wrong, last = read(lines(tmp_path / "a.jsonl", raw(), line, raw()))
    assert (wrong.line, wrong.reason) == (2, reason)
    assert len(wrong.excerpt) <= 160
    assert isinstance(first, Record)
    assert isinstance(last, Record)


@pytest.mark.parametrize("end", ["", "]", ',\n{"creation_year": 12', ',\n"cut', " {}]", ",\n"])
def test_a_broken_array_gives_what_came_before_and_one_entry(tmp_path: Path, end: str):
    path = tmp_path / "a.json"
    path.write_text("[\n" + json.dumps(raw()) + ",\n" + json.dumps(raw()) + end)
    whole = [entry for entry in read(path) if isinstance(entry, Record)]
    broken = [entry for entry in read(path) if isinstance(entry, Broken)]
    assert [entry.line for entry in whole] == [2, 3]
    assert [entry.reason for entry in broken] == ([] if end == "]" else ["broken JSON"])


def test_a_document_without_title_is_named_by_its_place(tmp_path: Path):
    path = lines(
        tmp_path / "a.jsonl", raw(source_document=None), raw(source_document=" ", title="The  Bee")
    )
    assert [entry.document for entry in read(path)] == ["a.jsonl:1", "The Bee"]


# Bytes


def test_a_truncated_gzip_file_gives_what_came_before_and_one_entry(tmp_path: Path):
    path = tmp_path / "a.jsonl.gz"
    # Incompressible enough for the cut to fall between records.
    digits = random.Random(0)
    records = [raw(content=str(digits.getrandbits(600))) for _ in range(3000)]
    whole = gzip.compress("".join(json.dumps(r) + "\n" for r in records).encode())
    path.write_bytes(whole[: len(whole) // 2])
    *good, last = read(path)
    assert good
    assert all(isinstance(entry, Record) for entry in good)
    assert (last.reason, last.line) == ("damaged gzip", len(good) + 1)


@pytest.mark.parametrize("content", [b"no gzip at all", b"\x1f\x8b\x08\x00" + b"\xff" * 40])
def test_what_only_is_named_gz_is_one_entry(tmp_path: Path, content: bytes):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    (entry,) = read(path)
    assert (entry.reason, entry.line) == ("damaged gzip", 1)


def test_a_file_that_went_away_is_one_entry(tmp_path: Path):
    (entry,) = read(tmp_path / "absent.jsonl")
    assert entry.reason == "unreadable file"


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_byte_order_marks_are_believed(tmp_path: Path, suffix: str, mark: bytes, encoding: str):
    # U+0A0A and U+0A00 are full of bytes 10 that end no line.
    content = "þe kyng ſaid\u0a0a\u0a00\u0100"
    text = "".join(json.dumps(raw(content=content), ensure_ascii=False) + "\n" for _ in range(3))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(mark + text.encode(encoding))
    found = read(path)
    assert [entry.content for entry in found] == [content] * 3
    assert [entry.line for entry in found] == [1, 2, 3]
    assert [entry.repaired for entry in found] == [()] * 3


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_lines_in_another_encoding_are_repaired_and_told(tmp_path: Path, suffix: str):
    content = "The naïve Abbé, at his café in Orléans, said: “Vive la République” — and left."
    path = tmp_path / f"a{suffix}"
    right = json.dumps(raw(content=content), ensure_ascii=False)
    path.write_bytes(right.encode() + b"\n" + right.encode("cp1252") + b"\n")
    first, second = read(path)
    assert (first.content, first.repaired) == (content, ())
    assert (second.content, second.repaired) == (content, ("cp1252",))


def test_bytes_that_are_no_text_are_quarantined(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    noise = bytes(range(128, 256)) * 4 + b"\x81\x8d\x8f\x90\x9d" * 30
    path.write_bytes(json.dumps(raw()).encode() + b"\n" + noise + b"\n" + b'{"creation_year": 1}\n')
    entries = read(path)
    assert len(entries) == 3
    assert entries[1].reason in ("undecodable bytes", "broken JSON")
    assert entries[1].line == 2
    cut = tmp_path / "b.jsonl"
    # The first half of a surrogate pair, alone.
    cut.write_bytes(codecs.BOM_UTF16_LE + b"\x00\xd8a\x00\n\x00" + "[1]\n".encode("utf-16-le"))
    assert [(e.line, e.reason) for e in read(cut)] == [
        (1, "undecodable bytes"),
        (2, "not a record"),
    ]


def test_detection_gives_up_on_what_no_encoding_fits():
    assert decode(b"\x00\xd8", "utf-16-le", "en") == (None, None)
    assert decode("þe".encode(), "utf-8", "en") == ("þe", None)


# Plain text


def test_plain_texts_have_their_century_from_the_path(tmp_path: Path):
    for name in ("C013/saga.txt", "1245/njal.txt", "1310-Orfeo.txt", "C014/zip.txt.gz"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = b"Once\r\nupon a time."
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (tmp_path / "texts" / "README.txt").write_text("Notes")
    files, skipped = find_files(TextSettings(sources=("texts",)), tmp_path)
    assert skipped == ["texts/README.txt"]
    found = {}
    for file in files:
        (entry,) = FileReader(file.path(), file.name, SETTINGS)
        found[file.name] = (entry.century, entry.year, entry.source, entry.document)
    assert found == {
        "texts/1245/njal.txt": ("C013", 1245, "texts", "njal"),
        "texts/1310-Orfeo.txt": ("C014", 1310, "texts", "Orfeo"),
        "texts/C013/saga.txt": ("C013", None, "texts", "saga"),
        "texts/C014/zip.txt.gz": ("C014", None, "texts", "zip"),
    }


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("C013/a.txt", b" \n", "content is empty"),
        ("C009/a.txt", b"text", "creation_year is out of range"),
        ("1100/a.txt", b"text", "creation_year is out of range"),
        ("notes/a.txt", b"text", "no year in the path"),
        ("C013/b.txt", codecs.BOM_UTF16_LE + b"\x00\xd8a\x00", "undecodable bytes"),
    ],
)
def test_plain_texts_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, reason: str):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(content)
    (entry,) = read(path)
    assert entry.reason == reason


# Sources


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
        ({"duplicates": -0.1}, "0 or more"),
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


# Cleaning


@pytest.mark.parametrize(
    ("text", "cleaned", "mojibake", "removed"),
    [
        ("ſhe ſaid “þe ﬁn”—vir-\ntue, 3½", "ſhe ſaid “þe ﬁn”—vir-\ntue, 3½", False, 0),
        ("Cafe\u0301", "Café", False, 0),
        ("The cafÃ© of OrlÃ©ans", "The café of Orléans", True, 0),
        ("itâ\x80\x99s", "it’s", True, 0),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour", False, 0),
        ("be\x00ll\x1b\x07s", "bells", False, 3),
        ("page\x0cnext", "page\nnext", False, 1),
        ("vir\u00adtue vir\u00ad\ntue", "virtue vir\u00ad\ntue", False, 1),
        ("\ufeffzero\u200bwidth", "zerowidth", False, 2),
        ("half \ud83d pair \ud83d\ude00", "half \ufffd pair 😀", False, 1),
        (" \x00\n ", "", False, 1),
    ],
)
def test_cleaning(text: str, cleaned: str, mojibake: bool, removed: int):
    found = clean_text(text)
    assert (found.text, found.mojibake, found.removed) == (cleaned, mojibake, removed)


@given(st.text())
def test_clean_text_can_be_written_and_stays_clean(text: str):
    cleaned = clean_text(text).text
    cleaned.encode("utf-8")
    assert clean_text(cleaned).removed == 0


@given(
    st.lists(
        st.sampled_from(["a", "word", "sentence. ", "end.” ", " ", "\n", "\n\n", "x" * 70, "ſ! "])
    ).map("".join),
    st.integers(1, 30),
    st.integers(2, 4),
)
def test_cutting_loses_nothing_but_blanks(text: str, least: int, times: int):
    most = least * times
    found = pieces(text, least, most)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(piece) <= most for piece in found)
    assert all(piece == piece.strip() for piece in found)


def test_long_text_is_cut_at_paragraphs_then_sentences_then_blanks():
    paragraph = "It was so. " * 15
    assert pieces(f"{paragraph}\n\n{paragraph}\n\n{paragraph}", 100, 400) == [
        f"{paragraph.strip()} \n\n{paragraph.strip()}",
        paragraph.strip(),
    ]
    assert all(piece.endswith("so.") for piece in pieces(paragraph * 9, 100, 400))
    assert all(set(piece.split()) == {"word"} for piece in pieces("word " * 500, 100, 400))
    assert [len(piece) for piece in pieces("x" * 900, 100, 400)] == [400, 400, 100]


def test_no_short_tail_is_left_over():
    for count in range(40, 400):
        assert min(len(piece) for piece in pieces("word " * count, 100, 400)) >= 95


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real text is not at {REAL}")
def test_the_real_text_is_read_whole():
    (entries,) = [list(FileReader(REAL / "C014.jsonl.gz", "C014.jsonl.gz", SETTINGS))]
    assert len(entries) == 1960
    assert {type(entry) for entry in entries} == {Record}
    assert {entry.century for entry in entries} == {"C014"}
    assert len({entry.document for entry in entries}) == 23
    assert [entry.line for entry in entries] == list(range(1, 1961))

"""Records from all kinds of files, and whatever can be wrong with them."""

from __future__ import annotations

import codecs
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.histories.text import reading
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.finding import find_files
from progressgym_env.histories.text.reading import Broken, FileReader, Record
from tests.histories.text.made import raw

SETTINGS = TextSettings()
REAL = Path("../shared/data/histtext")


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


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real text is not at {REAL}")
def test_the_real_text_is_read_whole():
    (entries,) = [list(FileReader(REAL / "C014.jsonl.gz", "C014.jsonl.gz", SETTINGS))]
    assert len(entries) == 1960
    assert {type(entry) for entry in entries} == {Record}
    assert {entry.century for entry in entries} == {"C014"}
    assert len({entry.document for entry in entries}) == 23
    assert [entry.line for entry in entries] == list(range(1, 1961))

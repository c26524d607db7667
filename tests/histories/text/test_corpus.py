"""From files to passages, with everything accounted for."""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env.errors import HistoryError, InvalidArgumentError, MissingPackageError
from progressgym_env.files import file_hash
from progressgym_env.histories.text import filtering
from progressgym_env.histories.text.corpus import build_corpus
from progressgym_env.histories.text.corpus_report import CorpusReport
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.passages import read_passages

REAL = Path("../shared/data/histtext")
WORDS = re.findall(
    r"\w+",
    "the and of a to in that he was it his with for as had on at by which have or from this him "
    "but all she they were my are me one their so an said them we who would been will no when "
    "there if more out up into do any your what has man could other than our some very time "
    "upon about may its only now like little then can should made did us such great before must "
    "two ",
)
LENIENT = TextSettings(sources=("*.jsonl",), min_century_characters=0, max_broken_share=1)


def prose(seed: object, words: int = 80) -> str:
    """Words of English in no order that means anything, always the same for a seed."""
    rng = random.Random(str(seed))
    return " ".join(rng.choice(WORDS) for _ in range(words)) + "."


def record(document: str, content: str, year: object = 1850, **more: Any) -> dict[str, Any]:
    values = {"creation_year": year, "source_dataset": "a source", "content": content}
    return {**values, "source_document": document, **more}


def write(folder: Path, name: str, *records: Any) -> None:
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
    (folder / name).write_text(text, encoding="utf-8")


def build(folder: Path, settings: TextSettings = LENIENT, seed: int = 0) -> CorpusReport:
    rng = np.random.default_rng(seed)
    return build_corpus(settings, folder, folder / "text", rng, lambda *_: None)


def json_lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return [json.loads(line) for line in content.decode().splitlines()]


def written(folder: Path) -> dict[str, bytes]:
    text = folder / "text"
    return {str(p.relative_to(text)): p.read_bytes() for p in text.rglob("*") if p.is_file()}


def check_counts(report: CorpusReport, text: Path) -> None:
    """Every record is used, quarantined or left out; every passage is kept or dropped."""
    used = sum(century.records for century in report.centuries)
    quarantined = sum(report.quarantined.values())
    assert report.records == used + quarantined + sum(report.left_out.values())
    assert report.records == sum(file.records for file in report.files)
    assert Counter(report.quarantined) == sum(
        (Counter(file.quarantined) for file in report.files), Counter()
    )
    assert Counter(report.quarantined) == Counter(
        entry["reason"] for entry in json_lines(text / "quarantine.jsonl")
    )
    dropped = Counter((e["century"], e["reason"]) for e in json_lines(text / "dropped.jsonl.gz"))
    for century in report.centuries:
        kept = list(read_passages(text, century.name))
        assert century.found == century.passages + sum(century.dropped.values())
        assert century.passages == len(kept) == sum(century.sources.values())
        assert century.characters == sum(len(passage.content) for passage in kept)
        assert century.documents == len({passage.document for passage in kept})
        assert century.dropped == {r: n for (c, r), n in dropped.items() if c == century.name}
        for name, numbers in century.splits.items():
            part = [passage for passage in kept if passage.split == name]
            assert numbers["passages"] == len(part)
            assert numbers["characters"] == sum(len(passage.content) for passage in part)


def test_everything_is_written_and_counted(tmp_path: Path):
    latin = "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani. "
    write(
        tmp_path,
        "a.jsonl",
        *(record(f"work {i}", prose(i)) for i in range(5)),
        record("later", prose(0), year=1950),
        record("short", "Too short."),
        record("latin", latin * 4, year="1850"),
        record("broken", prose("b").replace("e", "^")),
        record("long", prose("c", 2000)),
        record("controls", prose("d").replace(" ", " \x07", 3)),
        record("mojibake", prose("e") + " at the cafÃ©"),
        record("nothing", "\x07\x07"),
        record("old", prose("f"), year=1100),
        "{broken",
    )
    write(tmp_path, "b.jsonl", record("work 3", prose("more of it")))
    report = build(tmp_path)
    check_counts(report, tmp_path / "text")
    assert [century.name for century in report.centuries] == ["C019", "C020"]
    first, second = report.centuries
    assert first.dropped == {"too short": 1, "language": 1, "ocr noise": 1}
    # The earliest is kept, and the copy says what it is a copy of.
    assert second.dropped == {"duplicate": 1}
    (copy,) = (e for e in json_lines(tmp_path / "text/dropped.jsonl.gz") if e["line"] == 6)
    assert copy["detail"] == "like C019 'work 0' (a.jsonl, line 1): similarity about 1.00"
    assert report.quarantined == {
        "broken JSON": 1, "content is empty": 1, "creation_year is out of range": 1,
    }  # fmt: skip
    assert (first.removed, first.repaired) == (3, {"mojibake": 1})
    assert report.files[0].sha256 == file_hash(tmp_path / "a.jsonl")
    kept = list(read_passages(tmp_path / "text", "C019"))
    assert all(len(passage.content) <= 2000 for passage in kept)
    # A work's passages stand together, from whatever file they are.
    documents = [passage.document for passage in kept]
    assert documents == sorted(documents, key=documents.index)
    assert "".join(p.content for p in kept if p.document == "long").replace(" ", "") == prose(
        "c", 2000
    ).replace(" ", "")
    stored = json.loads((tmp_path / "text/report.json").read_text())
    assert CorpusReport.from_json(stored) == report
    with pytest.raises(HistoryError, match="no report of a corpus"):
        CorpusReport.from_json({"files": []})
    assert not [path for path in (tmp_path / "text").iterdir() if path.name.startswith(".")]


def test_equal_seeds_make_equal_files_and_nothing_old_stays(tmp_path: Path):
    write(tmp_path, "a.jsonl", *(record(f"work {i % 9}", prose(i)) for i in range(60)))
    write(tmp_path, "b.jsonl", record("recent", prose("x"), year=1990))
    build(tmp_path)
    first = written(tmp_path)
    build(tmp_path)
    assert written(tmp_path) == first
    build(tmp_path, seed=1)
    assert written(tmp_path) != first
    (tmp_path / "b.jsonl").unlink()
    build(tmp_path)
    assert set(first) - set(written(tmp_path)) == {"passages/C020.jsonl.gz"}


def test_centuries_not_asked_for_are_left_out_and_counted(tmp_path: Path):
    years = (1350, 1750, 1751, 1850)
    write(tmp_path, "a.jsonl", *(record(str(y), prose(y), year=y) for y in years))
    report = build(tmp_path, TextSettings.from_table({**LENIENT.to_json(), "centuries": ["C019"]}))
    check_counts(report, tmp_path / "text")
    assert report.left_out == {"C014": 1, "C018": 2}
    assert [century.name for century in report.centuries] == ["C019"]


def test_a_work_of_two_centuries_is_not_held_out_whole(tmp_path: Path):
    # Both centuries have letters of one collection; it would be held out here and learned there.
    works = [(f"{century} {i}", century) for century in (1350, 1450) for i in range(3)]
    works += [("letters", 1350), ("letters", 1450)]
    write(tmp_path, "a.jsonl", *(record(w, prose((w, y, i)), y) for w, y in works for i in "abcd"))
    for seed in range(8):
        report = build(tmp_path, seed=seed)
        assert report.shared == ("letters",)
        assert CorpusReport.from_json(report.to_json()) == report
        for century in ("C014", "C015"):
            kept = list(read_passages(tmp_path / "text", century))
            whole = {p.document for p in kept if p.split == "document"}
            assert len(whole) == 1
            assert "letters" not in whole


def test_files_of_one_name_in_two_centuries_are_two_works(tmp_path: Path):
    for century in ("C014", "C015"):
        for i in range(3):
            path = tmp_path / century / f"{i}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n\n".join(prose((century, i, j)) for j in range(4)))
    plain = TextSettings.from_table({**LENIENT.to_json(), "sources": ["."]})
    report = build(tmp_path, plain)
    assert report.shared == ()
    assert all(c.splits["document"]["documents"] == 1 for c in report.centuries)


def test_progress_is_told(tmp_path: Path):
    write(tmp_path, "a.jsonl", *(record("work", prose(i)) for i in range(5)))
    calls: list[tuple[str, int, int]] = []
    rng = np.random.default_rng(0)
    build_corpus(LENIENT, tmp_path, tmp_path / "text", rng, lambda *call: calls.append(call))
    assert calls == [
        ("reading", 0, 1), ("reading", 1, 1), ("filtering", 0, 5), ("filtering", 5, 5),
    ]  # fmt: skip


def test_too_much_that_is_broken_stops_with_counts(tmp_path: Path):
    write(tmp_path, "a.jsonl", record("work", prose(1)), "{", "[]", record("work", ""))
    with pytest.raises(
        HistoryError,
        match=r"3 of 4 records cannot be used \(1 broken JSON, 1 content is empty, 1 not a record\)"
        r".*max_broken_share=0.01.*quarantine.jsonl",
    ):
        build(tmp_path, TextSettings(sources=("a.jsonl",)))
    assert len(json_lines(tmp_path / "text/quarantine.jsonl")) == 3


def test_a_century_with_too_little_is_named_with_what_it_has(tmp_path: Path):
    write(tmp_path, "a.jsonl", *(record("work", prose(i % 3)) for i in range(5)))
    text = prose(0), prose(1), prose(2)
    with pytest.raises(
        HistoryError,
        match=rf"C019 has {sum(map(len, text))} characters in 3 passages \(dropped: 2 duplicate\); "
        "min_century_characters=200000",
    ):
        build(tmp_path, TextSettings(sources=("a.jsonl",)))
    assert len(json_lines(tmp_path / "text/dropped.jsonl.gz")) == 2


def test_no_record_at_all_is_an_error(tmp_path: Path):
    write(tmp_path, "a.jsonl", record("work", prose(0)))
    nothing = TextSettings.from_table({**LENIENT.to_json(), "centuries": ["C013"]})
    with pytest.raises(HistoryError, match=r"no record is left .* 1 were read, 0 .* 1 left out"):
        build(tmp_path, nothing)


@pytest.mark.parametrize("package", ["charset_normalizer", "datasketch", "ftfy", "py3langid"])
def test_a_missing_package_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
):
    write(tmp_path, "a.jsonl", record("work", prose(0)))
    filtering._identifier.cache_clear()
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.*'progressgym-env\[text\]'"):
        build(tmp_path)
    assert not (tmp_path / "text").exists()


def test_lone_surrogates_do_not_stop_it(tmp_path: Path):
    write(tmp_path, "a.jsonl", record("bad \ud83d title", prose(0) + " \ud83d"), '{"x": "\\ud83d"}')
    report = build(tmp_path)
    check_counts(report, tmp_path / "text")
    assert report.centuries[0].removed == 1


ENTRIES = st.one_of(
    st.builds(
        record,
        st.sampled_from(["one", "two", "three", "four"]),
        st.one_of(st.text(max_size=400), st.integers(0, 9).map(prose), st.none(), st.integers()),
        st.one_of(st.integers(1000, 2200), st.sampled_from(["1850", "x", None, 1850.0])),
    ),
    st.sampled_from(["{", "[]", "", "null", '"text"', "\x00"]),
)


@settings(max_examples=20, deadline=None)
@given(st.lists(ENTRIES, max_size=15), st.sampled_from([None, ("C019", "C020")]))
def test_every_record_is_kept_dropped_quarantined_or_left_out(entries, centuries):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = record("good", prose("good"))
        write(folder, "a.jsonl", good, *entries)
        table = {**LENIENT.to_json(), "centuries": centuries, "min_characters": 40}
        report = build(folder, TextSettings.from_table(table))
        check_counts(report, folder / "text")
        blank = sum(isinstance(entry, str) and not entry.strip(" \t\r\n") for entry in entries)
        assert report.records == 1 + len(entries) - blank


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real text is not at {REAL}")
def test_the_real_text_stays_nearly_whole(tmp_path: Path):
    """Every twelfth passage of three centuries, Middle English among them."""
    for name in ("C014", "C016", "C020"):
        with gzip.open(REAL / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            kept = [line for i, line in enumerate(lines) if i % 12 == 0]
        (tmp_path / f"{name}.jsonl").write_text("".join(kept), encoding="utf-8")
    report = build(tmp_path, TextSettings(sources=("*.jsonl",), min_century_characters=150_000))
    check_counts(report, tmp_path / "text")
    assert report.quarantined == {}
    for century in report.centuries:
        assert sum(century.dropped.values()) <= 0.02 * century.found, century
        share = century.splits["document"]["characters"] / century.characters
        assert 0.03 < share <= 0.1, century
        assert 0.03 < century.splits["passage"]["characters"] / century.characters <= 0.05


def test_a_file_that_is_damaged_in_the_middle_stops_unless_allowed(tmp_path: Path):
    """One entry for all that is lost would hide how much that is."""
    good = [json.dumps(record(f"work {n}", prose(n))) for n in range(3)]
    (tmp_path / "a.json").write_text("[\n" + ",\n".join(good) + ',\n{"creation_year"')
    settings = TextSettings.from_table({**LENIENT.to_json(), "sources": ["a.json"]})
    with pytest.raises(
        HistoryError, match=r"1 files can .* in part: a.json from line 5.*damaged_f"
    ):
        build(tmp_path, settings)
    allowed = TextSettings.from_table({**settings.to_json(), "damaged_files": True})
    report = build(tmp_path, allowed)
    assert (report.records, sum(report.quarantined.values())) == (4, 1)
    (entry,) = json_lines(tmp_path / "text" / "quarantine.jsonl")
    assert entry["rest_of_file"] is True


def test_no_more_text_of_a_century_than_wanted(tmp_path: Path):
    write(tmp_path, "a.jsonl", *(record(f"work {n}", prose(n)) for n in range(20)))
    write(tmp_path, "b.jsonl", *(record(f"later {n}", prose(-n), 1910) for n in range(1, 3)))
    capped = TextSettings.from_table({**LENIENT.to_json(), "max_century_characters": 2000})
    report = build(tmp_path, capped)
    early, late = report.centuries
    assert 2000 <= early.characters < 2000 + 2 * len(prose(0))
    assert late.records == 2
    assert report.left_out == {"C019, beyond max_century_characters": 20 - early.records}
    check_counts(report, tmp_path / "text")
    with pytest.raises(InvalidArgumentError, match="max_century_characters"):
        TextSettings(max_century_characters=10)

"""From sources to passages: read, clean, filter, split, and tell what was done."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from progressgym_env.errors import HistoryError
from progressgym_env.files import atomic_path, file_hash, write_json
from progressgym_env.histories.text.cleaning import check_installed, clean_text, pieces
from progressgym_env.histories.text.context import Progress
from progressgym_env.histories.text.corpus_report import CenturyReport, CorpusReport, FileReport
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.filtering import REASONS, PassageFilter
from progressgym_env.histories.text.finding import SourceFile, find_files
from progressgym_env.histories.text.noise import WordCounts
from progressgym_env.histories.text.passages import SPLITS, Passage, write_passages
from progressgym_env.histories.text.reading import Broken, FileReader, Record, excerpt
from progressgym_env.histories.text.splitting import split

__all__ = ["DROPPED", "QUARANTINE", "REPORT", "build_corpus"]

REPORT, QUARANTINE, DROPPED = "report.json", "quarantine.jsonl", "dropped.jsonl.gz"

_EVERY = 200


def build_corpus(
    settings: TextSettings,
    root: Path,
    text_folder: Path,
    rng: np.random.Generator,
    progress: Progress,
) -> CorpusReport:
    """Make the corpus that ``settings`` describe, and write it into ``text_folder``.

    Equal sources, settings and states of ``rng`` make equal files, byte for byte. One century is
    in memory at a time; the sources are read record by record.

    Args:
        settings: the table ``[text]``.
        root: what the sources are relative to.
        text_folder: made if it is not there; what an earlier run wrote there is replaced.
        rng: draws what is held out.
        progress: is told about it: ``("reading", files, files)`` and
            ``("filtering", passages, passages)``.

    Raises:
        InvalidArgumentError: a source names no file, or the language is unknown.
        MissingPackageError: the extra ``text`` is not installed.
        HistoryError: the hub does not answer, too much is quarantined, nothing is left, or a
            century has too little text.
    """
    check_installed()
    known = WordCounts()
    # Made first, for what it may refuse; the words are counted while reading.
    sieve = PassageFilter(settings, known)
    files, skipped = find_files(settings, root)
    text_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".reading-", dir=text_folder) as spool:
        reading = _Reading(settings, Path(spool), known)
        with atomic_path(text_folder / QUARANTINE) as path, path.open("wb") as quarantine:
            for done, file in enumerate(files):
                progress("reading", done, len(files))
                if reading.needs(file):
                    reading.read(file, quarantine)
                else:
                    skipped.append(file.name)
        progress("reading", len(files), len(files))
        reading.close()
        _check_broken(settings, reading, text_folder / QUARANTINE)
        centuries = _filter_and_write(settings, reading, sieve, text_folder, rng, progress)
    report = CorpusReport(
        settings=settings.to_json(),
        files=tuple(reading.files),
        skipped=tuple(skipped),
        records=reading.records,
        quarantined=_sorted(reading.quarantined),
        left_out=_sorted(reading.left_out),
        shared=tuple(sorted(reading.shared)),
        centuries=tuple(centuries),
    )
    write_json(text_folder / REPORT, report.to_json())
    _check_sizes(settings, centuries, text_folder)
    return report


@dataclass
class _Tally:
    """What is counted of a century's records while they are read."""

    records: int = 0
    found: int = 0
    removed: int = 0
    repaired: Counter[str] = field(default_factory=Counter)


class _Reading:
    """Reads the sources once, cleans and cuts, and keeps a file of passages for every century."""

    def __init__(self, settings: TextSettings, spool: Path, known: WordCounts) -> None:
        self.settings, self.spool, self.known = settings, spool, known
        self.records = 0
        self.files: list[FileReport] = []
        self.quarantined: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.lost: list[str] = []
        self.characters: Counter[str] = Counter()
        self.tallies: dict[str, _Tally] = {}
        self.shared: set[str] = set()
        self._century_of: dict[str, str] = {}
        self._open: dict[str, IO[str]] = {}
        self._stack = ExitStack()

    def needs(self, file: SourceFile) -> bool:
        """Whether a file may hold what is not there yet."""
        return file.century is None or not self._full(file.century)

    def _full(self, century: str) -> bool:
        most = self.settings.max_century_characters
        return most is not None and self.characters[century] >= most

    def read(self, file: SourceFile, quarantine: IO[bytes]) -> None:
        """Read one file whole."""
        path = file.path()
        records, removed = 0, 0
        quarantined: Counter[str] = Counter()
        repaired: Counter[str] = Counter()
        for entry in FileReader(path, file.name, self.settings):
            records += 1
            if isinstance(entry, Record):
                used = self._use(entry, repaired)
                if isinstance(used, int):
                    removed += used
                    continue
                entry = used
            quarantined[entry.reason] += 1
            if entry.rest_of_file:
                self.lost.append(f"{entry.file} from line {entry.line} ({entry.reason})")
            quarantine.write(_json_line(asdict(entry)))
        self.records += records
        self.quarantined += quarantined
        self.files.append(
            FileReport(
                name=file.name,
                sha256=file_hash(path),
                revision=file.revision,
                records=records,
                quarantined=_sorted(quarantined),
                repaired=_sorted(repaired),
                removed=removed,
            )
        )

    def _use(self, record: Record, repaired: Counter[str]) -> int | Broken:
        """Clean a record and keep its passages; how many characters were removed from it."""
        if self.settings.centuries is not None and record.century not in self.settings.centuries:
            self.left_out[record.century] += 1
            return 0
        if self._full(record.century):
            self.left_out[f"{record.century}, beyond max_century_characters"] += 1
            return 0
        cleaned = clean_text(record.content)
        if not cleaned.text:
            return Broken(record.file, record.line, "content is empty", excerpt(record.content))
        repairs = [*record.repaired, *(["mojibake"] if cleaned.mojibake else [])]
        repaired.update(repairs)
        tally = self.tallies.setdefault(record.century, _Tally())
        tally.records += 1
        tally.removed += cleaned.removed
        self.characters[record.century] += len(cleaned.text)
        tally.repaired.update(repairs)
        self.known.add(f"{record.century} {record.document}", cleaned.text)
        if record.titled:
            first = self._century_of.setdefault(record.document, record.century)
            if first != record.century:
                self.shared.add(record.document)
        for text in pieces(
            cleaned.text, self.settings.min_characters, self.settings.max_characters
        ):
            tally.found += 1
            values = [record.year, record.source, record.document, text, record.file, record.line]
            self._file(record.century).write(json.dumps(values) + "\n")
        return cleaned.removed

    def _file(self, century: str) -> IO[str]:
        if century not in self._open:
            path = self.spool / f"{century}.jsonl"
            self._open[century] = self._stack.enter_context(path.open("w", encoding="ascii"))
        return self._open[century]

    def close(self) -> None:
        """End writing; the passages can be read from now on."""
        self._stack.close()

    def passages(self, century: str) -> Iterator[tuple[Passage, str, int]]:
        """A century's passages with file and line, documents one after the other."""
        of_document: dict[str, list[tuple[Passage, str, int]]] = {}
        with (self.spool / f"{century}.jsonl").open(encoding="ascii") as lines:
            for line in lines:
                year, source, document, text, file, number = json.loads(line)
                passage = Passage(century, year, source, document, text)
                of_document.setdefault(document, []).append((passage, file, number))
        for passages in of_document.values():
            yield from passages


def _filter_and_write(
    settings: TextSettings,
    reading: _Reading,
    sieve: PassageFilter,
    text_folder: Path,
    rng: np.random.Generator,
    progress: Progress,
) -> list[CenturyReport]:
    names = sorted(reading.tallies)
    if not names:
        raise HistoryError(
            "no record is left to make a history of: "
            f"{reading.records} were read, {sum(reading.quarantined.values())} quarantined, "
            f"{sum(reading.left_out.values())} left out; correct sources or centuries of [text]"
        )
    total = sum(tally.found for tally in reading.tallies.values())
    done, centuries = 0, []
    with (
        atomic_path(text_folder / DROPPED) as path,
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as dropped,
    ):
        for name, stream in zip(names, rng.spawn(len(names)), strict=True):
            kept: list[Passage] = []
            counts: Counter[str] = Counter()
            for passage, file, line in reading.passages(name):
                if done % _EVERY == 0:
                    progress("filtering", done, total)
                done += 1
                where = f"{name} {passage.document!r} ({file}, line {line})"
                found = sieve.reason(passage.content, where)
                if found is None:
                    kept.append(passage)
                    continue
                counts[found[0]] += 1
                dropped.write(_dropped_line(passage, file, line, *found))
            shares = settings.held_out_documents, settings.held_out_passages
            kept = split(kept, *shares, stream, reading.shared)
            write_passages(text_folder, name, kept)
            centuries.append(_century_report(name, reading.tallies[name], kept, counts))
    progress("filtering", total, total)
    for old in (text_folder / "passages").glob("C*.jsonl.gz"):
        if old.name.removesuffix(".jsonl.gz") not in names:
            old.unlink()
    return centuries


def _century_report(
    name: str, tally: _Tally, kept: list[Passage], dropped: Counter[str]
) -> CenturyReport:
    splits = {}
    for which in SPLITS:
        part = [passage for passage in kept if passage.split == which]
        splits[which] = {
            "documents": len({passage.document for passage in part}),
            "passages": len(part),
            "characters": sum(len(passage.content) for passage in part),
        }
    return CenturyReport(
        name=name,
        records=tally.records,
        found=tally.found,
        dropped={reason: dropped[reason] for reason in REASONS if dropped[reason]},
        documents=len({passage.document for passage in kept}),
        passages=len(kept),
        characters=sum(len(passage.content) for passage in kept),
        sources=_sorted(Counter(passage.source for passage in kept)),
        repaired=_sorted(tally.repaired),
        removed=tally.removed,
        splits=splits,
    )


def _check_broken(settings: TextSettings, reading: _Reading, quarantine: Path) -> None:
    if reading.lost and not settings.damaged_files:
        raise HistoryError(
            f"{len(reading.lost)} files can be read only in part: {'; '.join(reading.lost[:5])}; "
            "fetch or mend them, remove them from the sources, or use what there is of them with "
            "[text] damaged_files = true"
        )
    broken = sum(reading.quarantined.values())
    if broken > settings.max_broken_share * reading.records:
        counts = ", ".join(f"{n} {reason}" for reason, n in _sorted(reading.quarantined).items())
        raise HistoryError(
            f"{broken} of {reading.records} records cannot be used ({counts}), more than "
            f"max_broken_share={settings.max_broken_share:g} allows; they are in {quarantine}: "
            "correct the sources, or allow more"
        )


def _check_sizes(settings: TextSettings, centuries: list[CenturyReport], text_folder: Path) -> None:
    small = [c for c in centuries if c.characters < settings.min_century_characters]
    if small:
        named = "; ".join(_short(century) for century in small)
        raise HistoryError(
            f"too little text is left: {named}; min_century_characters="
            f"{settings.min_century_characters} are wanted. Add sources, leave the century out "
            "with 'centuries', or lower min_century_characters; what was dropped, and why, is in "
            f"{text_folder / DROPPED}"
        )


def _short(century: CenturyReport) -> str:
    dropped = ", ".join(f"{n} {reason}" for reason, n in century.dropped.items()) or "none"
    return (
        f"{century.name} has {century.characters} characters in {century.passages} passages "
        f"(dropped: {dropped})"
    )


def _dropped_line(passage: Passage, file: str, line: int, reason: str, detail: str) -> bytes:
    return _json_line(
        {
            "file": file,
            "line": line,
            "century": passage.century,
            "document": passage.document,
            "reason": reason,
            "detail": detail,
            "excerpt": excerpt(passage.content),
        }
    )


def _json_line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts) if counts[name]}

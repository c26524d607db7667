"""The published moral evaluation of ProgressGym (MoralEvals) as a question set.

Three CSV files (Qiu et al. 2024, arXiv 2406.20087; CC BY 4.0), none of them part of this package:

==========================  =====  ==========================================================
``moralchoice/final.csv``   680    two actions, and of each whether it violates ten rules
``foundation/final.csv``    600    two actions, the first upholds the moral foundation named
``views/final.csv``         539    four answers: traditional, modern, postmodern, integrative
==========================  =====  ==========================================================

A rule counts where exactly one of the two actions violates it and both were judged; "No Agreement"
judges nothing. What is wrong with a row is mended or the row is dropped; both are reported in
``MoralEvals.findings``. The original trains on what it scores; here half of the scenarios of every
rule, foundation and theme are for training and the others for scoring, and no scenario is in both.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from progressgym_env.errors import QuestionError
from progressgym_env.values.dimensions import VIEW_KEYS
from progressgym_env.values.moralevals_files import FILES, find_files
from progressgym_env.values.moralevals_text import clean_text, fold, mend_lists
from progressgym_env.values.questions import SPLITS, Question, QuestionSet

__all__ = ["Finding", "MoralEvals", "load_moralevals"]

# Column of a rule, after ``a1_`` or ``a2_`` → dimension.
_RULES = {
    "death": "kill", "pain": "pain", "disable": "disable", "freedom": "freedom",
    "pleasure": "pleasure", "deceive": "deceive", "cheat": "cheat", "break_promise": "promise",
    "break_law": "law", "duty": "duty",
}  # fmt: skip
_FOUNDATIONS = {
    "Harm_Care": "care", "Fairness_Reciprocity": "fairness", "InGroup_Loyalty": "loyalty",
    "Authority_Respect": "authority",
    "Purity_Sancity": "purity",  # Written so in the file.
    "Purity_Sanctity": "purity",
}  # fmt: skip
_THEMES = ("Axiology", "Ontology", "Anthropology", "Epistemology", "Societal vision")
_JUDGEMENTS = ("Yes", "No", "No Agreement")
# Replacing every "unsure" by the name of a judgement went into the scenarios as well.
_REPLACED = ("No Agreement", "unsure")
_BEYOND = "beyond the columns"
_SEED = 0
"""Of the split, which is the same everywhere: another seed would be another benchmark."""


@dataclass(frozen=True)
class Finding:
    """What was wrong with a row, and what was done about it.

    Attributes:
        file: as ``"views/final.csv"``.
        row: 1 for the first row after the header.
        id: the row's ``scenario_id``.
        done: ``"repaired"`` or ``"dropped"``.
        what: in words.
    """

    file: str
    row: int
    id: str
    done: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row} ({self.id}) {self.done}: {self.what}"


class MoralEvals(QuestionSet):
    """The published questions, with what was done to them.

    Attributes:
        findings: one for every row that was repaired or dropped, in the order of the files.
    """

    def __init__(self, questions: Iterable[Question], findings: Sequence[Finding]) -> None:
        super().__init__("moralevals", questions)
        self.findings = tuple(findings)


@dataclass(frozen=True)
class _Row:
    """A row as it will be a question, but for its split."""

    file: str
    number: int
    id: str
    stratum: str
    scenario: str
    options: tuple[str, ...]
    upholds: Mapping[str, int]
    mended: tuple[str, ...]


class _Unusable(Exception):
    """A row that must be dropped, and why."""


def load_moralevals(path: str | Path | None = None) -> MoralEvals:
    """Read the published files.

    Args:
        path: a folder that holds ``moralchoice/``, ``foundation/`` and ``views/``, or
            ``raw_dataset/`` with them (as a checkout of ProgressGym's ``src/evaluation``); None
            takes them from the cache and, the first time, from where they are published.

    Raises:
        QuestionError: a file is missing, cannot be fetched, is no UTF-8 or lacks a column; or a
            dimension is left without questions.
    """
    folder, files = find_files(path)
    key = tuple((name, file, file.stat().st_mtime_ns) for name, file in files.items())
    return _load(folder, key)


@lru_cache(maxsize=2)
def _load(folder: Path, files: tuple[tuple[str, Path, int], ...]) -> MoralEvals:
    rows: list[_Row] = []
    findings: list[Finding] = []
    seen: dict[tuple[str, ...], _Row] = {}
    for name, path, _ in files:
        for number, raw in enumerate(_read(path, FILES[name]), start=1):
            identity = raw["scenario_id"].strip()
            try:
                if _BEYOND in raw:
                    raise _Unusable("more fields than columns: cut at a comma that was not quoted")
                row = _row(name, number, raw)
                same = (fold(row.scenario), *sorted(map(fold, row.options)))
                first = seen.setdefault(same, row)
                if first is not row:
                    raise _Unusable(f"says the same as row {first.number} of {first.file}")
            except _Unusable as error:
                findings.append(Finding(name, number, identity, "dropped", str(error)))
                continue
            if row.mended:
                what = "; ".join(row.mended)
                findings.append(Finding(name, number, identity, "repaired", what))
            rows.append(row)
    splits = _splits(rows)
    questions = MoralEvals(
        (
            Question(
                # Identifiers repeat in the files, so they alone would lose rows.
                f"{row.file.partition('/')[0]}-{row.number:03d}-{row.id}",
                splits[fold(row.scenario)],
                row.scenario,
                row.options,
                row.upholds,
            )
            for row in rows
        ),
        findings,
    )
    empty = [
        f"{key} ({split})" for key, sizes in questions.sizes.items()
        for split in SPLITS if not sizes[split]
    ]  # fmt: skip
    if empty:
        raise QuestionError(
            f"{folder}: no question is left for {', '.join(empty)}; these are not the published "
            "files, or they are cut off"
        )
    return questions


def _read(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QuestionError(f"{path}: not UTF-8 ({error}); save the file as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey=_BEYOND, strict=True)
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise QuestionError(
                f"{path}: lacks the columns {', '.join(missing)}, and has "
                f"{', '.join(reader.fieldnames or ()) or 'none'}; give the published file"
            )
        for row in reader:
            # A short row has None for what it lacks.
            beyond = {_BEYOND: "yes"} if _BEYOND in row else {}
            yield {**{name: (row[name] or "") for name in columns}, **beyond}
    except csv.Error as error:
        raise QuestionError(
            f"{path}:{reader.line_num}: not CSV ({error}); give the published file"
        ) from error


def _row(file: str, number: int, raw: Mapping[str, str]) -> _Row:
    shown = [raw[f"action{i}"] for i in range(1, 5) if f"action{i}" in raw]
    mended: list[str] = []
    try:
        whole = mend_lists(shown)
    except ValueError as error:
        raise _Unusable(f"options {error}") from error
    if whole is not None:
        shown = list(whole)
        mended.append("options cut at the wrong commas")
    scenario = _cleaned("context", raw["context"], mended)
    if _REPLACED[0] in scenario:
        scenario = scenario.replace(*_REPLACED)
        mended.append(f"{_REPLACED[0]!r} in the scenario, for {_REPLACED[1]!r}")
    options = tuple(
        _cleaned(f"action{index}", option, mended) for index, option in enumerate(shown, start=1)
    )
    if len({fold(option) for option in options}) < len(options):
        raise _Unusable("two options say the same")
    stratum, upholds = _KINDS[file](raw, mended)
    return _Row(
        file, number, raw["scenario_id"].strip(), stratum, scenario, options, upholds, tuple(mended)
    )


def _cleaned(field: str, raw: str, mended: list[str]) -> str:
    try:
        text, what = clean_text(raw)
    except ValueError as error:
        raise _Unusable(f"{field}: {error}") from error
    if not fold(text):
        raise _Unusable(f"{field} is empty")
    mended += [f"{field}: {thing}" for thing in what]
    return text


def _moralchoice(raw: Mapping[str, str], mended: list[str]) -> tuple[str, Mapping[str, int]]:
    upholds = {}
    for column, key in _RULES.items():
        violates = raw[f"a1_{column}"].strip(), raw[f"a2_{column}"].strip()
        for judgement in violates:
            if judgement not in _JUDGEMENTS:
                raise _Unusable(f"{column}: {judgement!r} is none of {', '.join(_JUDGEMENTS)}")
        if set(violates) == {"Yes", "No"}:
            upholds[key] = violates.index("No")
    if not upholds:
        raise _Unusable("no rule that one option upholds and the other violates")
    rule = raw["generation_rule"].strip()
    if rule == "Do cause pain":
        rule = "Do not cause pain"
        mended.append("generation_rule: a missing 'not'")
    return rule, upholds


def _foundation(raw: Mapping[str, str], mended: list[str]) -> tuple[str, Mapping[str, int]]:
    theme = raw["generation_theme"].strip()
    if theme not in _FOUNDATIONS:
        raise _Unusable(f"generation_theme {theme!r} is no moral foundation")
    return theme, {_FOUNDATIONS[theme]: 0}


def _views(raw: Mapping[str, str], mended: list[str]) -> tuple[str, Mapping[str, int]]:
    theme = raw["generation_theme"].strip()
    if theme not in _THEMES:
        raise _Unusable(f"generation_theme {theme!r} is none of {', '.join(_THEMES)}")
    return theme, {key: index for index, key in enumerate(VIEW_KEYS)}


_KINDS = {
    "moralchoice/final.csv": _moralchoice,
    "foundation/final.csv": _foundation,
    "views/final.csv": _views,
}


def _splits(rows: Sequence[_Row]) -> dict[str, str]:
    """Folded scenario → split, alternating within every rule, foundation and theme."""
    strata: defaultdict[str, list[str]] = defaultdict(list)
    placed: set[str] = set()
    for row in rows:
        scenario = fold(row.scenario)
        if scenario not in placed:
            placed.add(scenario)
            strata[f"{row.file} {row.stratum}"].append(scenario)

    def shuffled(scenario: str) -> bytes:
        # A digest, so that a row more or less leaves the order of the others as it is.
        return hashlib.sha256(f"{_SEED}\x1f{scenario}".encode()).digest()

    return {
        scenario: SPLITS[index % 2]
        for scenarios in strata.values()
        for index, scenario in enumerate(sorted(scenarios, key=shuffled))
    }

"""Questions: a scenario, its options, and which option upholds which dimension.

File format (JSON Lines, UTF-8, one question a line; see ``data/README.md``)::

    {"id": "kill-eval-01", "split": "eval", "scenario": "...", "options": ["...", "..."],
     "upholds": {"kill": 0}}

``upholds`` maps a dimension key to the index of the option that upholds it. A two-way question
has two options and at least one two-way dimension; a world-view question has four options and
names all four views, each upheld by another option. No scenario may stand in both splits.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from progressgym_env.errors import QuestionError, unknown_name
from progressgym_env.values.dimensions import DIMENSION_KEYS, TWO_WAY_KEYS, VIEW_KEYS

__all__ = [
    "QUESTION_SETS",
    "SPLITS",
    "Pair",
    "Question",
    "QuestionSet",
    "load_questions",
    "parse_object",
    "read_questions",
]

SPLITS = ("train", "eval")
QUESTION_SETS = ("own", "moralevals")
"""Sets known by name."""
_FIELDS = {"id", "split", "scenario", "options", "upholds"}
# A perfect matching of the four views per question, cycling, so that over a set all six
# combinations of two views are asked equally often and no option is used twice.
_VIEW_MATCHINGS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))


@dataclass(frozen=True)
class Question:
    """A scenario with two options, or four (one a world view).

    Attributes:
        id: unique within a set.
        split: ``"train"`` (agents may train on it) or ``"eval"`` (scored).
        scenario: one or more sentences.
        options: the possible answers, 2 or 4.
        upholds: dimension key → index of the option that upholds it.
    """

    id: str
    split: str
    scenario: str
    options: tuple[str, ...]
    upholds: Mapping[str, int] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "upholds", MappingProxyType(dict(self.upholds)))

    def __reduce__(self) -> tuple[type[Question], tuple[Any, ...]]:
        # A mapping proxy cannot be pickled, and environments are copied and sent to processes.
        return Question, (self.id, self.split, self.scenario, self.options, dict(self.upholds))

    @property
    def is_view(self) -> bool:
        """Whether this is a four-way world-view question."""
        return len(self.options) == len(VIEW_KEYS)

    @property
    def dimension(self) -> str:
        """The first dimension the question bears on (``"traditional"`` for world views)."""
        return next(iter(self.upholds))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """All dimensions the question bears on."""
        return tuple(self.upholds)

    @cached_property
    def canonical_order(self) -> tuple[int, ...]:
        """Option indices in an order that depends on their texts alone.

        Asking in (rotations of) this order makes every measurement independent of the order
        in which the file lists the options; hashing keeps it free of alphabetical bias.
        """

        def key(index: int) -> bytes:
            text = f"{self.scenario}\x1f{self.options[index]}"
            return hashlib.sha256(text.encode()).digest()

        return tuple(sorted(range(len(self.options)), key=key))

    def as_dict(self) -> dict[str, Any]:
        """The question as its line in a file."""
        return {
            "id": self.id,
            "split": self.split,
            "scenario": self.scenario,
            "options": list(self.options),
            "upholds": dict(self.upholds),
        }


@dataclass(frozen=True)
class Pair:
    """Two options of a training question, between which a proposal takes sides.

    Attributes:
        question: the question asked.
        first: index of the option that a positive action prefers.
        second: index of the option that a negative action prefers.
    """

    question: Question
    first: int
    second: int


class QuestionSet:
    """An ordered, validated set of questions with both splits.

    Attributes:
        name: what the set is called in messages.
        questions: all of them, in file order.
        findings: what was repaired in its files, or dropped, in words; empty for most sets.
    """

    findings: Sequence[object] = ()

    def __init__(self, name: str, questions: Iterable[Question]) -> None:
        self.name = name
        self.questions = tuple(questions)
        _check_set(name, self.questions)

    @cached_property
    def eval(self) -> tuple[Question, ...]:
        """Questions that measure value embeddings; never trained on."""
        return tuple(q for q in self.questions if q.split == "eval")

    @cached_property
    def train(self) -> tuple[Question, ...]:
        """Questions whose pairs agents may train on."""
        return tuple(q for q in self.questions if q.split == "train")

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Training pairs, in order: one a two-way question, two a world-view question."""
        pairs: list[Pair] = []
        views_seen = 0
        for question in self.train:
            if not question.is_view:
                pairs.append(Pair(question, 0, 1))
                continue
            for one, other in _VIEW_MATCHINGS[views_seen % len(_VIEW_MATCHINGS)]:
                first, second = question.upholds[VIEW_KEYS[one]], question.upholds[VIEW_KEYS[other]]
                pairs.append(Pair(question, first, second))
            views_seen += 1
        return tuple(pairs)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over every question; records of another hash do not fit this set."""
        digest = hashlib.sha256()
        for question in self.questions:
            line = json.dumps(question.as_dict(), sort_keys=True, ensure_ascii=False)
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()

    @cached_property
    def sizes(self) -> dict[str, dict[str, int]]:
        """Dimension key → split → how many questions bear on it."""
        counts = {split: Counter[str]() for split in SPLITS}
        for question in self.questions:
            counts[question.split].update(question.dimensions)
        return {key: {split: counts[split][key] for split in SPLITS} for key in DIMENSION_KEYS}

    def __len__(self) -> int:
        return len(self.questions)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Itself: a set never changes, and Gymnasium copies the arguments of every spec."""
        return self

    def __repr__(self) -> str:
        return f"QuestionSet({self.name!r}, {len(self.eval)} eval, {len(self.train)} train)"


def load_questions(name: str = "own", path: str | Path | None = None) -> QuestionSet:
    """Load a question set by name, or from a file or folder of ``*.jsonl``.

    Args:
        name: ``"own"``, this project's own set, or ``"moralevals"``, the published one (see
            :mod:`progressgym_env.values.moralevals`).
        path: for ``"own"``, another ``.jsonl`` file, or a folder of them, in the format of this
            module; for ``"moralevals"``, the folder of the published files, which are fetched
            where it is None.

    Raises:
        UnknownNameError: no set is called ``name``.
        QuestionError: a file has a defect; the message names file, line and field.
    """
    if name not in QUESTION_SETS:
        raise unknown_name("question set", name, QUESTION_SETS)
    if name == "moralevals":
        # It is made of what this module has.
        from progressgym_env.values.moralevals import load_moralevals

        return load_moralevals(path)
    return _own_questions() if path is None else read_questions(Path(path))


@lru_cache(maxsize=1)
def _own_questions() -> QuestionSet:
    folder = Path(str(files("progressgym_env.values") / "data"))
    return read_questions(folder, name="own")


def read_questions(path: Path, name: str | None = None) -> QuestionSet:
    """Read and validate a question file, or every ``*.jsonl`` of a folder in name order.

    Raises:
        QuestionError: naming file, line and field.
    """
    if path.is_dir():
        sources = sorted(path.glob("*.jsonl"))
    elif path.is_file():
        sources = [path]
    else:
        raise QuestionError(f"no question file or folder at {path}; give a .jsonl file or a folder")
    if not sources:
        raise QuestionError(f"{path} holds no .jsonl file; put one question a line into one")
    questions: list[Question] = []
    seen: dict[str, str] = {}
    scenarios: dict[str, tuple[str, str]] = {}
    for source in sources:
        # Bytes end lines at newlines alone; texts may hold other separators (JSON allows them).
        for number, line in enumerate(source.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            where = f"{source.name}:{number}"
            question = _parse(line, where)
            split, place = scenarios.setdefault(_fold(question.scenario), (question.split, where))
            if split != question.split:
                raise QuestionError(
                    f"{where}: field 'scenario': {question.scenario!r} stands at {place} already, "
                    "hence in both splits; agents must never train on what is scored"
                )
            if question.id in seen:
                raise QuestionError(
                    f"{where}: field 'id': {question.id!r} stands at {seen[question.id]} already; "
                    "ids must be unique"
                )
            seen[question.id] = where
            questions.append(question)
    return QuestionSet(name or str(path), questions)


def parse_object(line: bytes, where: str, fields: set[str], kind: str) -> dict[str, Any]:
    """The object that a line of JSON holds.

    Args:
        line: in UTF-8.
        where: file and line, for messages.
        fields: exactly those that it must have.
        kind: what it is, for messages.

    Raises:
        QuestionError: it is no such object.
    """
    try:
        raw = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise QuestionError(f"{where}: not UTF-8 ({error}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise QuestionError(f"{where}: not JSON ({error}); write one object a line") from error
    if not isinstance(raw, dict):
        raise QuestionError(f"{where}: expected an object, got {type(raw).__name__}")
    if set(raw) != fields:
        missing, unknown = sorted(fields - set(raw)), sorted(set(raw) - fields)
        raise QuestionError(
            f"{where}: missing fields {missing}, unknown fields {unknown}; "
            f"a {kind} has exactly {sorted(fields)}"
        )
    return raw


def _parse(line: bytes, where: str) -> Question:
    raw = parse_object(line, where, _FIELDS, "question")
    for name in ("id", "scenario"):
        if not isinstance(raw[name], str) or not raw[name].strip():
            raise QuestionError(f"{where}: field {name!r}: {raw[name]!r} is no text")
    if raw["split"] not in SPLITS:
        raise QuestionError(f"{where}: field 'split': {raw['split']!r} is none of {SPLITS}")
    options = _parse_options(raw["options"], where)
    upholds = _parse_upholds(raw["upholds"], len(options), where)
    return Question(raw["id"], raw["split"], raw["scenario"].strip(), options, upholds)


def _parse_options(raw: Any, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or len(raw) not in (2, len(VIEW_KEYS)):
        raise QuestionError(f"{where}: field 'options': need a list of 2 or 4 texts, got {raw!r}")
    if not all(isinstance(option, str) and option.strip() for option in raw):
        raise QuestionError(f"{where}: field 'options': {raw!r} holds something that is no text")
    options = tuple(option.strip() for option in raw)
    if len({option.casefold() for option in options}) < len(options):
        raise QuestionError(f"{where}: field 'options': {raw!r} holds the same option twice")
    return options


def _parse_upholds(raw: Any, n_options: int, where: str) -> Mapping[str, int]:
    place = f"{where}: field 'upholds'"
    if not isinstance(raw, dict) or not raw:
        raise QuestionError(f"{place}: need an object of dimension → option index, got {raw!r}")
    allowed = TWO_WAY_KEYS if n_options == 2 else VIEW_KEYS
    for key, index in raw.items():
        if key not in allowed:
            raise QuestionError(
                f"{place}: {key!r} is no dimension of a question with {n_options} options; "
                f"known: {', '.join(allowed)}"
            )
        if type(index) is not int or not 0 <= index < n_options:
            raise QuestionError(f"{place}: {key!r}: {index!r} is no option index below {n_options}")
    if n_options > 2 and (set(raw) != set(VIEW_KEYS) or len(set(raw.values())) != n_options):
        raise QuestionError(f"{place}: {raw!r} must give each world view an option of its own")
    return {key: raw[key] for key in allowed if key in raw}


def _check_set(name: str, questions: tuple[Question, ...]) -> None:
    by_split = {s: {_fold(q.scenario) for q in questions if q.split == s} for s in SPLITS}
    shared = by_split["train"] & by_split["eval"]
    if shared:
        raise QuestionError(
            f"{name}: scenario {sorted(shared)[0]!r} stands in both splits; "
            "agents must never train on what is scored"
        )


def _fold(text: str) -> str:
    """Case- and blank-insensitive form, so that a trivial edit does not hide a leak."""
    return " ".join(text.casefold().split())

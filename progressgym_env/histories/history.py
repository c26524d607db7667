"""Histories: an ordered sequence of centuries with a model each, and what was measured of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from progressgym_env.errors import HistoryError, InvalidArgumentError, unknown_name
from progressgym_env.files import write_json
from progressgym_env.histories.records import (
    FORMAT_VERSION,
    HISTORY_FILE,
    RECORDS_FILE,
    REPLIES_FILE,
    Exchange,
    Records,
    checksums,
    influence_prompts,
    measure_century,
    stack_records,
    verify_files,
)
from progressgym_env.models.base import Model
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.questions import QuestionSet, load_questions

if TYPE_CHECKING:
    from progressgym_env.models.language import LanguageHost

__all__ = [
    "HISTORIES",
    "History",
    "ModelSource",
    "load",
    "read_history",
    "remeasure",
    "write_history",
]

HISTORIES = ("embedded",)
"""Histories known by name. A path to a history folder works wherever a name does."""

_FIELDS = {"format_version", "name", "centuries", "base", "question_set", "provenance", "files"}


class ModelSource(Protocol):
    """Where a history's models come from."""

    def model(self, century: int, device: str, questions: QuestionSet) -> Model:
        """The model of the people of ``century``."""
        ...


class History:
    """Centuries in order, with what was measured of each.

    Attributes:
        name: for tables and run folders.
        names: the centuries' names, oldest first.
        questions: the question set the records were measured with.
        records: everything measured.
        provenance: where the history comes from; ``provenance["synthetic"]`` is true for
            invented ones.
        digest: SHA-256 that identifies names, records and models.
    """

    def __init__(
        self,
        *,
        name: str,
        names: tuple[str, ...],
        questions: QuestionSet,
        records: Records,
        source: ModelSource,
        provenance: Mapping[str, Any],
        digest: str | None = None,
    ) -> None:
        if len(names) < 2 or len(set(names)) < len(names):
            raise HistoryError(
                f"history {name!r}: centuries {names}; need two or more, all distinct"
            )
        records.check(len(names), len(questions.pairs), f"history {name!r}")
        self.name = name
        self.names = names
        self.questions = questions
        self.records = records
        self.provenance = dict(provenance)
        self._source = source
        self._digest = digest

    @property
    def n_centuries(self) -> int:
        """How many centuries there are."""
        return len(self.names)

    @property
    def values(self) -> FloatArray:
        """(n_centuries, 19) float64, the measured value embeddings."""
        return self.records.values

    @property
    def standard_errors(self) -> FloatArray:
        """(n_centuries, 19) float64, standard errors of ``values`` over questions."""
        return self.records.standard_errors

    @property
    def planted(self) -> FloatArray | None:
        """(n_centuries, 19) float64, what was planted; None for a real history."""
        return self.records.planted

    @property
    def preferences(self) -> FloatArray:
        """(n_centuries, n_pairs) float64 in [-1, 1], the measured preference margins."""
        return self.records.preferences

    @cached_property
    def open_prompts(self) -> tuple[str, ...]:
        """The open moral questions every century was asked."""
        return tuple(exchange.prompt for exchange in self.records.open_replies[0])

    @cached_property
    def influence_prompts(self) -> tuple[str, ...]:
        """The questions through which people influence one another (Coevolve)."""
        return influence_prompts(self.questions)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, question set, records and the checksums of the models."""
        if self._digest is not None:
            return self._digest
        digest = hashlib.sha256(json.dumps([self.name, self.names, self.questions.hash]).encode())
        for array in (self.values, self.preferences):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def dialogue(self, century: int) -> tuple[Exchange, ...]:
        """Replies of the people of ``century`` to the open moral questions."""
        return self.records.open_replies[century]

    def influence(self, century: int) -> tuple[Exchange, ...]:
        """Replies of the people of ``century`` to the influence prompts, in their order."""
        return self.records.influence_replies[century]

    def initial_model(self, device: str = "auto") -> Model:
        """The model of the people of the first century."""
        return self.model(0, device)

    def model(self, century: int, device: str = "auto") -> Model:
        """The model of the people of ``century`` (0 is the oldest).

        Raises:
            InvalidArgumentError: there is no such century.
        """
        if not 0 <= century < self.n_centuries:
            raise InvalidArgumentError(
                f"century {century} is outside 0 to {self.n_centuries - 1} of history {self.name!r}"
            )
        return self._source.model(century, device, self.questions)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Itself: a history never changes, and Gymnasium copies the arguments of every spec."""
        return self

    def __repr__(self) -> str:
        kind = "synthetic" if self.provenance.get("synthetic") else "real"
        return f"History({self.name!r}, {self.names[0]} to {self.names[-1]}, {kind})"


class _AdapterSource:
    """Adapters beside one base, loaded when first asked for; one host a device."""

    def __init__(self, folder: Path, base: str, names: tuple[str, ...]) -> None:
        self.folder, self.base, self.names = folder, base, names
        self._hosts: dict[str, LanguageHost] = {}

    def model(self, century: int, device: str, questions: QuestionSet) -> Model:
        # Imported here: only whoever wants language models pays for torch.
        from progressgym_env.models.language import (
            LanguageHost,
            LanguageModel,
            read_lora_config,
            resolve_device,
        )

        device = resolve_device(device)
        adapter = self.folder / "adapters" / self.names[century]
        if device not in self._hosts:
            self._hosts[device] = LanguageHost(
                self.folder / self.base, device=device, lora=read_lora_config(adapter)
            )
        host = self._hosts[device]
        return LanguageModel(host, host.read_adapter(adapter), questions)


def load(history: str | Path | History) -> History:
    """The history of this name, or in this folder; a ``History`` is returned as it is.

    Raises:
        UnknownNameError: neither a known name nor a folder.
        HistoryError: the folder is incomplete, damaged, of another format version, or its records
            were measured with other questions.
    """
    if isinstance(history, History):
        return history
    if isinstance(history, str) and history in HISTORIES:
        return _load_named(history)
    path = Path(history)
    if path.is_dir():
        return read_history(path)
    raise unknown_name("history", str(history), [*HISTORIES, "PATH to a history folder"])


@lru_cache(maxsize=4)
def _load_named(name: str) -> History:
    return read_history(Path(str(files(f"progressgym_env.histories.{name}") / "data")))


def read_history(folder: Path, questions: QuestionSet | None = None) -> History:
    """Read a history folder and check it whole.

    Args:
        folder: with ``history.json`` and what it names.
        questions: the set in use; by default the project's own.

    Raises:
        HistoryError: see ``load``.
    """
    raw = _read_header(folder)
    questions = questions or load_questions()
    verify_files(folder, raw["files"])
    if raw["question_set"]["hash"] != questions.hash:
        raise HistoryError(
            f"the records in {folder} were measured with another question set "
            f"({raw['question_set']['hash'][:12]}…, in use is {questions.hash[:12]}…); "
            f"measure again: progressgym history measure {folder}"
        )
    names = tuple(raw["centuries"])
    return History(
        name=raw["name"],
        names=names,
        questions=questions,
        records=Records.read(folder, names),
        source=_AdapterSource(folder, raw["base"], names),
        provenance=raw["provenance"],
        digest=hashlib.sha256((folder / HISTORY_FILE).read_bytes()).hexdigest(),
    )


def remeasure(
    folder: Path,
    *,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> History:
    """Measure the models of a history folder with the questions in use, and store the records.

    The models and what was planted stay as they are; the old records are replaced only once every
    century is measured.

    Args:
        folder: a history folder; its models must be whole, its old records readable.
        device: where the models run.
        seed: decides what the models reply.
        progress: called with (stage, centuries done, centuries in all).

    Raises:
        HistoryError: the folder is no history, a model is missing or damaged, or the old records
            (which name the prompts and what was planted) cannot be read.
    """
    raw = _read_header(folder)
    models = {n: f for n, f in raw["files"].items() if n not in (RECORDS_FILE, REPLIES_FILE)}
    verify_files(folder, models)
    names, questions = tuple(raw["centuries"]), load_questions()
    old = Records.read(folder, names)
    prompts = [exchange.prompt for exchange in old.open_replies[0]]
    source = _AdapterSource(folder, raw["base"], names)
    measured = []
    for century, rng in enumerate(np.random.default_rng(seed).spawn(len(names))):
        model = source.model(century, device, questions)
        measured.append(measure_century(model, questions, prompts, rng))
        if progress is not None:
            progress("measuring", century + 1, len(names))
    write_history(
        folder,
        name=raw["name"],
        names=names,
        base=raw["base"],
        questions=questions,
        records=stack_records(measured, old.planted),
        provenance={**raw["provenance"], "remeasured_with_seed": seed},
    )
    return read_history(folder)


def write_history(
    folder: Path,
    *,
    name: str,
    names: tuple[str, ...],
    base: str,
    questions: QuestionSet,
    records: Records,
    provenance: Mapping[str, Any],
) -> None:
    """Write the records and then, last, the header that makes the folder a history."""
    records.check(len(names), len(questions.pairs), str(folder))
    records.write(folder, names)
    listed = [RECORDS_FILE, REPLIES_FILE]
    for part in (folder / base, folder / "adapters"):
        listed += [p.relative_to(folder).as_posix() for p in part.rglob("*") if p.is_file()]
    header = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "centuries": list(names),
        "base": base,
        "question_set": {"name": questions.name, "hash": questions.hash},
        "provenance": dict(provenance),
        "files": checksums(folder, listed),
    }
    write_json(folder / HISTORY_FILE, header)


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / HISTORY_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HistoryError(
            f"{folder} holds no {HISTORY_FILE}; give the folder of a history, or build one with "
            "'progressgym history build-embedded --out FOLDER'"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise HistoryError(
            f"{path} cannot be read ({error}); fetch or build the history again"
        ) from error
    if not isinstance(raw, dict) or raw.get("format_version") != FORMAT_VERSION:
        version = raw.get("format_version") if isinstance(raw, dict) else None
        raise HistoryError(
            f"{path}: format version {version!r}, this package reads {FORMAT_VERSION}; "
            "build the history again or use the package version that made it"
        )
    missing = sorted(_FIELDS - set(raw))
    if missing:
        raise HistoryError(f"{path}: lacks {missing}; fetch or build the history again")
    return raw

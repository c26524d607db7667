"""Histories: an ordered sequence of centuries with a model each, and what was measured of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.histories.folder import (
    HISTORY_FILE,
    Header,
    inside,
    read_header,
    remove_replaced,
    verify_models,
    verify_numbers,
    verify_replies,
    write_history,
)
from progressgym_env.histories.records import (
    REBUILD,
    Exchange,
    Records,
    agreed_prompts,
    influence_prompts,
    measure_centuries,
    read_numbers,
)
from progressgym_env.histories.sources import CheckpointSource, ModelSource, source_of
from progressgym_env.models.base import Model
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.questions import QuestionSet, load_questions, read_questions

__all__ = [
    "History",
    "ModelSource",
    "read_history",
    "remeasure",
    "write_history",
]


class History:
    """Centuries in order, with what was measured of each.

    A history never changes, and all environments of a process may share it.

    Attributes:
        name: for tables and run folders.
        names: the centuries' names, oldest first.
        questions: the question set the records were measured with.
        provenance: where the history comes from; ``provenance["synthetic"]`` is true for
            invented ones.
        digest: SHA-256 that identifies the history.
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
        self._records = records
        self.provenance = dict(provenance)
        self._source = source
        self._digest = digest

    @property
    def n_centuries(self) -> int:
        """How many centuries there are."""
        return len(self.names)

    @property
    def of_full_models(self) -> bool:
        """Whether every century has a full model, which takes a device for itself."""
        return isinstance(self._source, CheckpointSource)

    @property
    def records(self) -> Records:
        """Everything measured."""
        return self._records

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
        """SHA-256 that identifies the history.

        Of a history read from a folder it is over ``history.json``, which holds the checksums of
        the records and of the models. Of any other it is over names, question set and records;
        the models are known only by what was measured of them.
        """
        if self._digest is not None:
            return self._digest
        digest = hashlib.sha256(json.dumps([self.name, self.names, self.questions.hash]).encode())
        for content in self.records.encode(self.names).values():
            digest.update(hashlib.sha256(content).digest())
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

    def release(self) -> None:
        """Let go of the models loaded so far; they are loaded anew when next asked for.

        Models already handed out stay usable, and keep what they need in memory.
        """
        self._source.release()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Itself: a history never changes, and Gymnasium copies the arguments of every spec."""
        return self

    def __repr__(self) -> str:
        kind = "synthetic" if self.provenance.get("synthetic") else "real"
        return f"History({self.name!r}, {self.names[0]} to {self.names[-1]}, {kind})"


def read_history(folder: Path, questions: QuestionSet | None = None) -> History:
    """Read a history folder and check it whole.

    Args:
        folder: with ``history.json`` and what it names.
        questions: the set in use; by default that in the folder, or the project's own.

    Raises:
        HistoryError: see ``load``.
    """
    # Models are read when first asked for; by then the working directory may be another.
    folder = Path(folder).absolute()
    header = read_header(folder)
    verify_models(header)
    verify_numbers(header)
    verify_replies(header)
    questions = questions or _questions_in(header)
    if header.question_hash != questions.hash:
        again = (
            "prepare it anew: progressgym history prepare"
            if header.elsewhere
            else f"measure again: progressgym history measure {folder}"
        )
        raise HistoryError(
            f"the records in {folder} were measured with another question set "
            f"({header.question_hash[:12]}…, in use is {questions.hash[:12]}…); {again}"
        )
    return History(
        name=header.name,
        names=header.centuries,
        questions=questions,
        records=Records.read(folder / header.numbers, folder / header.replies, header.centuries),
        source=source_of(header),
        provenance=header.provenance,
        digest=hashlib.sha256((folder / HISTORY_FILE).read_bytes()).hexdigest(),
    )


def remeasure(
    folder: Path,
    *,
    questions: QuestionSet | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> History:
    """Measure the models of a history folder anew, and store the records.

    The models and what was planted stay as they are. The new records lie beside the old ones until
    a new header, written in one step, names them: an interrupt leaves the old history or the new
    one (and, if it is a power cut, perhaps files that no header names; the next measurement removes
    them). What the provenance says about fidelity is dropped, as it was of the old records.

    Args:
        folder: a history folder; its models must be whole. Of its records only the open prompts
            and what was planted are needed.
        questions: to measure with; None are those that the folder holds, or the project's own.
        device: where the models run.
        seed: decides what the models reply.
        progress: called with (stage, centuries done, centuries in all).

    Raises:
        HistoryError: the folder is no history, a model is missing or damaged, or the old records
            do not tell the prompts and what was planted any more.
        QuestionError: the questions in the folder are damaged.
    """
    folder = Path(folder).absolute()
    header = read_header(folder)
    if header.elsewhere:
        raise HistoryError(
            f"{folder} is a history of full models that lie elsewhere; they are measured one after "
            "another: progressgym history prepare"
        )
    verify_models(header)
    prompts, planted = _not_measured(header)
    names, questions = header.centuries, questions or _questions_in(header)
    source = source_of(header)
    tell = progress or (lambda stage, done, total: None)
    records = measure_centuries(
        (source.model(century, device, questions) for century in range(len(names))),
        questions,
        prompts,
        np.random.default_rng(seed),
        planted=planted,
        on_measured=lambda done: tell("measuring", done, len(names)),
    )
    kept = {key: value for key, value in header.provenance.items() if key != "fidelity"}
    try:
        write_history(
            folder,
            name=header.name,
            names=names,
            base=header.base,
            checkpoints=inside(header),
            chat_template=header.chat_template,
            questions=questions,
            records=records,
            provenance={**kept, "remeasured_with_seed": seed},
        )
    finally:
        remove_replaced(folder)
    return read_history(folder)


def _questions_in(header: Header) -> QuestionSet:
    """Those that a folder holds, or the project's own where it holds none."""
    if header.questions is None:
        return load_questions()
    return read_questions(header.folder / header.questions, header.question_name)


def _not_measured(header: Header) -> tuple[list[str], FloatArray | None]:
    """What no measurement gives back: the open prompts, and what was planted."""
    replies = header.folder / header.replies
    prompts = agreed_prompts(replies, header.centuries)
    if prompts is None:
        raise HistoryError(f"{replies} tells no two centuries' open prompts any more; {REBUILD}")
    numbers = header.folder / header.numbers
    try:
        verify_numbers(header)
        planted = read_numbers(numbers).get("planted")
    except HistoryError:
        if header.synthetic:
            raise
        return prompts, None  # Nothing is planted in a real history.
    expected = (len(header.centuries), N_DIMENSIONS)
    if planted is not None and planted.shape != expected:
        raise HistoryError(
            f"{numbers}: planted has shape {planted.shape}, expected {expected}; {REBUILD}"
        )
    return prompts, planted

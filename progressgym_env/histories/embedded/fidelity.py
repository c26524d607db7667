"""How well an embedded history says what was planted: in numbers and in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from progressgym_env.histories.embedded.grammar import Grammar
from progressgym_env.histories.records import Exchange
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.questions import QuestionSet, read_questions

__all__ = [
    "Fidelity",
    "FidelityReport",
    "ReplyQuality",
    "fidelity",
    "reply_quality",
    "unseen_questions",
]


@dataclass(frozen=True)
class Fidelity:
    """How well measured values agree with planted ones.

    Attributes:
        pearson_r: over all centuries × dimensions.
        dimension_r: mean over dimensions of the correlation across centuries; dimensions whose
            planted value never changes have none and are left out.
        mean_absolute_error: over all entries.
    """

    pearson_r: float
    dimension_r: float
    mean_absolute_error: float


@dataclass(frozen=True)
class ReplyQuality:
    """Shares of replies to open questions, each in [0, 1].

    Attributes:
        n_replies: how many were looked at.
        well_formed: whole sentences of the grammar, with a known act and a known reason.
        on_topic: well-formed, and the act is one of the dimension asked about.
        fitting: on topic, and the reason speaks for the same side as the act.
    """

    n_replies: int
    well_formed: float
    on_topic: float
    fitting: float


@dataclass(frozen=True)
class FidelityReport:
    """Fidelity of a build, with its controls.

    Attributes:
        held_out: scenarios never seen, acts that the centuries were fitted on.
        unseen_acts: scenarios never seen, acts that no century was fitted on.
        frozen_control: the base without any adapter, taken for every century.
        replies: to the open questions, all centuries together.
        seconds: wall-clock of the build.
    """

    held_out: Fidelity
    unseen_acts: Fidelity
    frozen_control: Fidelity
    replies: ReplyQuality
    seconds: float


def fidelity(measured: FloatArray, planted: FloatArray) -> Fidelity:
    """Compare (n_centuries, 19) measured values with planted ones."""
    moving = np.flatnonzero(np.ptp(planted, axis=0) > 1e-9)
    by_dimension = [_correlation(measured[:, d], planted[:, d]) for d in moving]
    return Fidelity(
        pearson_r=_correlation(measured.ravel(), planted.ravel()),
        dimension_r=float(np.mean(by_dimension)),
        mean_absolute_error=float(np.abs(measured - planted).mean()),
    )


def unseen_questions() -> QuestionSet:
    """Questions on held-out scenarios with acts that no century is fitted on.

    The base knows these acts from neutral rows alone: what they amount to, and what somebody of
    stated principles would choose.
    """
    path = Path(str(files("progressgym_env.histories.embedded") / "unseen.jsonl"))
    return read_questions(path, name="unseen acts")


def reply_quality(grammar: Grammar, replies: Iterable[Sequence[Exchange]]) -> ReplyQuality:
    """Read the replies of all centuries to the grammar's open questions."""
    topics = {prompt.text: prompt.topic for prompt in grammar.open_prompts}
    found = [
        (topics[e.prompt], grammar.parse_reply(e.reply)) for century in replies for e in century
    ]
    n = len(found)
    sides = [(topic, *said) for topic, said in found if said is not None]
    on_topic = [(act, reason) for topic, act, reason in sides if act[0] == topic]
    fitting = sum(act == reason for act, reason in on_topic)
    return ReplyQuality(n, len(sides) / n, len(on_topic) / n, fitting / n)


def _correlation(one: FloatArray, other: FloatArray) -> float:
    if np.ptp(one) == 0.0 or np.ptp(other) == 0.0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])

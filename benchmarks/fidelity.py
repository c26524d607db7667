"""How faithful the simulation is: episodes of language models beside those of their twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from progressgym_env import CHALLENGES
from progressgym_env.benchmarks.batch import oracle_of, play_batch
from progressgym_env.benchmarks.played import PLAYERS, Played, player
from progressgym_env.benchmarks.recordings import KINDS, Recordings
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import twin
from progressgym_env.models.laws import Parameters, load_parameters
from progressgym_env.models.simulated import bearing_of
from progressgym_env.values.dimensions import N_TWO_WAY
from progressgym_env.values.logits import from_logits, log_odds

__all__ = [
    "Agreement",
    "Cell",
    "compare_scores",
    "compare_updates",
    "held_out_updates",
    "recorded_updates",
]

_N_TWINS = 200


@dataclass(frozen=True)
class Cell:
    """One agent on one challenge.

    Attributes:
        agent: its name.
        challenge: what was played.
        measured: mean official score with language models, over the recorded seeds.
        simulated: mean official score on the twin.
        spread: standard deviation of the twin's scores over episodes.
    """

    agent: str
    challenge: str
    measured: float
    simulated: float
    spread: float


@dataclass(frozen=True)
class Agreement:
    """Predicted and measured changes of the value embedding over updates.

    Attributes:
        n: updates compared.
        correlation: over all dimensions.
        two_way: over two-way dimensions.
        error: root mean square error of the predicted embedding.
        change: root mean square of the measured change.
    """

    n: int
    correlation: float
    two_way: float
    error: float
    change: float


def compare_updates(
    values: NDArray[Any],
    copies: NDArray[Any],
    history: History,
    kind: str = "dpo",
    parameters: Parameters | None = None,
) -> Agreement:
    """Predict updates that were made, without noise, and compare.

    Args:
        values: (n, 2, 19), embedding before and after.
        copies: (n, n_pairs), signed copies trained on; rows without any are left out.
        history: whose pairs they are.
        kind: ``"dpo"`` or ``"sft"``.
        parameters: by default those that ship.
    """
    trained = np.abs(copies).sum(axis=1) > 0
    values, copies = np.asarray(values, np.float64)[trained], np.asarray(copies)[trained]
    law = (parameters or load_parameters()).updates[kind]
    force = bearing_of(history.questions).force(copies.astype(np.float32))
    before = log_odds(values[:, 0])
    after = law.changed(before, force, np.abs(copies).sum(axis=1), np.zeros_like(before))
    predicted, measured = from_logits(after) - from_logits(before), values[:, 1] - values[:, 0]
    two_way = (slice(None), slice(N_TWO_WAY))
    return Agreement(
        n=len(values),
        correlation=float(np.corrcoef(predicted.ravel(), measured.ravel())[0, 1]),
        two_way=float(np.corrcoef(predicted[two_way].ravel(), measured[two_way].ravel())[0, 1]),
        error=float(np.sqrt(np.square(predicted - measured).mean())),
        change=float(np.sqrt(np.square(measured).mean())),
    )


def held_out_updates(played: Played, history: History) -> Agreement:
    """:func:`compare_updates` over all updates of recorded episodes, which no fit has seen."""
    return compare_updates(played.examinee, played.copies, history)


def recorded_updates(recordings: Recordings, history: History, kind: str) -> Agreement:
    """:func:`compare_updates` over the recordings that the law was fitted to."""
    rows = recordings.update_kind == KINDS.index(kind)
    return compare_updates(recordings.update_values[rows], recordings.copies[rows], history, kind)


def compare_scores(played: Played, history: History) -> tuple[list[Cell], float]:
    """Every recorded agent and challenge beside the twin, and Spearman's rank correlation."""
    source, cells = twin(history), []
    for number, name in enumerate(PLAYERS):
        for index, challenge in enumerate(CHALLENGES):
            rows = (played.agent == number) & (played.challenge == index)
            if not rows.any():
                continue
            _, first = np.unique(played.seed[rows], return_index=True)
            maker = oracle_of(challenge) if name == "oracle" else player(name, challenge, history)
            scores = play_batch(challenge, maker, n_episodes=_N_TWINS, history=source)
            measured = float(played.score[rows][first].mean())
            cells.append(Cell(name, challenge, measured, float(scores.mean()), float(scores.std())))
    pairs = np.array([(cell.measured, cell.simulated) for cell in cells])
    return cells, float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)

"""Recordings of what training does to language models: the data that the simulation is fitted to.

An *update* is one step of an examinee: signed copies of the training pairs, and the model measured
before and after. An *influence* is one imitation of a human proxy: which option a speaker took in
every training question, and the proxy before and after. Both come in chains, so that models far
from any century's are among them. What ships was recorded in two sittings: RLHF updates came later,
with seeds of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import write_bytes
from progressgym_env.histories.history import History
from progressgym_env.models.base import Model, PreferenceData
from progressgym_env.models.updates import resolve_update
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.logits import log_odds, pair_directions
from progressgym_env.values.questions import QuestionSet

__all__ = ["KINDS", "NO_OPTION", "Recordings", "record"]

KINDS = ("dpo", "sft", "rlhf")
"""Kinds of update, in the order of ``Recordings.update_kind``."""

NO_OPTION = -1
"""Stands for a reply that is no option of the question."""

_PROPOSALS = ("hard", "soft", "gap", "push", "few dimensions", "random", "sparse")
# Mostly what agents do; coins and single pairs, which none of them plays, now and then.
_SHARES = (0.2, 0.2, 0.2, 0.2, 0.1, 0.05, 0.05)
_CHAIN = 4
_MAX_COPIES = 5


@dataclass(frozen=True, eq=False)
class Recordings:
    """Updates and influences, one a row; chains follow one another.

    Attributes:
        update_kind: (n_updates,) int8, index into ``KINDS``.
        update_chain: (n_updates,) int16, which chain the update belongs to.
        copies: (n_updates, n_pairs) int8, signed copies trained on.
        update_values: (n_updates, 2, 19) float32, embedding before and after.
        influence_chain: (n_influences,) int16.
        epochs: (n_influences,) float32, passes over the replies.
        choices: (n_influences, n_train) int8, the option that each reply took, or ``NO_OPTION``.
        speaker_values: (n_influences, 19) float32, embedding of the one who replied.
        influence_values: (n_influences, 2, 19) float32, the proxy's before and after.
        repeat_kind: (n_repeats,) int8, index into ``KINDS``, or ``len(KINDS)`` for an imitation.
        repeat_amount: (n_repeats,) float32, examples of an update, passes of an imitation.
        repeat_values: (n_repeats, 3, 19) float32, embedding before, and after each of two trainings
            that differ in their seed alone (of an imitation, also in what was said by chance).
    """

    update_kind: NDArray[np.int8]
    update_chain: NDArray[np.int16]
    copies: NDArray[np.int8]
    update_values: NDArray[np.float32]
    influence_chain: NDArray[np.int16]
    epochs: NDArray[np.float32]
    choices: NDArray[np.int8]
    speaker_values: NDArray[np.float32]
    influence_values: NDArray[np.float32]
    repeat_kind: NDArray[np.int8]
    repeat_amount: NDArray[np.float32]
    repeat_values: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write all arrays to one safetensors file, atomically."""
        arrays = {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}
        write_bytes(path, save(arrays))

    @classmethod
    def read(cls, path: Path) -> Recordings:
        """Read what ``save`` wrote.

        Raises:
            InvalidArgumentError: an array is missing.
        """
        arrays = load_file(path)
        missing = sorted({f.name for f in fields(cls)} - set(arrays))
        if missing:
            raise InvalidArgumentError(f"{path} lacks {missing}; record again")
        return cls(**{f.name: arrays[f.name] for f in fields(cls)})


def record(
    history: History,
    *,
    n_chains: tuple[int, int, int, int] = (76, 22, 16, 32),
    n_repeats: tuple[int, int, int, int] = (16, 8, 6, 12),
    seed: int = 0,
    device: str = "auto",
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Recordings:
    """Train language models on varied proposals and imitations, and write down what changes.

    Args:
        history: one with language models.
        n_chains: chains of updates of each kind, and of influences, four of each a chain.
        n_repeats: trainings of each that are done twice.
        seed: decides everything.
        device: where the models run.
        tell: called with chains done and chains in all.
    """
    rng = np.random.default_rng(seed)
    updates: list[dict[str, object]] = []
    influences: list[dict[str, object]] = []
    total = sum(n_chains)
    kinds = np.repeat(np.arange(len(n_chains)), n_chains)
    # Interleaved, so that a recording cut short still holds all kinds.
    for done, index in enumerate(rng.permutation(total)):
        (own,) = rng.spawn(1)
        if kinds[index] < len(KINDS):
            updates += _update_chain(history, KINDS[kinds[index]], int(index), own, device)
        else:
            influences += _influence_chain(history, int(index), own, device)
        tell(done + 1, total)
    repeats = []
    for kind, count in enumerate(n_repeats):
        for own in rng.spawn(count):
            repeats.append(_repeat(history, kind, own, device))
    return _stacked(updates, influences, repeats)


def _repeat(
    history: History, kind: int, rng: np.random.Generator, device: str
) -> dict[str, object]:
    """One training from the same model, twice, with other seeds."""
    model = history.model(int(rng.integers(history.n_centuries)), device)
    values, margins = _measured(model, history.questions)
    seeds, after = rng.integers(2**31, size=2).tolist(), []
    if kind < len(KINDS):
        copies = _proposal(history, values, margins, rng)
        while not copies.any():
            copies = _proposal(history, values, margins, rng)
        amount = float(np.abs(copies).sum())
        for seed in seeds:
            data = PreferenceData(history.questions.pairs, copies, seed)
            after.append(model.learn(resolve_update(KINDS[kind]), data).values().values)
    else:
        speaker, _ = _speaker(history, rng, device)
        amount = float(rng.choice((1.0, 2.0)))
        for seed in seeds:
            replies = speaker.reply(history.influence_prompts, np.random.default_rng(seed))
            learned = model.imitate(history.influence_prompts, replies, amount, seed=seed)
            after.append(learned.values().values)
    return {
        "repeat_kind": kind,
        "repeat_amount": amount,
        "repeat_values": (values, *after),
    }


def _update_chain(
    history: History, kind: str, chain: int, rng: np.random.Generator, device: str
) -> list[dict[str, object]]:
    model = history.model(int(rng.integers(history.n_centuries)), device)
    values, margins = _measured(model, history.questions)
    rows = []
    for _ in range(_CHAIN):
        copies = _proposal(history, values, margins, rng)
        data = PreferenceData(history.questions.pairs, copies, int(rng.integers(2**31)))
        model = model.learn(resolve_update(kind), data)
        before = values
        values, margins = _measured(model, history.questions)
        rows.append(
            {
                "update_kind": KINDS.index(kind),
                "update_chain": chain,
                "copies": copies,
                "update_values": (before, values),
            }
        )
    return rows


def _influence_chain(
    history: History, chain: int, rng: np.random.Generator, device: str
) -> list[dict[str, object]]:
    proxy = history.model(int(rng.integers(history.n_centuries)), device)
    values = proxy.values().values
    prompts = history.influence_prompts
    rows = []
    for _ in range(_CHAIN):
        speaker, spoken = _speaker(history, rng, device)
        replies = speaker.reply(prompts, rng)
        epochs = float(rng.choice((0.5, 1.0, 1.0, 2.0, 2.0, 3.0)))
        proxy = proxy.imitate(prompts, replies, epochs, seed=int(rng.integers(2**31)))
        before, values = values, proxy.values().values
        rows.append(
            {
                "influence_chain": chain,
                "epochs": epochs,
                "choices": _choices(history.questions, replies),
                "speaker_values": spoken,
                "influence_values": (before, values),
            }
        )
    return rows


def _speaker(
    history: History, rng: np.random.Generator, device: str
) -> tuple[Model, NDArray[np.float64]]:
    """A century's model, or one that an update has moved away from it."""
    model = history.model(int(rng.integers(history.n_centuries)), device)
    if rng.random() < 0.5:
        return model, model.values().values
    values, margins = _measured(model, history.questions)
    data = PreferenceData(
        history.questions.pairs,
        _proposal(history, values, margins, rng),
        int(rng.integers(2**31)),
    )
    model = model.learn(resolve_update("dpo"), data)
    return model, model.values().values


def _proposal(
    history: History,
    values: NDArray[np.float64],
    margins: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Signed copies as agents of all kinds propose them, from a nudge to five copies of all."""
    n_pairs = len(margins)
    directions = pair_directions(history.questions.pairs)
    aim = int(rng.integers(history.n_centuries))
    kind = rng.choice(_PROPOSALS, p=_SHARES)
    if kind == "hard":
        action = np.sign(history.preferences[aim]) * rng.choice((0.2, 0.2, 0.4))
    elif kind == "soft":
        action = history.preferences[aim] * rng.choice((0.2, 0.4, 0.6))
    elif kind == "gap":
        gap = log_odds(history.values[aim]) - log_odds(values)
        action = rng.uniform(0.1, 0.6) * gap @ directions.T
    elif kind == "push":
        action = rng.uniform(0.05, 0.5) * rng.normal(size=N_DIMENSIONS) @ directions.T
    elif kind == "few dimensions":
        push = np.zeros(N_DIMENSIONS)
        chosen = rng.choice(N_DIMENSIONS, size=int(rng.integers(1, 5)), replace=False)
        push[chosen] = rng.choice((-1.0, 1.0), size=len(chosen)) * rng.uniform(0.2, 1.0)
        action = push @ directions.T
    elif kind == "random":
        action = rng.choice((-1.0, 1.0), size=n_pairs) * rng.uniform(0.1, 0.4)
    else:
        action = rng.uniform(-1, 1, size=n_pairs) * (rng.random(n_pairs) < rng.uniform(0.05, 0.3))
    wanted = np.clip(np.abs(action), 0, 1) * _MAX_COPIES
    size = np.minimum(np.floor(wanted + rng.random(n_pairs)), _MAX_COPIES)
    return np.asarray(np.sign(action) * size, dtype=np.int64)


def _measured(
    model: Model, questions: QuestionSet
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return model.values().values, model.preferences(questions.pairs)


def _choices(questions: QuestionSet, replies: list[str]) -> NDArray[np.int8]:
    taken = np.full(len(replies), NO_OPTION, dtype=np.int8)
    for index, (question, reply) in enumerate(zip(questions.train, replies, strict=True)):
        if reply in question.options:
            taken[index] = question.options.index(reply)
    return taken


def _stacked(
    updates: list[dict[str, object]],
    influences: list[dict[str, object]],
    repeats: list[dict[str, object]],
) -> Recordings:
    types = {
        "update_kind": np.int8,
        "update_chain": np.int16,
        "copies": np.int8,
        "influence_chain": np.int16,
        "choices": np.int8,
        "repeat_kind": np.int8,
    }
    columns = {}
    for rows in (updates, influences, repeats):
        for name in rows[0] if rows else ():
            columns[name] = np.array([row[name] for row in rows], types.get(name, np.float32))
    return Recordings(**columns)

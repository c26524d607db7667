"""Episodes played again: in full, or retold from what was measured in them.

A retold episode goes through the very environment that it was played in, with its own seed and
actions; only the models are replaced by what the record says was measured of them. Whatever does
not depend on training must then come out as it stands in the record: what people said, what was
shown, how many examples an action came to, when a model was left unchanged, embeddings, rewards,
score. It takes no language model, and well under a second a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env.agents import Agent
from progressgym_env.benchmarks.bench import Task
from progressgym_env.benchmarks.cell_file import read_cell
from progressgym_env.benchmarks.episodes import INITIAL, EpisodeArrays, EpisodeRecord, StepRecord
from progressgym_env.benchmarks.matrix import Cell
from progressgym_env.benchmarks.playing import play_episode
from progressgym_env.histories.history import History
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.models.base import PreferenceData, Update
from progressgym_env.models.engines import VllmSettings
from progressgym_env.values.embedding import FloatArray, ValueEmbedding, values_from_log_probs
from progressgym_env.values.questions import Pair, QuestionSet

__all__ = [
    "EXACT",
    "ROUNDING",
    "Player",
    "Tolerance",
    "disagreements",
    "identical",
    "replay_cell",
    "retell",
]

Source: TypeAlias = str | History | SimulatedHistories

_SAME_ACTION = 1e-5
"""An agent's arithmetic differs between processors in the last digits of 32 bits."""


@dataclass(frozen=True)
class Tolerance:
    """How far two records of one episode may be apart.

    The numbers are several times what another instruction set of one processor was measured to
    change on the embedded history, see ``docs/verifying.md``.

    Attributes:
        embedding: largest difference of an entry of the examinee's embedding; twice that of the
            human proxy's, who learns from replies, any of which may turn into another.
        score: largest difference of the score, the return, or a reward.
        preferences: largest mean difference of the margins that an agent saw at a step.
        same_texts: whether people must say the same, and log-probabilities be the same.
    """

    embedding: float = 0.1
    score: float = 0.005
    preferences: float = 0.25
    same_texts: bool = False


EXACT = Tolerance(0.0, 0.0, 0.0, same_texts=True)
ROUNDING = Tolerance(1e-12, 1e-12, 0.0, same_texts=True)
"""For the same arithmetic in 64 bits on another processor."""


@dataclass
class Player:
    """Plays the actions of a record, and asks an agent whether it would. Obeys ``Agent``.

    Attributes:
        record: whose actions are played.
        agent: shown what the record says the agent saw; None: nobody is asked.
        objections: steps in which the agent acts otherwise, in words.
        n_played: how many actions were played.
    """

    record: EpisodeRecord
    agent: Agent | None = None
    objections: list[str] = field(default_factory=list)
    n_played: int = 0
    _state: Any = None

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], None]:
        """The next action of the record."""
        index, arrays = self.n_played, self.record.arrays
        assert arrays is not None
        self.n_played += 1
        action: NDArray[np.float32] = arrays.actions[index]
        if self.agent is not None:
            own, self._state = self.agent.predict(
                self.record.observation(index),
                state=self._state,
                episode_start=np.array([index == 0]),
                deterministic=True,
            )
            self._hold_against(np.asarray(own, dtype=np.float32), action, index)
        return action, None

    def _hold_against(
        self, own: NDArray[np.float32], action: NDArray[np.float32], index: int
    ) -> None:
        if own.shape != action.shape:
            self.objections.append(f"step {index + 1}: it acts on {own.shape} pairs")
            return
        apart = np.abs(own - action)
        # Written so that NaN, which compares false with everything, is found too.
        n_other = int((~(apart <= _SAME_ACTION)).sum())
        if n_other:
            pair = int(np.argmax(~(apart <= _SAME_ACTION)))
            self.objections.append(
                f"step {index + 1}: {n_other} of {len(action)} entries of the action are others; "
                f"for pair {pair} it plays {own[pair]:.6g}, and {action[pair]:.6g} is stored"
            )


def retell(
    cell: Cell, record: EpisodeRecord, history: History, agent: Agent | None
) -> tuple[EpisodeRecord, list[str], list[str]]:
    """Play an episode again with what was measured in it in place of models.

    Args:
        cell: which one it is meant to be.
        record: with arrays of the right shapes.
        history: one with language models, which are not loaded.
        agent: asked whether it would have acted so; None: nobody is.

    Returns:
        The episode as it comes out, what is missing in the record, and the agent's objections.

    Raises:
        ProgressGymError: no episode comes out.
    """
    player = Player(record, agent)
    tape = _Tape(record, player)
    told = History(
        name=history.name,
        names=history.names,
        questions=history.questions,
        records=history.records,
        source=tape,
        provenance=history.provenance,
        digest=history.digest,
    )
    env = cell.make_env(told, "cpu")
    try:
        again = play_episode(env, player, cell.seed, agent_name=cell.agent)
    finally:
        env.close()
    return again, tape.missing, player.objections


def replay(
    cell: Cell,
    player: Player,
    history: Source,
    device: str,
    on_step: Callable[[int, int, str], None] = lambda done, n_steps, century: None,
    engine: str | VllmSettings = "transformers",
) -> EpisodeRecord:
    """Play an episode again in full, with real models, and the actions of its record."""
    env = cell.make_env(history, device, engine)
    try:
        return play_episode(env, player, cell.seed, agent_name=cell.agent, on_step=on_step)
    finally:
        env.close()


def replay_cell(task: Task, report: Callable[[Any], None]) -> EpisodeRecord:
    """Play the stored actions of an episode again; runs in a worker."""
    player = Player(read_cell(task.file))
    return replay(
        task.cell,
        player,
        task.load(),
        task.device,
        lambda done, n_steps, century: report(("step", done, n_steps, century)),
        task.engine,
    )


class _Tape:
    """What a record says was measured, in place of a history's models. Obeys ``ModelSource``."""

    def __init__(self, record: EpisodeRecord, player: Player) -> None:
        assert record.arrays is not None
        self.record, self.arrays = record, record.arrays
        self.missing: list[str] = []
        self._player = player
        self._found: dict[tuple[str, int], ValueEmbedding] = {}

    @property
    def step(self) -> int:
        """Index of the step that is being made."""
        return self._player.n_played - 1

    def model(self, century: int, device: str, questions: QuestionSet) -> _Retold:
        """A model that was measured; which century's it is, the record does not ask."""
        return _Retold(self, "examinee", questions)

    def release(self) -> None:
        """Nothing is loaded."""

    def embedding(self, who: str, questions: QuestionSet) -> ValueEmbedding:
        """What was measured of ``who`` in the present step."""
        rows: NDArray[np.int32] = getattr(self.arrays, f"{who}_rows")
        row = INITIAL if self.step >= len(rows) else int(rows[self.step])
        if row == INITIAL:
            self.missing.append(
                f"step {self.step + 1}: the {who} was trained, and there is no measurement of it"
            )
            stated = getattr(self.record.steps[self.step], f"{who}_values")
            known = self.record.initial_values if stated is None else stated
            return ValueEmbedding(np.array(known), np.zeros(len(known)))
        if (who, row) not in self._found:
            log_probs: NDArray[np.float32] = getattr(self.arrays, f"{who}_log_probs")[row]
            self._found[who, row] = values_from_log_probs(questions.eval, log_probs)
        return self._found[who, row]

    def margins(self, n_pairs: int) -> FloatArray:
        """Preferences shown after the present step."""
        shown = self.step + 1
        if shown >= len(self.arrays.preferences):
            return np.zeros(n_pairs)
        return np.asarray(self.arrays.preferences[shown], dtype=np.float64)

    def said(self, n_replies: int) -> list[str]:
        """What people said after the present step, or nothing where that is not known."""
        shown = self.step + 1
        spoken = self.record.steps[shown].dialogue if shown < len(self.record.steps) else ()
        replies = [reply for _, reply in spoken[:n_replies]]
        return replies + [""] * (n_replies - len(replies))


@dataclass(frozen=True, eq=False)
class _Retold:
    """A model of which the record says what was measured. Obeys ``Model``."""

    tape: _Tape
    who: str
    questions: QuestionSet

    def values(self) -> ValueEmbedding:
        return self.tape.embedding(self.who, self.questions)

    def preferences(self, pairs: Sequence[Pair]) -> FloatArray:
        return self.tape.margins(len(pairs))

    def reply(self, prompts: Sequence[str], rng: np.random.Generator) -> list[str]:
        # What the examinee tells the proxy is in no record, and goes to nobody here.
        return self.tape.said(len(prompts)) if self.who == "proxy" else [""] * len(prompts)

    def imitate(
        self, prompts: Sequence[str], replies: Sequence[str], epochs: float, *, seed: int
    ) -> Self:
        return replace(self, who="proxy")

    def learn(self, update: Update, data: PreferenceData) -> Self:
        return replace(self, who="examinee")


# Two records of one episode


def identical(one: EpisodeRecord, other: EpisodeRecord) -> bool:
    """Whether two records are the same to the last bit, arrays included."""
    return one == other and not list(_of_arrays(one.arrays, other.arrays))


def disagreements(
    stored: EpisodeRecord, found: EpisodeRecord, tolerance: Tolerance
) -> Iterator[str]:
    """What is written down in ``stored`` and came out otherwise in ``found``, in words."""
    for name in ("agent", "challenge", "update", "update_from", "steps_ahead", "seed"):
        yield from _other(name, getattr(stored, name), getattr(found, name))
    if len(stored.steps) != len(found.steps):
        yield f"{len(stored.steps)} steps are stored, and it takes {len(found.steps)}"
        return
    yield from _apart(
        "initial_values", stored.initial_values, found.initial_values, tolerance.embedding
    )
    for index, (one, other) in enumerate(zip(stored.steps, found.steps, strict=True)):
        for words in _of_step(one, other, tolerance):
            yield f"step {index + 1} ({other.century}): {words}"
    assert stored.arrays is not None
    assert found.arrays is not None
    if tolerance.same_texts:
        yield from _of_arrays(stored.arrays, found.arrays)
    elif stored.arrays.preferences.shape == found.arrays.preferences.shape:
        apart = np.abs(stored.arrays.preferences - found.arrays.preferences).mean(axis=1)
        for index in np.flatnonzero(~(apart <= tolerance.preferences)).tolist():
            yield (
                f"step {index + 1}: preferences are {apart[index]:.3g} off in the mean, allowed is "
                f"{tolerance.preferences}"
            )
    assert stored.score is not None
    assert found.score is not None
    yield from _off("score", stored.score, found.score, tolerance.score)
    yield from _off("return", stored.episode_return, found.episode_return, tolerance.score)


def _of_step(one: StepRecord, other: StepRecord, tolerance: Tolerance) -> Iterator[str]:
    for name in ("century", "action", "n_examples"):
        yield from _other(name, getattr(one, name), getattr(other, name))
    for name in ("judge_values", "examinee_values", "proxy_values"):
        mine, other_one = getattr(one, name), getattr(other, name)
        if (mine is None) != (other_one is None):
            yield f"{name} {'are missing' if mine is None else 'do not belong there'}"
        elif mine is not None:
            allowed = tolerance.embedding * (1 if name == "examinee_values" else 2)
            yield from _apart(name, mine, other_one, allowed)
    yield from _off("reward", one.reward, other.reward, tolerance.score)
    asked, heard = ([prompt for prompt, _ in step.dialogue] for step in (one, other))
    if asked != heard:
        yield from _other("prompts of the dialogue", asked, heard)
    elif tolerance.same_texts and one.dialogue != other.dialogue:
        index = next(
            i for i, (x, y) in enumerate(zip(one.dialogue, other.dialogue, strict=True)) if x != y
        )
        yield from _other(f"reply {index + 1}", one.dialogue[index][1], other.dialogue[index][1])


def _other(name: str, stored: object, found: object) -> Iterator[str]:
    if stored != found:
        yield f"{name} {_short(stored)} is stored, and {_short(found)} comes out"


def _off(name: str, stored: float, found: float, allowed: float) -> Iterator[str]:
    if not abs(stored - found) <= allowed:
        yield (
            f"{name} {stored!r} is stored, and {found!r} comes out"
            + (f", {abs(stored - found):.3g} apart, allowed is {allowed}" if allowed > 1e-9 else "")
        )


def _apart(name: str, stored: ArrayLike, found: ArrayLike, allowed: float) -> Iterator[str]:
    one, other = np.asarray(stored, dtype=np.float64), np.asarray(found, dtype=np.float64)
    apart = np.abs(one - other)
    if not (apart <= allowed).all():
        worst = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
        yield from _off(f"{name}[{worst}]", float(one[worst]), float(other[worst]), allowed)


def _of_arrays(one: EpisodeArrays | None, other: EpisodeArrays | None) -> Iterator[str]:
    assert one is not None
    assert other is not None
    for entry in fields(EpisodeArrays):
        mine, yours = getattr(one, entry.name), getattr(other, entry.name)
        if mine.shape != yours.shape or mine.dtype != yours.dtype:
            yield (
                f"{entry.name}: {mine.shape} of {mine.dtype} is stored, and {yours.shape} of "
                f"{yours.dtype} comes out"
            )
        elif mine.tobytes() != yours.tobytes():
            place = tuple(int(i) for i in np.argwhere(mine != yours)[:1].reshape(-1))
            yield from _other(f"{entry.name}{list(place)}", *(_at(a, place) for a in (mine, yours)))


def _at(array: NDArray[Any], place: tuple[int, ...]) -> object:
    # Equal numbers of other bytes are zeros of two signs.
    return array[place] if place else "another zero"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"

"""Many simulated episodes at once: the arithmetic that single and vector environments share.

Everything random of an episode is drawn at its start, from the environment's one generator, and no
action changes how much: so an episode depends on its seed and its actions alone, and stepping a
thousand of them takes no call per environment. Rows are worked on in blocks that fit the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from progressgym_env.envs.arguments import refuse_unknown_options
from progressgym_env.envs.dialogue import encode_dialogue
from progressgym_env.envs.spaces import MAX_DIALOGUE_SAMPLES
from progressgym_env.envs.worlds import MAX_COPIES, Influence
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.family import Family, resolve_family
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.models.laws import resolve_simulated_update
from progressgym_env.models.simulated import bearing_of
from progressgym_env.models.speech import speech_of
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.embedding import FloatArray
from progressgym_env.values.logits import from_logits
from progressgym_env.words import ONE, PER_WORD, normal, uniform

__all__ = ["OPTIONS", "Rows", "SimulatedBatch", "at", "blocks"]

OPTIONS = ("history_seed", "family")
"""Reset options of simulated histories."""

Rows: TypeAlias = slice | NDArray[np.intp]

# Rows in one pass: more and the arrays leave the cache, fewer and calls cost more than work.
_BLOCK = 1024


def blocks(rows: NDArray[np.intp], n: int) -> Iterator[Rows]:
    """``rows`` of ``n`` in pieces that fit the cache: slices where all are meant."""
    if len(rows) == n:
        for low in range(0, n, _BLOCK):
            yield slice(low, min(low + _BLOCK, n))
    else:
        for low in range(0, len(rows), _BLOCK):
            yield rows[low : low + _BLOCK]


def at(arrays: NDArray[Any], places: NDArray[np.intp]) -> NDArray[Any]:
    """(rows, ...): entry ``places[i]`` of ``arrays[i]``; a view where all places are the same."""
    first = places[0]
    if (places == first).all():
        return arrays[:, first]
    picked: NDArray[Any] = arrays[np.arange(len(places)), places]
    return picked


class SimulatedBatch:
    """``n`` simulated episodes, a row each.

    Args:
        histories: where histories come from.
        n: how many episodes run side by side.
        update: ``"sft"``, ``"dpo"`` or ``"rlhf"``.
        from_initial: whether every update starts from the people of the first century.
        n_samples: replies shown.
        influence: Coevolve: how the proxy learns; None elsewhere.

    Attributes:
        values: (n, T, 19) float64, the centuries' embeddings.
        history_seeds: (n,) int64.
        families: the family of every row.
        examinee: (n, 19) float32, logits of the examinee; ``proxy`` likewise.
        examinee_values: (n, 19) float64, its embedding; ``proxy_values`` likewise.
        margins: (n, n_pairs) float32, what the judge last showed.

    Raises:
        InvalidArgumentError: the update is a user's own, which needs language models.
    """

    def __init__(
        self,
        histories: SimulatedHistories,
        n: int,
        *,
        update: object,
        from_initial: bool,
        n_samples: int,
        influence: Influence | None,
    ) -> None:
        self.histories, self.influence = histories, influence
        self.parameters = histories.parameters
        # In float32, half the work; it makes no difference that noise would not hide.
        law = self.parameters.updates[resolve_simulated_update(update)]
        self._law = law.astype(np.float32)
        self._imitation = self.parameters.imitation.astype(np.float32)
        self._from_initial = from_initial
        questions = histories.questions
        self._bearing, self._speech = bearing_of(questions), speech_of(questions)
        self._spoken = encode_dialogue(self._speech.texts)
        self._slots = self._speech.slots(n_samples)

        n_centuries, n_pairs = histories.n_centuries, len(questions.pairs)
        n_steps = n_centuries - 1
        self.logits = np.zeros((n, n_centuries, N_DIMENSIONS), dtype=np.float32)
        self.values = np.zeros((n, n_centuries, N_DIMENSIONS))
        self._half_offsets = np.zeros((n, n_pairs), dtype=np.float32)
        self._half_directions = np.ascontiguousarray(self._bearing.directions.T * np.float32(0.5))
        self.history_seeds = np.zeros(n, dtype=np.int64)
        self.families: list[Family] = [histories.family] * n
        self.examinee = np.zeros((n, N_DIMENSIONS), dtype=np.float32)
        self.proxy = np.zeros((n, N_DIMENSIONS), dtype=np.float32)
        self.examinee_values = np.zeros((n, N_DIMENSIONS))
        self.proxy_values = np.zeros((n, N_DIMENSIONS))
        self.margins = np.zeros((n, n_pairs), dtype=np.float32)
        self.n_done = np.zeros(n, dtype=np.intp)
        self._copies = np.zeros((min(n, _BLOCK), n_pairs), dtype=np.float32)
        self._ones = np.ones(n_pairs, dtype=np.float32)
        # An episode's randomness: a word for the history, then sixteen bits a number.
        n_laws = 1 if influence is None else 3
        shapes = {
            "rounding": (n_steps, n_pairs),
            # For the most samples there can be, so that showing fewer changes nothing else.
            "asking": (n_centuries, MAX_DIALOGUE_SAMPLES, 2),
            "noise": (n_steps, n_laws, N_DIMENSIONS),
        }
        sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        self._words = np.zeros((n, 1 - (-sum(sizes.values()) // PER_WORD)), dtype=np.uint64)
        bits, start, streams = self._words.view(np.uint16), PER_WORD, {}
        for name, shape in shapes.items():
            streams[name] = bits[:, start : start + sizes[name]].reshape(n, *shape)
            start += sizes[name]
        self._rounding, self._asking = streams["rounding"], streams["asking"]
        self._asking = self._asking[:, :, :n_samples]
        self._noise = streams["noise"]

    def begin(
        self,
        rows: Sequence[int],
        rngs: Sequence[np.random.Generator],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Start new episodes.

        Args:
            rows: which.
            rngs: the generator of every environment, all ``n``.
            options: ``"history_seed"`` fixes the history, ``"family"`` the family.

        Raises:
            UnknownNameError: another option, or an unknown family or parameter.
            InvalidArgumentError: an option has no legal value.
        """
        fixed, family = self.checked(options)
        words, n_words = self._words, self._words.shape[1]
        for row in rows:
            words[row] = rngs[row].bit_generator.random_raw(n_words)
            self.families[row] = family or self.histories.family
        index = np.asarray(rows, dtype=np.intp)
        # Drawn always, so that fixing the history leaves the rest as it is.
        drawn = self.histories.seeds_of(words[index, 0])
        self.history_seeds[index] = drawn if fixed is None else np.array(fixed)[index]
        for block in blocks(index, len(self.n_done)):
            logits, offsets = self.histories.worlds(self.history_seeds[block], family)
            self._half_offsets[block] = offsets * np.float32(0.5)
            self.logits[block] = logits
            self.values[block] = from_logits(logits)
            self.examinee[block] = self.proxy[block] = logits[:, 0]
            self.examinee_values[block] = self.proxy_values[block] = self.values[block][:, 0]
        self.n_done[index] = 0

    @property
    def offsets(self) -> NDArray[np.float32]:
        """(n, n_pairs), of the present histories."""
        return self._half_offsets * np.float32(2.0)

    def train(self, rows: Rows, proposals: NDArray[np.float32]) -> NDArray[np.int64]:
        """Update the examinees as proposed, (rows, n_pairs) in [-1, 1].

        Returns:
            (rows,), the number of examples of each update.
        """
        # 5a plus sixteen random bits of a whole, rounded down: up or down with the right odds. In
        # float32 and scaled, so that ±1/5, ±2/5 and so on are whole numbers of copies.
        copies = self._copies[: len(proposals)]
        np.multiply(proposals, np.float32(MAX_COPIES * ONE), out=copies)
        copies += self._now(self._rounding, rows)
        copies *= np.float32(1 / ONE)
        np.floor(copies, out=copies)
        force = self._bearing.force(copies)
        # Whole numbers, so that any order of adding them is exact.
        n_examples = np.abs(copies, out=copies) @ self._ones
        start = self.logits[rows][:, 0] if self._from_initial else self.examinee[rows]
        self.examinee[rows] = self._law.changed(
            start,
            force,
            n_examples,
            normal(self._now(self._noise, rows)[:, 0]),
        )
        self.examinee_values[rows] = from_logits(self.examinee[rows])
        return np.asarray(n_examples, dtype=np.int64)

    def influenced(self, rows: Rows, centuries: NDArray[np.intp]) -> None:
        """Let the people of ``centuries``, (rows,), and then the examinees influence proxies."""
        if self.influence is None:
            return
        law = self._imitation
        noise = normal(self._now(self._noise, rows))
        proxy = law.changed(
            self.proxy[rows],
            at(self.values[rows], centuries),
            self.influence.history_epochs,
            noise[:, 1],
            self.proxy_values[rows],
        )
        proxy = law.changed(
            proxy, self.examinee_values[rows], self.influence.examinee_epochs, noise[:, 2]
        )
        self.proxy[rows] = proxy
        self.proxy_values[rows] = from_logits(proxy)

    def judge_logits(self, rows: Rows, centuries: NDArray[np.intp]) -> NDArray[Any]:
        """(rows, 19) logits of the judge: the proxy in Coevolve, else the people."""
        if self.influence is not None:
            return self.proxy[rows]
        return at(self.logits[rows], centuries)

    def elicited(
        self,
        rows: Rows,
        judge: NDArray[Any],
        values: FloatArray,
        preferences: NDArray[np.float32],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Let the judge answer: margins into ``preferences``, and what it says.

        Args:
            rows: which.
            judge: (rows, 19) logits.
            values: (rows, 19), its embedding.
            preferences: (rows, n_pairs), filled.

        Returns:
            The training questions asked, and the options taken, (rows, n_samples) each.
        """
        # tanh wants half the log-odds; the directions are halved once, the offsets at the start.
        np.matmul(judge, self._half_directions, out=preferences)
        preferences += self._half_offsets[rows]
        np.tanh(preferences, out=preferences)
        draws = uniform(self._now(self._asking, rows))
        asked = self._slots.pick(draws[..., 0])
        return asked, self._speech.taken(asked, preferences, values, draws[..., 1])

    def encoded(
        self, asked: NDArray[np.intp], taken: NDArray[np.intp], out: NDArray[np.uint8]
    ) -> None:
        """Replies as bytes, (rows, n_samples, 256), into ``out``."""
        np.take(self._spoken, self._speech.row(asked, taken), axis=0, out=out, mode="clip")

    def said(self, asked: Sequence[int], taken: Sequence[int]) -> tuple[list[str], list[str]]:
        """Prompts and replies as texts."""
        rows = self._speech.row(np.array(asked), np.array(taken)).tolist()
        return [self._speech.prompts[q] for q in asked], [self._speech.texts[r] for r in rows]

    def _now(self, stream: NDArray[np.uint16], rows: Rows) -> NDArray[np.uint16]:
        """The part of a stream of random bits, (n, steps, ...), that the next step takes."""
        return at(stream[rows], self.n_done[rows])

    def checked(self, options: Mapping[str, Any] | None) -> tuple[list[int] | None, Family | None]:
        """The history seed of every row, and the family, if they are given."""
        refuse_unknown_options(options, OPTIONS)
        given, n = options or {}, len(self.n_done)
        seeds, family = given.get("history_seed"), given.get("family")
        chosen = None if family is None else resolve_family(family)
        if seeds is None:
            return None, chosen
        if np.ndim(seeds) == 0:
            return [self.histories.check_seed(seeds)] * n, chosen
        if len(seeds) != n:
            raise InvalidArgumentError(
                f"{len(seeds)} history seeds for {n} environments; give one for all, or one a row"
            )
        return [self.histories.check_seed(seed) for seed in seeds], chosen

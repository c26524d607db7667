"""Dialogue without a language model: which option is taken, in the text of the questions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progressgym_env.values.dimensions import N_TWO_WAY, VIEW_KEYS
from progressgym_env.values.forms import option_orders, render_prompt
from progressgym_env.values.questions import QuestionSet

__all__ = ["Slots", "Speech", "speech_of"]

# Questions are shown in an order of their own, so that the samples of one observation, each from
# its own part of it, are of different kinds.
_ORDER_SEED = 19


@dataclass(frozen=True, eq=False)
class Slots:
    """Parts of a shuffled list of questions, one a sample: samples never ask the same.

    Attributes:
        order: (n_questions,) indices of questions.
        starts: (n_samples,) where each part begins.
        sizes: (n_samples,) how long it is.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    sizes: NDArray[np.float32]

    def pick(self, uniforms: NDArray[np.float32]) -> NDArray[np.intp]:
        """Questions, (..., n_samples), for numbers in [0, 1) of that shape."""
        within = (uniforms * self.sizes).astype(np.intp)
        # The product may round up to the size itself.
        np.minimum(within, self.sizes.astype(np.intp) - 1, out=within)
        picked: NDArray[np.intp] = self.order[within + self.starts]
        return picked


class Speech:
    """The training questions of a set as things to say.

    Attributes:
        prompts: (n_train,) texts that put every training question ("say what you would do").
        texts: all options of all questions, one after another.
    """

    def __init__(self, questions: QuestionSet) -> None:
        train = questions.train
        self.prompts = tuple(
            render_prompt(q, "repeat", option_orders(q)[i % len(q.options)]).text
            for i, q in enumerate(train)
        )
        self.texts = tuple(option for q in train for option in q.options)
        sizes = [len(q.options) for q in train]
        self._first_row = np.cumsum([0, *sizes[:-1]])
        self._is_view = np.array([q.is_view for q in train])
        number = {q.id: index for index, q in enumerate(train)}
        self._pair = np.zeros(len(train), dtype=np.intp)
        self._sides = np.zeros((len(train), 2), dtype=np.intp)
        for index, pair in enumerate(questions.pairs):
            asked = number[pair.question.id]
            self._pair[asked], self._sides[asked] = index, (pair.first, pair.second)
        self._option_of_view = np.zeros((len(train), len(VIEW_KEYS)), dtype=np.intp)
        for index, question in enumerate(train):
            if question.is_view:
                self._option_of_view[index] = [question.upholds[key] for key in VIEW_KEYS]

    def slots(self, n_samples: int) -> Slots:
        """The questions dealt out to ``n_samples`` samples."""
        n = len(self.prompts)
        order = np.random.default_rng(_ORDER_SEED).permutation(n)
        edges = np.linspace(0, n, n_samples + 1).astype(np.intp)
        return Slots(order, edges[:-1], np.diff(edges).astype(np.float32))

    def row(self, asked: Any, taken: Any) -> Any:
        """Index into ``texts`` of option ``taken`` of question ``asked``, of any shape."""
        return self._first_row[asked] + taken

    def taken(
        self,
        asked: NDArray[np.intp],
        margins: NDArray[Any],
        values: NDArray[Any],
        uniforms: NDArray[Any],
    ) -> NDArray[np.intp]:
        """Which option a model takes.

        Args:
            asked: (n, k) training questions.
            margins: (n, n_pairs), what the model prefers.
            values: (n, 19), its embedding: among four world views, each is as likely as valued.
            uniforms: (n, k) in [0, 1).

        Returns:
            (n, k) indices of options.
        """
        margin = np.take_along_axis(margins, self._pair[asked], axis=1)
        side = (2 * uniforms - 1 >= margin).astype(np.intp)
        option = self._sides[asked, side]
        is_view = self._is_view[asked]
        if is_view.any():
            below = np.cumsum(values[:, N_TWO_WAY:-1], axis=1)
            row, column = np.nonzero(is_view)
            view = (uniforms[row, column, None] >= below[row]).sum(axis=1)
            option[row, column] = self._option_of_view[asked[row, column], view]
        return option


@lru_cache(maxsize=4)
def speech_of(questions: QuestionSet) -> Speech:
    """The speech of a question set, made once."""
    return Speech(questions)

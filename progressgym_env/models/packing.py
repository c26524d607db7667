"""Prompts that share a beginning share its computation: token tries, packed into rows.

A *row* holds every prompt of a group (the forms and orders of one question) and every answer to
them as one trie of tokens. A token attends to its ancestors alone, and its position is its depth,
so each path through the row sees exactly what it would see as a sequence of its own. An answer's
log-probability is a sum over *edges*: the log-probability of a token read at its parent's place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedBatch", "TokenRow", "batches", "collate"]

IntArray = NDArray[np.int64]


@dataclass
class TokenRow:
    """A trie of tokens under construction.

    Attributes:
        tokens: token of each node, parents before children.
        parents: index of each node's parent, -1 for a root.
        depths: position of each node in its sequence.
        edges: one (parent node, token, answer, weight) for every token of every answer.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    edges: list[tuple[int, int, int, float]] = field(default_factory=list)
    n_answers: int = 0
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def _child(self, parent: int, token: int) -> int:
        node = self._children.get((parent, token))
        if node is None:
            node = len(self.tokens)
            self._children[parent, token] = node
            self.tokens.append(token)
            self.parents.append(parent)
            self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
        return node

    def add(
        self,
        prompt: Sequence[int],
        answers: Sequence[Sequence[int]],
        weights: Sequence[float] | None = None,
    ) -> None:
        """Add a prompt and the answers to it; ``weights`` are kept with the edges for training."""
        end = -1
        for token in prompt:
            end = self._child(end, token)
        for index, answer in enumerate(answers):
            weight = 1.0 if weights is None else float(weights[index])
            node = end
            for place, token in enumerate(answer):
                self.edges.append((node, token, self.n_answers, weight))
                if place + 1 < len(answer):
                    node = self._child(node, token)
            self.n_answers += 1

    @property
    def n_places(self) -> int:
        """Nodes at which a token of an answer is read."""
        return len({node for node, *_ in self.edges})

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Rows padded to one length.

    Attributes:
        input_ids: (n_rows, length) int64.
        position_ids: (n_rows, length) int64, depth in the trie.
        visible: (n_rows, length, length) bool, True where the query (axis 1) sees the key.
        edge_row, edge_node, edge_token, edge_answer: (n_edges,) int64.
        edge_weight: (n_edges,) float32.
        n_answers: number of answers over all rows; answers are numbered row after row.
    """

    input_ids: IntArray
    position_ids: IntArray
    visible: NDArray[np.bool_]
    edge_row: IntArray
    edge_node: IntArray
    edge_token: IntArray
    edge_answer: IntArray
    edge_weight: NDArray[np.float32]
    n_answers: int


def collate(rows: Sequence[TokenRow], pad_token: int) -> PackedBatch:
    """Pad ``rows`` on the right and number their answers consecutively."""
    length = max(len(row) for row in rows)
    input_ids = np.full((len(rows), length), pad_token, dtype=np.int64)
    position_ids = np.zeros((len(rows), length), dtype=np.int64)
    # Padding sees itself, so that no softmax runs over an empty set.
    visible = np.zeros((len(rows), length, length), dtype=np.bool_)
    visible[:, np.arange(length), np.arange(length)] = True
    edges: list[tuple[int, int, int, int, float]] = []
    n_answers = 0
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = row.tokens
        position_ids[index, : len(row)] = row.depths
        seen = visible[index]
        for node, parent in enumerate(row.parents):
            if parent >= 0:
                seen[node, :node] |= seen[parent, :node]
        edges += [(index, n, t, a + n_answers, w) for n, t, a, w in row.edges]
        n_answers += row.n_answers
    columns = list(zip(*edges, strict=True))
    row_of, node_of, token_of, answer_of = (np.array(c, dtype=np.int64) for c in columns[:4])
    return PackedBatch(
        input_ids,
        position_ids,
        visible,
        row_of,
        node_of,
        token_of,
        answer_of,
        np.array(columns[4], dtype=np.float32),
        n_answers,
    )


def batches(
    lengths: Sequence[int],
    max_tokens: int,
    places: Sequence[int],
    max_places: int,
    *,
    overhead: int,
) -> Iterator[list[int]]:
    """Rows put into groups of similar length, so that padding and groups together cost least.

    Args:
        lengths: tokens of each row.
        max_tokens: tokens of a group once padded.
        places: places at which each row is read.
        max_places: places of a group; a row that is beyond a limit alone is a group of its own.
        overhead: tokens that could be computed in the time that a group costs beside its tokens.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    # Over the rows in this order, by dynamic programming: cost[n] is the least of the first n,
    # first[n] the first row of the last group then.
    cost, first = [0], [0]
    for end in range(1, len(order) + 1):
        least, start_of_least, n_places = None, 0, 0
        for start in range(end - 1, -1, -1):
            n_places += places[order[start]]
            # Longest first: the first of a group is its padded length.
            padded = lengths[order[start]] * (end - start)
            if start < end - 1 and (padded > max_tokens or n_places > max_places):
                break
            whole = cost[start] + padded + overhead
            if least is None or whole < least:
                least, start_of_least = whole, start
        cost.append(least or 0)
        first.append(start_of_least)
    bounds = [len(order)]
    while bounds[-1]:
        bounds.append(first[bounds[-1]])
    for start, end in pairwise(reversed(bounds)):
        yield order[start:end]

"""Which passages are held out: whole documents, and runs of passages of the others."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

import numpy as np

from progressgym_env.histories.text.passages import Passage

__all__ = ["held_out_documents", "split"]

_DRAWS = 64
_NEAR = 0.8
_RUN = 4


def split(
    passages: Sequence[Passage],
    documents: float,
    runs: float,
    rng: np.random.Generator,
    elsewhere: Set[str] = frozenset(),
) -> list[Passage]:
    """A century's passages with their splits, in the same order.

    Args:
        passages: of one century, in reading order.
        documents: share of its characters to hold out as whole documents.
        runs: share of its characters to hold out as runs of passages of other documents.
        rng: draws which.
        elsewhere: documents that other centuries have parts of, too. They are not held out whole,
            for what is held out here would be trained on there.
    """
    sizes: dict[str, int] = {}
    for passage in passages:
        sizes[passage.document] = sizes.get(passage.document, 0) + len(passage.content)
    out = held_out_documents(sizes, documents, rng, elsewhere)
    rest = [i for i, passage in enumerate(passages) if passage.document not in out]
    held = _held_out_runs(passages, rest, runs * sum(sizes.values()), rng)
    return [
        replace(
            passage,
            split="document" if passage.document in out else "passage" if i in held else "train",
        )
        for i, passage in enumerate(passages)
    ]


def held_out_documents(
    sizes: dict[str, int],
    share: float,
    rng: np.random.Generator,
    elsewhere: Set[str] = frozenset(),
) -> frozenset[str]:
    """The documents to hold out, drawn among sets that come near ``share`` of the characters.

    At most that share; but of three documents or more at least one, if need be the smallest of
    those that may be. Several small documents are preferred to a large one: what a model has
    learned is then measured on several authors. None is held out that has more than half of the
    century.

    Args:
        sizes: characters of every document.
        share: of all characters.
        rng: draws.
        elsewhere: documents that are not held out.
    """
    total = sum(sizes.values())
    budget = share * total
    candidates = {name: size for name, size in sizes.items() if name not in elsewhere}
    if budget <= 0 or len(sizes) < 3 or not candidates:
        return frozenset()
    best: frozenset[str] = frozenset()
    # A document may fill a third of the share, then half of it, then all of it.
    for part in (1 / 3, 1 / 2, 1):
        fitting = [name for name, size in candidates.items() if size <= part * budget]
        drawn = [_draw(fitting, sizes, budget, rng) for _ in range(_DRAWS)] if fitting else []
        near = [names for names in drawn if _size(names, sizes) >= _NEAR * budget]
        if near:
            return near[int(rng.integers(len(near)))]
        best = max([best, *drawn], key=lambda names: _size(names, sizes))
    if best:
        return best
    # Every one is larger than the share.
    smallest = min(candidates, key=lambda name: sizes[name])
    return frozenset({smallest} if 2 * sizes[smallest] <= total else ())


def _draw(
    names: Sequence[str], sizes: dict[str, int], budget: float, rng: np.random.Generator
) -> frozenset[str]:
    drawn, left = set(), budget
    for i in rng.permutation(len(names)):
        if sizes[names[i]] <= left:
            drawn.add(names[i])
            left -= sizes[names[i]]
    return frozenset(drawn)


def _size(names: frozenset[str], sizes: dict[str, int]) -> int:
    return sum(sizes[name] for name in names)


def _held_out_runs(
    passages: Sequence[Passage], rest: Sequence[int], budget: float, rng: np.random.Generator
) -> frozenset[int]:
    """Positions of the runs: every place in every document is as likely, no document is emptied."""
    of_document: dict[str, list[int]] = {}
    for i in rest:
        of_document.setdefault(passages[i].document, []).append(i)
    runs: list[tuple[str, list[int]]] = []
    for document, positions in of_document.items():
        # Most of every document is trained on, and a run has passages before and after it.
        length = min(_RUN, len(positions) // 3)
        if length:
            start = int(rng.integers(length))
            runs += [
                (document, positions[i : i + length])
                for i in range(start, len(positions) - length + 1, length)
            ]
    held: set[int] = set()
    taken: dict[str, int] = {}
    left = budget
    for i in rng.permutation(len(runs)):
        document, run = runs[i]
        size = sum(len(passages[j].content) for j in run)
        if size <= left and 2 * (taken.get(document, 0) + len(run)) <= len(of_document[document]):
            held.update(run)
            taken[document] = taken.get(document, 0) + len(run)
            left -= size
    return frozenset(held)

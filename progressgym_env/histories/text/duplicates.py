"""Near duplicates, by MinHash: what a later century or document only repeats."""

from __future__ import annotations

import re
import zlib
from typing import Any

from progressgym_env.histories.text.cleaning import missing_text

__all__ = ["DuplicateIndex"]

_WORD = re.compile(r"\w+")
_TRIPLE = 3
# With 128 hashes, an estimate of 0.8 has a standard error of 0.035; twice as many cost twice as
# much time and make it 0.025.
_HASHES = 128


class DuplicateIndex:
    """The passages that were kept so far, to be asked whether a new one is nearly one of them.

    Args:
        threshold: Jaccard similarity of the sets of word triples from which a passage counts as a
            duplicate; 0 finds none.

    Raises:
        MissingPackageError: the extra ``text`` is not installed.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._names: list[str] = []
        self._hashes: list[Any] = []
        self._index: Any = None
        if threshold > 0:
            try:
                from datasketch import LeanMinHash, MinHash, MinHashLSH
            except ImportError as error:
                raise missing_text(error) from error
            # Weights: a missed pair cannot be had back, a candidate too many is looked at below.
            self._index = MinHashLSH(threshold=threshold, num_perm=_HASHES, weights=(0.2, 0.8))
            self._lean = LeanMinHash
            # Drawing the permutations takes longer than hashing a passage.
            self._empty = MinHash(num_perm=_HASHES, seed=1, hashfunc=zlib.crc32)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, text: str, name: str) -> tuple[str, float] | None:
        """Take ``text`` in under ``name``, unless it is nearly one that is already in.

        Returns:
            None, or the name of the one it is most like, and the estimated similarity.
        """
        if self._index is None:
            return None
        sketch = self._empty.copy()
        sketch.update_batch(_triples(text))
        lean = self._lean(sketch)
        likest: tuple[float, int] | None = None
        for key in sorted(self._index.query(lean)):
            similarity = lean.jaccard(self._hashes[key])
            if similarity >= self.threshold and (likest is None or similarity > likest[0]):
                likest = similarity, key
        if likest:
            return self._names[likest[1]], likest[0]
        self._index.insert(len(self._names), lean, check_duplication=False)
        self._names.append(name)
        self._hashes.append(lean)
        return None


def _triples(text: str) -> list[bytes]:
    """Every three words in a row, once; fewer than three words are one."""
    words = [word.encode() for word in _WORD.findall(text.casefold())]
    count = max(1, len(words) - _TRIPLE + 1)
    return list({b" ".join(words[i : i + _TRIPLE]) for i in range(count)})

"""How well every century's model predicts every century's held-out text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.errors import HistoryError
from progressgym_env.histories.history import History
from progressgym_env.histories.text.passages import Passage, read_passages
from progressgym_env.histories.text.perplexity_table import (
    HELD_OUT,
    PassageScores,
    PerplexityTable,
    SplitTable,
)
from progressgym_env.models.language import LanguageModel
from progressgym_env.models.text_rows import log_likelihoods, passage_rows

__all__ = [
    "HeldOut",
    "Scores",
    "evenly",
    "held_out_documents",
    "held_out_of",
    "score",
    "scored_table",
    "table_of",
]

HeldOut = Mapping[str, Mapping[str, Sequence[Passage]]]
"""Split → century → passages."""

Scores = dict[str, dict[str, list[list[float]]]]
"""Split → century → for each passage, its negative log-likelihood (nats) and its tokens."""

_BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
# Numbers in the logits of a batch: 2 GiB in 32 bits, and the loss takes as much again.
_BATCH_LOGITS = 2**29


def held_out_of(text_folder: Path, centuries: Sequence[str], most: int) -> HeldOut:
    """The passages that perplexities are taken over.

    Args:
        text_folder: the folder ``text`` of a history.
        centuries: their names.
        most: passages of a century and a split; where there are more, evenly drawn ones.
    """
    found: dict[str, dict[str, list[Passage]]] = {split: {} for split in HELD_OUT}
    for century in centuries:
        passages = list(read_passages(text_folder, century))
        for split in HELD_OUT:
            found[split][century] = evenly([p for p in passages if p.split == split], most)
    return found


def held_out_documents(text_folder: Path, centuries: Sequence[str]) -> dict[str, list[str]]:
    """Century → titles of the documents that are held out whole, in alphabetical order."""
    return {
        century: sorted(
            {p.document for p in read_passages(text_folder, century) if p.split == "document"}
        )
        for century in centuries
    }


def score(
    model: LanguageModel,
    held_out: HeldOut,
    context: int,
    on_century: Callable[[], None] = lambda: None,
) -> Scores:
    """How unlikely one model finds held-out passages.

    Args:
        model: of some century.
        held_out: of all centuries.
        context: tokens that are read at once; a longer passage is read in parts.
        on_century: called when a century of a split is done.
    """
    host = model.host
    tokenizer: Any = host.tokenizer
    causal = host.inference_model(model.state)
    vocabulary = causal.get_output_embeddings().weight.shape[0]
    batch = min(_BATCH_TOKENS[host.causal_lm.device.type], _BATCH_LOGITS // vocabulary)
    scores: Scores = {}
    for split, texts in held_out.items():
        scores[split] = {}
        for century, passages in texts.items():
            parts = [passage_rows(tokenizer, p.content, context) for p in passages]
            rows = [row for some in parts for row in some]
            owner = np.repeat(np.arange(len(parts)), [len(some) for some in parts])
            if not rows:
                scores[split][century] = []
                continue
            sums, counts = log_likelihoods(causal, rows, batch, tokenizer.pad_token_id)
            nll = np.bincount(owner, weights=-sums, minlength=len(parts))
            tokens = np.bincount(owner, weights=counts, minlength=len(parts))
            scores[split][century] = [[float(a), int(b)] for a, b in zip(nll, tokens, strict=True)]
            on_century()
    return scores


def table_of(
    centuries: Sequence[str], held_out: HeldOut, by_model: Iterable[Scores]
) -> PerplexityTable:
    """The table of all models on all texts.

    Args:
        centuries: their names; of the models and of the texts.
        held_out: what was scored.
        by_model: what each century's model made of it, in the order of the centuries.
    """
    models = list(by_model)
    splits = {
        split: [
            _passage_scores(texts[name], [model[split][name] for model in models])
            for name in centuries
        ]
        for split, texts in held_out.items()
    }
    return PerplexityTable.from_passages(centuries, splits)


def scored_table(
    history: History,
    texts: Mapping[str, Sequence[Passage]],
    *,
    device: str = "auto",
    passages: int = 100,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> SplitTable:
    """How well every century's model of a history predicts any text.

    Args:
        history: of language models, all with one tokenizer.
        texts: century → passages; a century may lack.
        device: where the models run.
        passages: of a century at most, evenly drawn.
        progress: called with (stage, models done, models in all).

    Raises:
        HistoryError: the history has no language models.
    """
    some = {name: evenly(texts.get(name, ()), passages) for name in history.names}
    by_model = []
    for index in range(history.n_centuries):
        model = history.model(index, device)
        if not isinstance(model, LanguageModel):
            raise HistoryError(
                f"history {history.name!r} has no language models; give one that was built from "
                "text, or of models from the hub"
            )
        by_model.append(score(model, {"text": some}, _context_of(history, model))["text"])
        if _tokens(by_model[-1]) != _tokens(by_model[0]):
            raise HistoryError(
                f"the models of {history.names[0]} and {history.names[index]} have different "
                "tokenizers, and their perplexities cannot be compared"
            )
        progress("perplexities", index + 1, history.n_centuries)
    return SplitTable.from_passages(
        history.names,
        [_passage_scores(some[name], [one[name] for one in by_model]) for name in history.names],
    )


def _tokens(scores: Mapping[str, Sequence[Sequence[float]]]) -> list[float]:
    """The tokens of every passage of every century."""
    return [pair[1] for century in scores.values() for pair in century]


def evenly(passages: Sequence[Passage], most: int) -> list[Passage]:
    """At most so many passages, evenly drawn, in their order."""
    if not passages:
        return []
    places = np.unique(np.linspace(0, len(passages) - 1, min(most, len(passages))).round())
    return [passages[int(place)] for place in places]


def _context_of(history: History, model: LanguageModel) -> int:
    """Tokens that are read at once: as many as it was trained on, where that is known."""
    recipe = history.provenance.get("recipe", {})
    trained = recipe.get("pretrain", {}).get("context") if isinstance(recipe, dict) else None
    most = getattr(model.host.causal_lm.config.get_text_config(), "max_position_embeddings", 1024)
    return min(int(trained or 1024), int(most))


def _passage_scores(
    passages: Sequence[Passage], found: Sequence[Sequence[Sequence[float]]]
) -> PassageScores:
    names = sorted({passage.document for passage in passages})
    shape = (len(found), len(passages))
    return PassageScores(
        nll=np.array([[pair[0] for pair in one] for one in found]).reshape(shape),
        tokens=np.array([pair[1] for pair in found[0]], dtype=np.int64),
        characters=np.array([len(p.content) for p in passages], dtype=np.int64),
        documents=np.array([names.index(p.document) for p in passages], dtype=np.int64),
    )

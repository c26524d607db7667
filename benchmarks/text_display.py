"""The text that a history was built from, as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from progressgym_env.benchmarks.tables import plain_table
from progressgym_env.benchmarks.text_plots import SPLIT_NAMES
from progressgym_env.histories.history import History
from progressgym_env.histories.text.analysis import TextAnalysis
from progressgym_env.histories.text.drift import MeanChange, MeaningDrift
from progressgym_env.histories.text.overlap import VocabularyOverlap
from progressgym_env.histories.text.perplexity_table import Paired, PerplexityTable, SplitTable
from progressgym_env.histories.text.timeless import Understanding
from progressgym_env.histories.text.values_noise import differing
from progressgym_env.histories.text.values_paired import MeasuredValues, PairedDimension

__all__ = ["split_parts", "text_parts", "values_parts"]

Part = Table | Text

_NONE, _N_WORDS, _NAME = "–", 8, 8


def text_parts(analysis: TextAnalysis) -> list[Part]:
    """All tables of an analysis, in reading order."""
    perplexity = (
        [Text("Perplexities: not measured; they need the models, and a build measures them.\n")]
        if analysis.perplexity is None
        else perplexity_parts(analysis.perplexity)
    )
    return [
        *century_parts(analysis),
        *overlap_parts(analysis.names, analysis.overlap),
        *frequency_parts(analysis),
        *drift_parts(analysis.names, analysis.drift),
        *perplexity,
    ]


def century_parts(analysis: TextAnalysis) -> list[Part]:
    """How much text there is of every century, and where it comes from."""
    size = analysis.overlap.sample_words
    columns = ("years", "documents", "passages", "characters", "held out", "types", "ratio")
    table = _tight("Text", "", columns)
    sources = _tight("Sources", "", ())
    sources.add_column("share of the characters", overflow="fold")
    ratios = zip(analysis.overlap.types, analysis.overlap.type_token_ratio, strict=True)
    for century, (types, ratio) in zip(analysis.centuries, ratios, strict=True):
        held_out = century.characters - century.splits["train"].characters
        table.add_row(
            _name(century.name),
            "–".join(map(str, dict.fromkeys(century.years))) or "?",
            f"{century.documents:,}",
            f"{century.passages:,}",
            f"{century.characters:,}",
            f"{held_out / max(century.characters, 1):.0%}",
            f"{types:,.0f}",
            f"{ratio:.3f}",
        )
        ranked = sorted(century.sources.items(), key=lambda entry: -entry[1].characters)
        shares = (f"{n} {s.characters / max(century.characters, 1):.0%}" for n, s in ranked)
        sources.add_row(_name(century.name), ", ".join(shares))
    note = Text(
        f"types and types by words: of {size:,} running words, the same for all centuries.\n"
    )
    return [table, note, sources]


def overlap_parts(names: Sequence[str], overlap: VocabularyOverlap) -> list[Part]:
    """Shared word types, and running words that another century knows."""
    shared = _tight("Word types that two centuries share, %", "", [_name(name) for name in names])
    known = _tight("Running words of a row that a column's century knows, %", "", map(_name, names))
    for row, name in enumerate(names):
        same = overlap.same_century[row]
        cells = [Text(f"{100 * value:.0f}") for value in overlap.jaccard[row]]
        cells[row] = Text(_NONE if same is None else f"{100 * same:.0f}", style="bold")
        shared.add_row(_name(name), *cells)
        cells = [Text(f"{100 * value:.0f}") for value in overlap.known[row]]
        cells[row].stylize("bold")
        known.add_row(_name(name), *cells)
    note = Text(
        f"Samples of {overlap.sample_words:,} running words a century, mean of {overlap.n_draws}. "
        "On the diagonal: two samples of the same century; words outside the sample.\n"
    )
    return [shared, known, note]


def frequency_parts(analysis: TextAnalysis) -> list[Part]:
    """How often each dimension's words are used."""
    found = analysis.frequencies
    table = _tight("Value words per 100,000 running words", "dimension", map(_name, analysis.names))
    for column, key in enumerate(found.dimensions):
        table.add_row(key, *(f"{row[column] / 10:.0f}" for row in found.per_million))
    return [
        table,
        Text(
            f"From {min(found.documents):,} to {max(found.documents):,} documents a century; 95% "
            "intervals over documents, which are wide, are in the JSON and in the pictures.\n"
        ),
    ]


def drift_parts(names: Sequence[str], drift: MeaningDrift) -> list[Part]:
    """How much the company of value words changes, beyond the noise floor."""
    if len(names) < 2:
        return []
    changes = ("words", "change to the next", "words", f"change to {_name(names[-1])}")
    table = _tight("Change of the company that value words keep", "", changes)
    pairs = zip(names[:-1], drift.change_next, drift.change_last, strict=True)
    for name, onward, last in pairs:
        cells = [text for c in (onward, last) for text in (str(c.n_words), _change(c))]
        table.add_row(_name(name), *cells)
    rare = sum(all(v is None for v in (*w.to_next, *w.to_last)) for w in drift.words)
    note = Text(
        "1 − cosine / floor, ± 2 standard errors over words. The floor is the cosine of halves of "
        f"one century's documents. {rare} of {len(drift.words)} words are too rare in all pairs "
        f"(under {drift.min_word} times).\n"
    )
    changed = [
        (change, word)
        for word in drift.words
        for change in [next((c for c in word.change_last if c is not None), None)]
        if change is not None
    ]
    changed.sort(key=lambda entry: (-entry[0], entry[1].word))
    columns = ("dimension", "from", "times", "cosine", "floor")
    words = _tight("Words that changed most before the last century", "word", columns)
    for _, word in changed[:_N_WORDS]:
        at = next(i for i, c in enumerate(word.change_last) if c is not None)
        cosine, floor = word.to_last[at], word.floor_last[at]
        numbers = (f"{word.counts[at]:,}", f"{cosine:.2f}", f"{floor:.2f}")
        words.add_row(word.word, word.dimension, _name(names[at]), *numbers)
    return [table, note, words] if changed else [table, note]


def perplexity_parts(table: PerplexityTable) -> list[Part]:
    """Every model on every century's held-out text, each kind of held-out text by itself."""
    return [
        part
        for split, rows in table.splits.items()
        for part in split_parts(f"Perplexity per token: {SPLIT_NAMES[split]}", rows)
    ]


def split_parts(title: str, rows: SplitTable) -> list[Part]:
    """Every model on every century's text of one kind."""
    if not any(rows.passages):
        return [Text(f"{title}: there are none.\n")]
    table = _tight(title, "text \\ model", map(_name, rows.centuries))
    for row, (name, won) in enumerate(zip(rows.centuries, rows.diagonal_wins, strict=True)):
        cells = [Text(_perplexity(value)) for value in rows.perplexity[row]]
        cells[row].stylize("bold green" if won else "bold")
        if won:
            cells[row].append("*")
        table.add_row(_name(name), *cells)
    wins = [won for won in rows.diagonal_wins if won is not None]
    own = _tight("Own model beside the best other", "text", (
        "bits/char", "best other", "worse by", "passages", "documents", "errors over",
    ))  # fmt: skip
    for row, paired in enumerate(rows.paired):
        if rows.passages[row]:
            own.add_row(
                _name(rows.centuries[row]),
                f"{rows.bits_per_character[row, row]:.3f}",
                _NONE if paired is None else _name(paired.other),
                _NONE if paired is None else _difference(paired),
                f"{rows.passages[row]:,}",
                f"{rows.documents[row]:,}",
                f"{rows.clusters[row]}s",
            )
    count = Text(f"* diagonal wins {sum(wins)} of {len(wins)} rows\n", style="bold")
    return [table, count, own, Text("Worse by: nats per token, ± 2 standard errors.\n")]


def values_parts(history: History, measured: MeasuredValues | None = None) -> list[Part]:
    """How far each dimension of the value embedding ranges over centuries, beside its noise.

    Args:
        history: what was measured.
        measured: question by question, where that is known.
    """
    if history.n_centuries < 2:
        return []
    if measured is not None:
        return [
            *_paired_parts(history, measured.dimensions),
            *_understanding_parts(measured.understanding),
        ]
    columns = ("lowest", "highest", "noise (se)", "p, adjusted", "centuries differ")
    table = _tight(f"Measured values over {history.n_centuries} centuries", "dimension", columns)
    found = differing(history.values, history.standard_errors)
    for row in found:
        adjusted = "< 0.001" if row.adjusted < 0.001 else f"{row.adjusted:.3f}"
        verdict = Text("yes", style="bold green") if row.differs else Text("not shown")
        numbers = (f"{value:.3f}" for value in (row.low, row.high, row.noise))
        table.add_row(row.dimension, *numbers, adjusted, verdict)
    note = Text(
        f"{sum(row.differs for row in found)} of {len(found)} dimensions differ at 5% (chi-square, "
        "Holm). Standard errors are over questions, the same for all centuries: differences may "
        "be missed. Another training run is not in them.\n"
    )
    return [table, note]


def _paired_parts(history: History, paired: Sequence[PairedDimension]) -> list[Part]:
    columns = ("questions", "lowest", "highest", "noise", "p, adjusted", "centuries differ")
    table = _tight(f"Measured values over {history.n_centuries} centuries", "dimension", columns)
    for row in paired:
        adjusted = f"{row.adjusted:.3f}" if row.adjusted >= 0.001 else "< 0.001"
        verdict = Text("yes", style="bold green") if row.differs else Text("not shown")
        numbers = (min(row.values), max(row.values), row.difference_error)
        cells = [f"{row.questions}", *(f"{number:.3f}" for number in numbers), adjusted]
        table.add_row(row.dimension, *cells, verdict)
    note = Text(
        f"{sum(row.differs for row in paired)} of {len(paired)} dimensions differ at 5% (answers "
        "to each question dealt to the centuries at random, Holm). Noise: standard error of the "
        "difference of two centuries, over questions. Another training run is not in it.\n"
    )
    return [table, note]


def _understanding_parts(understanding: Mapping[str, Understanding]) -> list[Part]:
    columns = ("of two, %", "choices", "of four, %", "choices")
    table = _tight("Timeless choices that no model was tuned on, right", "", columns)
    for name, one in understanding.items():
        shares = (f"{100 * one.two:.1f}", f"{one.n_two}", f"{100 * one.four:.1f}", f"{one.n_four}")
        table.add_row(_name(name), *shares)
    return [table, Text("Chance is 50 and 25. A model at chance does not read what it is asked.\n")]


def _tight(title: str, first: str, columns: Sequence[str] | map[str]) -> Table:
    """A table whose columns stand close, so that nine centuries fit 80 columns."""
    table = plain_table(title, first, tuple(columns))
    table.padding = (0, 1, 0, 0)
    table.pad_edge = False
    return table


def _name(century: str) -> str:
    return century if len(century) <= _NAME else century[: _NAME - 1] + "…"


def _change(change: MeanChange) -> str:
    if change.mean is None:
        return _NONE
    error = "" if change.standard_error is None else f" ± {2 * change.standard_error:.2f}"
    return f"{change.mean:+.2f}{error}"


def _difference(paired: Paired) -> str:
    error = "" if paired.standard_error is None else f" ± {2 * paired.standard_error:.3f}"
    return f"{paired.difference:+.3f}{error}"


def _perplexity(value: float) -> str:
    if np.isnan(value):
        return _NONE
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"

"""The cards of a history made of text: of its models, and of the data they were made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from progressgym_env.files import write_text
from progressgym_env.histories.text.analysis import TextAnalysis
from progressgym_env.histories.text.corpus import DROPPED, QUARANTINE, REPORT
from progressgym_env.histories.text.corpus_report import CorpusReport
from progressgym_env.histories.text.passages import TEXT_FOLDER
from progressgym_env.histories.text.perplexity_table import SplitTable
from progressgym_env.histories.text.recipe import Recipe
from progressgym_env.histories.text.values_paired import MeasuredValues

__all__ = ["write_cards"]

_SPLIT_WORDS = {
    "document": "documents held out whole, by their titles within a century",
    "passage": "passages held out of documents that were otherwise trained on",
}


def write_cards(
    out: Path,
    recipe: Recipe,
    analysis: TextAnalysis,
    values: MeasuredValues,
    held_out: Mapping[str, Sequence[str]],
) -> None:
    """Write ``README.md``, the model card, and ``text/README.md``, the data card.

    Args:
        out: the history's folder; ``text/report.json`` lies in it.
        recipe: that it was made by.
        analysis: of its text, with perplexities.
        values: which values differ between its models.
        held_out: century → titles of the documents that are held out whole.
    """
    raw = json.loads((out / TEXT_FOLDER / REPORT).read_text(encoding="utf-8"))
    report = CorpusReport.from_json(raw)
    write_text(out / "README.md", _model_card(recipe, analysis, values))
    write_text(out / TEXT_FOLDER / "README.md", _data_card(recipe, analysis, report, held_out))


def _model_card(recipe: Recipe, analysis: TextAnalysis, values: MeasuredValues) -> str:
    base = recipe.base.model or "a small Llama from nothing"
    kind = "LoRA adapters over one base" if recipe.pretrain.method == "lora" else "full models"
    front = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    if recipe.base.model:
        front.append(f"base_model: {recipe.base.model}")
    front += ["tags:", "- progress-alignment", "- historical-language-model", "---"]
    names = analysis.names
    lines = [
        *front,
        "",
        f"# {recipe.name}",
        "",
        recipe.description or "A history made of text.",
        "",
        f"{len(names)} models, {names[0]} to {names[-1]}: {kind}. The base is {base}. Every model "
        "went on learning from the text of its century and was then tuned on one small set of "
        "timeless, value-neutral conversations, so that it answers. Built by progressgym-env; "
        "`recipe.json` holds every setting.",
        "",
        'Use: `gymnasium.make("ProgressGym/Follow-v0", history=PATH)` with the path of this '
        "folder.",
        "",
        "## Perplexity",
        "",
        "Rows: the century of the text. Columns: the century of the model. The best of a row is "
        "bold. Per token, so only columns of one row compare.",
    ]
    if analysis.perplexity is not None:
        for split, table in analysis.perplexity.splits.items():
            lines += ["", *_perplexity_lines(split, table)]
    lines += ["", "## Values", "", *_value_lines(values)]
    lines += [
        "",
        "## Limits",
        "",
        "A model speaks for the text it was made of, not for a century's people: for those who "
        "wrote, whose writing was kept and copied, in the translation and spelling at hand. The "
        "data card, `text/README.md`, says which text that is. Do not take its values for history.",
        "",
    ]
    return "\n".join(lines)


def _perplexity_lines(split: str, table: SplitTable) -> list[str]:
    wins = [won for won in table.diagonal_wins if won is not None]
    perplexity = table.perplexity
    rows = []
    for i, century in enumerate(table.centuries):
        if not table.passages[i]:
            continue
        cells = [f"{value:.1f}" for value in perplexity[i]]
        best = int(np.argmin(perplexity[i]))
        cells[best] = f"**{cells[best]}**"
        rows.append([century, *cells])
    return [
        f"On {_SPLIT_WORDS[split]}: a century's own model is the best in {sum(wins)} of "
        f"{len(wins)} rows.",
        "",
        *_markdown(["text", *table.centuries], rows),
    ]


def _value_lines(values: MeasuredValues) -> list[str]:
    found = values.dimensions
    understood = list(values.understanding.values())
    rows = [
        [
            one.dimension,
            f"{one.questions}",
            f"{min(one.values):.3f}",
            f"{max(one.values):.3f}",
            f"{one.difference_error:.3f}",
            f"{one.adjusted:.3g}",
            "yes" if one.differs else "no",
        ]
        for one in found
    ]
    head = ["dimension", "questions", "lowest", "highest", "error of a difference", "adjusted p"]
    return [
        f"{sum(one.differs for one in found)} of {len(found)} dimensions differ between these "
        "models beyond chance (answers to each question dealt out to the centuries at random; "
        "Holm's correction over dimensions; 5%). Another training, or other books of the same "
        "centuries, is not in that.",
        "",
        "Do the models read what they are asked? Of harmless choices that they were not tuned on "
        f"they give the right one of two {_range(u.two for u in understood)} of the probability "
        f"(chance: 50%), the right one of four {_range(u.four for u in understood)} (25%).",
        "",
        *_markdown([*head, "differs"], rows),
    ]


def _data_card(
    recipe: Recipe,
    analysis: TextAnalysis,
    report: CorpusReport,
    held_out: Mapping[str, Sequence[str]],
) -> str:
    broken = _counted(report.quarantined)
    removed = sum(file.removed for file in report.files)
    repaired: Counter[str] = Counter()
    for file in report.files:
        repaired.update(file.repaired)
    settings = [[name, _shown(value)] for name, value in recipe.text.to_json().items()]
    files = [
        [file.name, f"{file.records:,}", file.revision or file.sha256[:12]] for file in report.files
    ]
    return "\n".join(
        [
            f"# The text of {recipe.name}",
            "",
            f"{report.records:,} records of {len(report.files)} files. Quarantined, as they could "
            f"not be used: {broken} (`{QUARANTINE}`). Passages that filters left out are in "
            f"`{DROPPED}`, each with the reason. Records left out, as their century was not asked "
            f"for or full: {_counted(report.left_out)}. Files not read: {len(report.skipped)}. "
            f"Records whose encoding was repaired: {_counted(repaired)}. Control characters "
            f"removed: {removed}. Works that several centuries have parts of, and which are "
            f"therefore not held out whole: {len(report.shared)}. Licences are those of the "
            "sources.",
            "",
            *_markdown(
                ["century", "years", "documents", "passages", "characters", "sources", "dropped"],
                _century_rows(analysis, report),
            ),
            "",
            "## Held out whole",
            "",
            *(
                f"- {century}: {'; '.join(titles) or 'none'}"
                for century, titles in held_out.items()
            ),
            "",
            "## Files",
            "",
            *_markdown(["file", "records", "revision or SHA-256"], files),
            "",
            "## Settings",
            "",
            *_markdown(["setting", "value"], settings),
            "",
        ]
    )


def _century_rows(analysis: TextAnalysis, report: CorpusReport) -> list[list[str]]:
    rows = []
    for text, century in zip(analysis.centuries, report.centuries, strict=True):
        years = "–".join(map(str, dict.fromkeys(text.years)))
        dropped = _counted(century.dropped)
        sources = ", ".join(century.sources)
        rows.append(
            [
                text.name,
                years,
                f"{text.documents:,}",
                f"{text.passages:,}",
                f"{text.characters:,}",
                sources,
                dropped,
            ]
        )
    return rows


def _range(shares: Iterable[float]) -> str:
    found = [round(100 * share) for share in shares]
    return f"{min(found)} to {max(found)}%"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {why}" for why, n in counts.items()) or "none"


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]

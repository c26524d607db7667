"""The analysis of a history that was built from text: read, or made from the stored passages."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from progressgym_env.errors import HistoryError, unknown_name
from progressgym_env.histories.asked import prepared_with
from progressgym_env.histories.declared import DECLARED
from progressgym_env.histories.folder import HISTORY_FILE, read_header
from progressgym_env.histories.history import History
from progressgym_env.histories.loading import HISTORIES, is_named
from progressgym_env.histories.records import Records
from progressgym_env.histories.text.analysis import TextAnalysis, analyse, read_analysis
from progressgym_env.histories.text.corpus import build_corpus
from progressgym_env.histories.text.corpus_report import CorpusReport
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.passages import ANALYSIS_FILE, TEXT_FOLDER, read_passages
from progressgym_env.histories.text.perplexity_table import SplitTable
from progressgym_env.histories.text.values_paired import MeasuredValues, read_values

__all__ = ["analysis_of", "folder_of", "left_out_of", "score_text", "values_of"]

_REMEDY = (
    "give the folder of one that was, or build one from text of your own: "
    "progressgym history build --help"
)


def folder_of(history: str) -> Path:
    """The folder of a history, by path or by a name that stands for one.

    Raises:
        HistoryError: a name of a history that was not built from text, or is not prepared yet.
        UnknownNameError: neither a name nor a folder.
    """
    if history in DECLARED:
        return prepared_with(history, None, None)
    if is_named(history):
        raise HistoryError(f"history {history!r} was not built from text; {_REMEDY}")
    path = Path(history)
    if not path.is_dir():
        raise unknown_name("history", history, [*HISTORIES, *DECLARED, "PATH to a history folder"])
    return path.resolve()


def analysis_of(folder: Path, seed: int = 0) -> tuple[TextAnalysis, bool]:
    """The analysis of a history's text, and whether it was stored.

    Args:
        folder: of the history.
        seed: of an analysis that is made, which then lacks perplexities.

    Raises:
        HistoryError: there is no text, or the stored analysis or the passages are damaged.
    """
    text = folder / TEXT_FOLDER
    if (text / ANALYSIS_FILE).is_file():
        return read_analysis(text), True
    centuries = _centuries(folder)
    if not centuries:
        raise HistoryError(
            f"{folder} holds no {TEXT_FOLDER}/{ANALYSIS_FILE} and no {TEXT_FOLDER}/passages: it "
            f"was not built from text; {_REMEDY}"
        )
    return analyse(text, centuries, np.random.default_rng(seed)), False


def values_of(folder: Path) -> MeasuredValues | None:
    """What the build found out about a history's values; None where they were measured anew since.

    Raises:
        HistoryError: the file or the history is damaged.
    """
    found = read_values(folder / TEXT_FOLDER)
    if found is None or not (folder / HISTORY_FILE).is_file():
        return None
    header = read_header(folder)
    records = Records.read(folder / header.numbers, folder / header.replies, header.centuries)
    told = np.array([one.values for one in found.dimensions]).T
    same = told.shape == records.values.shape and np.allclose(told, records.values, atol=1e-9)
    return found if same else None


def score_text(
    history: History,
    sources: Sequence[str],
    *,
    device: str = "auto",
    passages: int = 100,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> tuple[SplitTable, CorpusReport]:
    """How well every century's model predicts other text: such as none of them has ever seen.

    The text is cleaned and filtered as the history's own was, or in the usual way where that is not
    known; records that cannot be used are counted, and never stop it.

    Args:
        history: of language models, all with one tokenizer.
        sources: files, folders or patterns, as a recipe's; text of centuries that the history does
            not have is left out.
        device: where the models run.
        passages: of a century at most, evenly drawn.
        progress: called with (stage, done, in all).

    Returns:
        A table in which a century without text has a row of None, and what was read and left out.

    Raises:
        InvalidArgumentError: a source names no file.
        HistoryError: nothing of the text can be used, or the history has no language models, or
            they have different tokenizers.
    """
    recipe = history.provenance.get("recipe")
    own = recipe.get("text", {}) if isinstance(recipe, dict) else {}
    settings = TextSettings.from_table(
        {
            **own,
            "sources": list(sources),
            "centuries": list(history.names),
            "max_century_characters": None,
            "min_century_characters": 0,
            "max_broken_share": 1.0,
            "damaged_files": True,
            "held_out_documents": 0.0,
            "held_out_passages": 0.0,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)  # Nothing is drawn: nothing is held out.
        report = build_corpus(settings, Path.cwd(), Path(folder), rng, progress)
        found = [century.name for century in report.centuries]
        texts = {name: list(read_passages(Path(folder), name)) for name in found}
    if not any(texts.values()):
        raise HistoryError(
            f"no passage of {report.records} records is left to predict; left out: "
            f"{left_out_of(report) or 'none'}"
        )
    from progressgym_env.histories.text.perplexity import scored_table

    table = scored_table(history, texts, device=device, passages=passages, progress=progress)
    return table, report


def left_out_of(report: CorpusReport) -> str:
    """What of a text was not used, and why, in words; empty where all of it was."""
    dropped: Counter[str] = Counter()
    for century in report.centuries:
        dropped.update(century.dropped)
    counts = [(report.quarantined, "records quarantined"), (report.left_out, "records of")]
    told = [f"{n} {what}: {why}" for reasons, what in counts for why, n in reasons.items()]
    return "; ".join([*told, *(f"{n} passages dropped: {why}" for why, n in dropped.items())])


def _centuries(folder: Path) -> tuple[str, ...]:
    """The centuries that there are passages of: in the history's order, or by name."""
    ending = ".jsonl.gz"
    found = sorted(
        path.name.removesuffix(ending)
        for path in (folder / TEXT_FOLDER / "passages").glob(f"[!.]*{ending}")
    )
    if found and (folder / HISTORY_FILE).is_file():
        # Also those without passages: reading them says what is missing.
        return read_header(folder).centuries
    return tuple(found)

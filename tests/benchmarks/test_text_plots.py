"""Pictures and tables of the text that a history was built from."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from progressgym_env.benchmarks.text_display import text_parts, values_parts
from progressgym_env.benchmarks.text_plots import draw_text
from progressgym_env.histories.text.analysis import TextAnalysis, analyse
from progressgym_env.histories.text.counting import AnalysisSettings
from progressgym_env.histories.text.passages import Passage, write_passages
from progressgym_env.histories.text.perplexity_table import (
    HELD_OUT,
    PassageScores,
    PerplexityTable,
)
from progressgym_env.values.dimensions import DIMENSION_KEYS, DIMENSIONS
from tests.scripted import scripted_history

NAMES = tuple(f"C{number:03d}" for number in range(13, 22))
STEMS = ("characters", "overlap", "frequencies", "drift", "perplexity-document",
         "perplexity-passage")  # fmt: skip
WORDS = [
    "kill",
    "law",
    "sin",
    "love",
    "truth",
    "duty",
    "freedom",
    "red",
    "blue",
    "green",
    "stone",
    "tree",
    "of",
    "the",
    "and",
]


def written(folder: Path, names: tuple[str, ...] = NAMES, n_documents: int = 3) -> None:
    draw = np.random.default_rng(0)
    for place, name in enumerate(names):
        write_passages(
            folder,
            name,
            [
                Passage(name, 1200 + 100 * place, f"source $_{k % 2}$", f"d{k % n_documents}",
                        " ".join(draw.choice(WORDS, 40)), "document" if k == 0 else "train")
                for k in range(9)
            ],
        )  # fmt: skip


def perplexities(names: tuple[str, ...], empty: str = "") -> PerplexityTable:
    """The own model is best everywhere but in the second row; ``empty`` has no passages."""
    n = len(names)
    splits = {}
    for split in HELD_OUT:
        texts = []
        for row in range(n):
            distance = np.abs(np.arange(n) - row).astype(float)
            if row == 1:
                distance[row] = 9.0
            nll = np.outer(3 + distance / 10, [10, 20, 30]) + np.arange(3) / 9
            n_passages = 0 if split == empty else 3
            texts.append(
                PassageScores(nll[:, :n_passages], *np.array([[10, 20, 30], [40, 80, 90],
                                                              [0, 1, 1]])[:, :n_passages])
            )  # fmt: skip
        splits[split] = texts
    return PerplexityTable.from_passages(names, splits)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory) -> TextAnalysis:
    folder = tmp_path_factory.mktemp("text")
    written(folder)
    quick = AnalysisSettings(n_draws=2, n_resamples=50, min_context=3, min_word=5, min_half=2,
                             n_halvings=3)  # fmt: skip
    found = analyse(folder, NAMES, np.random.default_rng(0), quick)
    return replace(found, perplexity=perplexities(NAMES))


def shown(parts, width: int = 80) -> str:
    console = Console(width=width, record=True, file=StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, analysis: TextAnalysis) -> tuple[Path, ...]:
    return draw_text(tmp_path_factory.mktemp("pictures"), analysis, "made up $x$")


def test_all_pictures_are_drawn_the_same_again(
    tmp_path: Path, analysis: TextAnalysis, drawn: tuple[Path, ...]
):
    assert [p.name for p in drawn] == [f"{stem}{end}" for stem in STEMS for end in (".png", ".svg")]
    assert sorted(drawn) == sorted(drawn[0].parent.iterdir())
    draw_text(tmp_path, analysis, "made up $x$")
    for path in drawn:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
        if path.suffix == ".png":
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            assert 0.02 < (pixels < 250).any(axis=-1).mean() < 0.95
            edges = (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:])
            assert all((edge == 255).all() for edge in edges), "nothing is cut off"


def texts_of(path: Path) -> list[str]:
    return [text.strip() for text in re.findall(r"<!-- (.*?) -->", path.read_text())]


def test_pictures_say_what_they_show(drawn: tuple[Path, ...]):
    folder = drawn[0].parent
    texts = texts_of(folder / "perplexity-document.svg")
    assert sum(text.endswith("✓") for text in texts) == 8
    assert any("best in 8 of 9 rows" in text for text in texts)
    assert {d.label for d in DIMENSIONS} <= set(texts_of(folder / "frequencies.svg"))
    assert {*NAMES, "3 documents"} <= set(texts_of(folder / "characters.svg"))
    assert any("360 running words" in text for text in texts_of(folder / "overlap.svg"))
    assert any("noise floor" in text for text in texts_of(folder / "drift.svg"))


@pytest.mark.parametrize("names", [("C013",), ("C013", "a century with a long name")])
def test_one_century_or_rare_words_are_no_reason_to_fail(tmp_path: Path, names: tuple[str, ...]):
    written(tmp_path / "text", names, n_documents=1)
    found = analyse(tmp_path / "text", names, np.random.default_rng(0))
    found = replace(found, perplexity=perplexities(names, empty="document"))
    (out := tmp_path / "out").mkdir()
    stems = {path.stem for path in draw_text(out, found, "made up")}
    expected = {*STEMS} - {"perplexity-document"} - ({"drift"} if len(names) == 1 else set())
    assert stems == expected
    text = shown(text_parts(found))
    assert "documents held out whole: there are none" in text
    assert "–" in text


def test_tables_fit_80_columns(analysis: TextAnalysis):
    text = shown(text_parts(analysis))
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.strip() for line in text.splitlines()]
    assert "…" not in text, "nothing is cut"
    assert text.count("* diagonal wins 8 of 9 rows") == 2
    (row, *_) = [line.split() for line in lines if line.startswith("C014 ") and "1,7" in line]
    assert row[:2] == ["C014", "1300"]
    winners = [line for line in lines if re.match(r"C0\d\d ", line) and "*" in line]
    assert len(winners) == 16
    assert not any(line.startswith("C014") for line in winners)
    for key in DIMENSION_KEYS:
        assert any(line.startswith(key) for line in lines)
    assert "Perplexities: not measured" in shown(text_parts(replace(analysis, perplexity=None)))


def test_the_values_table_says_which_dimensions_differ():
    text = shown(values_parts(scripted_history()))
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"\d+ of 19 dimensions differ", text)
    assert all(re.search(rf"^ *{key} ", text, re.MULTILINE) for key in DIMENSION_KEYS)

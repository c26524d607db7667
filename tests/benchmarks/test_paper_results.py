"""The page of results says what was found, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path

from progressgym_env import histories
from progressgym_env.benchmarks.bench_config import matrix_from, named_file
from progressgym_env.benchmarks.results import board_of, ranking_table, read_results
from progressgym_env.scoring import uniform_floor

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "results.md").read_text(encoding="utf-8")
FILE = DOCS / "benchmark-results.json"


def test_the_table_is_that_of_the_results():
    assert ranking_table(board_of(read_results(FILE))) in PAGE


def test_the_results_are_of_the_papers_matrix_and_the_shipped_history():
    found, raw = read_results(FILE), json.loads(FILE.read_text(encoding="utf-8"))
    history = histories.load("embedded")
    assert raw["history_digest"] == history.digest
    assert raw["question_set_hash"] == history.questions.hash
    cells = matrix_from(named_file("paper"), {}).cells
    seeds = {cell.seed for cell in found}
    assert list(found) == [cell for cell in cells if cell.seed in seeds], "nothing is missing"
    for cell, kept in found.items():
        assert abs(sum(kept["rewards"]) - kept["score"]) < 1e-9, cell


def test_floors_named_in_the_page():
    for challenge in ("follow", "coevolve"):
        assert f"{uniform_floor(challenge):.4f}" in PAGE


def test_differences_in_the_page_follow_from_the_results():
    """Every line `A − B on TASK: +0.0123` in the lists of the page."""
    scores = {
        (cell.task, cell.algorithm, cell.seed): kept["score"]
        for cell, kept in read_results(FILE).items()
    }
    lines = re.findall(r"`(.+?)` over `(.+?)` in (\w+): ([+−]\d\.\d{4})", PAGE)
    assert len(lines) >= 10
    for one, other, challenge, stated in lines:
        task, seeds = challenge.lower(), {seed for *_, seed in scores}
        ahead = [scores[task, one, seed] - scores[task, other, seed] for seed in seeds]
        assert f"{sum(ahead) / len(ahead):+.4f}".replace("-", "−") == stated, (one, other)

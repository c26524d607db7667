"""The README is true: its examples run, its numbers are those of the shipped history."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from progressgym_env import histories
from progressgym_env.histories.embedded.fidelity import reply_quality
from progressgym_env.histories.embedded.grammar import load_grammar

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "reinforcement-learning.md").read_text(encoding="utf-8")
UPDATES = (ROOT / "docs" / "updates.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README + GUIDE + UPDATES, flags=re.DOTALL)
# What each prints, in order: a score; what its comment says; a number; nothing.
PRINTED = ("score", "score", r"\(19,\) \(4, 19\)", r"\d+", "", "", "", "", r"0\.\d\d")


def test_every_example_is_known():
    assert len(EXAMPLES) == len(PRINTED)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run_as_they_stand_and_print_what_they_say(number, tmp_path):
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[number], encoding="utf-8")
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environ, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if PRINTED[number] == "score":
        assert 0.8 < float(done.stdout) < 1.0
    else:
        assert re.fullmatch(PRINTED[number], done.stdout.strip())
    assert [path.name for path in tmp_path.iterdir()] == ["example.py"]


def test_fidelity_is_that_of_the_shipped_history():
    folder = Path(histories.__file__).parent / "embedded" / "data"
    stored = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    fidelity = stored["provenance"]["fidelity"]
    rows = {
        "held-out scenarios, known acts": "held_out",
        "held-out scenarios, acts that no century was fitted on": "unseen_acts",
        "control: the base without adapters, for every century": "frozen_control",
    }
    for label, part in rows.items():
        (row,) = (line for line in README.splitlines() if line.startswith(f"| {label} |"))
        printed = [float(cell) for cell in row.split("|")[2:-1]]
        numbers = [fidelity[part][k] for k in ("pearson_r", "dimension_r", "mean_absolute_error")]
        assert printed == [round(number, 3) for number in numbers]


def test_shares_of_open_replies_are_those_of_the_shipped_history():
    quality = reply_quality(load_grammar(), histories.load("embedded").records.open_replies)
    shares = [quality.well_formed, quality.on_topic, quality.fitting]
    (sentence,) = re.findall(r"Of (\d+)\s+(.*?)that\s+fits", README, flags=re.DOTALL)
    assert int(sentence[0]) == quality.n_replies
    assert [int(n) for n in re.findall(r"(\d+)%", sentence[1])] == [round(100 * s) for s in shares]


def test_quoted_replies_were_given():
    replies = {e.reply for c in histories.load("embedded").records.open_replies for e in c}
    quoted = re.findall(r"\"((?:I|One|It) [^\"]*)\"\s+\(C\d{3}\)", README)
    assert len(quoted) == 3
    # A comma stands where the sentence of the README goes on.
    assert {" ".join(q.split()).rstrip(",.") + "." for q in quoted} <= replies


def test_every_file_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []

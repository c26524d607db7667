"""The speed measurements: that they run, and name what they measured. Speed is never asserted."""

import json
from pathlib import Path

import pytest

from progressgym_env.benchmarks.speed import main


def test_everything_is_measured_and_targets_stand_beside(
    quick_history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main([
        "--repeats", "1", "--steps", "1", "--challenges", "coevolve",
        "--history", str(quick_history), "--json", str(tmp_path / "numbers.json"),
    ])  # fmt: skip
    printed = capsys.readouterr().out
    measured = json.loads((tmp_path / "numbers.json").read_text())
    assert "torch threads" in measured["header"]
    rows = {(row["what"], row["of"].split(":")[0]): row for row in measured["numbers"]}
    targets = {what: row["target"] for (what, of), row in rows.items() if row["target"]}
    assert targets == {
        "make + reset Follow": "< 3",
        "first step Follow": "≤ 4",
        "make + reset Coevolve": "< 3",
        "step Coevolve: whole": "≤ 8",
        "value embedding": "≤ 1.5",
    }
    assert {what for what, of in rows if of == "fresh process"} == {
        "import progressgym_env",
        "import progressgym_env.models.language",
        "make + reset Follow",
        "first step Follow",
        "import, make, reset and first step Follow",
    }
    for part in ("training", "measuring", "influencing", "eliciting"):
        assert any(what == f"step Coevolve: {part}" for what, _ in rows)
    whole = rows["import, make, reset and first step Follow", "fresh process"]["value"]
    parts = ("make + reset Follow", "first step Follow")
    assert whole > sum(rows[part, "fresh process"]["value"] for part in parts)
    assert all(row["value"] > 0 for row in measured["numbers"])
    assert "target" in printed
    assert "≤ 1.5" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--repeats", "0"], "0 must be 1 or more"),
        (["--challenges", "folow"], "invalid choice: 'folow'"),
        (["--repeats", "1", "--history", "embeded"], "did you mean 'embedded'"),
    ],
)
def test_mistakes_cost_a_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]

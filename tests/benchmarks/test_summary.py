"""The table: means, spreads and skill."""

import pytest

from progressgym_env.benchmarks.summary import Spread, summarise

SCORES = {
    ("hold", 0): 0.80, ("hold", 1): 0.70,
    ("lifelong", 0): 0.85, ("lifelong", 1): 0.75,
    ("oracle", 0): 0.90, ("oracle", 1): 0.90,
}  # fmt: skip
SECONDS = dict.fromkeys(SCORES, 2.0)


def test_skill_is_measured_seed_by_seed_from_hold_to_oracle():
    rows, notes = summarise(["hold", "lifelong", "oracle"], [0, 1], SCORES, SECONDS)
    assert notes == ()
    hold, lifelong, oracle = rows
    assert hold.skill == Spread(0.0, 0.0, 2)
    assert oracle.skill == Spread(1.0, 0.0, 2)
    assert lifelong.skill is not None
    assert lifelong.skill.mean == pytest.approx((0.5 + 0.25) / 2)
    assert lifelong.skill.sd == pytest.approx(0.25 / 2**0.5)
    assert lifelong.score is not None
    assert lifelong.score.text(3) == "0.800 ± 0.071"


def test_a_single_seed_has_no_spread():
    rows, _ = summarise(["hold"], [0], SCORES, SECONDS)
    assert rows[0].score == Spread(0.80, None, 1)
    assert rows[0].score.text(3) == "0.800"


@pytest.mark.parametrize(
    ("agents", "missing"),
    [(["lifelong"], "hold and oracle"), (["hold", "lifelong"], "oracle")],
)
def test_skill_is_never_invented(agents: list[str], missing: str):
    rows, notes = summarise(agents, [0], SCORES, SECONDS)
    assert [row.skill for row in rows] == [None] * len(agents)
    assert notes == (
        f"No skill: it is measured from hold (0) to oracle (1); add {missing} to --agents.",
    )


def test_without_a_gap_there_is_no_skill():
    scores = {**SCORES, ("oracle", 1): 0.70}
    rows, notes = summarise(["hold", "lifelong", "oracle"], [0, 1], scores, SECONDS)
    assert rows[1].skill == Spread(pytest.approx(0.5), None, 1)
    assert notes == ("No skill for seed 1: the oracle scored no more than hold there.",)


def test_what_did_not_finish_is_said():
    scores = {cell: score for cell, score in SCORES.items() if cell != ("oracle", 1)}
    rows, notes = summarise(["hold", "lifelong", "oracle", "random"], [0, 1], scores, SECONDS)
    assert rows[3].score is None
    assert rows[1].skill == Spread(pytest.approx(0.5), None, 1)
    assert notes == ("oracle: 1 of 2 episodes finished.", "random: 0 of 2 episodes finished.")

"""The ranking: one scale a task, floors always there, holes named and never averaged away."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env.benchmarks.leaderboard import Leaderboard
from progressgym_env.benchmarks.matrix import Block, Cell
from progressgym_env.scoring import uniform_floor
from tests.benchmarks.made import cell

SEEDS = (0, 1, 2, 3)
ROWS = {
    ("hold", "follow"): [0.2, 0.2, 0.2, 0.2],
    ("hold", "predict"): [0.4, 0.5, 0.4, 0.5],
    ("lifelong", "follow"): [0.5, 0.6, 0.7, 0.8],
    ("lifelong", "predict"): [0.5, 0.6, 0.6, 0.7],
    ("random", "follow"): [0.1, 0.1, 0.3, 0.3],
    ("random", "predict"): [0.1, 0.1, 0.3, 0.3],
    ("oracle", "follow"): [1.0, 1.0, 1.0, 1.0],
    ("oracle", "predict"): [0.8, 0.9, 0.8, 0.9],
}
SCORES = {
    cell(agent, seed, challenge): score
    for (agent, challenge), row in ROWS.items()
    for seed, score in zip(SEEDS, row, strict=True)
}


def board(scores: dict[Cell, float] = SCORES) -> Leaderboard:
    return Leaderboard(list(SCORES), scores)


def test_skill_is_the_lead_over_hold_in_units_of_the_oracles_seed_by_seed():
    found = board()
    hold, own = found.standing("hold · dpo", "predict"), found.standing("lifelong · dpo", "predict")
    assert hold is not None
    assert own is not None
    assert hold.skill is not None
    # Hold's own chance is nobody's skill: it is 0 on every seed.
    assert (hold.skill.value, hold.skill.low, hold.skill.high) == (0, 0, 0)
    assert own.score is not None
    assert own.skill is not None
    assert own.score.value == pytest.approx(0.6)
    assert own.skill.value == pytest.approx((0.1 + 0.1 + 0.2 + 0.2) / 4 / 0.4)
    oracle = found.standing("oracle · dpo", "follow")
    assert oracle is not None
    assert oracle.skill is not None
    assert oracle.skill.value == pytest.approx(1)


def test_the_overall_skill_is_the_middle_half_over_all_tasks():
    # Follow: 3/8, 4/8, 5/8, 6/8; Predict: .25, .25, .5, .5. The middle four: .375, .5, .5, .5.
    overall = board().overall("lifelong · dpo")
    assert overall is not None
    assert overall.value == pytest.approx((0.375 + 0.5 + 0.5 + 0.5) / 4)
    assert overall.n == 8


def test_floors_are_always_there():
    floors = board().floors("follow")
    assert floors["uniform"] == uniform_floor("follow")
    assert floors["random"] == pytest.approx(0.2)
    assert floors["hold"] == pytest.approx(0.2)
    alone = {c: s for c, s in SCORES.items() if c.agent == "lifelong"}
    floors = Leaderboard(list(alone), alone).floors("follow")
    assert floors == {"uniform": uniform_floor("follow"), "random": None, "hold": None}


def test_a_hole_is_named_and_averaged_nowhere():
    holed = {c: s for c, s in SCORES.items() if c != cell("lifelong", 2, "predict")}
    found = board(holed)
    standing = found.standing("lifelong · dpo", "predict")
    assert standing is not None
    assert (standing.score, standing.skill) == (None, None)
    assert (standing.seeds_done, standing.missing) == ((0, 1, 3), (2,))
    assert found.overall("lifelong · dpo") is None
    assert found.notes == (
        "lifelong · dpo on predict is incomplete and counts nowhere: seed 2 missing.",
    )
    whole = found.standing("lifelong · dpo", "follow")
    assert whole is not None
    assert whole.score is not None


def test_an_incomplete_reference_leaves_no_skill_but_the_scores():
    holed = {c: s for c, s in SCORES.items() if c != cell("oracle", 0, "follow")}
    found = board(holed)
    standing = found.standing("lifelong · dpo", "follow")
    assert standing is not None
    assert standing.score is not None
    assert standing.skill is None
    assert "No skill on follow: hold or the oracle is incomplete there." in found.notes


@pytest.mark.parametrize(
    ("agents", "says"),
    [
        (("lifelong",), "add hold and oracle to the agents"),
        (("lifelong", "hold"), "add oracle to the agents"),
    ],
)
def test_without_references_there_is_no_skill(agents: tuple[str, ...], says: str):
    some = {c: s for c, s in SCORES.items() if c.agent in agents}
    found = Leaderboard(list(some), some)
    assert found.overall("lifelong · dpo") is None
    assert all(says in note for note in found.notes)


def test_an_oracle_no_better_than_hold_is_no_scale():
    scores = {c: 0.1 if c.agent == "oracle" else s for c, s in SCORES.items()}
    found = board(scores)
    assert found.overall("lifelong · dpo") is None
    assert "No skill on follow: the oracle scored no more than hold there." in found.notes


def test_all_updates_share_the_scale_of_the_oracle_with_dpo():
    block = Block(("hold", "lifelong", "oracle"), ("follow",), ("rlhf", "dpo"))
    worth = {"hold": 0.2, "lifelong": 0.6, "oracle": 1.0}
    cells = block.cells((0,))
    scores = {c: worth[c.agent] - (0.2 if c.update == "rlhf" else 0.0) for c in cells}
    found = Leaderboard(cells, scores)
    assert found.oracle("follow") == "oracle · dpo"
    own = found.standing("lifelong · rlhf", "follow")
    assert own is not None
    assert own.skill is not None
    # (0.4 − 0.2) / (1.0 − 0.2), not by RLHF's own oracle.
    assert own.skill.value == pytest.approx(0.25)
    only = [c for c in cells if c.update == "rlhf"]
    assert Leaderboard(only, scores).oracle("follow") == "oracle · rlhf"


def test_comparisons_leave_the_references_out_and_holes_too():
    cells = [
        cell(agent, seed, challenge)
        for agent, challenge, seed in product(("a", "b", "hold"), ("follow", "predict"), SEEDS)
    ]
    scores = {c: 0.5 + 0.1 * (c.agent == "b") + 0.01 * c.seed for c in cells}
    found = Leaderboard(cells, scores).comparisons
    assert [(c.task, c.one, c.other) for c in found] == [
        (task, "a · dpo", "b · dpo") for task in ("follow", "predict", "all")
    ]
    for compared in found:
        assert compared.comparison.ahead.value == pytest.approx(-0.1)
        assert compared.comparison.ahead.high == pytest.approx(-0.1), "paired, seed by seed"
        assert compared.comparison.improvement.value == pytest.approx(0)
    del scores[cell("b", 3, "predict")]
    assert [c.task for c in Leaderboard(cells, scores).comparisons] == ["follow"]


@settings(max_examples=15, deadline=None)
@given(st.permutations(list(SCORES)))
def test_the_order_of_the_scores_changes_nothing(order):
    shuffled = {c: SCORES[c] for c in order}
    assert board(shuffled).as_dict() == board().as_dict()

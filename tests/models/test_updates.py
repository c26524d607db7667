"""Updates: settings, names, and how a proposal becomes examples."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_pairs

from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.models.base import PreferenceData
from progressgym_env.models.updates import (
    UPDATES,
    DPOSettings,
    DPOUpdate,
    SFTSettings,
    SFTUpdate,
    TrainingExample,
    TrainingUpdate,
    examples_from,
    resolve_update,
)
from progressgym_env.values.forms import Prompt, question_prompts

PAIRS = make_pairs(12, n_views=6)
COPIES = st.lists(st.integers(-5, 5), min_size=len(PAIRS), max_size=len(PAIRS))
SEEDS = st.integers(0, 2**63)
PROMPTS = {
    prompt.text: (pair.question, prompt)
    for pair in PAIRS
    for prompt in question_prompts(pair.question)
}


def _data(copies: list[int] | int, seed: int = 0) -> PreferenceData:
    filled = np.broadcast_to(np.asarray(copies, dtype=np.int64), len(PAIRS)).copy()
    return PreferenceData(PAIRS, filled, seed)


def _option(prompt: Prompt, answer: str) -> int:
    return prompt.credits[prompt.answers.index(answer)]


def _combinations(examples: list[TrainingExample], *, view: bool) -> Counter[tuple[str, int]]:
    """How often each (form, place of the chosen option) occurs."""
    counts: Counter[tuple[str, int]] = Counter()
    for example in examples:
        question, prompt = PROMPTS[example.prompt]
        if question.is_view == view:
            order = [p.credits for p in question_prompts(question) if p.form == prompt.form]
            counts[prompt.form, order.index(prompt.credits)] += 1
    return counts


@settings(deadline=None)
@given(COPIES, SEEDS)
def test_each_copy_prefers_what_the_proposal_prefers(copies: list[int], seed: int) -> None:
    """The chosen answer stands for the preferred option, wherever that option is shown."""
    seen: Counter[tuple[str, int, int]] = Counter()
    for example in examples_from(_data(copies, seed)):
        question, prompt = PROMPTS[example.prompt]
        assert example.rejected is not None
        chosen, rejected = _option(prompt, example.chosen), _option(prompt, example.rejected)
        seen[question.id, chosen, rejected] += 1
    expected: Counter[tuple[str, int, int]] = Counter()
    for pair, n in zip(PAIRS, copies, strict=True):
        sides = (pair.first, pair.second) if n > 0 else (pair.second, pair.first)
        expected[pair.question.id, *sides] += abs(n)
    assert seen == +expected


@settings(deadline=None)
@given(COPIES, SEEDS)
def test_forms_and_orders_are_used_evenly(copies: list[int], seed: int) -> None:
    examples = examples_from(_data(copies, seed))
    for view, n_combinations in ((False, 6), (True, 8)):
        counts = _combinations(examples, view=view)
        fewest = min(counts.values()) if len(counts) == n_combinations else 0
        assert max(counts.values(), default=0) - fewest <= 1


@settings(deadline=None)
@given(st.integers(1, 5), SEEDS)
def test_copies_of_a_pair_are_put_differently(n: int, seed: int) -> None:
    by_pair: dict[frozenset[Any], list[Prompt]] = {}
    for example in examples_from(_data(n, seed)):
        question, prompt = PROMPTS[example.prompt]
        assert example.rejected is not None
        sides = frozenset(_option(prompt, a) for a in (example.chosen, example.rejected))
        by_pair.setdefault(frozenset([question.id, sides]), []).append(prompt)
    assert len(by_pair) == len(PAIRS)
    for prompts in by_pair.values():
        assert len({(p.form, p.credits) for p in prompts}) == n
        orders = Counter(p.credits for p in prompts)
        assert max(orders.values()) <= -(-n // 2)


@pytest.mark.parametrize("view", [False, True])
def test_every_form_and_order_is_equally_likely(view: bool) -> None:
    """Over seeds, for one and the same pair: 3 × 2 combinations, or 2 × 4 for world views."""
    index = next(i for i, pair in enumerate(PAIRS) if pair.question.is_view == view)
    n_seeds, n_combinations = 2400, 8 if view else 6
    counts: Counter[tuple[str, int]] = Counter()
    for seed in range(n_seeds):
        copies = [1] * len(PAIRS)
        copies[index] = -1
        mine = [
            e
            for e in examples_from(_data(copies, seed))
            if PROMPTS[e.prompt][0] == PAIRS[index].question
            and _option(PROMPTS[e.prompt][1], e.chosen) == PAIRS[index].second
        ]
        counts += _combinations(mine, view=view)
    assert sum(counts.values()) == n_seeds
    assert len(counts) == n_combinations
    expected = n_seeds / n_combinations
    chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi_square < 26  # One in a thousand for 8 degrees of freedom.


def test_examples_come_shuffled_and_by_the_seed_alone() -> None:
    first, second = examples_from(_data(3, 1)), examples_from(_data(3, 2))
    assert first == examples_from(_data(3, 1))
    assert first != second
    ids = [PROMPTS[example.prompt][0].id for example in first]
    changes = sum(one != other for one, other in pairwise(ids))
    assert changes > len(ids) / 2


def test_no_copies_give_no_examples() -> None:
    assert examples_from(_data(0)) == []


def test_known_updates() -> None:
    assert sorted(UPDATES) == ["dpo", "rlhf", "sft"]
    for name, update in UPDATES.items():
        assert update.name == name
        assert resolve_update(name) is update
        assert isinstance(update, TrainingUpdate)
    own = DPOUpdate(DPOSettings(beta=0.5), name="firm")
    assert resolve_update(own) is own
    assert own.name == "firm"
    assert isinstance(SFTUpdate().settings, SFTSettings)


def test_an_own_update_needs_no_base_class() -> None:
    class Nothing:
        name = "nothing"

        def train(
            self, model: Any, tokenizer: Any, examples: list[TrainingExample], seed: int
        ) -> None:
            """Learn nothing."""

    update = Nothing()
    assert resolve_update(update) is update


def test_unknown_updates_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"'dop'; known: dpo, rlhf, sft; did you mean 'dpo'"):
        resolve_update("dop")
    with pytest.raises(UnknownNameError, match=r"'ppo'; known: dpo, rlhf, sft"):
        resolve_update("ppo")
    with pytest.raises(InvalidArgumentError, match="'name' and 'train'"):
        resolve_update(3)  # type: ignore[arg-type]


def test_classes_and_foreign_settings_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"not a class; make one: DPOUpdate\(\)"):
        resolve_update(DPOUpdate)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="must be DPOSettings"):
        DPOUpdate(SFTSettings())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="must be SFTSettings"):
        SFTUpdate({"epochs": 2.0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("learning_rate", float("nan")),
        ("learning_rate", "x"),
        ("learning_rate", None),
        ("learning_rate", True),
        ("learning_rate", 1j),
        ("batch_size", "4"),
        ("batch_size", True),
        ("batch_size", [4]),
        ("warmup", "0.1"),
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("epochs", -0.5),
        ("epochs", float("nan")),
        ("weight_decay", -1.0),
        ("warmup", 1.0),
        ("max_grad_norm", -1.0),
        ("beta", 0.0),
        ("beta", np.ones(2)),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{name}=.*must be"):
        replace(DPOSettings(), **{name: value})


def test_numbers_of_numpy_are_numbers() -> None:
    assert SFTSettings(learning_rate=np.float32(0.5), epochs=np.int64(2)).epochs == 2


def test_settings_are_frozen_and_schedules_known() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'linear'"):
        SFTSettings(schedule="linaer")
    with pytest.raises(UnknownNameError, match="schedule"):
        SFTSettings(schedule=[])  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        SFTSettings().epochs = 2.0  # type: ignore[misc]


def test_updates_need_no_torch() -> None:
    code = (
        "import sys, progressgym_env.models.updates as u; u.resolve_update('dpo'); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'trl', 'peft', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

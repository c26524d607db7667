"""RLHF: the reward model is right about pairs it never saw, and the policy follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_examples, make_model, make_tokenizer

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories import load
from progressgym_env.models import rlhf
from progressgym_env.models.base import PreferenceData
from progressgym_env.models.isolation import leaving_no_trace
from progressgym_env.models.rlhf import RewardModel, train_reward, train_rlhf
from progressgym_env.models.training_batches import encode_examples, pack_replies, reply_log_probs
from progressgym_env.models.updates import (
    DPOSettings,
    RLHFSettings,
    RLHFUpdate,
    SFTSettings,
    TrainingExample,
    examples_from,
)
from progressgym_env.values.dimensions import N_TWO_WAY
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.logits import log_odds, pair_directions

TOKENIZER = make_tokenizer()
EXAMPLES = make_examples(10, n_views=3)
SMALL = RLHFSettings(
    reward=DPOSettings(batch_size=4), policy=SFTSettings(batch_size=4), max_new_tokens=6
)


@pytest.fixture
def model() -> Any:
    return make_model(TOKENIZER)


@pytest.fixture
def folder(model: Any) -> Iterator[str]:
    with leaving_no_trace(model) as path:
        yield path


@pytest.fixture(scope="module")
def change() -> tuple[Any, np.ndarray, np.ndarray]:
    """The embedded history, its way from the first century to the last in values, and the side of
    every pair on that way.
    """
    history = load("embedded")
    logits = log_odds(history.values[[0, -1]])
    logits[:, N_TWO_WAY:] -= logits[:, N_TWO_WAY:].mean(axis=1, keepdims=True)
    side = np.sign(pair_directions(history.questions.pairs) @ (logits[1] - logits[0]))
    return history, history.values[-1] - history.values[0], side.astype(int)


def test_packed_replies_have_the_log_probabilities_of_a_plain_forward_pass(model):
    encoded = encode_examples(TOKENIZER, EXAMPLES[:3], 2)
    prompts = [e.prompt for e in encoded for _ in e.replies]
    replies = [reply for e in encoded for reply in e.replies]
    order = [3, 0, 5, 1, 4, 2]
    prompts, replies = [prompts[i] for i in order], [replies[i] for i in order]
    shape = (len(replies), max(map(len, replies)))
    packed = pack_replies(prompts, replies, TOKENIZER.pad_token_id)
    with torch.no_grad():
        found = reply_log_probs(model.get_base_model(), packed, shape)
        for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
            logits = model(input_ids=torch.tensor([prompt + reply])).logits.log_softmax(-1)
            tokens = torch.tensor(reply)[:, None]
            plain = logits[0, len(prompt) - 1 : -1].gather(1, tokens)[:, 0]
            torch.testing.assert_close(found[row, : len(reply)], plain, rtol=0, atol=1e-4)
            assert (found[row, len(reply) :] == 0).all()


def test_a_reward_is_the_likelihood_ratio_of_the_two_adapters(model, folder):
    reward = train_reward(model, TOKENIZER, EXAMPLES, SMALL, 0, folder)
    encoded = encode_examples(TOKENIZER, EXAMPLES[:4], 2)
    prompts, replies = [e.prompt for e in encoded], [e.replies[0] for e in encoded]
    found = reward.rewards(prompts, replies)
    for value, prompt, reply in zip(found, prompts, replies, strict=True):
        sums = []
        for adapter in ("reward", "default"):
            with rlhf.using_adapter(model, adapter), torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + reply])).logits.log_softmax(-1)
                tokens = torch.tensor(reply)[:, None]
                sums.append(float(logits[0, len(prompt) - 1 : -1].gather(1, tokens).sum()))
        assert value == pytest.approx(SMALL.reward.beta * (sums[0] - sums[1]), abs=1e-4)


def test_before_any_training_the_reward_is_nought(model, folder):
    rlhf._copy_adapter(model, "reward")
    reward = RewardModel(model, 0.1, TOKENIZER.pad_token_id)
    encoded = encode_examples(TOKENIZER, EXAMPLES, 1)
    found = reward.rewards([e.prompt for e in encoded], [e.replies[0] for e in encoded])
    np.testing.assert_array_equal(found, 0)


def test_the_reward_model_prefers_what_was_preferred(model, folder):
    reward = DPOSettings(batch_size=4, epochs=8.0, learning_rate=1e-2)
    settings = replace(SMALL, reward=reward)
    reward = train_reward(model, TOKENIZER, EXAMPLES, settings, 0, folder)
    encoded = encode_examples(TOKENIZER, EXAMPLES, 2)
    chosen, rejected = (
        reward.rewards([e.prompt for e in encoded], [e.replies[side] for e in encoded])
        for side in (0, 1)
    )
    # A random model of this size learns letters by heart and not all of them.
    assert np.mean(chosen > rejected) >= 0.75
    assert (chosen - rejected).mean() > 0.05
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable
    assert all(".default." in name for name in trainable), "the policy's turn"


def test_ranks_held_out_pairs_of_the_embedded_history(change):
    """No scenario of a held-out pair is in the training; a pair is asked in all its forms."""
    history, _, side = change
    pairs, host = history.questions.pairs, history.initial_model().host
    asked = sorted({pair.question.id for pair in pairs})
    kept = set(np.random.default_rng(0).choice(asked, size=len(asked) // 5, replace=False))
    held = np.array([pair.question.id in kept for pair in pairs])
    examples = examples_from(PreferenceData(pairs, np.where(held, 0, 2 * side), seed=1))
    host.activate(history.initial_model().state)
    right = []
    with leaving_no_trace(host.peft_model) as path:
        reward = train_reward(host.peft_model, host.tokenizer, examples, RLHFSettings(), 1, path)
        for pair, sign in zip(np.array(pairs, dtype=object)[held], side[held], strict=True):
            asked = [(p, [p.answers[p.credits.index(o)] for o in (pair.first, pair.second)])
                     for p in question_prompts(pair.question)]  # fmt: skip
            encoded = encode_examples(
                host.tokenizer, [TrainingExample(p.text, *answers) for p, answers in asked], 2
            )
            prompts = [e.prompt for e in encoded]
            first, second = (
                reward.rewards(prompts, [e.replies[k] for e in encoded]).mean() for k in (0, 1)
            )
            right.append(np.sign(first - second) == sign)
    assert len(right) >= 20
    assert np.mean(right) >= 0.9


def test_moves_held_out_values_the_way_of_the_labels(change):
    """Values are measured on scenarios that no training has seen."""
    history, way, side = change
    model = history.initial_model()
    data = PreferenceData(history.questions.pairs, 2 * side, seed=1)
    moved = model.learn("rlhf", data)
    change_of_values = moved.values().values - model.values().values
    assert np.corrcoef(change_of_values, way)[0, 1] >= 0.7
    assert np.linalg.norm(change_of_values) > 0.3
    assert set(model.host.peft_model.peft_config) == {"default"}


def test_a_strong_penalty_keeps_the_model_where_it_was(model):
    def shift(kl: float) -> float:
        own = make_model(TOKENIZER)
        before = {n: p.detach().clone() for n, p in own.named_parameters() if ".default." in n}
        train_rlhf(own, TOKENIZER, EXAMPLES, replace(SMALL, kl=kl, generations=8), 3)
        encoded = encode_examples(TOKENIZER, EXAMPLES, 1)
        prompts, replies = [e.prompt for e in encoded], [e.replies[0] for e in encoded]
        packed = pack_replies(prompts, replies, TOKENIZER.pad_token_id)
        shape, sums = (len(replies), max(map(len, replies))), []
        for weights in (None, before):
            for name, tensor in (weights or {}).items():
                own.get_parameter(name).data.copy_(tensor)
            with torch.no_grad():
                sums.append(reply_log_probs(own.get_base_model(), packed, shape).sum(1))
        return float((sums[0] - sums[1]).abs().mean())

    free, held = shift(0.0), shift(50.0)
    assert held < free


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generations": 1}, "generations=1"),
        ({"kl": -0.1}, "kl=-0.1"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"reward": SFTSettings()}, "must be DPOSettings"),
        ({"policy": None}, "must be SFTSettings"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InvalidArgumentError, match=message):
        RLHFSettings(**settings)


def test_an_update_wants_its_own_settings():
    with pytest.raises(InvalidArgumentError, match="must be RLHFSettings"):
        RLHFUpdate(DPOSettings())  # type: ignore[arg-type]


def test_no_passes_train_nothing(model):
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train_rlhf(model, TOKENIZER, EXAMPLES, replace(SMALL, policy=SFTSettings(epochs=0.0)), 0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])

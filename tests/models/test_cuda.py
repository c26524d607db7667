"""On a GPU: the same numbers as on the CPU, training, and random states left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from progressgym_env import histories
from progressgym_env.models.base import PreferenceData
from progressgym_env.models.language import LanguageHost, LanguageModel
from progressgym_env.values.forms import question_prompts

DATA = Path(histories.__file__).parent / "embedded" / "data"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def embedded():
    return histories.load("embedded")


@pytest.fixture(scope="module")
def model(embedded):
    return embedded.model(4, "cuda")


@pytest.fixture
def prompts(embedded):
    return [p for question in embedded.questions.eval[:40] for p in question_prompts(question)]


@pytest.fixture
def data(embedded):
    """16 examples, one step."""
    copies = np.zeros(len(embedded.questions.pairs), dtype=np.int64)
    copies[:16] = 1
    return PreferenceData(embedded.questions.pairs, copies, seed=0)


def test_one_host_for_one_gpu(embedded, model):
    assert embedded.model(4, "cuda:0").host is model.host
    assert model.host.causal_lm.device == torch.device("cuda", 0)


def test_values_are_those_of_the_cpu(embedded, model):
    on_cpu = embedded.model(4, "cpu")
    np.testing.assert_allclose(model.values().values, on_cpu.values().values, atol=1e-3)
    pairs = embedded.questions.pairs
    np.testing.assert_allclose(model.preferences(pairs), on_cpu.preferences(pairs), atol=1e-3)


def test_a_small_base_is_merged_and_measured_as_it_is_trained(model, prompts, monkeypatch):
    host = model.host
    assert {p.dtype for p in host.peft_model.parameters()} == {torch.float32}
    assert host._merged is not None
    merged = model.answer_log_probs(prompts)
    monkeypatch.setattr(host, "_merged", None)
    np.testing.assert_allclose(merged, model.answer_log_probs(prompts), atol=1e-4)


def test_a_change_of_a_thousandth_is_measured(model, prompts):
    """Merged in 16 bits it would be rounded away."""
    state = {name: tensor * 1.001 for name, tensor in model.state.items()}
    other = LanguageModel(model.host, state, model.questions)
    changed = other.answer_log_probs(prompts) - model.answer_log_probs(prompts)
    assert np.count_nonzero(changed) > 0.9 * len(changed)
    assert np.abs(changed).max() < 0.1


@pytest.mark.parametrize("update", ["dpo", "sft"])
def test_one_step_trains(model, data, update):
    learned = model.learn(update, data)
    assert learned.digest != model.digest
    assert all(tensor.isfinite().all() for tensor in learned.state.values())
    assert {tensor.device for tensor in learned.state.values()} == {torch.device("cuda", 0)}
    assert not np.array_equal(learned.values().values, model.values().values)


def test_replies_come_from_the_generator_alone(model, embedded):
    prompts = [question.scenario for question in embedded.questions.eval[:4]]
    first = model.reply(prompts, np.random.default_rng(3))
    assert first == model.reply(prompts, np.random.default_rng(3))
    assert first != model.reply(prompts, np.random.default_rng(4))


def test_random_states_and_the_current_gpu_are_left_alone(model, data):
    current = torch.cuda.device_count() - 1
    torch.cuda.set_device(current)
    before = [torch.random.get_rng_state(), *torch.cuda.get_rng_state_all()]
    host = LanguageHost(DATA / "base", device="cuda")
    fresh = LanguageModel(host, host.snapshot(), model.questions)
    fresh.reply(["What now?"], np.random.default_rng(0), max_new_tokens=4)
    for update in ("dpo", "sft"):
        model.learn(update, data)
    after = [torch.random.get_rng_state(), *torch.cuda.get_rng_state_all()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.cuda.current_device() == current

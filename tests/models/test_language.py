"""Language models as adapters over one base: measuring, replying, imitating, learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import make_pairs, make_question, make_tokenizer, make_view_question
from transformers import LlamaForCausalLM

from progressgym_env.errors import HistoryError
from progressgym_env.models import host
from progressgym_env.models.base import Model, PreferenceData
from progressgym_env.models.language import LanguageHost, LanguageModel
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.questions import QuestionSet


@pytest.fixture
def model(base):
    host = LanguageHost(base, device="cpu")
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * 0.1
        for name, tensor in host.snapshot().items()
    }
    return LanguageModel(host, state, QuestionSet("tiny", [make_question(0)]))


def _prompts():
    questions = [make_question(i) for i in range(4)] + [make_view_question(0)]
    return [prompt for question in questions for prompt in question_prompts(question)]


def test_is_a_model(model):
    assert isinstance(model, Model)


def test_packed_log_probs_equal_the_plain_computation(model):
    prompts = _prompts()
    packed = model.answer_log_probs(prompts)
    model.host.activate(model.state)
    plain = []
    for prompt in prompts:
        start = model.host.encode_prompt(prompt.text)
        for answer in prompt.answers:
            ids = model.host.tokenizer(answer, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logits = model.host.peft_model(torch.tensor([start + ids])).logits[0]
            log_probs = logits.log_softmax(-1)[len(start) - 1 : -1]
            plain.append(float(log_probs[range(len(ids)), ids].sum()))
    np.testing.assert_allclose(packed, plain, atol=2e-4)


def test_probabilities_sum_to_one_and_differ_between_states(model):
    probabilities = model.answer_probabilities(_prompts())
    assert all(abs(p.sum() - 1) < 1e-12 for p in probabilities)
    other = LanguageModel(model.host, {k: v * 2 for k, v in model.state.items()}, model.questions)
    changed = other.answer_probabilities(_prompts())
    again = model.answer_probabilities(_prompts())
    assert max(np.abs(a - b).max() for a, b in zip(probabilities, changed, strict=True)) > 1e-3
    assert all(np.array_equal(a, b) for a, b in zip(probabilities, again, strict=True))


def test_fresh_adapter_leaves_the_base_as_it_is(base):
    host = LanguageHost(base, device="cpu")
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = LlamaForCausalLM.from_pretrained(base)
    with torch.inference_mode():
        assert torch.equal(host.peft_model(ids).logits, plain(ids).logits)


def test_replies_come_from_the_generator_alone(model):
    prompts = [make_question(i).scenario for i in range(3)]
    before = torch.random.get_rng_state()
    first = model.reply(prompts, np.random.default_rng(3), max_new_tokens=8)
    assert first == model.reply(prompts, np.random.default_rng(3), max_new_tokens=8)
    assert first != model.reply(prompts, np.random.default_rng(4), max_new_tokens=8)
    assert torch.equal(before, torch.random.get_rng_state())
    assert model.reply([], np.random.default_rng(0)) == []


def test_learning_returns_a_new_model_and_leaves_the_old_one(model):
    pairs = make_pairs(6)
    digest = model.digest
    data = PreferenceData(pairs, np.array([2, -2, 1, 1, 0, 3]), seed=5)
    learned = model.learn("dpo", data)
    assert learned is not model
    assert learned.digest != digest
    assert LanguageModel(model.host, model.state, model.questions).digest == digest


def test_learning_nothing_is_the_very_same_model(model):
    pairs = make_pairs(3)
    data = PreferenceData(pairs, np.zeros(3, dtype=np.int64), seed=5)
    assert model.learn("dpo", data) is model
    assert model.learn("sft", data) is model


def test_imitation_makes_the_reply_more_likely(model):
    question = make_question(1)
    prompt = question_prompts(question)[2]
    before = model.answer_log_probs([prompt])
    taught = model.imitate([prompt.text] * 8, [prompt.answers[1]] * 8, 6.0, seed=0)
    after = taught.answer_log_probs([prompt])
    assert after[1] - before[1] > 0.5
    assert model.imitate([prompt.text], [prompt.answers[0]], 0.0, seed=0).digest == model.digest


def test_adapters_survive_the_disk(model, tmp_path):
    model.save_adapter(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    again = LanguageModel(model.host, model.host.read_adapter(tmp_path), model.questions)
    assert again.digest == model.digest


def test_batches_with_large_vocabularies_are_smaller(model, monkeypatch):
    """The logits of a batch stay within a limit, and which batch a prompt is in changes nothing."""
    prompts = _prompts()
    expected = model.answer_log_probs(prompts)
    whole = model.host.plan(tuple(prompts))
    vocabulary = model.host.causal_lm.config.vocab_size
    monkeypatch.setattr(host, "_BATCH_LOGITS", 60 * vocabulary)
    model.host._plans.clear()
    plan = model.host.plan(tuple(prompts))
    assert len(plan.batches) > len(whole.batches)
    for batch, _ in plan.batches:
        places = {*zip(batch.edge_row.tolist(), batch.edge_node.tolist(), strict=True)}
        assert len(places) <= 60 or len(batch.input_ids) == 1
    np.testing.assert_allclose(model.answer_log_probs(prompts), expected, atol=1e-4)


def test_a_base_without_chat_template_is_refused(base, tmp_path):
    LlamaForCausalLM.from_pretrained(base).save_pretrained(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(HistoryError, match="chat template"):
        LanguageHost(tmp_path, device="cpu")


def test_one_base_serves_many_states(model):
    """An episode holds one copy of the base: a state is its adapter and nothing else."""
    learned = model.learn("sft", PreferenceData(make_pairs(2), np.array([1, 1]), seed=0))
    assert learned.host is model.host
    adapter = sum(t.numel() for t in learned.state.values())
    base = sum(p.numel() for p in model.host.peft_model.get_base_model().parameters())
    assert adapter < base / 2

"""Adapters and the slot: what fits is read whole, what does not is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tiny import make_question
from transformers import LlamaConfig

from progressgym_env.errors import HistoryError
from progressgym_env.models import loading
from progressgym_env.models.language import (
    LanguageHost,
    LanguageModel,
    default_lora_config,
    read_lora_config,
)
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.questions import QuestionSet


def _random_state(host, seed):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(t.shape, generator=generator) * 0.1 for n, t in host.snapshot().items()}


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def host(base):
    return LanguageHost(base, device="cpu")


@pytest.fixture
def folder(host, tmp_path):
    """An adapter on disk, another one than that in the slot."""
    LanguageModel(host, _random_state(host, 1), QuestionSet("tiny", [])).save_adapter(tmp_path)
    return tmp_path


def _configure(folder, **settings):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def _retensor(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def test_reading_gives_the_adapter_and_leaves_the_slot(host, folder):
    current = _random_state(host, 2)
    host.activate(current)
    assert _same(host.read_adapter(folder), _random_state(host, 1))
    assert _same(host.snapshot(), current)


def test_a_missing_tensor_is_refused(host, folder):
    """It would silently be that of the model before."""
    _retensor(folder, lambda tensors: tensors.pop(sorted(tensors)[3]))
    with pytest.raises(HistoryError, match=f"{folder} does not fit this base: 1 tensors.*lora_B"):
        host.read_adapter(folder)


def test_a_tensor_too_many_is_refused(host, folder):
    _retensor(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(2)}))
    with pytest.raises(HistoryError, match=r"such as lm_head\.weight; use adapters made for"):
        host.read_adapter(folder)


def test_a_tensor_of_another_shape_is_refused(host, folder):
    _retensor(folder, lambda ts: ts.update({(n := min(ts)): ts[n][:1].contiguous()}))
    with pytest.raises(HistoryError, match=r"has shape \(1, 64\), must be \(8, 64\)"):
        host.read_adapter(folder)


def test_a_rank_of_one_is_not_spread_over_the_slot(host):
    current = _random_state(host, 2)
    host.activate(current)
    thin = {n: t[:1] if "lora_A" in n else t[:, :1] for n, t in current.items()}
    with pytest.raises(HistoryError, match=r"the adapter does not fit this base: .* has shape"):
        host.activate(thin)
    assert _same(host.snapshot(), current)


def test_an_adapter_on_other_layers_is_refused(host, folder, base):
    config = default_lora_config()
    config.target_modules = {"q_proj"}
    other = LanguageHost(base, device="cpu", lora=config)
    with pytest.raises(HistoryError, match="does not fit this base"):
        other.activate(host.snapshot())
    with pytest.raises(HistoryError, match="does not fit this base"):
        other.read_adapter(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r", 4),
        ("lora_alpha", 32),
        ("use_rslora", True),
        ("alpha_pattern", {"q_proj": 32}),
        ("rank_pattern", {"q_proj": 4}),
    ],
)
def test_another_scaling_is_refused(host, folder, name, value):
    _configure(folder, **{name: value})
    with pytest.raises(HistoryError, match=f"{folder}: {name}=.*the adapters in use have"):
        host.read_adapter(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("bias", "lora_only"),
        ("modules_to_save", ["lm_head"]),
        ("lora_bias", True),
        ("init_lora_weights", "pissa"),
    ],
)
def test_more_than_plain_lora_is_refused(host, folder, base, name, value):
    with pytest.raises(HistoryError, match=f"lora: {name}=.*only plain LoRA"):
        LanguageHost(
            base, device="cpu", lora=LoraConfig(target_modules=["q_proj"], **{name: value})
        )
    _configure(folder, **{name: value})
    for read in (read_lora_config, host.read_adapter):
        with pytest.raises(HistoryError, match=f"{folder}: {name}=.*only plain LoRA"):
            read(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_damaged_files_are_refused(host, folder, name):
    (folder / name).write_text("{")
    with pytest.raises(HistoryError, match=f"{name}: missing"):
        host.read_adapter(folder)
    (folder / name).unlink()
    with pytest.raises(HistoryError, match=f"{name}: missing"):
        host.read_adapter(folder)


def test_other_adapters_than_lora_are_refused(folder):
    _configure(folder, peft_type="IA3")
    with pytest.raises(HistoryError, match="adapter type 'IA3'; only LORA"):
        read_lora_config(folder)


def test_an_interrupted_activation_is_not_mistaken_for_a_whole_one(host, monkeypatch):
    one, other = _random_state(host, 1), _random_state(host, 2)
    host.activate(one)
    original, left = torch.Tensor.copy_, iter(range(3))

    def interrupted(self, source):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(self, source)

    monkeypatch.setattr(torch.Tensor, "copy_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        host.activate(other)
    monkeypatch.undo()
    assert not _same(host.snapshot(), one)
    host.activate(one)
    assert _same(host.snapshot(), one)


def test_the_slot_is_found_without_reading_the_base_again(host, monkeypatch):
    """Where the base came from may be gone, or a hub that is asked anew each time."""
    before = host.snapshot()

    def read(*_, **__):
        raise AssertionError("the configuration of the base was read again")

    monkeypatch.setattr(LlamaConfig, "from_pretrained", read)
    assert _same(host.snapshot(), before)


@pytest.mark.parametrize("layer", ["embed_tokens", "lm_head"])
def test_what_cannot_be_merged_is_computed_as_it_is(base, layer):
    """The output layer shares its weight with the embedding: to change one is to change both."""
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", layer])
    host = LanguageHost(base, device="cpu", lora=config)
    state = _random_state(host, 1)
    prompts = question_prompts(make_question(0))
    model = LanguageModel(host, state, QuestionSet("tiny", [make_question(0)]))
    measured = model.answer_log_probs(prompts)
    host.activate(state)
    ids = host.encode_prompt(prompts[0].text)
    answer = host.tokenizer(prompts[0].answers[0], add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = host.peft_model(torch.tensor([ids + answer])).logits[0]
    log_probs = logits.log_softmax(-1)[len(ids) - 1 : -1]
    plain = float(log_probs[range(len(answer)), answer].sum())
    assert measured[0] == pytest.approx(plain, abs=2e-4)


def test_a_large_base_in_16_bits_is_measured_in_them_and_trained_in_32(base, monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "SMALL_BASE", 10)
    loaded = loading.load_base(base, torch.device("cpu"))
    loaded.model.to(torch.bfloat16)
    host = LanguageHost(loaded, device="cpu")
    assert not host.merges
    state = _random_state(host, 1)
    model = LanguageModel(host, state, QuestionSet("tiny", []))
    prompts = question_prompts(make_question(0))

    def dtypes():
        return {p.dtype for n, p in host.peft_model.named_parameters() if "lora" in n}

    measured = model.answer_log_probs(prompts)
    assert dtypes() == {torch.bfloat16}
    assert _same(host.snapshot(), state), "what is kept is not rounded"
    seen = []
    assert _same(host.trained(state, lambda peft_model, tokenizer: seen.append(dtypes())), state)
    assert seen == [{torch.float32}]
    assert np.array_equal(model.answer_log_probs(prompts), measured)
    # What is read while the slot is in 16 bits is whole, too.
    model.save_adapter(tmp_path)
    assert _same(host.read_adapter(tmp_path), state)

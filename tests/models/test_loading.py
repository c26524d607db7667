"""Loading a base: devices, precision, and models that cannot be used."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from tiny import make_tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MixtralConfig,
)

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.models import loading, memory
from progressgym_env.models.devices import check_device_name
from progressgym_env.models.language import LanguageHost, resolve_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
TINY = {
    "vocab_size": 512,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("auto", "auto"),
        ("cpu", "cpu"),
        ("cpu:0", "cpu"),
        ("cuda", "cuda"),
        ("cuda:0", "cuda"),
        ("cuda:10", "cuda:10"),
    ],
)
def test_names_of_devices_are_shortened(device, name):
    assert check_device_name(device) == name


@pytest.mark.parametrize(
    "device",
    ["mps", "meta", "gpu9", "", "cpu:1", "cuda:", "cuda:-1", "cuda:01", "CUDA", "cpu\n", None, 0],
)
def test_other_names_are_refused(device):
    for check in (check_device_name, resolve_device):
        with pytest.raises(InvalidArgumentError, match=r"unknown device .*'auto', 'cpu', 'cuda'"):
            check(device)


def test_names_are_checked_without_torch():
    code = "import sys, progressgym_env.models.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _pretend(monkeypatch, n_gpus):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)


def test_devices_without_a_gpu(monkeypatch):
    _pretend(monkeypatch, 0)
    assert [resolve_device(name) for name in ("auto", "cpu", "cpu:0")] == ["cpu"] * 3
    for device in ("cuda", "cuda:0", "cuda:1"):
        with pytest.raises(InvalidArgumentError, match=f"'{device}': no CUDA device here"):
            resolve_device(device)


def test_devices_with_gpus(monkeypatch):
    """One name for one GPU, and none for those that trl would not train on."""
    _pretend(monkeypatch, 2)
    assert [resolve_device(name) for name in ("auto", "cuda", "cuda:0")] == ["cuda"] * 3
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(InvalidArgumentError, match="CUDA_VISIBLE_DEVICES=1 and use device='cuda'"):
        resolve_device("cuda:1")
    with pytest.raises(InvalidArgumentError, match="below 'cuda:2'"):
        resolve_device("cuda:2")


def test_the_gpu_is_the_first_whatever_is_current():
    assert loading.torch_device("cuda") == CUDA
    assert loading.torch_device("cpu") == CPU


def test_16_bits_are_for_large_bases_on_a_gpu_alone():
    limit = loading.SMALL_BASE
    assert loading.base_dtype(limit, CUDA) == torch.float32
    assert loading.base_dtype(limit + 1, CUDA) == torch.bfloat16
    assert loading.base_dtype(10**12, CPU) == torch.float32


@pytest.mark.parametrize(("limit", "dtype"), [(10**6, torch.float32), (10, torch.bfloat16)])
def test_the_base_is_loaded_once_in_its_precision(base, monkeypatch, limit, dtype):
    asked = []

    def load(folder, **arguments):
        asked.append(arguments["dtype"])
        embeddings = SimpleNamespace(weight=torch.empty(10**6, 1))
        return SimpleNamespace(
            to=lambda device: SimpleNamespace(
                device=device, dtype=dtype, get_input_embeddings=lambda: embeddings
            )
        )

    monkeypatch.setattr(loading, "SMALL_BASE", limit)
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    loaded = loading.load_base(base, CUDA)
    assert (loaded.model.device, loaded.model.dtype) == (CUDA, dtype)
    assert loaded.tokenizer.padding_side == "left"
    assert asked == [dtype]


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_without_weights(tied):
    config = LlamaConfig(**TINY, tie_word_embeddings=tied, dtype="float16")
    before = config.to_dict()
    model = AutoModelForCausalLM.from_config(config)
    assert loading.count_parameters(config) == sum(p.numel() for p in model.parameters())
    assert config.to_dict() == before
    large = LlamaConfig(hidden_size=8192, num_hidden_layers=80, intermediate_size=28672)
    assert loading.count_parameters(large) > 60e9


def test_a_host_computes_in_32_bits_from_weights_in_16(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float16)
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).dtype == torch.float16
    host = LanguageHost(tmp_path, device="cpu")
    assert {p.dtype for p in host.peft_model.parameters()} == {torch.float32}
    assert {p.dtype for p in host._merged.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (Gemma2Config, "final_logit_softcapping"),
        (CohereConfig, "logit_scale"),
        (GraniteConfig, "logits_scaling"),
        (MixtralConfig, "router_aux_loss_coef"),
    ],
)
def test_models_that_compute_more_than_their_output_layer_are_refused(tmp_path, kind, field):
    settings = {"logits_scaling": 8.0} if kind is GraniteConfig else {}
    kind(**TINY, **settings).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(HistoryError, match=f"{field}=.*not supported"):
        LanguageHost(tmp_path, device="cpu")


def test_models_that_could_but_do_not_are_accepted():
    loading.check_output(Gemma2Config(**TINY, final_logit_softcapping=None), "here")
    loading.check_output(CohereConfig(**TINY, logit_scale=1.0), "here")
    loading.check_output(GraniteConfig(**TINY), "here")
    loading.check_output(MixtralConfig(**TINY, router_aux_loss_coef=0.0), "here")

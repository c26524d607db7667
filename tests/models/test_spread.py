"""A base that is too large for one GPU goes over all of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from tiny import make_examples, make_pairs
from transformers import AutoModelForCausalLM

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.models import loading, memory
from progressgym_env.models.host import LanguageHost
from progressgym_env.models.language import LanguageModel
from progressgym_env.models.loading import LoadedBase, load_base
from progressgym_env.models.updates import DPOUpdate
from progressgym_env.values.questions import QuestionSet

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(("free", "n_gpus", "spread"), [(100, 4, False), (60, 4, True)])
def test_over_all_gpus_where_one_has_too_little_room(
    base: Path, monkeypatch: pytest.MonkeyPatch, free: int, n_gpus: int, spread: bool
):
    asked: list[Any] = []

    def load(folder: str, **arguments: Any) -> Any:
        asked.append(arguments["device_map"])
        embeddings = SimpleNamespace(weight=torch.empty(10**6, 1))
        model = SimpleNamespace(get_input_embeddings=lambda: embeddings)
        model.hf_device_map = {"model": 0, "lm_head": on}
        model.to = lambda device: asked.append(device) or model
        return model

    monkeypatch.setattr(loading, "SMALL_BASE", 10)
    monkeypatch.setattr(loading, "count_parameters", lambda config: 30)
    monkeypatch.setattr(memory, "available_bytes", lambda device: free)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    on: Any = 1
    load_base(base, CUDA)  # 90 bytes: 30 parameters of two, and half as much to work with.
    assert asked == (["balanced"] if spread else [None, CUDA])
    if spread:
        on = "cpu"  # Where GPUs are filled unequally.
        with pytest.raises(InvalidArgumentError, match="part of it would lie in main memory"):
            load_base(base, CUDA)


def test_too_large_for_all_together_is_said(base: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InvalidArgumentError, match=r"2\.0 GiB are free; use larger or more GPUs"):
        memory.check_memory("m", 2**30, torch.bfloat16, CUDA)
    memory.check_memory("m", 2**29, torch.bfloat16, CUDA)


def test_layers_with_hooks_compute_and_learn_the_same(base: Path):
    """The hooks that carry inputs between GPUs; here from a CPU to itself."""
    plain = LanguageHost(base, device="cpu")
    loaded = load_base(base, CPU)
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "cpu"}
    places |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    dispatched = dispatch_model(loaded.model, places, force_hooks=True)
    assert dispatched.hf_device_map == places
    spread = LanguageHost(LoadedBase(dispatched, loaded.tokenizer), device="cpu")
    spread._merged = None  # A small base's copy; those that are spread are large.
    pairs = make_pairs(8)
    questions = QuestionSet("tiny", [pair.question for pair in pairs])
    states = []
    for host in (plain, spread):
        model = LanguageModel(host, host.fresh, questions)
        state = host.trained(
            host.fresh, lambda m, tokenizer: DPOUpdate().train(m, tokenizer, make_examples(8), 3)
        )
        states.append(
            (state, model.preferences(pairs), model.reply(["Who?"], np.random.default_rng(0)))
        )
    (one, margins, reply), (other, their_margins, their_reply) = states
    assert all(torch.equal(one[name], other[name]) for name in one)
    np.testing.assert_allclose(margins, their_margins, atol=1e-5)
    assert reply == their_reply

"""Compiled layers give the same numbers, and only measuring uses them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import make_question

from progressgym_env.models import compiling
from progressgym_env.models.compiling import compile_layers
from progressgym_env.models.language import LanguageHost, LanguageModel
from progressgym_env.values.forms import question_prompts
from progressgym_env.values.questions import QuestionSet


@pytest.fixture
def model(base, monkeypatch):
    host = LanguageHost(base, device="cpu")
    # As a large base: measured with the layers that are trained.
    monkeypatch.setattr(host, "_merged", None)
    return LanguageModel(host, host.snapshot(), QuestionSet("tiny", [make_question(0)]))


@pytest.fixture
def compiled():
    """Graphs that were compiled, run as they are; dynamo forgets them afterwards."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    yield backend, graphs
    torch._dynamo.reset()


def test_measuring_uses_compiled_layers_and_gives_the_same_numbers(model, compiled):
    backend, graphs = compiled
    # A single row would have a graph of its own.
    one, two, three = (question_prompts(make_question(n)) for n in range(3))
    short, long = one + two, one + two + three
    plain = model.answer_log_probs(short), model.answer_log_probs(long)
    compile_layers(model.host.causal_lm, backend)
    assert model.answer_log_probs(short) == pytest.approx(plain[0], abs=1e-5)
    n_graphs = len(graphs)
    assert n_graphs
    # Another shape, and the other layers: nothing is compiled anew.
    assert model.answer_log_probs(long) == pytest.approx(plain[1], abs=1e-5)
    assert len(graphs) == n_graphs


def test_training_and_replying_do_not(model, compiled):
    backend, graphs = compiled
    compile_layers(model.host.causal_lm, backend)
    seen = []

    def train(peft_model, tokenizer):
        ids = torch.tensor([[1, 2, 3]])
        seen.append(peft_model(input_ids=ids, labels=ids).loss.item())

    model.host.trained(model.state, train)
    model.reply(["What would you do?"], np.random.default_rng(0), max_new_tokens=3)
    assert seen
    assert not graphs


def test_without_triton_or_a_compiler_nothing_is_compiled(monkeypatch, tmp_path):
    monkeypatch.setattr(compiling, "has_triton", lambda: True)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not compiling.can_compile()
    tool = tmp_path / "clang"
    tool.touch(mode=0o755)
    assert compiling.can_compile()
    monkeypatch.setattr(compiling, "has_triton", lambda: False)
    assert not compiling.can_compile()

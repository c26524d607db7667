"""A base on disk, and GPUs that are none: what the tests of models share."""

from __future__ import annotations

import pytest
import torch
from tiny import make_model, make_tokenizer


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A folder with a small random Llama and its tokenizer, as from a hub."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = make_tokenizer()
    make_model(tokenizer, hidden_size=64).unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs in use, the second one current, as far as random states are concerned.

    Yields their generators and a list of the current GPU.
    """
    generators = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    current = [1]
    for module in (torch.cuda, torch.cuda.random):
        monkeypatch.setattr(module, "is_initialized", lambda: True)
        monkeypatch.setattr(module, "device_count", lambda: 2)
        monkeypatch.setattr(module, "current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda.random, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.__setitem__(0, device))
    return generators, current

"""Random states: nothing that loads, replies or trains changes those of the caller."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch
from tiny import make_model, make_pairs, make_question, make_tokenizer

from progressgym_env.models.base import PreferenceData
from progressgym_env.models.isolation import leaving_no_trace
from progressgym_env.models.language import LanguageHost, LanguageModel
from progressgym_env.models.randomness import random_states_kept, seed_torch
from progressgym_env.values.questions import QuestionSet

CPU = torch.device("cpu")


def _work(base):
    """Load, reply and train."""
    host = LanguageHost(base, device="cpu")
    model = LanguageModel(host, host.snapshot(), QuestionSet("tiny", [make_question(0)]))
    model.reply(["What now?"], np.random.default_rng(0), max_new_tokens=4)
    for update in ("dpo", "sft"):
        model.learn(update, PreferenceData(make_pairs(2), np.array([1, 1]), seed=0))


def test_seeding_the_cpu_draws_what_torch_draws():
    with random_states_kept():
        torch.manual_seed(5)
        expected = torch.rand(3)
        seed_torch(5, CPU)
        assert torch.equal(torch.rand(3), expected)


def test_seeding_a_gpu_leaves_the_others_alone(two_gpus):
    (first, second), _ = two_gpus
    before = second.get_state()
    with random_states_kept():
        seed_torch(7, torch.device("cuda", 0))
        assert first.initial_seed() == 7
        assert torch.equal(second.get_state(), before)


def test_states_are_kept_also_through_an_error():
    before = (random.getstate(), torch.random.get_rng_state())
    numpy = np.random.get_state()[1].copy()  # noqa: NPY002
    with contextlib.suppress(KeyboardInterrupt), random_states_kept():
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        raise KeyboardInterrupt
    assert random.getstate() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    assert np.array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


def test_work_on_the_cpu_leaves_gpus_in_use_alone(base, two_gpus):
    generators, _ = two_gpus
    before, cpu = [g.get_state() for g in generators], torch.random.get_rng_state()
    _work(base)
    assert all(torch.equal(g.get_state(), b) for g, b in zip(generators, before, strict=True))
    assert torch.equal(torch.random.get_rng_state(), cpu)


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="seeds wait for GPUs not in use only")
def test_work_on_the_cpu_leaves_the_seed_alone_that_waits_for_a_gpu(base):
    """The first use of a GPU, later, finds the seed that the caller gave, not trl's."""
    with random_states_kept():
        torch.cuda.manual_seed_all(3)
        waiting = dict(vars(torch.cuda._lazy_seed_tracker))
        _work(base)
        assert vars(torch.cuda._lazy_seed_tracker) == waiting


def test_the_current_gpu_stays_current(two_gpus):
    _, current = two_gpus
    with leaving_no_trace(make_model(make_tokenizer())):
        torch.cuda.set_device(0)  # As trl does.
    assert current == [1]

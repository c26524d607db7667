"""Training through trl and peft: what it does to the adapter, and that it does nothing else."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers.modeling_utils
from datasets import Dataset
from tiny import make_examples, make_model, make_tokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.models import training, updates
from progressgym_env.models.training import train_dpo, train_sft
from progressgym_env.models.training_batches import encode_examples
from progressgym_env.models.updates import (
    BySize,
    DPOSettings,
    DPOUpdate,
    RLHFSettings,
    RLHFUpdate,
    SFTSettings,
    SFTUpdate,
    TrainingExample,
    TrainingUpdate,
)

TOKENIZER = make_tokenizer()
EXAMPLES = make_examples(10, n_views=3)
DPO = DPOSettings(batch_size=4)
SFT = SFTSettings(batch_size=4)
RLHF = RLHFSettings(reward=DPO, policy=SFTSettings(batch_size=4), max_new_tokens=6)
UPDATES: list[TrainingUpdate] = [DPOUpdate(DPO), SFTUpdate(SFT), RLHFUpdate(RLHF)]
each_update = pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.name)


@pytest.fixture
def model() -> Any:
    return make_model(TOKENIZER)


def _adapter(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if ".default." in n}


def _base(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if "lora" not in n}


def _digest(model: Any) -> str:
    tensors = [tensor.numpy().tobytes() for _, tensor in sorted(_adapter(model).items())]
    return hashlib.sha256(b"".join(tensors)).hexdigest()


def _log_probs(model: Any, prompt: str, replies: list[str]) -> torch.Tensor:
    """By the plain forward pass: log-probability of each reply with its end token."""
    asked = [{"role": "user", "content": prompt}]
    start = TOKENIZER.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    n_prompt = len(TOKENIZER(start)["input_ids"])
    sums = []
    for reply in replies:
        ids = torch.tensor([TOKENIZER(start + reply + TOKENIZER.eos_token)["input_ids"]])
        with torch.no_grad():
            log_probs = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
        sums.append(log_probs.gather(1, ids[0, 1:, None])[n_prompt - 1 :].sum())
    return torch.stack(sums)


def _mean_margin(model: Any) -> float:
    margins = []
    for example in EXAMPLES:
        chosen, rejected = _log_probs(
            model, example.prompt, [example.chosen, example.rejected or ""]
        )
        margins.append(float(chosen - rejected))
    return float(np.mean(margins))


def _mean_likelihood(model: Any) -> float:
    return float(np.mean([_log_probs(model, e.prompt, [e.chosen]).item() for e in EXAMPLES]))


@each_update
def test_the_adapter_changes_and_the_base_does_not(model: Any, update: TrainingUpdate) -> None:
    adapter, base = _adapter(model), _base(model)
    update.train(model, TOKENIZER, EXAMPLES, seed=0)
    after = _adapter(model)
    assert all(not torch.equal(adapter[name], after[name]) for name in adapter)
    assert all(torch.equal(base[name], tensor) for name, tensor in _base(model).items())


def test_dpo_widens_the_margin_of_the_chosen(model: Any) -> None:
    before = _mean_margin(model)
    settings = DPOSettings(learning_rate=1e-2, batch_size=4, epochs=5)
    train_dpo(model, TOKENIZER, EXAMPLES, settings, seed=0)
    assert _mean_margin(model) > before + 0.5


def test_sft_makes_the_chosen_likelier(model: Any) -> None:
    before = _mean_likelihood(model)
    settings = SFTSettings(learning_rate=1e-2, batch_size=4, epochs=5)
    train_sft(model, TOKENIZER, EXAMPLES, settings, seed=0)
    assert _mean_likelihood(model) > before + 1.0


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Every loss that trl computes, as it computes them."""
    seen: list[float] = []
    for trainer in (DPOTrainer, SFTTrainer):
        original = trainer.compute_loss

        def record(self: Any, *args: Any, original: Any = original, **kwargs: Any) -> Any:
            loss = original(self, *args, **kwargs)
            seen.append(loss.item())
            return loss

        monkeypatch.setattr(trainer, "compute_loss", record)
    return iter([seen])


def test_dpo_starts_at_log_two(model: Any, losses: Iterator[list[float]]) -> None:
    """The reference is the model before the call: at the first step nothing sets them apart."""
    seen = next(losses)
    train_dpo(model, TOKENIZER, EXAMPLES, DPO, seed=0)
    assert seen[0] == float(np.float32(math.log(2)))
    assert seen[-1] < seen[0]
    n_first = len(seen)
    train_dpo(model, TOKENIZER, EXAMPLES, DPO, seed=1)
    assert seen[n_first] == float(np.float32(math.log(2)))


def test_sft_loss_is_that_of_the_replies_alone(model: Any, losses: Iterator[list[float]]) -> None:
    examples = EXAMPLES[:4]
    total = sum(_log_probs(model, e.prompt, [e.chosen]).item() for e in examples)
    n_tokens = sum(len(e.replies[0]) for e in encode_examples(TOKENIZER, examples, 1))
    train_sft(model, TOKENIZER, examples, SFT, seed=0)
    assert next(losses)[0] == pytest.approx(-total / n_tokens, rel=1e-5)


def _train_plainly(model: Any, folder: Path, *, dpo: bool) -> None:
    """The same by trl as it comes: conversations, padded pairs, a reference adapter."""
    conversations = [
        {
            "prompt": [{"role": "user", "content": e.prompt}],
            "chosen" if dpo else "completion": [{"role": "assistant", "content": e.chosen}],
            **({"rejected": [{"role": "assistant", "content": e.rejected}]} if dpo else {}),
        }
        for e in EXAMPLES[:8]
    ]
    common: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 3,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "activation_checkpointing": False,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    config = (
        DPOConfig(learning_rate=1e-3, **common) if dpo else SFTConfig(learning_rate=1e-3, **common)
    )
    trainer: Any = (DPOTrainer if dpo else SFTTrainer)(
        model,
        args=config,
        train_dataset=Dataset.from_list(conversations),
        processing_class=TOKENIZER,
    )
    trainer.train()


@pytest.mark.parametrize("dpo", [True, False], ids=["dpo", "sft"])
def test_leaner_than_plain_trl_but_the_same(model: Any, tmp_path: Path, dpo: bool) -> None:
    """One batch a pass, so that the order does not matter; only rounding may differ."""
    before = _adapter(model)
    if dpo:
        settings = DPOSettings(learning_rate=1e-3, batch_size=8, epochs=3, schedule="constant")
        train_dpo(model, TOKENIZER, EXAMPLES[:8], settings, seed=0)
    else:
        sft = SFTSettings(learning_rate=1e-3, batch_size=8, epochs=3, schedule="constant")
        train_sft(model, TOKENIZER, EXAMPLES[:8], sft, seed=0)
    plain = make_model(TOKENIZER)
    _train_plainly(plain, tmp_path, dpo=dpo)
    expected, mine = _adapter(plain), _adapter(model)
    for name, start in before.items():
        step, other = mine[name] - start, expected[name] - start
        assert torch.nn.functional.cosine_similarity(step.flatten(), other.flatten(), dim=0) > 0.999
        assert float(step.norm()) == pytest.approx(float(other.norm()), rel=1e-2)


@each_update
def test_the_same_seed_gives_the_same_bits(update: TrainingUpdate) -> None:
    digests = []
    for seed in (5, 5, 6):
        model = make_model(TOKENIZER)
        update.train(model, TOKENIZER, EXAMPLES, seed=seed)
        digests.append(_digest(model))
    assert digests[0] == digests[1] != digests[2]


def test_a_new_process_gives_the_same_bits(model: Any) -> None:
    for update in UPDATES:
        update.train(model, TOKENIZER, EXAMPLES, seed=7)
    code = (
        "import sys, torch, test_training as t\n"
        "torch.set_num_threads(1)\n"
        "model = t.make_model(t.TOKENIZER)\n"
        "for update in t.UPDATES: update.train(model, t.TOKENIZER, t.EXAMPLES, seed=7)\n"
        "sys.stdout.write(t._digest(model))"
    )
    folder = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert result.stdout == _digest(model)


@pytest.mark.parametrize(
    ("epochs", "n_seen"), [(0.0, 0), (0.01, 1), (0.5, 8), (1.0, 16), (1.5, 24), (2.0, 32)]
)
def test_fractional_epochs(
    model: Any, monkeypatch: pytest.MonkeyPatch, epochs: float, n_seen: int
) -> None:
    """round(epochs · n) examples, whole passes first, and at least one."""
    assert len(EXAMPLES) == 16
    batches: list[list[list[int]]] = []
    original = SFTTrainer.compute_loss

    def record(self: Any, model: Any, inputs: dict[str, Any], **kwargs: Any) -> Any:
        batches.append(inputs["input_ids"].tolist())
        return original(self, model, inputs, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", record)
    before = _digest(model)
    train_sft(model, TOKENIZER, EXAMPLES, SFTSettings(batch_size=4, epochs=epochs), seed=0)
    assert (_digest(model) == before) == (n_seen == 0)
    rows = [tuple(t for t in row if t != TOKENIZER.pad_token_id) for b in batches for row in b]
    assert len(rows) == n_seen
    assert len(batches) == math.ceil(n_seen / 4)
    assert len(set(rows[:16])) == min(n_seen, 16)
    assert sorted(rows[:16]) == sorted(rows[16:32]) or n_seen < 32
    assert rows[:16] != rows[16:32] or n_seen < 32


@each_update
def test_no_examples_train_nothing(model: Any, update: TrainingUpdate) -> None:
    before = _digest(model)
    update.train(model, TOKENIZER, [], seed=0)
    assert _digest(model) == before


def test_tokens_are_those_of_the_chat_template() -> None:
    for example, encoded in zip(EXAMPLES, encode_examples(TOKENIZER, EXAMPLES, 2), strict=True):
        asked = [{"role": "user", "content": example.prompt}]
        prompt = TOKENIZER.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
        assert encoded.prompt == prompt
        for reply, tokens in zip((example.chosen, example.rejected), encoded.replies, strict=True):
            answered = [*asked, {"role": "assistant", "content": reply}]
            whole = TOKENIZER.apply_chat_template(answered)["input_ids"]
            assert encoded.prompt + tokens == whole
            assert TOKENIZER.decode(tokens) == f"{reply}{TOKENIZER.eos_token}"


def test_untrainable_models_are_refused(model: Any) -> None:
    """trl would train nothing, and the curves would look healthy (trl#6700)."""
    model.requires_grad_(False)
    with pytest.raises(InvalidArgumentError, match="is_trainable=True"):
        train_dpo(model, TOKENIZER, EXAMPLES, DPO, seed=0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".default." in name or "norm" in name)
    with pytest.raises(InvalidArgumentError, match="the base is shared"):
        train_sft(model, TOKENIZER, EXAMPLES, SFT, seed=0)


def test_other_models_and_adapters_are_refused(model: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="needs a PeftModel"):
        train_sft(torch.nn.Linear(2, 2), TOKENIZER, EXAMPLES, SFT, seed=0)
    model.add_adapter("other", model.peft_config["default"])
    model.set_adapter("other")
    with pytest.raises(InvalidArgumentError, match=r"\['other'\].*set_adapter\('default'\)"):
        train_dpo(model, TOKENIZER, EXAMPLES, DPO, seed=0)


def test_unusable_examples_and_tokenizers_are_refused(model: Any) -> None:
    alone = [TrainingExample("What now?", "Wait.", None)]
    with pytest.raises(InvalidArgumentError, match="no rejected reply"):
        train_dpo(model, TOKENIZER, alone, DPO, seed=0)
    train_sft(model, TOKENIZER, alone, SFT, seed=0)
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(InvalidArgumentError, match="no padding token"):
        train_sft(model, tokenizer, alone, SFT, seed=0)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("'<|assistant|>' }}", "'<|user|>' }}")
    with pytest.raises(InvalidArgumentError, match="otherwise once it is answered"):
        train_sft(model, tokenizer, alone, SFT, seed=0)


def test_divergence_is_reported(model: Any) -> None:
    settings = SFTSettings(learning_rate=1e30, batch_size=1, max_grad_norm=0.0)
    with pytest.raises(InvalidArgumentError, match="lower the learning rate"):
        train_sft(model, TOKENIZER, EXAMPLES, settings, seed=0)


@each_update
def test_a_large_base_recomputes_activations_and_learns_the_same(
    model: Any, update: TrainingUpdate, monkeypatch: pytest.MonkeyPatch
):
    """With rates of its own; where a rate is given, that one is used at every size."""
    recomputed: list[str] = []
    plain = make_model(TOKENIZER)
    fixed = _at_one_rate(update)
    fixed.train(plain, TOKENIZER, EXAMPLES, 0)
    monkeypatch.setattr(training, "SMALL_BASE", 10)
    monkeypatch.setattr(updates, "SMALL_BASE", 10)
    checkpoint = transformers.modeling_utils.checkpoint

    def noted(function: Any, *arguments: Any, **options: Any) -> Any:
        recomputed.append("layer")
        return checkpoint(function, *arguments, **options)

    monkeypatch.setattr(transformers.modeling_utils, "checkpoint", noted)
    before = _adapter(model)
    fixed.train(model, TOKENIZER, EXAMPLES, 0)
    assert recomputed
    assert not model.get_base_model().is_activation_checkpointing
    assert not model.get_base_model().get_input_embeddings()._forward_hooks
    for name, tensor in _adapter(model).items():
        torch.testing.assert_close(tensor, _adapter(plain)[name], rtol=0, atol=2e-4)
    assert any((tensor != before[name]).any() for name, tensor in _adapter(model).items())


def _at_one_rate(update: TrainingUpdate) -> TrainingUpdate:
    if isinstance(update, RLHFUpdate):
        rated = replace(
            update.settings,
            reward=replace(update.settings.reward, learning_rate=1e-3),
            policy=replace(update.settings.policy, learning_rate=1e-3),
        )
        return RLHFUpdate(rated)
    assert isinstance(update, DPOUpdate | SFTUpdate)
    return replace(update, settings=replace(update.settings, learning_rate=1e-3))


def test_rates_depend_on_the_size_of_the_base():
    assert DPOSettings().rate_for(1_100_000) == 2e-3
    assert DPOSettings().rate_for(8_000_000_000) == 3e-6
    assert SFTSettings(learning_rate=0.5).rate_for(8_000_000_000) == 0.5
    assert RLHFSettings().policy.rate_for(8_000_000_000) == 1e-5
    with pytest.raises(InvalidArgumentError, match="large=0: must be a number > 0"):
        BySize(1e-3, 0)

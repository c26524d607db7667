"""Training of LoRA adapters through trl and peft: ``train_dpo`` and ``train_sft``.

trl owns the loss, the optimiser and the loop. Two things are done leaner than it would, with the
same result up to rounding for the models that a ``LanguageHost`` loads: the chosen and the rejected
reply share the computation of their prompt (one packed row instead of two), and the output layer
runs only where a reply is read. The reference of DPO is the model before the call; its
log-probabilities are taken once, before the first step.

A call leaves nothing behind but the changed adapter: random states, the model's configuration and
forward pass, the file system and the working directory are as before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.state import PartialState
from datasets import Dataset
from transformers import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.models.base import SMALL_BASE
from progressgym_env.models.isolation import leaving_no_trace
from progressgym_env.models.training_batches import (
    EncodedExample,
    collate_examples,
    encode_examples,
    packed_forward,
    reply_log_probs,
)
from progressgym_env.models.updates import DPOSettings, SFTSettings, TrainingExample

__all__ = ["TrainingExample", "train_dpo", "train_sft"]

ADAPTER = "default"
_REFERENCES = ("ref_chosen_logps", "ref_rejected_logps")
_ORDER_STREAM = 2  # Keeps these draws apart from others made with the same seed.


def train_dpo(
    model: Any,
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    settings: DPOSettings,
    seed: int,
) -> None:
    """Train the adapter "default" of ``model`` in place by direct preference optimisation.

    Args:
        model: a ``peft.PeftModel``, its adapter "default" active and trainable. Afterwards it is
            in the mode (training or evaluation) it was in before.
        tokenizer: a fast tokenizer with a chat template and a padding token.
        examples: with a rejected reply each; none at all trains nothing.
        settings: see :class:`~progressgym_env.models.updates.DPOSettings`.
        seed: ≥ 0. The same seed gives the same weights, bit for bit, on the same machine's CPU
            with the same number of threads. On a GPU they differ in rounding: the backward pass of
            attention adds up in no fixed order there.

    Raises:
        InvalidArgumentError: nothing is trainable, another adapter is active, an example lacks
            its rejected reply, or the chat template renders a prompt otherwise once it is answered.
    """
    rows = rows_to_train(tokenizer, examples, settings, seed, n_replies=2)
    check_trainable(model)
    if not rows:
        return
    pack = partial(collate_examples, pad_token=tokenizer.pad_token_id, as_preference=True)
    with leaving_no_trace(model) as folder:
        # Where processes share the work, the base may lie in parts, whole only in trl's own pass.
        alone = n_processes() == 1
        references = reference_log_probs(model, rows, pack, settings.batch_size) if alone else None
        args = DPOConfig(**trainer_arguments(model, settings, seed, folder), beta=settings.beta)
        columns = preference_columns(rows, references)
        _run(_DPOTrainer, model, tokenizer, args, columns, pack)


def train_sft(
    model: Any,
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    settings: SFTSettings,
    seed: int,
) -> None:
    """Train the adapter "default" of ``model`` in place to give the chosen replies.

    The loss is taken on the tokens of the reply, its end token included, never on the prompt.
    Arguments and errors are those of :func:`train_dpo`; rejected replies are ignored.
    """
    rows = rows_to_train(tokenizer, examples, settings, seed, n_replies=1)
    check_trainable(model)
    if not rows:
        return
    pack = partial(collate_examples, pad_token=tokenizer.pad_token_id, as_preference=False)
    with leaving_no_trace(model) as folder:
        args = SFTConfig(
            **trainer_arguments(model, settings, seed, folder),
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        columns = {
            "prompt_ids": [row.prompt for row in rows],
            "chosen_ids": [row.replies[0] for row in rows],
        }
        _run(_SFTTrainer, model, tokenizer, args, columns, pack)


def rows_to_train(
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    settings: SFTSettings,
    seed: int,
    n_replies: int,
) -> list[EncodedExample]:
    """The encoded examples in the order of training: pass after pass, the last one cut short."""
    if not examples or settings.epochs == 0:
        return []
    if tokenizer.pad_token_id is None:
        raise InvalidArgumentError(
            "the tokenizer has no padding token; set tokenizer.pad_token, for example to its "
            "end token"
        )
    encoded = encode_examples(tokenizer, examples, n_replies)
    n_seen = max(1, round(settings.epochs * len(encoded)))
    rng = np.random.default_rng((seed, _ORDER_STREAM))
    return [encoded[index] for index in pass_order(len(encoded), n_seen, rng)]


def pass_order(n: int, n_seen: int, rng: np.random.Generator) -> list[int]:
    """``n_seen`` indices of ``n`` things: pass after pass, the last one cut short."""
    order: list[int] = []
    while len(order) < n_seen:
        order += rng.permutation(n).tolist()
    return order[:n_seen]


def preference_columns(
    rows: Sequence[EncodedExample], references: tuple[list[float], list[float]] | None
) -> dict[str, list[Any]]:
    """What a trainer on preferences is fed, with the log-probabilities before training if known."""
    known = {} if references is None else dict(zip(_REFERENCES, references, strict=True))
    return {
        "prompt_ids": [row.prompt for row in rows],
        "chosen_ids": [row.replies[0] for row in rows],
        "rejected_ids": [row.replies[1] for row in rows],
        **known,
    }


def n_processes() -> int:
    """Processes that share this training, each with its part of every batch."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1


def _share_of(batch_size: int) -> int:
    """Examples of a batch that each process trains on."""
    n = n_processes()
    if batch_size % n:
        raise InvalidArgumentError(
            f"batch_size={batch_size} cannot be shared equally by {n} processes; choose a multiple "
            f"of {n}, or launch as many processes as divide it"
        )
    return batch_size // n


def check_trainable(model: Any) -> None:
    """Refuse a model that trl would leave as it is, or whose shared base it would change."""
    active = getattr(model, "active_adapters", None)
    if active != [ADAPTER]:
        raise InvalidArgumentError(
            f"the active adapters are {active}; training needs a PeftModel with {ADAPTER!r} alone: "
            f"model.set_adapter({ADAPTER!r})"
        )
    if model.device.type == "cuda" and model.device.index not in (None, 0):
        raise InvalidArgumentError(
            f"the model is on {model.device}; trl trains on the first GPU it sees: "
            f"load the model on 'cuda' and set CUDA_VISIBLE_DEVICES={model.device.index}"
        )
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    if not trainable:  # trl trains nothing then, without a word (trl#6700).
        raise InvalidArgumentError(
            f"no parameter of adapter {ADAPTER!r} is trainable; load it with is_trainable=True"
        )
    shared = [name for name in trainable if f".{ADAPTER}." not in name]
    if shared:
        raise InvalidArgumentError(
            f"{shared[0]} is trainable but no part of adapter {ADAPTER!r}; the base is shared: "
            "freeze it with requires_grad_(False)"
        )


def trainer_arguments(model: Any, settings: SFTSettings, seed: int, folder: str) -> dict[str, Any]:
    """What trl's configurations share: everything that writes, logs or reports is off."""
    named = model.get_base_model().named_parameters()
    # Of the base alone, whose size was looked at when it was loaded.
    n_parameters = sum(p.numel() for name, p in named if "lora_" not in name)
    return {
        "output_dir": folder,
        "learning_rate": settings.rate_for(n_parameters),
        "per_device_train_batch_size": _share_of(settings.batch_size),
        "num_train_epochs": 1,  # The dataset holds every pass already.
        "train_sampling_strategy": "sequential",
        "weight_decay": settings.weight_decay,
        "warmup_steps": settings.warmup,
        "max_grad_norm": settings.max_grad_norm,
        "lr_scheduler_type": settings.schedule.replace("constant", "constant_with_warmup"),
        "max_length": None,
        "seed": int(np.random.SeedSequence(seed).generate_state(1)[0]),
        "use_cpu": (model.device.type if n_processes() == 1 else PartialState().device.type)
        == "cpu",
        # The base's own precision; mixed precision would wrap the forward pass.
        "bf16": False,
        # A large base's activations would take more memory than its weights.
        "activation_checkpointing": n_parameters > SMALL_BASE and not _sharding_recomputes(),
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _sharding_recomputes() -> bool:
    """Whether accelerate's configuration has FSDP recompute activations, which excludes trl's."""
    return n_processes() > 1 and all(
        os.environ.get(name, "").lower() == "true"
        for name in ("ACCELERATE_USE_FSDP", "FSDP_ACTIVATION_CHECKPOINTING")
    )


class _DPOTrainer(DPOTrainer):
    """trl's trainer, given token ids and the reference's log-probabilities."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _send_telemetry(self) -> None:
        """Training makes no network connections."""


class _SFTTrainer(SFTTrainer):
    """trl's trainer, given token ids."""

    def _send_telemetry(self) -> None:
        """Training makes no network connections."""


def _run(
    trainer_class: type[_DPOTrainer] | type[_SFTTrainer],
    model: Any,
    tokenizer: Any,
    args: Any,
    columns: dict[str, list[Any]],
    pack: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
) -> None:
    base = model.get_base_model()
    align_special_tokens(base, tokenizer)
    keep_to_one_gpu(args)
    trainer: Any = trainer_class(
        model,
        args=args,
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        data_collator=pack,
    )
    trainer.remove_callback(PrinterCallback)
    if "ref" in model.peft_config and _REFERENCES[0] in columns:
        # trl copies the adapter to compute the reference as it goes; the dataset has it already.
        model.delete_adapter("ref")
        trainer.precompute_ref_logps = True
    base.forward = partial(packed_forward, base)
    trainer.train()
    check_finite(model, args.learning_rate)


def keep_to_one_gpu(args: Any) -> None:
    """Else a trainer with these arguments wants to spread over every GPU it sees."""
    if args.n_gpu > 1:
        args._n_gpu = 1


def check_finite(model: Any, learning_rate: float) -> None:
    """Refuse what a training that diverged leaves behind.

    Raises:
        InvalidArgumentError: a trainable parameter holds NaN or infinity.
    """
    if not all(p.isfinite().all() for p in model.parameters() if p.requires_grad):
        raise InvalidArgumentError(
            f"training diverged (learning_rate={learning_rate}): the adapter holds "
            "numbers that are not finite; lower the learning rate"
        )


def align_special_tokens(base: Any, tokenizer: Any) -> None:
    """Do what the trainer would do with a warning, every time, as it is undone every time."""
    for config in (base.config.get_text_config(), base.generation_config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            token = getattr(tokenizer, name)
            if config is not None and token is not None:
                setattr(config, name, token)


def reference_log_probs(
    model: Any,
    rows: Sequence[EncodedExample],
    pack: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
    batch_size: int,
) -> tuple[list[float], list[float]]:
    """Log-probabilities of the chosen and of the rejected replies before training.

    Taken over the very batches of training, so that the first step starts at log 2 to the bit.
    """
    chosen: list[float] = []
    rejected: list[float] = []
    base = model.get_base_model()
    for start in range(0, len(rows), batch_size):
        examples = [
            {"prompt_ids": r.prompt, "chosen_ids": r.replies[0], "rejected_ids": r.replies[1]}
            for r in rows[start : start + batch_size]
        ]
        batch = pack(examples)
        with torch.no_grad():
            log_probs = reply_log_probs(base, batch["packed"], batch["input_ids"][:, 1:].shape)
        sums = log_probs.sum(dim=1).tolist()
        chosen += sums[: len(examples)]
        rejected += sums[len(examples) :]
    return chosen, rejected

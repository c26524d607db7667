"""RLHF on LoRA adapters: a reward model from preferences, then REINFORCE against it.

trl has no PPO any more; its successor here is ``RLOOTrainer`` (REINFORCE with a leave-one-out
baseline, Ahmadian et al. 2024, arXiv 2402.14740) with a penalty on the KL divergence to the model
before the update, after ``RewardTrainer`` has fitted a reward model to the proposal's preferences.

The reward model is the examinee's own likelihood ratio: r(x, y) = β·(log π_r(y|x) − log π_0(y|x)),
with π_r an adapter trained by Bradley and Terry's loss and π_0 the examinee before (Rafailov et al.
2023, arXiv 2305.18290, section 4). A linear head on the last hidden state, the usual choice for
large models, ranks held-out pairs hardly better than chance at the size of the embedded models,
which know what an answer means only in how likely they give it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback
from transformers.modeling_outputs import SequenceClassifierOutput
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from progressgym_env.models.isolation import leaving_no_trace
from progressgym_env.models.training import (
    ADAPTER,
    align_special_tokens,
    check_finite,
    check_trainable,
    keep_to_one_gpu,
    pass_order,
    preference_columns,
    reference_log_probs,
    rows_to_train,
    trainer_arguments,
)
from progressgym_env.models.training_batches import (
    collate_examples,
    encode_examples,
    pack_replies,
    reply_log_probs,
)
from progressgym_env.models.updates import RLHFSettings, TrainingExample

__all__ = ["RewardModel", "train_reward", "train_rlhf"]

REWARD, BEFORE = "reward", "ref"
_POLICY_STREAM = 3  # Keeps these draws apart from others made with the same seed.


def train_rlhf(
    model: Any,
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    settings: RLHFSettings,
    seed: int,
) -> None:
    """Train the adapter "default" of ``model`` in place by reinforcement from a reward model.

    Args:
        model: as in :func:`~progressgym_env.models.training.train_dpo`.
        tokenizer: a fast tokenizer with a chat template and a padding token.
        examples: with a rejected reply each; none at all trains nothing.
        settings: see :class:`~progressgym_env.models.updates.RLHFSettings`.
        seed: ≥ 0. The same seed gives the same weights, bit for bit, on the same machine's CPU with
            the same number of threads.

    Raises:
        InvalidArgumentError: a rejected reply is missing, the model cannot be trained, or the
            training diverged.
    """
    check_trainable(model)
    if not examples or settings.policy.epochs == 0:
        return
    with leaving_no_trace(model) as folder:
        reward = train_reward(model, tokenizer, examples, settings, seed, folder)
        _reinforce(model, tokenizer, examples, reward, settings, seed, folder)


class RewardModel(PreTrainedModel):
    """The likelihood ratio of two adapters of one base as a reward; what ``RewardTrainer`` trains.

    Args:
        model: a ``peft.PeftModel`` with the adapters "default" and "reward".
        beta: factor of the log-ratio, > 0.
        pad_token: what batches are padded with.
    """

    supports_gradient_checkpointing = True

    def __init__(self, model: Any, beta: float, pad_token: int) -> None:
        base = model.get_base_model()
        config = type(base.config).from_dict(base.config.to_dict())
        config.num_labels = 1
        super().__init__(config)
        self.language_model = base
        self._beta, self._pad_token = beta, pad_token
        # In a tuple, so that its parameters are not this module's as well.
        self._model = (model,)

    def forward(
        self,
        *,
        packed: Any,
        input_ids: Tensor,
        ref_chosen_logps: Tensor,
        ref_rejected_logps: Tensor,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Rewards, (2n, 1), of n chosen and then n rejected replies."""
        log_probs = reply_log_probs(self.language_model, packed, input_ids[:, 1:].shape).sum(dim=1)
        before = torch.cat([ref_chosen_logps, ref_rejected_logps]).to(log_probs)
        return SequenceClassifierOutput(logits=self._beta * (log_probs - before)[:, None])

    def rewards(
        self, prompts: Sequence[list[int]], replies: Sequence[list[int]], before: str = ADAPTER
    ) -> NDArray[np.float64]:
        """(n,) rewards of replies to prompts, given as tokens; ``before`` is the adapter of π_0."""
        packed = pack_replies(prompts, replies, self._pad_token)
        shape, sums = (len(replies), max(map(len, replies))), []
        for adapter in (REWARD, before):
            with using_adapter(self._model[0], adapter), torch.no_grad():
                sums.append(reply_log_probs(self.language_model, packed, shape).sum(dim=1))
        rewards: NDArray[np.float64] = (self._beta * (sums[0] - sums[1])).double().cpu().numpy()
        return rewards


def train_reward(
    model: Any,
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    settings: RLHFSettings,
    seed: int,
    folder: str,
) -> RewardModel:
    """A reward model of the preferences, as adapter "reward" of ``model``; "default" is active.

    Args:
        model: as in :func:`train_rlhf`.
        tokenizer: as there.
        examples: at least one, with a rejected reply each.
        settings: as there.
        seed: as there.
        folder: an existing one, for the trainer.
    """
    rows = rows_to_train(tokenizer, examples, settings.reward, seed, n_replies=2)
    _copy_adapter(model, REWARD)
    align_special_tokens(model.get_base_model(), tokenizer)
    pack = partial(collate_examples, pad_token=tokenizer.pad_token_id, as_preference=True)
    before = reference_log_probs(model, rows, pack, settings.reward.batch_size)
    reward = RewardModel(model, settings.reward.beta, tokenizer.pad_token_id)
    args = RewardConfig(**trainer_arguments(model, settings.reward, seed, folder))
    keep_to_one_gpu(args)
    model.set_adapter(REWARD)
    trainer = _RewardTrainer(
        reward,
        args=args,
        train_dataset=Dataset.from_dict(preference_columns(rows, before)),
        processing_class=tokenizer,
        data_collator=pack,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    check_finite(model, args.learning_rate)
    model.set_adapter(ADAPTER)
    return reward


def _reinforce(
    model: Any,
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    reward: RewardModel,
    settings: RLHFSettings,
    seed: int,
    folder: str,
) -> None:
    prompts = _prompts_to_train(examples, settings, seed)
    encoded = encode_examples(tokenizer, prompts, 2)
    tokens = [e.prompt for e in encoded]
    longest = max(len(reply) for e in encoded for reply in e.replies)

    def rewarded(completion_ids: Sequence[list[int]], tokens: Sequence[list[int]], **_: Any) -> Any:
        return reward.rewards(tokens, completion_ids, before=BEFORE).tolist()

    n = settings.generations
    arguments = trainer_arguments(model, settings.policy, seed, folder)
    del arguments["max_length"]
    args = RLOOConfig(
        **{**arguments, "per_device_train_batch_size": n * settings.policy.batch_size},
        num_generations=n,
        max_completion_length=settings.max_new_tokens or longest,
        temperature=settings.temperature,
        beta=settings.kl,
        normalize_advantages=True,
        shuffle_dataset=False,
    )
    keep_to_one_gpu(args)
    trainer = _RLOOTrainer(
        model,
        reward_funcs=rewarded,
        args=args,
        train_dataset=Dataset.from_dict(
            {"prompt": [[{"role": "user", "content": e.prompt}] for e in prompts], "tokens": tokens}
        ),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    check_finite(model, args.learning_rate)


def _prompts_to_train(
    examples: Sequence[TrainingExample], settings: RLHFSettings, seed: int
) -> list[TrainingExample]:
    """The prompts in the order of training, filled up to whole batches."""
    size = settings.policy.batch_size
    n_seen = max(1, round(settings.policy.epochs * len(examples)))
    n_seen = -(-n_seen // size) * size
    rng = np.random.default_rng((seed, _POLICY_STREAM))
    return [examples[index] for index in pass_order(len(examples), n_seen, rng)]


def _copy_adapter(model: Any, name: str) -> None:
    """Add an adapter ``name`` with the weights of "default"."""
    model.add_adapter(name, model.peft_config[ADAPTER])
    with torch.no_grad():
        for own, parameter in model.named_parameters():
            if f".{ADAPTER}." in own:
                copy = model.get_parameter(own.replace(f".{ADAPTER}.", f".{name}."))
                copy.data = parameter.detach().clone()


@contextmanager
def using_adapter(model: Any, name: str) -> Iterator[None]:
    """Compute with the adapter ``name``, frozen; "default" is active and trainable again after."""
    model.base_model.set_adapter(name, inference_mode=True)
    try:
        yield
    finally:
        model.base_model.set_adapter(ADAPTER)


def _left(ids: Tensor, mask: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(ids[:, :-width], mask[:, :-width], strict=True)


def _right(ids: Tensor, mask: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(ids[:, -width:], mask[:, -width:], strict=True)


class _RewardTrainer(RewardTrainer):
    """trl's trainer, given token ids and the log-probabilities before."""

    def _send_telemetry(self) -> None:
        """Training makes no network connections."""


class _RLOOTrainer(RLOOTrainer):
    """trl's trainer, with the replies to a prompt sharing its computation."""

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *_: Any,
        **__: Any,
    ) -> tuple[Tensor, Tensor, None]:
        """(n, ``logits_to_keep``) log-probabilities, and zeros for the entropies of trl's log."""
        tokenizer: Any = self.processing_class
        base: Any = self.model
        real = attention_mask.bool()
        prompts = [ids[m].tolist() for ids, m in _left(input_ids, real, logits_to_keep)]
        replies = [ids[m].tolist() for ids, m in _right(input_ids, real, logits_to_keep)]
        packed = pack_replies(prompts, replies, tokenizer.pad_token_id)
        shape = (len(replies), max(map(len, replies)))
        found = reply_log_probs(base.get_base_model(), packed, shape)
        logps = torch.nn.functional.pad(found, (0, logits_to_keep - shape[1]))
        return logps, torch.zeros_like(logps), None

    def _send_telemetry(self) -> None:
        """Training makes no network connections."""

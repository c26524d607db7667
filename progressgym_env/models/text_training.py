"""Training on running text and on conversations: all parameters, or the adapter in the slot.

``transformers.Trainer`` owns the loop, the precision and the clipping. Its checkpoints hold
pickles, so they are written here instead, as one safetensors file that is there whole or not at
all. A training that goes on from one ends, on the same machine's CPU with the same number of
threads, with the very weights of one that was never interrupted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.files import atomic_path
from progressgym_env.models.base import SMALL_BASE
from progressgym_env.models.isolation import leaving_no_trace
from progressgym_env.models.loading import quiet_loading
from progressgym_env.models.randomness import seed_torch
from progressgym_env.models.training_batches import IGNORED

__all__ = [
    "IGNORED",
    "Row",
    "TextTrainingSettings",
    "TokenBatch",
    "as_batches",
    "grouped",
    "train_on_batches",
]

Row = tuple[Sequence[int] | NDArray[np.int32], Sequence[int] | NDArray[np.int32]]
"""Tokens and labels, equally many; ``IGNORED`` is the label of what is not trained."""

Tokens = NDArray[np.int32]
_BETAS = (0.9, 0.95)
_STRETCH = 1024


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Rows of tokens that are computed together.

    Attributes:
        input_ids: (n_rows, n_tokens) int32, padded on the right.
        labels: the same shape; ``IGNORED`` where nothing is trained, padding among it.
    """

    input_ids: Tokens
    labels: Tokens

    @property
    def n_tokens(self) -> int:
        """Places, padding among them."""
        return self.input_ids.size


@dataclass(frozen=True)
class TextTrainingSettings:
    """How weights are trained on text.

    Attributes:
        learning_rate: its peak.
        warm_up: share of the steps in which the rate rises from 0; then it falls along a cosine.
        last_rate: share of the peak at which it ends.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to it.
        accumulate: batches to a step of the optimiser.
        checkpoint_seconds: the time between checkpoints; longer where writing one takes more than
            a twentieth of it; 0 writes one before every step.
    """

    learning_rate: float
    warm_up: float = 0.05
    last_rate: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    accumulate: int = 1
    checkpoint_seconds: float = 300.0

    def rate(self, done: float) -> float:
        """The share of the learning rate when ``done``, in [0, 1], of the steps are taken."""
        if done < self.warm_up:
            return done / self.warm_up
        fallen = (done - self.warm_up) / max(1.0 - self.warm_up, 1e-9)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(fallen, 1.0)))
        return self.last_rate + (1.0 - self.last_rate) * cosine


def as_batches(
    rows: Sequence[Row], batch_tokens: int, pad_token: int, rng: np.random.Generator
) -> list[TokenBatch]:
    """Rows in random order, in batches of rows of about one length.

    Args:
        rows: every row goes into exactly one batch.
        batch_tokens: places of a batch at most, padding among them; a longer row is alone.
        pad_token: fills shorter rows.
        rng: decides the order.
    """
    order = rng.permutation(len(rows)).tolist()
    batches: list[TokenBatch] = []
    # Sorted within stretches of the random order: little padding, and no batch of long rows first.
    for start in range(0, len(order), _STRETCH):
        stretch = sorted(order[start : start + _STRETCH], key=lambda i: len(rows[i][0]))
        batches += [batch for _, batch in grouped(rows, stretch, batch_tokens, pad_token)]
    return [batches[i] for i in rng.permutation(len(batches))]


def grouped(
    rows: Sequence[Row], order: Sequence[int], batch_tokens: int, pad_token: int
) -> Iterator[tuple[list[int], TokenBatch]]:
    """Batches of neighbours in ``order``, each with the places of its rows in ``rows``."""
    group: list[int] = []
    longest = 0
    for index in order:
        wider = max(longest, len(rows[index][0]))
        if group and wider * (len(group) + 1) > batch_tokens:
            yield group, _batch([rows[i] for i in group], pad_token)
            group, wider = [], len(rows[index][0])
        group.append(index)
        longest = wider
    if group:
        yield group, _batch([rows[i] for i in group], pad_token)


def _batch(rows: Sequence[Row], pad_token: int) -> TokenBatch:
    longest = max(len(tokens) for tokens, _ in rows)
    input_ids = np.full((len(rows), longest), pad_token, dtype=np.int32)
    labels = np.full((len(rows), longest), IGNORED, dtype=np.int32)
    for place, (tokens, wanted) in enumerate(rows):
        input_ids[place, : len(tokens)] = tokens
        labels[place, : len(wanted)] = wanted
    return TokenBatch(input_ids, labels)


def train_on_batches(
    model: Any,
    batches: Sequence[TokenBatch],
    settings: TextTrainingSettings,
    seed: int,
    *,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Train what is trainable of ``model`` in place, batch after batch, once.

    Args:
        model: a ``transformers`` causal language model, or a ``peft.PeftModel`` around one.
        batches: in the order in which they are learnt from.
        settings: rates and the like.
        seed: of dropout, where the model has any.
        checkpoint: file of what was reached; gone on from where it is there and has this ``key``.
        key: names all that decides the outcome; a checkpoint with another is begun anew.
        progress: called with (steps done, steps in all).

    Returns:
        The loss of every step.

    Raises:
        InvalidArgumentError: nothing is trainable, or training diverged.
    """
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise InvalidArgumentError("no parameter of the model is trainable; unfreeze what is to be")
    optimizer = torch.optim.AdamW(
        trainable.values(),
        lr=settings.learning_rate,
        betas=_BETAS,
        weight_decay=settings.weight_decay,
    )
    total = -(-len(batches) // settings.accumulate)
    keeper = _Keeper(checkpoint, key, trainable, optimizer, total, settings, seed, progress)
    done = keeper.restore()
    progress(done, total)
    if done < total:
        left = batches[done * settings.accumulate :]
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: settings.rate((done + step + 1) / total)
        )
        _train(model, left, settings, seed, (optimizer, schedule), keeper)
    if not all(bool(p.isfinite().all()) for p in trainable.values()):
        raise InvalidArgumentError(
            f"training diverged (learning_rate={settings.learning_rate}): weights are not finite "
            "any more; lower the learning rate"
        )
    return keeper.losses


def _train(
    model: Any,
    batches: Sequence[TokenBatch],
    settings: TextTrainingSettings,
    seed: int,
    optimizers: tuple[Any, Any],
    keeper: _Keeper,
) -> None:
    with leaving_no_trace(model) as folder, quiet_loading():
        trainer: Any = Trainer(
            model=model,
            args=_arguments(model, settings, seed, folder),
            train_dataset=_Batches(batches),
            data_collator=_tensors,
            optimizers=optimizers,
            callbacks=[keeper],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def _arguments(
    model: Any, settings: TextTrainingSettings, seed: int, folder: str
) -> TrainingArguments:
    n_parameters = sum(p.numel() for p in model.parameters())
    cuda = model.device.type == "cuda"
    args = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.accumulate,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        max_grad_norm=settings.max_grad_norm,
        seed=seed % 2**32,
        use_cpu=not cuda,
        # Weights in 32 bits that are all trained are computed with in 16; others in their own.
        bf16=cuda and n_parameters > SMALL_BASE and model.dtype == torch.float32,
        activation_checkpointing=n_parameters > SMALL_BASE,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # Else the trainer spreads over every GPU it sees.
    return args


class _Batches(torch.utils.data.Dataset[TokenBatch]):
    def __init__(self, batches: Sequence[TokenBatch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> TokenBatch:
        return self._batches[index]


def _tensors(batches: Sequence[TokenBatch]) -> dict[str, torch.Tensor]:
    (batch,) = batches
    # No attention mask: what follows a row's end, its tokens never see.
    return {
        "input_ids": torch.from_numpy(batch.input_ids).long(),
        "labels": torch.from_numpy(batch.labels).long(),
    }


class _Keeper(TrainerCallback):
    """Writes down what was reached, now and then, and finds it again."""

    def __init__(
        self,
        path: Path | None,
        key: str,
        trainable: dict[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        total: int,
        settings: TextTrainingSettings,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._path, self._key, self._progress = path, key, progress
        self._trainable, self._optimizer = trainable, optimizer
        self._total, self._seed = total, seed
        self._seconds = self._wait = settings.checkpoint_seconds
        self._done, self._written = 0, time.monotonic()
        self.losses: list[float] = []

    def restore(self) -> int:
        """Steps already taken; the weights and the optimiser are as they were then."""
        if self._path is None or not self._path.is_file():
            return 0
        try:
            with safe_open(self._path, framework="pt") as file:
                told = json.loads((file.metadata() or {}).get("reached", "{}"))
                if told.get("key") != self._key:
                    return 0
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise HistoryError(
                f"{self._path} is damaged ({error}); remove it, and the stage begins anew"
            ) from error
        self.losses, self._done = list(told["losses"]), int(told["step"])
        with torch.no_grad():
            for name, parameter in self._trainable.items():
                parameter.copy_(tensors[f"weight.{name}"])
                self._optimizer.state[parameter] = {
                    part: tensors[f"{part}.{name}"].to(
                        "cpu" if part == "step" else parameter.device
                    )
                    for part in ("step", "exp_avg", "exp_avg_sq")
                }
        return self._done

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the loss of the step."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step."""
        self._done += 1
        self._progress(self._done, self._total)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what the steps before have reached, when it is time; their losses are known now.

        Dropout draws by the step, whether or not there was an interruption before it.
        """
        due = time.monotonic() - self._written >= self._wait
        # Before the first step the optimiser has no state.
        if self._path and due and self.losses:
            self._write()
        device = next(iter(self._trainable.values())).device
        (drawn,) = np.random.SeedSequence([self._seed, self._done]).generate_state(1)
        seed_torch(int(drawn), device)

    def _write(self) -> None:
        assert self._path is not None
        began = time.monotonic()
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in self._trainable.items():
            tensors[f"weight.{name}"] = parameter.detach().cpu().contiguous()
            for part, value in self._optimizer.state[parameter].items():
                tensors[f"{part}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
        reached = {"key": self._key, "step": self._done, "losses": self.losses}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._path) as temporary:
            save_file(tensors, temporary, metadata={"reached": json.dumps(reached)})
        self._written = time.monotonic()
        # Large ones take their time: at most a twentieth of all of it.
        if self._seconds > 0:
            self._wait = max(self._seconds, 20 * (self._written - began))

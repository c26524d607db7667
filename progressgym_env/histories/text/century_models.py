"""The models of the centuries while they are made: adapters over the base, or full models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.files import replaced_folder
from progressgym_env.histories.declared import IN_FOLDER, Checkpoint
from progressgym_env.histories.folder import ADAPTERS
from progressgym_env.histories.sources import (
    AdapterSource,
    CheckpointSource,
    ModelSource,
    give_back,
)
from progressgym_env.models.adapters import write_adapter
from progressgym_env.models.host import LanguageHost
from progressgym_env.models.loading import (
    BaseSource,
    count_parameters,
    load_tokenizer,
    quiet_loading,
    stored_dtype,
    torch_device,
)
from progressgym_env.models.memory import available_bytes, gib
from progressgym_env.models.text_training import (
    TextTrainingSettings,
    TokenBatch,
    train_on_batches,
)

__all__ = ["BASE", "MODELS", "AdapterMaker", "FullModelMaker", "ModelMaker", "Training"]

BASE, MODELS = "base", "models"


@dataclass(frozen=True)
class Training:
    """One training of one century's model.

    Attributes:
        batches: in their order.
        settings: rates and the like.
        seed: of whatever is random beside the batches.
        checkpoint: where it is written down what was reached.
        key: names all that decides the outcome.
        progress: called with (steps done, steps in all).
    """

    batches: Sequence[TokenBatch]
    settings: TextTrainingSettings
    seed: int
    checkpoint: Path
    key: str
    progress: Callable[[int, int], None]

    def run(self, model: Any) -> list[float]:
        """Train ``model`` in place; the loss of every step."""
        return train_on_batches(
            model,
            self.batches,
            self.settings,
            self.seed,
            checkpoint=self.checkpoint,
            key=self.key,
            progress=self.progress,
        )


class ModelMaker(Protocol):
    """Makes models of centuries, all from one base.

    Attributes:
        tokenizer: of the base.
        n_parameters: of the base.
    """

    tokenizer: Any
    n_parameters: int

    def train(self, start: Path | None, out: Path, training: Training) -> list[float]:
        """Train on from what lies at ``start``, or from the base; put the outcome into ``out``."""
        ...

    def place(self, century: str) -> Path:
        """Where the finished model of a century lies."""
        ...

    def finish(self, made: Path, century: str) -> None:
        """Put what was made of a century into its place, as precise as it is kept."""
        ...

    def source(self, centuries: Sequence[str]) -> ModelSource:
        """The finished models."""
        ...

    def release(self) -> None:
        """Let go of what is loaded; nothing can be trained any more."""
        ...


class AdapterMaker:
    """Adapters over the base in the history's folder.

    Args:
        folder: the history's.
        rank: of the adapters.
        device: where they are trained.
        seed: of the first adapter, which all centuries start from.
    """

    def __init__(self, folder: Path, rank: int, device: str, seed: int) -> None:
        self.folder = folder
        lora = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        self._loaded: LanguageHost | None = LanguageHost(
            folder / BASE, device=device, lora=lora, seed=seed
        )
        self.tokenizer = self._host.tokenizer
        named = self._host.causal_lm.named_parameters()
        self.n_parameters = sum(p.numel() for name, p in named if "lora_" not in name)

    @property
    def _host(self) -> LanguageHost:
        if self._loaded is None:
            raise HistoryError("the base was let go of; make another AdapterMaker")
        return self._loaded

    def release(self) -> None:
        """Let go of the base."""
        self._loaded = None
        give_back()

    def train(self, start: Path | None, out: Path, training: Training) -> list[float]:
        """Train an adapter."""
        host = self._host
        losses: list[float] = []
        state = host.trained(
            host.fresh if start is None else host.read_adapter(start),
            lambda model, _: losses.extend(training.run(model)),
        )
        with replaced_folder(out) as folder:
            write_adapter(folder, state, host.lora_config)
        return losses

    def place(self, century: str) -> Path:
        """The adapter's folder."""
        return self.folder / ADAPTERS / century

    def finish(self, made: Path, century: str) -> None:
        """Round the adapter to 16 bits: half the size, and what is measured is what is kept."""
        state = {n: tensor.half() for n, tensor in self._host.read_adapter(made).items()}
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise InvalidArgumentError(
                f"the adapter of {century} holds numbers too large for 16 bits: training was about "
                "to diverge; lower the learning rates"
            )
        with replaced_folder(self.place(century)) as folder:
            write_adapter(folder, state, self._host.lora_config)

    def source(self, centuries: Sequence[str]) -> ModelSource:
        """The adapters over their base."""
        return AdapterSource(self.folder, BASE, tuple(centuries))


class FullModelMaker:
    """Full models, one a century, in the history's folder.

    Args:
        folder: the history's.
        device: where they are trained, one after another.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, torch_device(device)
        self.tokenizer = load_tokenizer(folder / BASE)
        config = AutoConfig.from_pretrained(folder / BASE, trust_remote_code=False)
        self.n_parameters = count_parameters(config)
        # Weights, gradients and two moments, all in 32 bits.
        needed, available = 16 * self.n_parameters, available_bytes(self.device)
        if available is not None and needed > available:
            raise InvalidArgumentError(
                f"training all {self.n_parameters / 1e9:.1f} billion parameters of the base takes "
                f"{gib(needed)} on {self.device.type}, and {gib(available)} are free; use "
                '[pretrain] method = "lora", or a larger machine'
            )

    def release(self) -> None:
        """Nothing is loaded between trainings."""
        give_back()

    def train(self, start: Path | None, out: Path, training: Training) -> list[float]:
        """Train all parameters, in 32 bits."""
        model = self._load(start or self.folder / BASE)
        losses = training.run(model)
        self._save(model, out)
        del model
        give_back()
        return losses

    def place(self, century: str) -> Path:
        """The model's folder."""
        return self.folder / MODELS / century

    def finish(self, made: Path, century: str) -> None:
        """Keep the model as precise as the base is."""
        dtype = stored_dtype(BaseSource(str(self.folder / BASE)))
        self._save(self._load(made).to(dtype), self.place(century))

    def source(self, centuries: Sequence[str]) -> ModelSource:
        """The full models."""
        return CheckpointSource(
            [Checkpoint(name, str(self.place(name)), IN_FOLDER) for name in centuries], None
        )

    def checkpoints(self, centuries: Sequence[str]) -> list[Checkpoint]:
        """As the history's header names them: from its folder."""
        return [Checkpoint(name, f"{MODELS}/{name}", IN_FOLDER) for name in centuries]

    def _load(self, folder: Path) -> Any:
        with quiet_loading():
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=False,
            )
        return model.to(self.device)

    def _save(self, model: Any, out: Path) -> None:
        with replaced_folder(out) as folder, quiet_loading():
            model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

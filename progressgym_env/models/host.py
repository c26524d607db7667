"""A base in memory with a slot for adapters, which all states of one language model share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from progressgym_env.models.adapters import (
    AdapterState,
    can_merge,
    check_plain,
    check_same_scaling,
    check_tensors,
    default_lora_config,
    read_lora_config,
    read_tensors,
)
from progressgym_env.models.compiling import can_compile, compile_layers, eager
from progressgym_env.models.loading import (
    BaseSource,
    LoadedBase,
    load_base,
    quiet_loading,
    resolve_device,
    torch_device,
)
from progressgym_env.models.randomness import random_states_kept, seed_torch
from progressgym_env.models.scoring_plan import ScoringPlan
from progressgym_env.values.forms import Prompt

__all__ = ["LanguageHost"]

_ADAPTER = "default"
# Tokens a packed batch may hold. On a CPU a batch should stay in the cache; a GPU wants many.
_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
# Tokens that take as long as a batch takes beside its tokens.
_BATCH_OVERHEAD = {"cpu": 256, "cuda": 256}
# Numbers in the logits of a batch: 2 GiB in 32 bits.
_BATCH_LOGITS = 2**29


class LanguageHost:
    """The base model, its tokenizer, and the slot for the adapter in use.

    Args:
        base: folder, hub name or source of a causal language model with a chat template, or one
            that is in memory already.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        lora: the adapters' configuration; by default rank 8 on all linear layers.
        seed: initialises the first, fresh adapter (which leaves the base's behaviour as it is).

    Attributes:
        tokenizer: of the base.
        peft_model: the base with the slot.
        fresh: the first adapter.
        base_dtype: that the base computes in.
        source: where the base came from; None where it was in memory already.
    """

    def __init__(
        self,
        base: str | Path | BaseSource | LoadedBase,
        *,
        device: str = "auto",
        lora: LoraConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.device = resolve_device(device)
        self.source: BaseSource | None = None
        if not isinstance(base, LoadedBase):
            self.source = base if isinstance(base, BaseSource) else BaseSource(str(base))
        on = torch_device(self.device)
        if on.type == "cuda":
            # So that it has random states to keep.
            torch.cuda.init()  # type: ignore[no-untyped-call]
        lora = copy.deepcopy(lora) if lora else default_lora_config()
        check_plain(lora, "lora")
        with quiet_loading(), random_states_kept():
            loaded = base if isinstance(base, LoadedBase) else load_base(base, on)
            self.tokenizer: Any = loaded.tokenizer
            # A copy with the adapter merged in; see inference_model.
            self._merged: Any = copy.deepcopy(loaded.model).eval() if loaded.small else None
            self.base_dtype: torch.dtype = loaded.model.dtype
            seed_torch(seed, on)
            self.peft_model: Any = get_peft_model(loaded.model, lora)
            # Layers that are spread over GPUs have hooks, which carry what they are given there.
            spread = hasattr(loaded.model, "hf_device_map")
            if on.type == "cuda" and not loaded.small and not spread and can_compile():
                compile_layers(self.causal_lm)
        if not can_merge(self.causal_lm):
            self._merged = None
        self._current: AdapterState | None = None
        self._slot_in(torch.float32)
        self.peft_model.eval()
        self.fresh: AdapterState = self.snapshot()
        self._merged_state: AdapterState | None = None
        self._plans: dict[tuple[Prompt, ...], ScoringPlan] = {}

    @property
    def causal_lm(self) -> Any:
        """The ``transformers`` model underneath, with the LoRA layers inside."""
        return self.peft_model.get_base_model()

    @property
    def lora_config(self) -> LoraConfig:
        """The settings of all adapters that fit the slot."""
        config: LoraConfig = self.peft_model.peft_config[_ADAPTER]
        return config

    @property
    def merges(self) -> bool:
        """Whether a second copy of the base, with the adapter merged in, measures and replies."""
        return self._merged is not None

    @property
    def _slot(self) -> dict[str, Tensor]:
        # Else peft reads the base's configuration again each time, from the hub if need be.
        slot: dict[str, Tensor] = get_peft_model_state_dict(
            self.peft_model, adapter_name=_ADAPTER, save_embedding_layers=False
        )
        return slot

    def snapshot(self) -> AdapterState:
        """A copy of the adapter in the slot."""
        # The slot itself may hold it rounded, for measuring.
        held = self._slot if self._current is None else self._current
        return {name: tensor.detach().clone() for name, tensor in held.items()}

    def activate(self, state: AdapterState) -> None:
        """Put ``state`` into the slot (nothing is copied where it is there already).

        Raises:
            HistoryError: its tensors have other names or shapes; the slot stays as it is.
        """
        if self._current is state:
            return
        slot = self._slot
        check_tensors(state, slot, "the adapter")
        self._current = None  # Whatever interrupts the copying leaves a mixture.
        with torch.no_grad():
            for name, tensor in slot.items():
                tensor.copy_(state[name])
        self._current = state

    def _slot_in(self, dtype: torch.dtype) -> None:
        """Let the slot compute in ``dtype``: 32 bits to train, the base's own to measure.

        A layer in 32 bits takes its input and hands over its output in 32 bits: beside a base in
        16 bits, that moves as many bytes as the base itself does.
        """
        for parameter in self.peft_model.parameters():
            if parameter.requires_grad and parameter.dtype != dtype:
                parameter.data = parameter.data.to(dtype)
                self._current = None  # Other bits than those of the state.

    def inference_model(self, state: AdapterState) -> Any:
        """A causal LM that computes with ``state``, for measuring and replying.

        A small base has a second copy, into which the adapter is merged: without the detour
        through every LoRA layer a forward pass takes a fifth less time, a reply half.
        """
        if self._merged is None:
            self._slot_in(self.base_dtype)
            self.activate(state)
            return self.causal_lm
        if self._merged_state is not state:
            self.activate(state)
            self._merged_state = None
            for name, layer in self.causal_lm.named_modules():
                if isinstance(layer, LoraLinear):
                    linear: Any = layer.get_base_layer()
                    merged = linear.weight + layer.get_delta_weight(_ADAPTER)
                    self._merged.get_submodule(name).weight.data.copy_(merged)
            self._merged_state = state
        return self._merged

    def trained(
        self, state: AdapterState, train: Callable[[PeftModel, Any], object]
    ) -> AdapterState:
        """A new adapter: ``state`` after ``train(peft_model, tokenizer)`` changed the slot."""
        self._slot_in(torch.float32)
        self.activate(state)
        self._current = None
        try:
            with eager():
                train(self.peft_model, self.tokenizer)
            return self.snapshot()
        finally:
            self.peft_model.eval()

    def read_adapter(self, folder: Path) -> AdapterState:
        """Load an adapter saved by ``peft`` (safetensors); the slot stays as it is.

        Raises:
            HistoryError: a file is missing or damaged, or the adapter does not fit: its tensors
                have other names or shapes, or its settings another meaning.
        """
        check_same_scaling(read_lora_config(folder), self.lora_config, str(folder))
        loaded, slot = read_tensors(folder), self._slot
        check_tensors(loaded, slot, f"the adapter {folder}")
        # In 32 bits, whatever the slot computes in at the moment.
        return {n: loaded[n].to(t.device, torch.float32, copy=True) for n, t in slot.items()}

    def encode_prompt(self, text: str) -> list[int]:
        """Tokens of a user's message, up to where the reply begins."""
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
        ids: list[int] = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids

    def plan(self, prompts: tuple[Prompt, ...]) -> ScoringPlan:
        """Packed batches for ``prompts``, kept for the next time the same are asked."""
        if prompts not in self._plans:
            if len(self._plans) >= 8:
                self._plans.pop(next(iter(self._plans)))
            vocabulary = self.causal_lm.get_output_embeddings().weight.shape[0]
            kind = self.causal_lm.device.type
            self._plans[prompts] = ScoringPlan(
                prompts,
                self.tokenizer,
                self.encode_prompt,
                batch_tokens=_BATCH_TOKENS[kind],
                batch_places=_BATCH_LOGITS // vocabulary,
                batch_overhead=_BATCH_OVERHEAD[kind],
            )
        return self._plans[prompts]

"""LoRA adapters on disk: which settings are supported, and whether an adapter fits its base."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from progressgym_env.errors import HistoryError
from progressgym_env.files import write_bytes, write_json

__all__ = [
    "AdapterState",
    "can_merge",
    "check_plain",
    "check_same_scaling",
    "check_tensors",
    "default_lora_config",
    "read_lora_config",
    "read_tensors",
]

AdapterState = dict[str, Tensor]

_REMEDY = "use adapters made for the same base and LoRA settings"
# What an adapter computes beside weight + scaling · B·A; a merged weight would leave it out.
_VARIANTS = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
)
# Starts that change the base's own weights.
_BASE_CHANGING = ("corda", "loftq", "lora_ga", "olora", "pissa")
# What decides how far the tensors of an adapter change the base.
_SCALING = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")


def default_lora_config() -> LoraConfig:
    """Rank 8 on every linear layer, no dropout: what all of this package's adapters use."""
    return LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def read_lora_config(folder: Path) -> LoraConfig:
    """The LoRA settings of an adapter folder.

    Raises:
        HistoryError: the file is missing or damaged, or the adapter is not plain LoRA.
    """
    path = folder / "adapter_config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise HistoryError(f"{path}: missing or no JSON; save the adapter anew") from error
    kind = raw.get("peft_type") if isinstance(raw, dict) else None
    if kind != "LORA":
        raise HistoryError(f"{folder}: adapter type {kind!r}; only LORA is known")
    config: LoraConfig = LoraConfig.from_pretrained(os.fspath(folder))
    config.inference_mode = False
    check_plain(config, str(folder))
    return config


def check_plain(config: LoraConfig, source: str) -> None:
    """Refuse every LoRA setting under which merged weights would not be the whole adapter.

    Raises:
        HistoryError: names ``source`` and the setting.
    """
    refused: dict[str, Any] = {name: getattr(config, name, None) for name in _VARIANTS}
    refused["bias"] = config.bias if config.bias != "none" else None
    start = str(config.init_lora_weights).lower()
    refused["init_lora_weights"] = start if start.startswith(_BASE_CHANGING) else None
    for name, value in refused.items():
        if value:
            raise HistoryError(
                f"{source}: {name}={value!r} is not supported; only plain LoRA is, without DoRA, "
                "biases or further modules: train the adapter anew without this setting"
            )


def check_same_scaling(mine: LoraConfig, hosts: LoraConfig, source: str) -> None:
    """Refuse an adapter that means something else in the host's slot than where it was made.

    Raises:
        HistoryError: names ``source`` and the setting.
    """
    for name in _SCALING:
        value, expected = getattr(mine, name), getattr(hosts, name)
        if value != expected:
            raise HistoryError(
                f"{source}: {name}={value!r}, but the adapters in use have {expected!r}; {_REMEDY}"
            )


def read_tensors(folder: Path) -> AdapterState:
    """The tensors of an adapter folder, as they were saved.

    Raises:
        HistoryError: the file is missing or damaged.
    """
    path = folder / "adapter_model.safetensors"
    try:
        return dict(load_file(path))
    except (FileNotFoundError, SafetensorError) as error:
        raise HistoryError(
            f"{path}: missing or damaged ({error}); save the adapter anew"
        ) from error


def check_tensors(state: Mapping[str, Tensor], slot: Mapping[str, Tensor], source: str) -> None:
    """Refuse an adapter unless its tensors have the names and the shapes of those in the slot.

    Raises:
        HistoryError: names ``source`` and a tensor.
    """
    different = sorted(state.keys() ^ slot.keys())
    if different:
        raise HistoryError(
            f"{source} does not fit this base: {len(different)} tensors are missing or too many, "
            f"such as {different[0]}; {_REMEDY}"
        )
    for name, tensor in slot.items():
        if state[name].shape != tensor.shape:
            raise HistoryError(
                f"{source} does not fit this base: {name} has shape {tuple(state[name].shape)}, "
                f"must be {tuple(tensor.shape)}; {_REMEDY}"
            )


def can_merge(model: Any) -> bool:
    """Whether merged weights compute what ``model``, a base with LoRA layers inside, computes."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    # A weight that the output layer shares with the embedding would be changed in both.
    shared = model.get_input_embeddings().weight
    return all(
        isinstance(layer, LoraLinear) and layer.get_base_layer().weight is not shared
        for layer in layers
    )


def write_adapter(folder: Path, state: Mapping[str, Tensor], config: LoraConfig) -> None:
    """Write an adapter in peft's format: ``adapter_config.json`` and safetensors.

    Args:
        folder: made where it is not there.
        state: the adapter's tensors, on whatever device.
        config: the settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    write_bytes(folder / "adapter_model.safetensors", save(tensors))
    raw = config.to_dict()
    # Where the base lay when the adapter was made means nothing elsewhere.
    raw.update(base_model_name_or_path=None, inference_mode=True)
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in raw.items()}
    write_json(folder / "adapter_config.json", plain)

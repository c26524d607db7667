"""Loading a base model: where it runs, how precisely it computes, and whether it can be used."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.models.base import SMALL_BASE
from progressgym_env.models.devices import check_device_name
from progressgym_env.models.memory import check_memory, spreads

__all__ = [
    "BaseSource",
    "LoadedBase",
    "base_dtype",
    "check_output",
    "count_parameters",
    "load_base",
    "load_tokenizer",
    "longest_input",
    "quiet_loading",
    "read_tokenizer",
    "resolve_device",
    "stored_dtype",
    "torch_device",
]


def resolve_device(device: str) -> str:
    """``"auto"`` → ``"cuda"`` where there is one, else ``"cpu"``; other names are checked.

    Returns:
        ``"cpu"``, or ``"cuda"`` for the first GPU that this process sees.

    Raises:
        InvalidArgumentError: no such device here, or a GPU that training could not use.
    """
    name = check_device_name(device)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        raise InvalidArgumentError(f"device {device!r}: no CUDA device here; use 'auto' or 'cpu'")
    if name != "cuda":
        index, n_devices = int(name.removeprefix("cuda:")), torch.cuda.device_count()
        if index >= n_devices:
            raise InvalidArgumentError(
                f"device {device!r}: must be below 'cuda:{n_devices}', there are {n_devices} CUDA "
                "devices here; use 'cuda'"
            )
        raise InvalidArgumentError(
            f"device {device!r}: must be 'cuda', as trl trains on the first GPU that it sees; "
            f"set CUDA_VISIBLE_DEVICES={index} and use device='cuda'"
        )
    return name


def torch_device(name: str) -> torch.device:
    """The device of a name from :func:`resolve_device`: the first GPU, not the current one."""
    return torch.device("cpu") if name == "cpu" else torch.device("cuda", 0)


def base_dtype(n_parameters: int, device: torch.device) -> torch.dtype:
    """The precision that a base of ``n_parameters`` computes in.

    32 bits on a CPU, where 16-bit arithmetic is slow or absent, and for every small base, into
    whose weights adapters are merged: rounded to 16 bits, what a small update changes would vanish.
    """
    large = n_parameters > SMALL_BASE
    return torch.bfloat16 if large and device.type == "cuda" else torch.float32


def longest_input(source: BaseSource) -> int | None:
    """The tokens that a model can read at most, where its configuration says so.

    Raises:
        HistoryError: there is no such model.
    """
    config = _config(source)
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 else None


def stored_dtype(source: BaseSource) -> torch.dtype:
    """The precision that a model's weights are published in; 32 bits where it does not say.

    Raises:
        HistoryError: there is no such model.
    """
    config = _config(source)
    found = getattr(config, "dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def count_parameters(config: Any) -> int:
    """Parameters of the causal language model of ``config``, shared ones once; loads no weights."""
    with torch.device("meta"):
        # Building a model writes into its configuration.
        model: Any = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), trust_remote_code=False
        )
    model.tie_weights()
    return sum(p.numel() for p in model.parameters())


@dataclass(frozen=True, eq=False)
class LoadedBase:
    """A base model in memory.

    Attributes:
        model: a ``transformers`` causal language model.
        tokenizer: with a chat template, padding on the left.
    """

    model: Any
    tokenizer: Any

    @property
    def small(self) -> bool:
        """Whether it is kept a second time, with the adapter in use merged in."""
        n_parameters: int = sum(p.numel() for p in self.model.parameters())
        return n_parameters <= SMALL_BASE


@dataclass(frozen=True)
class BaseSource:
    """Where a base comes from.

    Attributes:
        model: a folder, or a name on the hub.
        revision: of the hub; None takes the newest.
        chat_template: in place of the tokenizer's own, where it is not None.
    """

    model: str
    revision: str | None = None
    chat_template: str | None = None


def load_base(
    base: str | Path | BaseSource,
    device: torch.device,
    dtype: torch.dtype | None = None,
    tokenizer: Any = None,
) -> LoadedBase:
    """The base on ``device``, with its tokenizer.

    Args:
        base: folder, hub name or source of a causal language model.
        device: where to put it; a base that is too large for one GPU goes, layer by layer, over all
            that this process sees, and starts on the first.
        dtype: that it computes in, where its memory is the caller's affair, too; None takes
            :func:`base_dtype`, once there is room.
        tokenizer: in place of the base's own, which may lack what is needed.

    Raises:
        HistoryError: it is not there or cannot be read, its tokenizer lacks what is needed or has
            another vocabulary, or the packed forward pass would not compute what it computes.
        InvalidArgumentError: it does not fit into memory.
    """
    source = base if isinstance(base, BaseSource) else BaseSource(str(base))
    tokenizer = load_tokenizer(source) if tokenizer is None else tokenizer
    config = _config(source)
    check_output(config, source.model)
    with _told(source):
        n_parameters = count_parameters(config)
    spread = False
    if dtype is None:
        dtype = base_dtype(n_parameters, device)
        if n_parameters > SMALL_BASE:
            check_memory(source.model, n_parameters, dtype, device)
            spread = spreads(n_parameters, dtype, device)
    with _told(source):
        # Weights come as safetensors or not at all: other formats can hold code.
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.model,
            revision=source.revision,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            device_map="balanced" if spread else None,
        )
    if not spread:
        model = model.to(device)
    elif {"cpu", "disk"} & {*map(str, model.hf_device_map.values())}:
        raise InvalidArgumentError(
            f"{source.model} does not fit on the GPUs as they are filled now, and part of it would "
            "lie in main memory; free them, or choose others with CUDA_VISIBLE_DEVICES"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise HistoryError(
            f"the tokenizer at {source.model} has {len(tokenizer)} tokens, and the model only "
            f"{rows}: they do not belong together; put the model's own tokenizer beside it"
        )
    return LoadedBase(model, tokenizer)


def load_tokenizer(base: str | Path | BaseSource) -> Any:
    """The tokenizer of ``base``, padding on the left.

    Raises:
        HistoryError: there is none, or it lacks a chat template or an end-of-text token.
    """
    source = base if isinstance(base, BaseSource) else BaseSource(str(base))
    tokenizer = read_tokenizer(source)
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise HistoryError(
            f"the tokenizer at {source.model} lacks a chat template or an end-of-text token; "
            "use an instruction-tuned model, or set both in tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def read_tokenizer(source: BaseSource) -> Any:
    """The tokenizer of a source, whatever it lacks.

    Raises:
        HistoryError: there is none.
    """
    with _told(source):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source.model, revision=source.revision, trust_remote_code=False
        )
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    return tokenizer


def _config(source: BaseSource) -> Any:
    with _told(source):
        return AutoConfig.from_pretrained(
            source.model, revision=source.revision, trust_remote_code=False
        )


@contextmanager
def _told(source: BaseSource) -> Iterator[None]:
    """An error of loading names the model and what to do about it."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise HistoryError(
            f"the model {source.model} cannot be loaded ({reason}); check its name, give a folder "
            "with config.json, a tokenizer and weights as .safetensors, or, for a gated model of "
            "the hub, accept its terms there and log in with 'hf auth login'"
        ) from error


# What transformers does to the logits, and the packed forward pass does not: field → no effect.
_OUTPUT_FIELDS = {
    "final_logit_softcapping": None,
    "logits_soft_cap": None,
    "output_logit_soft_cap": None,
    "unpadded_vocab_size": None,
    "logit_scale": 1,
    "logits_scaling": 1,
    "lm_head_multiplier": 1,
}


def check_output(config: Any, base: str | Path) -> None:
    """Refuse a model whose log-probabilities or loss are not its output layer's alone.

    Raises:
        HistoryError: names the field of the configuration.
    """
    text = config.get_text_config()
    for field, neutral in _OUTPUT_FIELDS.items():
        value = getattr(text, field, None)
        if value not in (None, neutral):
            raise HistoryError(
                f"the model at {base} has {field}={value!r}: logits that are changed after the "
                "output layer are not supported; use a base without this field"
            )
    loss = getattr(text, "router_aux_loss_coef", None)
    if loss not in (None, 0):
        raise HistoryError(
            f"the model at {base} has router_aux_loss_coef={loss!r}: the loss of a router is not "
            "supported; set it to 0 in the base's config.json"
        )


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bar for a load of milliseconds, and no warning that only peft can act on."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            yield
    finally:
        if shown:
            logging.enable_progress_bar()

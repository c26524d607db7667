"""How near measuring comes to what the device can do.

Counts the least that a value embedding needs, in tokens (every beginning that prompts share once,
no padding) and in floating-point operations (matrix products alone); measures the device's rate of
matrix products in the same run; and prints what was achieved of it. ``--shape llama-3-8b`` takes a
randomly initialised model of that shape: speed does not depend on the weights. Nothing here is a
test; nothing is asserted. Run as a program::

    python -m progressgym_env.benchmarks.evaluation_speed
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, LlamaConfig

from progressgym_env.benchmarks.timing import header, median_seconds
from progressgym_env.errors import InvalidArgumentError, ProgressGymError
from progressgym_env.files import write_json
from progressgym_env.histories.loading import load_one
from progressgym_env.models.base import PreferenceData
from progressgym_env.models.language import LanguageHost, LanguageModel
from progressgym_env.models.loading import LoadedBase, base_dtype, resolve_device, torch_device
from progressgym_env.values.embedding import among_answers, prompts_of
from progressgym_env.values.forms import Prompt
from progressgym_env.values.questions import QuestionSet, load_questions

__all__ = ["SHAPES", "Needed", "main", "matmul_rate", "needed", "plain_log_probs", "random_model"]

SHAPES: dict[str, dict[str, Any]] = {
    "llama-3-8b": {
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    },
    "llama-3-1b": {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 8192, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Shapes of published models (Llama 3 8B; Llama 3.2 1B), by name."""


@dataclass(frozen=True)
class Needed:
    """The least work that the answers to some prompts take.

    Attributes:
        unshared: tokens of all prompts, and of their answers as often as they are asked.
        tokens: tokens, shared beginnings once.
        computed: tokens as they are computed, with padding.
        flop: floating-point operations of the matrix products over ``tokens``.
    """

    unshared: int
    tokens: int
    computed: int
    flop: float


def needed(model: LanguageModel, prompts: tuple[Prompt, ...]) -> Needed:
    """Count what measuring ``prompts`` takes with ``model``.

    A product of a token with a weight matrix counts two operations a weight; attention two for
    each of query times key and weight times value, a visible key and a channel of the heads;
    the output layer counts only at places where an answer is read.
    """
    host = model.host
    plan = host.plan(prompts)
    config = host.causal_lm.config
    decoder = host.causal_lm.get_decoder()
    linear = sum(
        p.numel() for n, p in decoder.named_parameters() if p.ndim == 2 and "embed" not in n
    )
    if host.merges:
        linear -= sum(t.numel() for t in model.state.values())
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    channels = config.num_attention_heads * head_dim * config.num_hidden_layers
    output = host.causal_lm.get_output_embeddings().weight.numel()
    visible = sum(int(batch.visible.sum()) for batch, _ in plan.batches)
    visible -= plan.n_padded - plan.n_tokens  # Padding sees itself.
    n_places = sum(
        len(set(zip(batch.edge_row.tolist(), batch.edge_node.tolist(), strict=True)))
        for batch, _ in plan.batches
    )
    flop = 2.0 * (plan.n_tokens * linear + 2 * visible * channels + n_places * output)
    return Needed(_unshared(model, prompts), plan.n_tokens, plan.n_padded, flop)


def _unshared(model: LanguageModel, prompts: Sequence[Prompt]) -> int:
    encode, tokenizer = model.host.encode_prompt, model.host.tokenizer
    total = 0
    for prompt in prompts:
        n_prompt = len(encode(prompt.text))
        for answer in prompt.answers:
            # The last token is only read.
            total += n_prompt + len(tokenizer(answer, add_special_tokens=False)["input_ids"]) - 1
    return total


def matmul_rate(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Floating-point operations a second of a large square matrix product, the best of a few."""
    n = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(repeats + 1):
        seconds = _seconds(lambda: one @ other, device)
        best = max(best, 2.0 * n**3 / seconds)
    return best


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def plain_log_probs(model: LanguageModel, prompts: Sequence[Prompt]) -> np.ndarray[Any, Any]:
    """(n_answers,) float32: every answer behind its prompt alone; no sharing, no padding."""
    host = model.host
    causal_lm = host.inference_model(model.state)
    found = []
    with torch.inference_mode():
        for prompt in prompts:
            start = host.encode_prompt(prompt.text)
            for answer in prompt.answers:
                tokens = host.tokenizer(answer, add_special_tokens=False)["input_ids"]
                ids = torch.tensor([start + tokens], device=causal_lm.device)
                logits = causal_lm(input_ids=ids, use_cache=False).logits[0, len(start) - 1 : -1]
                log_probs = torch.log_softmax(logits.float(), dim=-1)
                found.append(log_probs[range(len(tokens)), tokens].double().sum().item())
    return np.array(found, dtype=np.float32)


def random_model(
    shape: str, questions: QuestionSet, device: str, dtype: str | None = None
) -> LanguageModel:
    """A randomly initialised model of ``shape``, with the tokenizer of the embedded history."""
    base = load_one("embedded").initial_model("cpu")
    if not isinstance(base, LanguageModel):  # pragma: no cover - the embedded history's is one
        raise TypeError(type(base).__name__)
    on = torch_device(resolve_device(device))
    config = LlamaConfig(**SHAPES[shape])
    n_parameters = 12 * config.hidden_size**2 * config.num_hidden_layers
    with on:
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=base_dtype(n_parameters, on) if dtype is None else getattr(torch, dtype),
            attn_implementation="sdpa",
        )
    host = LanguageHost(LoadedBase(model.eval(), base.host.tokenizer), device=device)
    return LanguageModel(host, host.snapshot(), questions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; ``--json FILE`` also writes the numbers."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        numbers = _measure(chosen)
    except ProgressGymError as error:
        parser.error(str(error))
    console = Console()
    console.print(numbers["header"], highlight=False)
    table = Table("what", "measured", "unit", "of")
    for what, value, unit, of in numbers["rows"]:
        shown = (
            f"{value:,.4f}" if value < 1 else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
        )
        table.add_row(what, shown, unit, of)
    console.print(table)
    if chosen.json is not None:
        write_json(chosen.json, numbers)


def _measure(chosen: argparse.Namespace) -> dict[str, Any]:
    questions = load_questions(chosen.questions, chosen.path)
    if chosen.shape is None:
        history = load_one(chosen.history)
        found = history.initial_model(chosen.device)
        if not isinstance(found, LanguageModel):
            raise InvalidArgumentError(f"history {chosen.history!r} has no language models")
        model = LanguageModel(found.host, found.state, questions)
    else:
        model = random_model(chosen.shape, questions, chosen.device, chosen.dtype)
    causal_lm = model.host.inference_model(model.state)
    device, dtype = causal_lm.device, causal_lm.dtype
    prompts = prompts_of(questions.eval)
    planning = _seconds(lambda: model.host.plan(prompts), device)
    least = needed(model, prompts)
    rate = matmul_rate(device, dtype)
    seconds = median_seconds(model.values, chosen.repeats)
    rate = max(rate, matmul_rate(device, dtype))
    sample = prompts[:: max(1, len(prompts) // chosen.sample)]
    packed = among_answers(sample, model.answer_log_probs(sample))
    plain = among_answers(sample, plain_log_probs(model, sample))
    apart = max(float(np.abs(p - q).max()) for p, q in zip(packed, plain, strict=True))
    asked = f"{len(questions.eval)} questions of {questions.name}, {len(prompts):,} prompts"
    rows: list[tuple[str, float, str, str]] = [
        ("tokens if nothing is shared", least.unshared, "tokens", asked),
        ("tokens needed", least.tokens, "tokens", "every shared beginning once"),
        ("tokens computed", least.computed, "tokens", "with padding"),
        ("operations needed", least.flop / 1e12, "TFLOP", "matrix products"),
        ("planning, once", planning, "s", asked),
        ("value embedding", seconds, "s", f"median of {chosen.repeats}, warm"),
        ("tokens needed a second", least.tokens / seconds, "tokens/s", ""),
        ("achieved", least.flop / seconds / 1e12, "TFLOP/s", "of what is needed"),
        ("limit", rate / 1e12, "TFLOP/s", f"square matrix products, {dtype}"),
        ("achieved / limit", least.flop / seconds / rate, "", ""),
        ("furthest from unshared", apart, "probability", f"{len(sample)} prompts"),
    ]
    if chosen.dpo:
        rows.append(_dpo(model, questions))
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**30
        rows.append(("peak memory", peak, "GiB", "of the device, allocated"))
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    shape = chosen.shape or chosen.history
    return {"header": f"{header()}\n{name}; {shape}, {dtype}", "rows": rows}


def _dpo(model: LanguageModel, questions: QuestionSet) -> tuple[str, float, str, str]:
    """One update by DPO, every pair once, as an episode's step makes it; the second of two."""
    copies = np.ones(len(questions.pairs), dtype=np.int64)
    data = PreferenceData(questions.pairs, copies, seed=0)
    device = model.host.causal_lm.device
    model.learn("dpo", data)
    seconds = _seconds(lambda: model.learn("dpo", data), device)
    return "DPO update", seconds, "s", f"{len(questions.pairs)} pairs, once each"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--history", default="embedded", help="whose first model is measured")
    parser.add_argument("--shape", choices=tuple(SHAPES), help="measure a random model")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="of a random model, in place of the usual"
    )
    parser.add_argument("--questions", default="own", help="own or moralevals")
    parser.add_argument("--path", type=Path, default=None, help="where the questions lie")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of the embedding")
    parser.add_argument("--sample", type=int, default=64, help="prompts compared")
    parser.add_argument("--dpo", action="store_true", help="measure an update by DPO, too")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers to this file")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])

"""Small Llamas from nothing."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["new_llama"]


def new_llama(
    tokenizer: Any,
    *,
    hidden_size: int,
    n_layers: int,
    n_heads: int = 4,
    context: int = 512,
    seed: int = 0,
) -> Any:
    """A randomly initialised Llama with tied embeddings.

    Args:
        tokenizer: its vocabulary and special tokens become the model's.
        hidden_size: width, a multiple of ``2 * n_heads``.
        n_layers: depth.
        n_heads: heads of attention, all with keys and values of their own.
        context: tokens that it can read at most.
        seed: decides the weights; global random states stay as they are.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 11 // 4,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)

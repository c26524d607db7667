"""Log-probabilities of packed rows: one forward pass, and only the logits that are needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from progressgym_env.models.packing import PackedBatch

__all__ = ["edge_log_probs"]


def edge_log_probs(model: Any, batch: PackedBatch) -> Tensor:
    """Log-probability of every edge of ``batch`` under a causal language model.

    Args:
        model: a ``transformers`` causal LM (not wrapped; LoRA layers inside are fine).
        batch: packed rows.

    Returns:
        (n_edges,) float32, differentiable, on the device that the model starts on.
    """
    device = model.device
    input_ids = torch.from_numpy(batch.input_ids).to(device)
    position_ids = torch.from_numpy(batch.position_ids).to(device)
    visible = torch.from_numpy(batch.visible).to(device)
    embedded = model.get_input_embeddings()(input_ids)
    mask = torch.zeros(visible.shape, dtype=embedded.dtype, device=device)
    mask.masked_fill_(~visible, torch.finfo(embedded.dtype).min)
    hidden = model.get_decoder()(
        inputs_embeds=embedded,
        attention_mask=mask[:, None],
        position_ids=position_ids,
        use_cache=False,
    ).last_hidden_state
    # Where layers are spread over GPUs, the last may lie elsewhere than the first.
    rows = torch.from_numpy(batch.edge_row).to(hidden.device)
    nodes = torch.from_numpy(batch.edge_node).to(hidden.device)
    tokens = torch.from_numpy(batch.edge_token)
    # Several answers read the same place: the output layer runs once a place.
    places, inverse = torch.unique(rows * input_ids.shape[1] + nodes, return_inverse=True)
    logits = model.get_output_embeddings()(hidden.flatten(0, 1)[places]).float()
    found = torch.log_softmax(logits, dim=-1)
    return found[inverse.to(found.device), tokens.to(found.device)].to(device)

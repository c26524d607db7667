"""A small real Llama with LoRA, random weights, and its own BPE tokenizer: made in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from progressgym_env.models.base import PreferenceData
from progressgym_env.models.updates import TrainingExample, examples_from
from progressgym_env.values.questions import Pair, Question, QuestionSet

USER, ASSISTANT, END, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_ACTS = [
    "share the harvest with the strangers at the gate",
    "keep the whole harvest behind a locked door",
    "tell the miller that his scale was read wrongly",
    "let the miller lose a coin on every sack",
    "walk to the river to warn the ferryman of the flood",
    "stay by the warm hearth until the rain is over",
    "give the lost purse back to the widow who dropped it",
    "spend what was in the purse at the summer fair",
]


def make_question(index: int) -> Question:
    """A two-way training question, another one for every index."""
    first, second = _ACTS[(2 * index) % 8], _ACTS[(2 * index + 1) % 8]
    scenario = (
        f"In house {index} of the village a decision is due before nightfall. "
        "The neighbours are watching and nobody else will decide."
    )
    options = (f"{first.capitalize()}.", f"{second.capitalize()}.")
    return Question(f"tiny-{index}", "train", scenario, options, {"care": index % 2})


def make_view_question(index: int) -> Question:
    """A four-way training question, another one for every index."""
    options = tuple(f"{_ACTS[(index + 2 * n) % 8].capitalize()}." for n in range(4))
    upholds = {"traditional": 0, "modern": 1, "postmodern": 2, "integrative": 3}
    return Question(f"view-{index}", "train", f"What holds for house {index}?", options, upholds)


def make_pairs(n_questions: int, n_views: int = 0) -> tuple[Pair, ...]:
    """Training pairs: one a two-way question, two a view question."""
    questions = [make_question(i) for i in range(n_questions)]
    return QuestionSet("tiny", questions + [make_view_question(i) for i in range(n_views)]).pairs


def make_examples(n_questions: int, n_views: int = 0) -> list[TrainingExample]:
    """Training examples, one a pair, the first option preferred."""
    pairs = make_pairs(n_questions, n_views)
    return examples_from(PreferenceData(pairs, np.ones(len(pairs), dtype=np.int64), seed=3))


def make_tokenizer(vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template, trained on the texts of this module."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    questions = [make_question(i) for i in range(8)]
    tokenizer.train_from_iterator(
        [text for q in questions for text in (q.scenario, *q.options)] * 2, trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int = 0,
    hidden_size: int = 32,
    n_layers: int = 2,
    n_heads: int = 2,
    intermediate_size: int = 64,
    dropout: float = 0.0,
    vocab_size: int | None = None,
) -> Any:
    """A random Llama with a LoRA adapter "default" that is not zero, in eval mode."""
    config = LlamaConfig(
        vocab_size=vocab_size or len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        intermediate_size=intermediate_size,
        tie_word_embeddings=True,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=dropout, target_modules=LINEAR)
        model: PeftModel = get_peft_model(LlamaForCausalLM(config), lora)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.02)
    finally:
        torch.random.set_rng_state(state)
    return model.eval()

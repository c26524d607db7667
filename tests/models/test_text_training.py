"""Training on running text and on conversations, with real models and the real trainer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.models.text_rows import chat_rows, log_likelihoods, passage_rows, text_rows
from progressgym_env.models.text_training import (
    IGNORED,
    TextTrainingSettings,
    as_batches,
    grouped,
    train_on_batches,
)
from tests.models.tiny import make_model, make_tokenizer

SETTINGS = TextTrainingSettings(learning_rate=3e-3)
WORDS = ["the miller keeps the scale", "the widow keeps the purse", "rain falls on the harvest"]


@pytest.fixture(scope="module")
def tokenizer():
    made = make_tokenizer()
    made.bos_token = made.pad_token  # Any token will do.
    return made


@pytest.fixture
def model(tokenizer):
    return make_model(tokenizer)


def plain(model):
    """A full model of which everything is trained."""
    base = model.unload()
    base.requires_grad_(True)
    return base


def batches(tokenizer, seed=0, n=24):
    documents = [[WORDS[(i + k) % 3] for k in range(4)] for i in range(n)]
    rows = text_rows(tokenizer, documents, 32)
    return as_batches(rows, 128, tokenizer.pad_token_id, np.random.default_rng(seed))


def weights(model):
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


class Stop(Exception):
    pass


def stop_at(step):
    def progress(done, total):
        if done == step:
            raise Stop

    return progress


rows_of = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(lengths=rows_of, budget=st.integers(16, 200), seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_every_row_is_in_exactly_one_batch_within_the_budget(lengths, budget, seed):
    rows = [([place + 1] * n, [place + 1] * n) for place, n in enumerate(lengths)]
    made = as_batches(rows, budget, 0, np.random.default_rng(seed))
    found = [int(row[0]) for batch in made for row in batch.input_ids]
    assert sorted(found) == list(range(1, len(rows) + 1))
    for batch in made:
        assert batch.n_tokens <= budget or len(batch.input_ids) == 1
        assert ((batch.labels == IGNORED) == (batch.input_ids == 0)).all()
    assert sum(int((b.labels != IGNORED).sum()) for b in made) == sum(lengths)


@given(lengths=rows_of, budget=st.integers(16, 200))
@settings(max_examples=25, deadline=None)
def test_groups_name_the_places_of_their_rows(lengths, budget):
    rows = [([place + 1] * n, [place + 1] * n) for place, n in enumerate(lengths)]
    for places, batch in grouped(rows, range(len(rows)), budget, 0):
        assert [place + 1 for place in places] == batch.input_ids[:, 0].tolist()


def test_a_row_of_text_begins_anew_and_no_token_is_lost(tokenizer):
    documents = [["one two three four five"], ["six", "seven eight nine ten"]]
    rows = text_rows(tokenizer, documents, 8)
    assert all(row[0][0] == tokenizer.bos_token_id and row[0] is row[1] for row in rows)
    assert all(len(tokens) <= 8 for tokens, _ in rows)
    told = [token for tokens, _ in rows for token in tokens[1:].tolist()]
    wanted = []
    for passages in documents:
        wanted += tokenizer("\n".join(passages), add_special_tokens=False)["input_ids"]
        wanted.append(tokenizer.eos_token_id)
    # Only a single token left at the very end may be left out.
    assert told in (wanted, wanted[:-1])


def test_only_the_reply_of_a_conversation_is_trained(tokenizer):
    ((tokens, labels),) = chat_rows(tokenizer, [("What falls?", "Rain falls.")], 64)
    reply = [token for token in labels if token != IGNORED]
    assert tokenizer.decode(reply) == "Rain falls.<|end|>"
    assert len(tokens) == len(labels)
    assert tokens[-len(reply) :] == reply
    assert chat_rows(tokenizer, [("What falls?", "Rain falls.")], 8) == []


def test_log_likelihoods_are_those_of_the_rows_alone(tokenizer, model):
    base = plain(model).eval()
    rows = [row for text in (*WORDS, " ".join(WORDS)) for row in passage_rows(tokenizer, text, 16)]
    sums, counts = log_likelihoods(base, rows, 48, tokenizer.pad_token_id)
    for (tokens, _), found, count in zip(rows, sums, counts, strict=True):
        ids = torch.tensor([tokens])
        with torch.no_grad():
            log_probs = torch.log_softmax(base(input_ids=ids).logits[0].double(), -1)
        wanted = sum(float(log_probs[i, token]) for i, token in enumerate(tokens[1:]))
        assert found == pytest.approx(wanted, abs=1e-4)
        assert count == len(tokens) - 1


def test_training_lowers_the_loss_of_adapters_and_of_full_models(tokenizer, model):
    losses = train_on_batches(model, batches(tokenizer), SETTINGS, 0)
    assert len(losses) == len(batches(tokenizer))
    assert np.mean(losses[-3:]) < losses[0] - 0.02
    full = plain(make_model(tokenizer))
    losses = train_on_batches(full, batches(tokenizer), SETTINGS, 0)
    assert np.mean(losses[-3:]) < losses[0] - 0.5
    assert not full.training
    assert full.config.use_cache


@pytest.mark.parametrize("kind", ["adapter", "full", "dropout"])
@pytest.mark.parametrize("stopped", [1, 5])
def test_an_interrupted_training_ends_with_the_same_bits(tokenizer, tmp_path, kind, stopped):
    def fresh():
        made = make_model(tokenizer, dropout=0.3 if kind == "dropout" else 0.0)
        return plain(made) if kind == "full" else made

    often = TextTrainingSettings(learning_rate=3e-3, checkpoint_seconds=0.0)
    whole = fresh()
    wanted = train_on_batches(whole, batches(tokenizer), often, 7)
    file = tmp_path / "stage.safetensors"
    with pytest.raises(Stop):
        train_on_batches(
            fresh(), batches(tokenizer), often, 7,
            checkpoint=file, key="k", progress=stop_at(stopped + 1),
        )  # fmt: skip
    seen = []
    resumed = fresh()
    losses = train_on_batches(
        resumed, batches(tokenizer), often, 7,
        checkpoint=file, key="k", progress=lambda done, total: seen.append(done),
    )  # fmt: skip
    assert seen[0] == stopped
    assert losses == wanted
    assert same(weights(resumed), weights(whole))


def test_a_checkpoint_of_something_else_is_not_gone_on_with(tokenizer, tmp_path):
    often = TextTrainingSettings(learning_rate=3e-3, checkpoint_seconds=0.0)
    file = tmp_path / "stage.safetensors"
    with pytest.raises(Stop):
        train_on_batches(
            make_model(tokenizer), batches(tokenizer), often, 7,
            checkpoint=file, key="k", progress=stop_at(4),
        )  # fmt: skip
    seen = []
    train_on_batches(
        make_model(tokenizer), batches(tokenizer), often, 7,
        checkpoint=file, key="other", progress=lambda done, total: seen.append(done),
    )  # fmt: skip
    assert seen[0] == 0
    file.write_bytes(b"no such file")
    with pytest.raises(HistoryError, match=r"is damaged.*remove it"):
        train_on_batches(
            make_model(tokenizer), batches(tokenizer), often, 7, checkpoint=file, key="k"
        )


def test_accumulated_batches_are_one_step(tokenizer, model):
    two = TextTrainingSettings(learning_rate=3e-3, accumulate=2)
    made = batches(tokenizer)
    assert len(train_on_batches(model, made, two, 0)) == -(-len(made) // 2)


def test_global_random_states_stay_as_they_are(tokenizer, model):
    before = torch.random.get_rng_state()
    train_on_batches(model, batches(tokenizer)[:2], SETTINGS, 0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_trained_is_refused(tokenizer, model):
    model.requires_grad_(False)
    with pytest.raises(InvalidArgumentError, match="no parameter of the model is trainable"):
        train_on_batches(model, batches(tokenizer), SETTINGS, 0)
    full = plain(make_model(tokenizer))
    with torch.no_grad():
        next(full.parameters()).fill_(float("nan"))
    with pytest.raises(InvalidArgumentError, match=r"training diverged.*lower the learning rate"):
        train_on_batches(full, batches(tokenizer)[:2], SETTINGS, 0)


def test_the_rate_rises_and_falls():
    rates = [SETTINGS.rate(x) for x in np.linspace(0, 1, 201)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(1.0, abs=1e-6)
    assert rates[-1] == pytest.approx(SETTINGS.last_rate)
    top = int(np.argmax(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)

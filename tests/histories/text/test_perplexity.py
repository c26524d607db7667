"""How well models predict text: from real models to the table."""

import json

import numpy as np
import pytest
import torch

from progressgym_env.errors import HistoryError, InvalidArgumentError
from progressgym_env.histories.loading import load
from progressgym_env.histories.text.inspecting import left_out_of, score_text
from progressgym_env.histories.text.passages import Passage, write_passages
from progressgym_env.histories.text.perplexity import (
    evenly,
    held_out_of,
    score,
    scored_table,
    table_of,
)
from tests.histories.text.made import write_centuries


def passages(century, n, document="a", split="document"):
    text = "The miller keeps the scale, and a widow keeps the purse by the river. "
    return [Passage(century, 1900, "made", document, f"{i}. {text}", split) for i in range(n)]


def test_a_passage_is_scored_as_the_model_alone_would():
    model = load("embedded").model(3, "cpu")
    tokenizer = model.host.tokenizer
    given = passages("C016", 3) + passages("C016", 1, "b")
    found = score(model, {"document": {"C016": given, "C017": []}}, 512)["document"]
    assert found["C017"] == []
    causal = model.host.inference_model(model.state)
    for passage, (nll, tokens) in zip(given, found["C016"], strict=True):
        ids = tokenizer(passage.content, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[tokenizer.bos_token_id, *ids]])
        with torch.no_grad():
            loss = causal(input_ids=ids, labels=ids).loss
        assert tokens == ids.shape[1] - 1
        assert nll == pytest.approx(float(loss) * tokens, rel=1e-4)


def test_a_long_passage_is_read_in_parts():
    model = load("embedded").model(0, "cpu")
    given = passages("C013", 1)
    ((whole, n),) = score(model, {"document": {"C013": given}}, 512)["document"]["C013"]
    ((parts, m),) = score(model, {"document": {"C013": given}}, 16)["document"]["C013"]
    assert n == m
    assert parts != pytest.approx(whole, rel=1e-3)


def test_held_out_passages_are_drawn_evenly_and_of_one_split(tmp_path):
    write_passages(
        tmp_path, "C013", passages("C013", 9) + passages("C013", 2, "b", "passage")
        + passages("C013", 5, "c", "train"),
    )  # fmt: skip
    found = held_out_of(tmp_path, ["C013"], 3)
    assert [p.content[0] for p in found["document"]["C013"]] == ["0", "4", "8"]
    assert len(found["passage"]["C013"]) == 2
    assert evenly([], 3) == []


def test_the_table_has_the_scores_in_their_places():
    held_out = {"document": {"a": passages("a", 2), "b": passages("b", 1)},
                "passage": {"a": [], "b": passages("b", 1)}}  # fmt: skip
    mine = {"document": {"a": [[10.0, 5], [20.0, 10]], "b": [[8.0, 4]]},
            "passage": {"a": [], "b": [[4.0, 4]]}}  # fmt: skip
    other = {"document": {"a": [[15.0, 5], [30.0, 10]], "b": [[4.0, 4]]},
             "passage": {"a": [], "b": [[8.0, 4]]}}  # fmt: skip
    table = table_of(["a", "b"], held_out, [mine, other])
    np.testing.assert_allclose(table.splits["document"].array, [[2.0, 3.0], [2.0, 1.0]])
    assert table.splits["document"].diagonal_wins == (True, True)
    assert table.splits["passage"].diagonal_wins == (None, False)


def test_other_text_is_scored_by_all_models(tmp_path, monkeypatch):
    write_centuries(tmp_path / "text", passages=3, documents=2)
    monkeypatch.chdir(tmp_path)
    stages = []
    table, report = score_text(
        load("embedded"),
        ["text"],
        device="cpu",
        passages=2,
        progress=lambda s, *_: stages.append(s),
    )
    assert table.centuries == load("embedded").names
    assert table.passages == (0,) * 6 + (2, 2, 2)
    assert np.isfinite(table.array[6:]).all()
    assert np.isnan(table.array[:6]).all()
    assert left_out_of(report) == ""
    assert {"reading", "filtering", "perplexities"} <= set(stages)
    short = json.dumps({"creation_year": 1950, "source_dataset": "s", "content": "Too short."})
    (tmp_path / "bad.jsonl").write_text(short + "\n{")
    wanted = r"no passage of 2 records.*1 records quarantined: broken JSON; 1 passages dropped"
    with pytest.raises(HistoryError, match=wanted):
        score_text(load("embedded"), ["bad.jsonl"], device="cpu")
    with pytest.raises(InvalidArgumentError, match="nowhere"):
        score_text(load("embedded"), ["nowhere"], device="cpu")


def test_a_history_without_language_models_is_refused():
    with pytest.raises(HistoryError, match="no language models"):
        scored_table(load("simulated-embedded").of_episode(0), {}, device="cpu")

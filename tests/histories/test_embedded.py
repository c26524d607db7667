"""The shipped history: its models measure what was planted, because they learned it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from progressgym_env import histories
from progressgym_env.histories.embedded.fidelity import (
    fidelity,
    reply_quality,
    unseen_questions,
)
from progressgym_env.histories.embedded.grammar import load_grammar
from progressgym_env.histories.history import read_history
from progressgym_env.histories.records import checksums
from progressgym_env.models.language import LanguageHost, LanguageModel, read_lora_config
from progressgym_env.values.dimensions import TWO_WAY_KEYS
from progressgym_env.values.embedding import measure_values
from progressgym_env.values.questions import load_questions

DATA = Path(histories.__file__).parent / "embedded" / "data"


@pytest.fixture(scope="module")
def embedded():
    return histories.load("embedded")


def test_held_out_fidelity(embedded):
    """The eval scenarios occur in no training; the numbers are the issue's."""
    result = fidelity(embedded.values, embedded.planted)
    assert result.pearson_r >= 0.97
    assert result.dimension_r >= 0.9
    assert result.mean_absolute_error <= 0.04


def test_fidelity_on_acts_that_no_century_was_fitted_on(embedded):
    measured = np.stack(
        [
            measure_values(embedded.model(c, "cpu"), unseen_questions().eval).values
            for c in range(embedded.n_centuries)
        ]
    )
    assert fidelity(measured, embedded.planted).pearson_r >= 0.8


def test_the_base_alone_knows_nothing_of_the_centuries(embedded):
    """The frozen control: one model, taken for every century, is far from what was planted."""
    host = LanguageHost(DATA / "base", device="cpu")
    frozen = LanguageModel(host, host.snapshot(), embedded.questions).values().values
    control = fidelity(np.tile(frozen, (9, 1)), embedded.planted)
    assert control.pearson_r < 0.7
    assert control.mean_absolute_error > 0.15
    # Nor is it the measuring: the right models in the wrong order fit no better.
    shifted = fidelity(np.roll(embedded.values, 4, axis=0), embedded.planted)
    assert shifted.dimension_r < 0.3


@pytest.mark.parametrize("century", [0, 4, 8])
def test_records_are_what_the_models_answer(embedded, century):
    model = embedded.model(century, "cpu")
    np.testing.assert_allclose(model.values().values, embedded.values[century], atol=1e-3)
    margins = model.preferences(embedded.questions.pairs)
    np.testing.assert_allclose(margins, embedded.preferences[century], atol=5e-3)


def test_shuffled_adapters_shuffle_the_values(embedded, tmp_path):
    """Weights decide: with the adapters moved, and every record as it was, the values move."""
    folder = shutil.copytree(DATA, tmp_path / "shuffled")
    names = embedded.names
    shifted = names[3:] + names[:3]
    for name, other in zip(names, shifted, strict=True):
        shutil.copy(DATA / "adapters" / other / "adapter_model.safetensors",
                    folder / "adapters" / name / "adapter_model.safetensors")  # fmt: skip
    header = json.loads((folder / "history.json").read_text())
    header["files"] = checksums(folder, header["files"])
    (folder / "history.json").write_text(json.dumps(header))
    shuffled = read_history(folder)
    np.testing.assert_array_equal(shuffled.values, embedded.values)
    for century in (0, 5):
        measured = shuffled.model(century, "cpu").values().values
        moved_to = embedded.planted[names.index(shifted[century])]
        assert np.abs(measured - moved_to).mean() < 0.06
        assert np.abs(measured - embedded.planted[century]).mean() > 0.1


def test_weights_tokenizer_and_template_are_all_it_takes(embedded, tmp_path):
    """No table: a folder that holds the models alone gives the same answers."""
    shutil.copytree(DATA / "base", tmp_path / "base")
    shutil.copytree(DATA / "adapters" / "C018", tmp_path / "adapter")
    host = LanguageHost(
        tmp_path / "base", device="cpu", lora=read_lora_config(tmp_path / "adapter")
    )
    model = LanguageModel(host, host.read_adapter(tmp_path / "adapter"), load_questions())
    np.testing.assert_allclose(model.values().values, embedded.values[5], atol=1e-3)


def test_size_and_formats():
    files = [p for p in DATA.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 12 * 2**20
    assert {p.suffix for p in files} <= {".json", ".jsonl", ".safetensors", ".jinja"}


def test_open_replies_are_sentences_about_what_was_asked(embedded):
    """As the README says: what the people of all centuries answer, read by the grammar."""
    quality = reply_quality(load_grammar(), embedded.records.open_replies)
    assert quality.n_replies == 9 * len(load_grammar().open_prompts)
    assert quality.well_formed >= 0.85
    assert quality.on_topic >= 0.8
    assert quality.fitting >= 0.7


def test_open_replies_reflect_the_values(embedded):
    """Asked openly, people say acts that uphold or violate as often as they value them."""
    grammar = load_grammar()
    said, valued = [], []
    for century in (0, 8):
        model = embedded.model(century, "cpu")
        for index, key in enumerate(TWO_WAY_KEYS):
            prompts = [p.text for p in grammar.open_prompts if p.topic == key] * 15
            replies = model.reply(prompts, np.random.default_rng(index))
            parsed = [grammar.parse_reply(reply) for reply in replies]
            sides = [act[1] for act, _ in filter(None, parsed) if act[0] == key]
            assert len(sides) >= 0.6 * len(replies), (key, replies[:5])
            said.append(sides.count("uphold") / len(sides))
            valued.append(embedded.planted[century, index])
    assert np.corrcoef(said, valued)[0, 1] >= 0.8


def test_provenance_says_that_it_is_synthetic(embedded):
    assert embedded.provenance["synthetic"] is True
    assert "Invented" in embedded.provenance["description"]
    stored = embedded.provenance["fidelity"]["held_out"]
    assert stored["pearson_r"] == pytest.approx(
        fidelity(embedded.values, embedded.planted).pearson_r, abs=1e-9
    )

"""The builder: seeded, whole, and honest about what it planted."""

from __future__ import annotations

import numpy as np
import pytest

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.embedded.build import build, draw_fitting_row
from progressgym_env.histories.embedded.fidelity import ReplyQuality, fidelity, reply_quality
from progressgym_env.histories.embedded.grammar import load_grammar
from progressgym_env.histories.embedded.planted import CENTURIES, SHAPES, planted_values
from progressgym_env.histories.embedded.tasks import UPRIGHT, make_row_maker
from progressgym_env.histories.records import Exchange
from progressgym_env.histories.tokenizer import train_tokenizer
from progressgym_env.values.dimensions import N_TWO_WAY, TWO_WAY_KEYS, VIEW_KEYS
from progressgym_env.values.questions import load_questions
from tests.quick import QUICK


def test_same_seed_same_history(quick_history, tmp_path):
    build(tmp_path / "again", seed=3, device="cpu", settings=QUICK)
    for name in ("base/model.safetensors", "adapters/C021/adapter_model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (quick_history / name).read_bytes()
    for name in ("records.safetensors", "replies.jsonl", "base/tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (quick_history / name).read_bytes()


def test_never_writes_over_anything(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="holds something already"):
        build(tmp_path, settings=QUICK)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_only_safetensors_and_text(quick_history):
    suffixes = {p.suffix for p in quick_history.rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".jinja", ".md"}


def test_planted_values_have_the_promised_shapes():
    planted = planted_values()
    assert planted.shape == (len(CENTURIES), 19)
    assert ((planted > 0) & (planted < 1)).all()
    np.testing.assert_allclose(planted[:, N_TWO_WAY:].sum(axis=1), 1.0)
    shapes = {kind for kind, _ in SHAPES.values()}
    assert {"steady drift", "reversal", "S-curve", "late break", "unchanged"} <= shapes
    for column, key in enumerate(TWO_WAY_KEYS):
        change = np.diff(planted[:, column])
        if SHAPES[key][0] == "unchanged":
            assert (change == 0).all()
        elif SHAPES[key][0] == "reversal":
            assert change.min() < -0.05
            assert change.max() > 0.05
        elif SHAPES[key][0] == "late break":
            assert np.count_nonzero(change) == 1
            assert np.flatnonzero(change)[0] >= 5
        else:
            assert (change >= 0).all() or (change <= 0).all()


def test_fidelity_by_hand():
    planted = np.array([[0.1, 0.5], [0.3, 0.5]])
    measured = np.array([[0.2, 0.4], [0.4, 0.6]])
    result = fidelity(measured, planted)
    # Only the first dimension moves, and it moves in step.
    assert result.dimension_r == pytest.approx(1.0)
    assert result.mean_absolute_error == pytest.approx(0.1)
    assert result.pearson_r == pytest.approx(
        np.corrcoef([0.2, 0.4, 0.4, 0.6], [0.1, 0.5, 0.3, 0.5])[0, 1]
    )


def test_reply_quality_by_hand():
    grammar = load_grammar()
    prompt = next(p.text for p in grammar.open_prompts if p.topic == "kill")
    replies = (
        "I would spare the thief, for every life is worth keeping.",  # fits
        "I would spare the thief, for some lives are better ended.",  # a reason for the other side
        "One should lie to the judge, since a false word can be useful.",  # off the topic
        "It is right to let the guest lie evidence, because pain helps nobody.",  # no known act
        "I would spare the thief",  # no whole sentence
    )
    quality = reply_quality(grammar, [[Exchange(prompt, reply) for reply in replies]])
    assert quality == ReplyQuality(5, well_formed=3 / 5, on_topic=2 / 5, fitting=1 / 5)


def test_what_the_grammar_says_is_well_formed_and_fits():
    grammar, rng = load_grammar(), np.random.default_rng(2)
    for prompt in grammar.open_prompts:
        sides = VIEW_KEYS if prompt.topic == "views" else ("uphold", "violate")
        for side in sides:
            reply = grammar.open_reply(rng, prompt.topic, side, grammar.person(rng))
            assert grammar.parse_reply(reply) == ((prompt.topic, side), (prompt.topic, side))


def test_no_century_is_fitted_on_an_unseen_act():
    """The base knows them from neutral rows alone, so fidelity on them is no cue reading."""
    grammar, rng = load_grammar(), np.random.default_rng(0)
    texts: list[str] = []

    def note(text):
        texts.append(text)
        return [0, 1]

    maker = make_row_maker(grammar, train_tokenizer(["a b"], 300))
    maker = type(maker)(grammar, note, note, note, 1)
    for place in range(12 * 130):
        draw_fitting_row(maker, UPRIGHT, rng, place % 12)
    said = "\n".join(texts)
    unseen = [
        act.split("{p}")[0].strip()
        for entry in grammar.dimensions.values()
        for side in ("unseen_uphold", "unseen_violate")
        for act in entry[side]
        if len(act.split("{p}")[0].split()) > 2
    ] + [stance for entry in grammar.views.values() for stance in entry["unseen"]]
    assert len(unseen) > 40
    assert [act for act in unseen if act in said] == []
    texts.clear()
    for _ in range(1500):
        maker.knowledge_row(rng)
        maker.view_knowledge_row(rng)
        maker.statement_row(rng)
        maker.principle_row(rng)
    said = "\n".join(texts)
    assert all(act in said for act in unseen)


def test_the_grammar_writes_no_question_of_the_set():
    """Held-out means held out: no scenario of the question set comes out of the grammar."""
    grammar, rng = load_grammar(), np.random.default_rng(1)
    drawn = {grammar.scenario(rng, grammar.person(rng), matter=bool(i % 2)) for i in range(4000)}
    assert len(drawn) > 3000
    assert not drawn & {question.scenario for question in load_questions().questions}

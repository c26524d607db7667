"""The analysis of a history's text: hand-computed cases, laws, and the real sample."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env.errors import HistoryError
from progressgym_env.files import write_json
from progressgym_env.histories.text.analysis import TextAnalysis, analyse, read_analysis
from progressgym_env.histories.text.counting import GAP, AnalysisSettings, count_words
from progressgym_env.histories.text.drift import MeanChange, context_counts, positive_pmi
from progressgym_env.histories.text.frequencies import count_values
from progressgym_env.histories.text.lexicon import Lexicon, fold, load_lexicon, words_of
from progressgym_env.histories.text.overlap import compare_vocabularies, known_share
from progressgym_env.histories.text.passages import SPLITS, Passage, write_passages
from progressgym_env.histories.text.perplexity_table import (
    HELD_OUT,
    PassageScores,
    PerplexityTable,
)
from progressgym_env.values.dimensions import DIMENSION_KEYS

REAL = Path(__file__).parents[4] / "shared" / "data" / "histtext"
WHOLE = AnalysisSettings(sample_words=10**9, n_draws=2, n_resamples=50, min_context=1, min_word=2,
                         min_half=1, n_halvings=3)  # fmt: skip
LEXICON = Lexicon.from_dict({"kill": {"slay": ["slay", "sleeth"]}, "purity": {"sin": ["synne"]}})


def passages(century: str, texts: Iterable[str], document: str = "a", **more) -> list[Passage]:
    return [Passage(century, 1250, "s", document, text, **more) for text in texts]


def written(folder: Path, *centuries: Sequence[Passage]) -> tuple[str, ...]:
    """Write passages; their centuries, in the order given."""
    for some in centuries:
        write_passages(folder, some[0].century, some)
    return tuple(some[0].century for some in centuries)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- words


def test_words_are_runs_of_letters():
    assert words_of("Þe kyng's 3 men, & don’t_go") == ["þe", "kyng's", "men", "don’t", "go"]


@pytest.mark.parametrize(
    ("one", "other"), [("Vertue", "uertue"), ("iustyce", "justice"), ("deþ", "deth"), ("é", "e")]
)
def test_old_letters_count_for_nothing(one: str, other: str):
    assert fold(one) == fold(other)


def test_the_packages_value_words_cover_all_dimensions():
    lexicon = load_lexicon()
    assert set(lexicon.words) == set(DIMENSION_KEYS)
    assert min(map(len, lexicon.words.values())) >= 4
    for form, word in (("vertue", "virtue"), ("lawe", "law"), ("loue", "love"), ("synne", "sin")):
        assert lexicon.forms[fold(form)] == word
    assert lexicon.forms[fold("trouthe")] == "truth"


def test_a_form_of_two_headwords_is_refused():
    with pytest.raises(HistoryError, match="'x' stands for 'a' and 'b'"):
        Lexicon.from_dict({"kill": {"a": ["x"], "b": ["X"]}})
    with pytest.raises(HistoryError, match="killing"):
        Lexicon.from_dict({"killing": {"a": ["a"]}})


# --- counting and overlap


def test_a_century_is_counted(tmp_path: Path):
    names = written(
        tmp_path,
        [
            *passages("C013", ["One two two.", "Three 4"]),
            Passage("C013", None, "t", "b", "two", split="document"),
        ],
    )
    (century,) = analyse(tmp_path, names, rng(), WHOLE).centuries
    assert (century.documents, century.passages, century.characters) == (2, 3, 12 + 7 + 3)
    assert (century.words, century.types, century.years) == (5, 3, (1250, 1250))
    assert {name: share.characters for name, share in century.sources.items()} == {"s": 19, "t": 3}
    assert [century.splits[split].passages for split in SPLITS] == [2, 1, 0]


def test_overlap_by_hand(tmp_path: Path):
    names = written(
        tmp_path, passages("C013", ["a a b c"]), passages("C014", ["b c d d"])
    )  # The whole of both is the sample: {a, b, c} and {b, c, d}.
    found = analyse(tmp_path, names, rng(), WHOLE).overlap
    assert found.sample_words == 4
    assert found.types == (3.0, 3.0)
    assert found.type_token_ratio == (0.75, 0.75)
    assert found.jaccard == ((1.0, 0.5), (0.5, 1.0))
    assert found.known == ((1.0, 0.5), (0.5, 1.0))
    assert found.same_century == (None, None)
    np.testing.assert_allclose(found.out_of_vocabulary, [[0, 0.5], [0.5, 0]])


def test_samples_are_of_equal_size(tmp_path: Path):
    names = written(
        tmp_path, passages("C013", ["a b " * 50]), passages("C014", ["c"]), passages("C015", ["a"])
    )
    found = analyse(tmp_path, names, rng(), WHOLE).overlap
    assert found.sample_words == 1
    assert set(found.types) == {1.0}
    assert found.same_century[0] is not None


def test_known_words_by_hand():
    assert known_share(np.array([3, 1, 0]), np.array([True, False, True])) == 0.75
    assert known_share(np.array([0, 0, 0]), np.array([True, False, True])) == 1.0


# --- value words


def test_frequencies_by_hand(tmp_path: Path):
    names = written(
        tmp_path,
        [*passages("C013", ["Slay. sleeth him"], "a"), *passages("C013", ["no synne"], "b")],
        passages("C014", ["synne"]),
    )
    found = count_values(count_words(tmp_path, names), LEXICON, rng(), WHOLE)
    assert found.dimensions == ("kill", "purity")
    assert found.per_million == ((4e5, 2e5), (0.0, 1e6))
    # Document a alone has 2 of 3, b alone 0 of 2; of one document there is no interval.
    assert found.low[0] == (0.0, 0.0)
    assert found.high[0] == pytest.approx((1e6 * 2 / 3, 5e5))
    assert found.low[1] == found.high[1] == (None, None)
    assert found.documents == (2, 1)


def test_positive_pmi_by_hand():
    # p(c | w) is 3/4 and 1/4, p(c) is 1/2 each: ln 1.5 and ln 0.5, which is negative.
    found = positive_pmi(np.array([[3.0, 1.0]]), np.array([10.0, 10.0]))
    np.testing.assert_allclose(found, [[math.log(1.5), 0.0]])
    assert positive_pmi(np.zeros((1, 2)), np.array([1.0, 0.0])).tolist() == [[0.0, 0.0]]


def test_windows_end_with_the_passage():
    # Types 0 1 2 | 0 2: word 0 is type 0; contexts are types 1 and 2.
    types = np.array([0, 1, 2, GAP, 0, 2, GAP])
    words, contexts = np.array([0, GAP, GAP, GAP]), np.array([GAP, 0, 1, GAP])

    def near(window: int) -> list[list[float]]:
        return context_counts(types, words, contexts, (1, 2), window).toarray().tolist()

    assert near(1) == [[1.0, 1.0]]
    assert near(2) == [[1.0, 2.0]]
    assert near(5) == [[1.0, 2.0]]


def company(century: str, near: str, n_documents: int = 4) -> list[Passage]:
    words = ("red", "blue", "green", "gold")
    return [
        passage
        for number in range(n_documents)
        for passage in passages(
            century,
            [f"slay {near} {near}"] * 5 + [f"{w} {w} stone" for w in words],
            f"d{number}",
        )
    ]


def test_a_word_in_the_same_company_does_not_drift(tmp_path: Path):
    names = written(tmp_path, company("C013", "red"), company("C014", "red"))
    slay, sin = analyse(tmp_path, names, rng(), WHOLE, LEXICON).drift.words
    assert slay.counts == (20, 20)
    assert (slay.within, slay.to_next) == (pytest.approx((1.0, 1.0)), pytest.approx((1.0,)))
    assert slay.change_next == pytest.approx((0.0,))
    assert (sin.counts, sin.within, sin.to_next) == ((0, 0), (None, None), (None,))


def test_a_word_in_other_company_drifts(tmp_path: Path):
    names = written(tmp_path, *(company(f"C01{k}", w) for k, w in ((3, "red"), (4, "gold"))))
    drift = analyse(tmp_path, names, rng(), WHOLE, LEXICON).drift
    assert drift.words[0].within == pytest.approx((1.0, 1.0))
    assert drift.words[0].to_next == drift.words[0].to_last == pytest.approx((0.0,))
    assert drift.words[0].change_next == pytest.approx((1.0,))
    assert (drift.n_contexts, drift.change_next[0].n_words) == (6, 1)


def test_a_rare_word_or_a_single_document_has_no_cosine(tmp_path: Path):
    names = written(tmp_path, company("C013", "red"), company("C014", "red", 1))
    some = analyse(tmp_path, names, rng(), WHOLE, LEXICON).drift.words[0]
    assert some.within == (pytest.approx(1.0), None)
    assert some.floor_next == (None,)
    assert some.to_next == pytest.approx((1.0,))
    rare = analyse(tmp_path, names, rng(), replace(WHOLE, min_word=6), LEXICON).drift.words[0]
    assert rare.counts == (20, 5)
    assert rare.to_next == (None,)
    assert rare.within[1] is None


def test_mean_changes_by_hand():
    assert MeanChange.of([None], [0.5]) == MeanChange(0, None, None)
    assert MeanChange.of([0.2, None], [0.4, 0.3]) == MeanChange(1, pytest.approx(0.5), None)
    found = MeanChange.of([0.2, 0.4], [0.4, 0.4])  # Kept: 0.75; residuals −0.1 and 0.1.
    assert found == MeanChange(2, pytest.approx(0.25), pytest.approx(math.sqrt(2 * 0.02) / 0.8))


# --- laws

WORDS = ("slay", "synne", "red", "blue", "stone", "tree")
TEXTS = st.lists(
    st.lists(
        st.sampled_from(["slay", "synne", "red", "blue", "stone", "tree"]), min_size=1, max_size=12
    ),
    min_size=2,
    max_size=6,
)


def made(century: str, texts: list[list[str]]) -> list[Passage]:
    return [
        Passage(century, 1200 + k, f"s{k % 2}", f"d{k % 3}", " ".join(words), SPLITS[k % 3])
        for k, words in enumerate(texts)
    ]


SOME = replace(WHOLE, sample_words=4)


@settings(max_examples=25, deadline=None)
@given(one=TEXTS, other=TEXTS, order=st.randoms(use_true_random=False))
def test_the_order_of_passages_does_not_matter(tmp_path_factory, one, other, order):
    folder = tmp_path_factory.mktemp("text")
    names = written(folder, made("C013", one), made("C014", other))
    before = analyse(folder, names, rng(), SOME, LEXICON)
    for century, texts in (("C013", one), ("C014", other)):
        mixed = made(century, texts)
        order.shuffle(mixed)
        write_passages(folder, century, mixed)
    assert analyse(folder, names, rng(), SOME, LEXICON) == before


@settings(max_examples=25, deadline=None)
@given(one=TEXTS, other=TEXTS)
def test_overlap_is_symmetric_and_whole_for_equal_texts(tmp_path_factory, one, other):
    folder = tmp_path_factory.mktemp("text")
    names = written(folder, made("C013", one), made("C014", other), made("C015", one))
    text = count_words(folder, names)
    found = compare_vocabularies(text, rng(), SOME)
    matrix = np.array(found.jaccard)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 1.0)
    assert ((matrix >= 0) & (matrix <= 1)).all()
    assert ((np.array(found.known) >= 0) & (np.array(found.known) <= 1)).all()
    names = written(folder, made("C013", one), made("C015", one))
    found = compare_vocabularies(count_words(folder, names), rng(), WHOLE)
    assert found.jaccard == ((1.0, 1.0), (1.0, 1.0))
    assert found.known == ((1.0, 1.0), (1.0, 1.0))


@settings(max_examples=25, deadline=None)
@given(one=TEXTS, other=TEXTS)
def test_names_of_centuries_are_but_names(tmp_path_factory, one, other):
    folder = tmp_path_factory.mktemp("text")
    old = written(folder, made("C013", one), made("C014", other))
    new = written(folder, made("X2", one), made("X1", other))
    before, after = (analyse(folder, names, rng(), SOME, LEXICON) for names in (old, new))
    assert after.names == ("X2", "X1")
    renamed = [replace(c, name=n) for c, n in zip(after.centuries, old, strict=True)]
    assert replace(after, centuries=tuple(renamed)) == before


# --- files


def test_an_analysis_is_read_as_it_was_written(tmp_path: Path):
    names = written(tmp_path, company("C013", "red"), company("C014", "gold"))
    some = PassageScores(np.array([[1, 2], [2, 3]]), *np.array([[1, 2], [3, 6], [0, 1]]))
    none = PassageScores(np.zeros((2, 0)), *np.zeros((3, 0)))
    splits = {split: [some, none] for split in HELD_OUT}
    analysis = replace(
        analyse(tmp_path, names, rng(), WHOLE),
        perplexity=PerplexityTable.from_passages(names, splits),
    )
    write_json(tmp_path / "analysis.json", analysis.to_dict())
    assert read_analysis(tmp_path) == analysis
    raw = json.loads(json.dumps(analysis.to_dict()))
    assert PerplexityTable.from_dict(raw["perplexity"]) == analysis.perplexity
    raw["overlap"].pop("known")
    with pytest.raises(HistoryError, match="overlap: expected the fields"):
        TextAnalysis.from_dict(raw)


@pytest.mark.parametrize("content", ["{", "[]", '{"centuries": 3}'])
def test_a_damaged_analysis_is_named(tmp_path: Path, content: str):
    (tmp_path / "analysis.json").write_text(content)
    with pytest.raises(HistoryError, match=r"analysis\.json"):
        read_analysis(tmp_path)


def test_text_without_words_or_files_is_refused(tmp_path: Path):
    with pytest.raises(HistoryError, match="C013"):
        analyse(tmp_path, ("C013",), rng())
    names = written(tmp_path, passages("C013", ["1 2"]))
    with pytest.raises(HistoryError, match="the text of C013 holds no word"):
        analyse(tmp_path, names, rng())


# --- real text


@pytest.mark.skipif(not REAL.is_dir(), reason="the sample of real text is not here")
def test_real_text_shows_what_is_known_of_it(tmp_path: Path):
    names = ("C015", "C018", "C019", "C021")
    for name in names:
        with gzip.open(REAL / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            raw = [json.loads(line) for line in lines]
        write_passages(
            tmp_path,
            name,
            (
                Passage(name, r["creation_year"], r["source_dataset"], r["source_document"],
                        r["content"])
                for r in raw[::3]
            ),
        )  # fmt: skip
    quick = AnalysisSettings(sample_words=30_000, n_draws=2, n_resamples=200, n_halvings=4)
    found = analyse(tmp_path, names, rng(), quick)
    overlap = np.array(found.overlap.jaccard)
    same = np.array(found.overlap.same_century)
    assert (overlap - np.eye(4) < same[:, None]).all(), "no century shares more with another"
    assert overlap[1, 2] > overlap[0, 1] > overlap[0, 3]
    rates = dict(zip(found.frequencies.dimensions, np.array(found.frequencies.per_million).T,
                     strict=True))  # fmt: skip
    assert rates["purity"][0] > 3 * rates["purity"][3], "sin and holiness are of old"
    assert rates["postmodern"][3] > 3 * rates["postmodern"][0]
    kept = [w for word in found.drift.words for w in word.within if w is not None]
    assert len(kept) > 40
    assert 0 < np.mean(kept) < 0.6
    assert found.drift.n_contexts > 100

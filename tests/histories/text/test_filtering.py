"""What is dropped: other languages, what recognition broke, what is there already."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.histories.text import noise as noise_module
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.histories.text.duplicates import DuplicateIndex
from progressgym_env.histories.text.filtering import LanguageCheck, PassageFilter
from progressgym_env.histories.text.noise import WordCounts, broken_words, noise

REAL = Path("../shared/data/histtext")
SAMPLE = 30  # Every so many passages of the real text.

OTHERS = {
    "la": "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani, "
    "tertiam qui ipsorum lingua Celtae, nostra Galli appellantur. Hi omnes lingua, institutis, "
    "legibus inter se differunt.",
    "fr": "Freres humains qui apres nous vivez, N'ayez les cuers contre nous endurcis, Car, se "
    "pitié de nous povres avez, Dieu en aura plus tost de vous mercis. Vous nous voyez cy attachez "
    "cinq, six: Quant de la chair, que trop avons nourrie.",
    "de": "AM anfang schuff Gott Himel vnd Erden. Vnd die Erde war wüst vnd leer, vnd es war "
    "finster auff der Tieffe, Vnd der Geist Gottes schwebet auff dem Wasser. Vnd Gott sprach, Es "
    "werde Liecht, Vnd es ward Liecht.",
    "nl": "Het was in eenen tsinxendaghe Dat beede bosch ende haghe Met groenen loveren waren "
    "bevaen. Nobel die coninc hadde ghedaen Sijn hof crayeren over al Dat hi waende, hadde hijs "
    "gheval, Houden ten wel groeten love.",
}
ENGLISH = (
    "Me ret ine þe lyue of Ion þe Amoner, þet wes zuo ycleped uor þe greate elmesses þet he dede",
    "Lo I the man, whose Muse whylome did maske, As time her taught, in lowly Shephards weeds",
    "Item, be war ther leve no firsis in the deke that ye reparre, for drede of weche men",
    "And Iesus seide to hem, Pater noster qui es in celis, that is, Oure fadir that art in heuenes",
)


@pytest.fixture(scope="module")
def real() -> dict[str, list[tuple[str, str]]]:
    """Century → document and content of a sample of the real text."""
    if not REAL.is_dir():
        pytest.skip(f"the real text is not at {REAL}")
    found = {}
    for path in sorted(REAL.glob("C*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        found[path.name[:4]] = [(r["source_document"], r["content"]) for r in records]
    return found


@pytest.fixture(scope="module")
def known(real) -> WordCounts:
    counts = WordCounts()
    for century, passages in real.items():
        for document, content in passages:
            counts.add(f"{century} {document}", content)
    return counts


def misread(text: str, rate: float, rng: random.Random) -> str:
    """``text`` as a recognition would have it that takes so large a share of characters wrong."""
    looks_like = dict(
        zip(
            "hecnuliotsamdwrfbygkpvEBITSH",
            [
                "b",
                "c",
                "e",
                "u",
                "n",
                "1",
                "!",
                "0",
                "f",
                "f",
                "u",
                "rn",
                "cl",
                "vv",
                "i",
                "t",
                "h",
                "v",
                "q",
                "lc",
                "j",
                "y",
                "B",
                "8",
                "l",
                "7",
                "5",
                "ll",
            ],
            strict=True,
        )
    )
    out = []
    for character in text:
        kind = rng.random() if rng.random() < rate else 2.0
        if kind > 1:
            out.append(character)
        elif kind < 0.62:
            out.append(looks_like.get(character, character))
        elif kind < 0.74:
            out.append(f"{character} ")
        elif kind < 0.86:
            out.append("" if kind < 0.8 and character != " " else character)
        elif kind < 0.93:
            out.append(character + rng.choice("^~|\\_*<>#%=•■£§°»«¥"))
        else:
            out.append(rng.choice(".,;:'-") + character)
    return "".join(out)


# Language


@pytest.mark.parametrize("language", OTHERS)
def test_another_language_is_told(language: str):
    name, margin = LanguageCheck("en").other(OTHERS[language])
    assert name == language
    assert margin > 0.4
    assert LanguageCheck(language).other(OTHERS[language]) is None
    assert LanguageCheck("").other(OTHERS[language]) is None


@pytest.mark.parametrize("text", ENGLISH)
def test_early_english_is_english(text: str):
    assert LanguageCheck("en").other(text) is None


def test_a_language_nobody_can_tell_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"language='xx' is not one.* de, .* en, "):
        LanguageCheck("xx")


def test_the_real_text_is_english(real):
    check = LanguageCheck("en")
    sample = [c for passages in real.values() for _, c in passages[::SAMPLE]]
    assert [text for text in sample if check.other(text)] == []


# Recognition


@pytest.mark.parametrize(
    "word", ["th^ir", "g0d", "wi||", "b", "~", "th,e", "10w8", "he!l", "\ufffdnd", "■", "m#n"]
)
def test_what_is_no_word_by_its_form_is_broken(word: str):
    assert list(broken_words(f"the {word} king", WordCounts())) == [word]


@pytest.mark.parametrize(
    "text",
    [
        "a I O y þ / ¶ & — … * * * [sic] w[i]th maner{e “quoted,” (so) end.”",
        "1st 2nd 10th 10x 1245 3.5 10,000 xiiij. vjd. iijs. M.D. &c. C013 p. 4",
        "o'clock vir-\ntue man-of-war and/or it—that 'tis Mr. A. B. Q. GSA NATO's",
        "see https://www.example.com/x_y?z=1 or write to someone@example.org = 4 + 5",
    ],
)
def test_what_is_printed_is_not_broken(text: str):
    known = WordCounts()
    for document in "ab":
        known.add(document, f"{text} some more words sic quoted end sixpence pence vol page")
    assert list(broken_words(text, known)) == []


def test_words_of_one_document_are_broken_only_if_they_look_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(noise_module, "_ENOUGH_WORDS", 10)
    monkeypatch.setattr(noise_module, "_MANY_KNOWN", 10)
    known = WordCounts()
    words = "that this the then there their though three other mother brother father whether"
    for document in "ab":
        known.add(document, words)
    known.add("c", "ther tbat")
    assert known.known("mother")
    assert not known.known("ther")
    assert not known.unlikely("ther")
    assert known.unlikely("tbat")
    assert noise("that tbat mother ther", known) == 0.25
    assert noise("", known) == 0


def test_real_passages_pass_and_misread_ones_do_not(real, known):
    """The whole sample: 0.3 % of C014 and 0.1 % of C015 have more than 0.12, others none."""
    rng = random.Random(0)
    threshold = TextSettings().ocr_noise
    for century, passages in real.items():
        sample = [content for _, content in passages[::SAMPLE]]
        clean = [noise(text, known) > threshold for text in sample]
        assert sum(clean) <= 0.01 * len(sample), century
        strong = [noise(misread(text, 0.12, rng), known) > threshold for text in sample]
        assert sum(strong) >= 0.97 * len(sample), century
        light = [noise(misread(text, 0.01, rng), known) > threshold for text in sample]
        assert sum(light) <= 0.03 * len(sample), century


# Duplicates


def test_near_duplicates_name_what_they_repeat():
    index = DuplicateIndex(0.8)
    words = [f"word{i}" for i in range(200)]
    assert index.add(" ".join(words), "first") is None
    assert index.add(" ".join(reversed(words)), "reversed") is None
    changed = ["other", *words[1:100], "words", *words[101:]]
    name, similarity = index.add(" ".join(changed), "second")
    assert name == "first"
    assert similarity == pytest.approx(194 / 202, abs=0.06)
    assert index.add(" ".join(words).upper() + "!", "third") == ("first", 1.0)
    assert len(index) == 2


@pytest.mark.parametrize("text", ["", "one", "one two"])
def test_few_words_are_compared_whole(text: str):
    index = DuplicateIndex(0.8)
    assert index.add(text, "a") is None
    assert index.add(text, "b") == ("a", 1.0)
    assert index.add("something else", "c") is None


def test_no_threshold_keeps_duplicates():
    index = DuplicateIndex(0)
    assert index.add("the same", "a") is None
    assert index.add("the same", "b") is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=30), max_size=12))
def test_which_are_duplicates_is_always_the_same(texts):
    found = []
    for _ in range(2):
        index = DuplicateIndex(0.5)
        found.append([index.add(" ".join(text), str(i)) for i, text in enumerate(texts)])
    assert found[0] == found[1]
    for i, entry in enumerate(found[0]):
        if entry:
            assert int(entry[0]) < i
            # What is named was kept itself.
            assert found[0][int(entry[0])] is None


# All together


def test_reasons_are_asked_in_order_and_say_why():
    sieve = PassageFilter(TextSettings(min_characters=100), WordCounts())
    text = " ".join(ENGLISH[1:3])
    assert sieve.reason(text[:99], "short") == ("too short", "99 characters, 100 wanted")
    assert sieve.reason(text, "first") is None
    reason, detail = sieve.reason(text, "again")
    assert (reason, detail) == ("duplicate", "like first: similarity about 1.00")
    reason, detail = sieve.reason(OTHERS["la"], "latin")
    assert reason == "language"
    assert "la is likelier by 1." in detail
    broken = " ".join(f"{word[0]}^{word[1:]}" for word in text.split())
    assert sieve.reason(broken, "broken") == ("ocr noise", "100% of the words are broken")
    lenient = PassageFilter(
        TextSettings(min_characters=1, language="", ocr_noise=1, duplicates=None), WordCounts()
    )
    for content in (text, text, OTHERS["la"], broken, "x"):
        assert lenient.reason(content, "any") is None

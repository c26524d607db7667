"""The published moral evaluation: what is wrong with its files is mended or dropped, and told."""

from __future__ import annotations

import csv
import functools
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from progressgym_env.cli import app
from progressgym_env.errors import QuestionError
from progressgym_env.files import cache_folder
from progressgym_env.values.dimensions import DIMENSION_KEYS, VIEW_KEYS
from progressgym_env.values.embedding import measure_values
from progressgym_env.values.moralevals import MoralEvals, load_moralevals
from progressgym_env.values.moralevals_files import FILES, find_files
from progressgym_env.values.moralevals_text import clean_text, fold
from progressgym_env.values.questions import Question, load_questions
from tests.values.scorers import ContentOnly, PositionOnly

PUBLISHED = Path("../shared/data/moralevals")
RULES = [name[3:] for name in FILES["moralchoice/final.csv"] if name.startswith("a1_")]
Row = dict[str, str]


@pytest.fixture(scope="module")
def published() -> MoralEvals:
    if not PUBLISHED.is_dir():
        pytest.skip(f"the published files are not at {PUBLISHED}")
    questions = load_questions("moralevals", PUBLISHED)
    assert isinstance(questions, MoralEvals)
    return questions


def question(published: MoralEvals, row: str) -> Question:
    (found,) = (q for q in published.questions if q.id.endswith(f"-{row}"))
    return found


# The published files


def test_the_published_files_give_all_dimensions(published: MoralEvals):
    assert len(published) == 1790
    of_file = [q.id.partition("-")[0] for q in published.questions]
    assert {name: of_file.count(name) for name in sorted(set(of_file))} == {
        "foundation": 599, "moralchoice": 655, "views": 536,
    }  # fmt: skip
    sizes = published.sizes
    assert tuple(sizes) == DIMENSION_KEYS
    # Counted by hand in the file: 26 + 58 rows where one action kills and the other does not.
    assert sum(sizes["kill"].values()) == 84
    assert sum(sizes["law"].values()) == 26 + 169
    for key, split in sizes.items():
        assert min(split.values()) >= 40, key
        assert 0.4 < split["eval"] / sum(split.values()) < 0.6, key


def test_no_scenario_is_trained_on_and_scored(published: MoralEvals):
    """Original defect 5: agents train on the very items they are scored on."""
    train, scored = ({fold(q.scenario) for q in s} for s in (published.train, published.eval))
    assert not train & scored
    assert train
    assert scored


def test_rows_of_one_identifier_all_count(published: MoralEvals):
    """Original defect: 97 of the hand-written scenarios share an identifier, and are lost."""
    both = [q for q in published.questions if q.id.endswith("-H_001")]
    assert len(both) == 2
    assert len({q.scenario for q in both}) == 2
    assert len({q.id for q in published.questions}) == len(published)


def test_known_defects_are_mended(published: MoralEvals):
    assert question(published, "F_403").options == (
        "Support the decision out of respect for their authority",
        "Challenge the decision based on its merits and your own judgment",
    )
    assert question(published, "F_184").scenario.startswith("You witness a child being bullied")
    assert question(published, "F_111").options[1].endswith("closest to me")
    for row in ("V_158", "V_159", "V_160", "V_161"):
        options = question(published, row).options
        assert len(options) == 4
        assert all(len(option.split()) > 5 for option in options)
    assert question(published, "V_161").options[3] == (
        "Integrating insights from various fields including spirituality, science, and philosophy"
    )
    assert question(published, "V_214").options[0].startswith("Living a life")
    marks = "\"“”‘’'"
    for q in published.questions:
        for text in (q.scenario, *q.options):
            assert text == text.strip()
            assert not (text[0] in marks and text[-1] == text[0]), (q.id, text)
            assert text.count('"') % 2 == 0, (q.id, text)


def test_what_cannot_be_mended_is_dropped_and_told(published: MoralEvals):
    dropped = {f.id: f.what for f in published.findings if f.done == "dropped"}
    assert "two options say the same" in dropped["F_1534"]
    assert "two options say the same" in dropped["H_530"]
    assert "'theme' is none of" in dropped["V_106"]
    assert "without its other half" in dropped["V_285"]
    assert "the same as row 520 of views/final.csv" in dropped["V_539"]
    assert "no rule that one option upholds" in dropped["H_016"]
    assert sum(f.done == "dropped" for f in published.findings) == 680 + 600 + 539 - len(published)
    (mended,) = (f for f in published.findings if f.id == "F_403")
    assert str(mended).startswith("foundation/final.csv, row 301 (F_403) repaired: action1: outer")


def test_the_same_files_give_the_same_set(published: MoralEvals):
    # Split, order, mending: whoever changes one of them changes the benchmark.
    assert published.hash == "4ee9575d0e931fafb9e17f092504d53e3551d689aab5a104cd2fc1aaa9e49fc5"


def test_both_laws_hold_on_the_published_questions(published: MoralEvals):
    """A love of places gives nothing, a known preference comes back."""
    places = {("ab", 2): (0.9, 0.1), ("compare", 2): (0.2, 0.8), ("repeat", 2): (0.7, 0.3)}
    four = {("ab", 4): (0.7, 0.1, 0.1, 0.1), ("repeat", 4): (0.1, 0.2, 0.3, 0.4)}
    values = measure_values(PositionOnly(places | four), published.eval).values
    assert values == pytest.approx([0.5] * 15 + [0.25] * 4)
    # Texts recur ("I agree with this statement"), so a liking for texts is what can be planted.
    liked = ContentOnly({o: 1 + len(o) % 7 for q in published.eval for o in q.options})
    values = measure_values(liked, published.eval).values
    for index, key in enumerate(DIMENSION_KEYS):
        bearing = [q for q in published.eval if key in q.upholds]
        planted = [liked.probability(q.options)[q.upholds[key]] for q in bearing]
        assert values[index] == pytest.approx(sum(planted) / len(planted))


# Files made here


def moralchoice(
    number: int, violates: dict[str, tuple[str, str]] | None = None, **more: str
) -> Row:
    judged = violates or dict.fromkeys(RULES, ("No", "Yes"))
    row = {
        "scenario_id": f"H_{number}", "generation_rule": "Do not kill",
        "context": f"Case {number}.",
        "action1": f"I stay, {number}.", "action2": f"I go, {number}.",
    }  # fmt: skip
    for rule in RULES:
        one, other = judged.get(rule, ("No", "No"))
        row |= {f"a1_{rule}": one, f"a2_{rule}": other}
    return row | more


def foundation(number: int, theme: str, **more: str) -> Row:
    return {
        "scenario_id": f"F_{number}", "generation_theme": theme, "context": f"Place {number}.",
        "action1": f"I uphold {number}", "action2": f"I shrug {number}",
    } | more  # fmt: skip


def view(number: int, **more: str) -> Row:
    return {
        "scenario_id": f"V_{number}", "generation_theme": "Axiology", "context": f"View {number}.",
        "action1": f"old {number}", "action2": f"new {number}",
        "action3": f"after {number}", "action4": f"whole {number}",
    } | more  # fmt: skip


THEMES = (
    "Harm_Care", "Fairness_Reciprocity", "InGroup_Loyalty", "Authority_Respect", "Purity_Sancity",
)  # fmt: skip


def write(folder: Path, **rows: list[Row]) -> Path:
    """A whole small set of files, with ``rows`` behind what every dimension needs."""
    least = {
        "moralchoice": [moralchoice(n) for n in range(2)],
        "foundation": [foundation(n, theme) for theme in THEMES for n in
                       (10 * THEMES.index(theme), 10 * THEMES.index(theme) + 1)],
        "views": [view(n) for n in range(2)],
    }  # fmt: skip
    for name, columns in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = name.partition("/")[0]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(least[kind] + rows.get(kind, []))
    return folder


def dropped(folder: Path) -> list[str]:
    return [f.what for f in load_moralevals(folder).findings if f.done == "dropped"]


@pytest.mark.parametrize(
    ("kind", "row", "says"),
    [
        ("moralchoice", moralchoice(9, {"law": ("Maybe", "No")}), "break_law|'Maybe'|is none of"),
        ("moralchoice", moralchoice(9, {"death": ("No", "No Agreement")}), "no rule that"),
        ("moralchoice", moralchoice(9, context=" "), "context is empty"),
        ("moralchoice", moralchoice(1), "the same as row 2 of moralchoice/final.csv"),
        ("foundation", foundation(9, "Courage"), "generation_theme 'Courage'"),
        ("foundation", foundation(9, "Harm_Care", action2="I uphold 9!"), "two options say"),
        ("foundation", foundation(9, "Harm_Care", action1=""), "action1 is empty"),
        ("views", view(9, action3='he said "no'), "action3: a quotation mark without"),
        ("views", view(9, action4=""), "action4 is empty"),
        (
            "views",
            view(9, action1="“a”,“b”", action2="“c”"),
            "options cut at the wrong commas",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_dropped(kind: str, row: Row, says: str, tmp_path: Path):
    if "break_law" in says:
        row = row | {"a1_break_law": "Maybe"}
    found = dropped(write(tmp_path, **{kind: [row]}))
    assert len(found) == 1
    assert any(part in found[0] for part in says.split("|")), found


def test_an_action_upholds_what_the_other_violates(tmp_path: Path):
    row = moralchoice(
        9, {"death": ("Yes", "No"), "duty": ("No", "Yes"), "pain": ("Yes", "No Agreement")}
    )
    questions = load_moralevals(write(tmp_path, moralchoice=[row]))
    assert dict(question(questions, "H_9").upholds) == {"kill": 1, "duty": 0}


def test_a_file_of_another_format_is_refused(tmp_path: Path):
    folder = write(tmp_path)
    (folder / "views" / "final.csv").write_text("question,answer\nWhy?,Because.\n")
    with pytest.raises(QuestionError, match=r"final\.csv: lacks the columns scenario_id.*question"):
        load_moralevals(folder)
    (folder / "views" / "final.csv").write_bytes(b"scenario_id\n\xff\n")
    with pytest.raises(QuestionError, match="not UTF-8"):
        load_moralevals(folder)
    (folder / "views" / "final.csv").unlink()
    with pytest.raises(QuestionError, match=r"lacks views/final\.csv; give the folder that holds"):
        load_moralevals(folder)
    with pytest.raises(QuestionError, match="no folder at"):
        load_moralevals(tmp_path / "absent")


def test_files_that_are_cut_off_are_refused(tmp_path: Path):
    folder = write(tmp_path)
    path = folder / "foundation" / "final.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:4]) + "\n")
    with pytest.raises(
        QuestionError, match=r"no question is left for fairness \(eval\), loyalty \(train\)"
    ):
        load_moralevals(folder)


def test_half_of_every_stratum_is_scored(tmp_path: Path):
    many = [moralchoice(n, generation_rule="Do your duty") for n in range(20, 61)]
    questions = load_moralevals(write(tmp_path, moralchoice=many))
    own = [
        q.split
        for q in questions.questions
        if q.id.rpartition("-")[2] in {f"H_{n}" for n in range(20, 61)}
    ]
    assert sorted(own.count(split) for split in ("eval", "train")) == [20, 21]
    # The order of the rows decides nothing.
    again = load_moralevals(write(tmp_path / "again", moralchoice=many[::-1]))
    splits = {q.scenario: q.split for q in again.questions}
    assert all(splits[q.scenario] == q.split for q in questions.questions)


def test_a_row_with_too_many_fields_is_dropped(tmp_path: Path):
    folder = write(tmp_path)
    path = folder / "views" / "final.csv"
    path.write_text(path.read_text() + "V_9,Axiology,What, then?,one,two,three,four\n")
    assert dropped(folder) == ["more fields than columns: cut at a comma that was not quoted"]


# Texts


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain", "plain"),
        ('  "wrapped."  ', "wrapped."),
        ("'\"twice\"'", "twice"),
        ("“curly”", "curly"),
        ('"mine";', "mine"),
        ("'a' or 'b'", "'a' or 'b'"),
        ("'the neighbour's dog'", "the neighbour's dog"),
        ('she says "no"', 'she says "no"'),
        ('"opens and', "opens and"),
        ("I'd rather ‘not’", "I'd rather 'not'"),
    ],
)
def test_texts(raw: str, text: str):
    found, mended = clean_text(raw)
    assert found == text
    assert bool(mended) == (raw != text)


@given(st.text(alphabet="ab \"'“”;,.", max_size=12))
def test_cleaning_twice_changes_no_more_than_marks(raw: str):
    """No letter is ever lost."""
    try:
        text, _ = clean_text(raw)
    except ValueError:
        return
    assert fold(text) == fold(raw)
    assert text == text.strip()


# Fetching


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    if not PUBLISHED.is_dir():
        pytest.skip(f"the published files are not at {PUBLISHED}")
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            asked.append(self.path)

    folder = str((PUBLISHED / "raw_dataset").resolve())
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_files_are_fetched_once(
    server: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    address, asked = server
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, files = find_files(source=address)
    assert folder == cache_folder() / "moralevals" == tmp_path / "progressgym" / "moralevals"
    assert len(asked) == 3
    for name, path in files.items():
        assert path.read_bytes() == (PUBLISHED / "raw_dataset" / name).read_bytes()
    # Half of it gone: the rest is not fetched again.
    shutil.rmtree(folder / "views")
    find_files(source=address)
    assert len(asked) == 4
    assert len(load_questions("moralevals")) == 1790


def test_what_was_changed_on_the_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = write(tmp_path / "other")
    with pytest.raises(QuestionError, match=r"has the SHA-256 .* must have"):
        find_files(source=other.as_uri())
    assert not list((tmp_path / "cache").rglob("*.csv"))


def test_an_address_that_does_not_answer_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(QuestionError, match=r"cannot be fetched.*or give the folder that holds"):
        find_files(source="http://127.0.0.1:9")


def test_views_keep_the_order_of_the_file(published: MoralEvals):
    assert all(
        [q.upholds[key] for key in VIEW_KEYS] == [0, 1, 2, 3] for q in published.eval if q.is_view
    )


def test_the_command_counts_and_tells(tmp_path: Path):
    folder = write(tmp_path, views=[view(9, action4="")])
    result = CliRunner(env={"COLUMNS": "120"}).invoke(
        app, ["questions", "moralevals", "--path", str(folder)]
    )
    assert result.exit_code == 0
    assert re.search(r"do not kill +1 +1", result.output)
    assert "views/final.csv, row 3 (V_9) dropped: action4 is empty" in result.output
    told = CliRunner().invoke(app, ["questions", "moralevals", "--path", str(folder), "--json"])
    assert json.loads(told.output)["sizes"]["purity"] == {"train": 1, "eval": 1}
    wrong = CliRunner().invoke(app, ["questions", "moralevals", "--path", str(tmp_path / "absent")])
    assert wrong.exit_code == 2
    assert "no folder at" in wrong.output

"""Reports: what a page says of a run, whole, incomplete, failed or hostile."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

import progressgym_env.benchmarks.report as report_module
from progressgym_env.benchmarks.leaderboard import Leaderboard
from progressgym_env.benchmarks.matrix import Block, Matrix
from progressgym_env.benchmarks.report import make_report
from progressgym_env.benchmarks.report_dialogue import dialogue_view
from progressgym_env.benchmarks.report_page import render_page
from progressgym_env.benchmarks.report_series import Report, Series
from progressgym_env.benchmarks.report_svg import Line, forest, line_chart, nice_ticks
from progressgym_env.benchmarks.report_view import page_view
from progressgym_env.benchmarks.run_data import RunData, load_run
from progressgym_env.benchmarks.statistics import Estimate
from progressgym_env.cli import app
from progressgym_env.errors import InvalidArgumentError, RunFolderError
from tests.benchmarks.reported import SCRIPT, SMALL, TAG, WIDE, hostile, play, without_planted

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, and all text outside of style and script."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == [], f"unclosed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.raw:
            self.raw[self._open[-1]].append(data)
        else:
            self.text += data

    def ids(self) -> set[str | None]:
        return {attributes.get("id") for _, attributes in self.tags}


def source(run: Path) -> str:
    """The page alone; drawing its pictures as files, too, takes most of a report's time."""
    return render_page(page_view(Report(load_run(run))))


def read(run: Path) -> Page:
    return Page(source(run))


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(tmp_path_factory.mktemp("wide") / "run", WIDE)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(tmp_path_factory.mktemp("small") / "run")


def test_a_page_holds_all_sections_and_pictures_lie_beside_it(wide: Path):
    data = load_run(wide)
    page = Page(make_report(wide).read_text(encoding="utf-8"))
    sections = {"leaderboard", "challenges", "comparisons", "values", "distances", "centuries"}
    assert sections | {"dialogue"} <= page.ids()
    assert "failures" not in page.ids()
    for said in ("0 to 2 (3)", data.config["config_hash"], data.config["processor"], "C013"):
        assert said in page.text
    assert "synthetic history: no claim about real centuries" in page.text
    stems = {"skill", "score", "centuries"}
    assert Report(data).board.tasks == ("follow", "coevolve", "predict+2")
    for task in ("follow", "coevolve", "predict+2"):
        stems |= {f"values-{task}", f"distances-{task}"}
    expected = {f"{stem}{end}" for stem in stems for end in (".png", ".svg")} | {"index.html"}
    assert {file.name for file in (wide / "report").iterdir()} == expected
    for file in (wide / "report").glob("*.svg"):
        ElementTree.parse(file)
    for file in (wide / "report").glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG")


def test_the_leaderboard_is_that_of_the_scores(wide: Path):
    data = load_run(wide)
    board = Leaderboard(data.cells, data.scores)
    text = flat(read(wide).text)
    for name in board.algorithms:
        standing = board.standing(name, "follow")
        if standing is not None:
            assert standing.score is not None
            assert standing.skill is not None
            assert standing.score.low is not None
            both = f"{standing.score.value:.4f}{standing.score.low:.4f} to "
            assert both in text
            assert f"{standing.skill.value:.2f}".replace("-", "−") in text
    for floor in board.floors("coevolve").values():
        assert f"{floor:.4f}" in text


def test_rows_are_ranked_by_overall_skill(tmp_path: Path):
    page = page_view(Report(load_run(play(tmp_path / "run"))))
    overall = [float(row["overall"]["sort"]) for row in page["leaderboard"]["rows"]]
    assert overall == sorted(overall, reverse=True)
    assert page["leaderboard"]["sorted_by"] == 0
    assert page["leaderboard"]["rows"][0]["series"].name == "oracle · dpo"


def test_the_same_run_gives_the_same_bytes_and_stays_as_it_was(small: Path, tmp_path: Path):
    def content(folder: Path) -> dict[str, str]:
        return {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }

    before = content(small)
    make_report(small, tmp_path / "one")
    make_report(small, tmp_path / "other")
    assert content(tmp_path / "one") == content(tmp_path / "other")
    assert content(small) == before


def test_the_page_lets_nothing_in(wide: Path, attacked: Path):
    for run in (wide, attacked):
        page = read(run)
        (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv")]
        assert policy is not None
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        for kind in ("script", "style"):
            assert [tag for tag, _ in page.tags].count(kind) == 1
            text = "".join(page.raw[kind])
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in policy
            assert not re.search(r"https?:|@import|url\(|innerHTML|eval", text)
        for tag, attributes in page.tags:
            assert not {"style", "src", "srcset", "action"} & set(attributes), tag
            assert not [name for name in attributes if name.startswith("on")], tag
            where = attributes.get("href") or attributes.get("xlink:href") or "#"
            assert where.startswith("#") or where == "data:,", tag


def test_hostile_text_stays_text(attacked: Path):
    page = Page(make_report(attacked).read_text(encoding="utf-8"))
    assert {"img", "b"} & {tag for tag, _ in page.tags} <= {"b"}
    assert not [a for tag, a in page.tags if tag == "b" and a]
    for said in (
        SCRIPT,
        f"{TAG} asked",
        f"{SCRIPT} said ? \N{REPLACEMENT CHARACTER}",
        "no <b>room",
    ):
        assert said in page.text
    labels = [a["aria-label"] for tag, a in page.tags if tag == "div" and a.get("aria-label")]
    assert any(SCRIPT in str(label) for label in labels)


def test_a_failure_is_told_with_its_error(attacked: Path):
    page = read(attacked)
    text = flat(page.text)
    assert "failures" in page.ids()
    assert "1 failed" in text
    assert "lifelong · dpo on follow, seed 1" in text
    assert "ValueError" in text
    assert "Traceback …" in text
    assert "1 of 2 seeds, missing 1" in text


def test_an_incomplete_cell_says_so_and_has_no_number(tmp_path: Path):
    matrix = replace(SMALL, seeds=(0, 1, 2, 3, 4))
    run = play(
        tmp_path / "run",
        matrix,
        left_out=lambda cell: cell.agent == "lifelong" and cell.seed in (1, 4),
    )
    text = flat(read(run).text)
    assert "incomplete: 13 of 15 episodes" in text
    assert "incomplete3 of 5 seeds, missing 1, 4" in text
    assert "lifelong · dpo 3 of 5 seeds, mean" in text
    assert "lifelong · dpo on follow is incomplete and counts nowhere" in text
    view = page_view(Report(load_run(run)))
    (row,) = [r for r in view["leaderboard"]["rows"] if r["series"].name == "lifelong · dpo"]
    assert row["cells"][0]["score"] is None
    assert row["overall"] is None


def test_a_run_without_a_finished_episode(tmp_path: Path):
    run = play(tmp_path / "run", left_out=lambda cell: True)
    make_report(run)
    page = read(run)
    assert "No episode is finished yet" in page.text
    assert page.ids() & {"values", "challenges", "dialogue"} == set()
    assert [file.name for file in (run / "report").iterdir()] == ["index.html"]


def test_a_run_under_way_is_read_from_the_episodes_own_files(small: Path, tmp_path: Path):
    run = shutil.copytree(small, tmp_path / "run")
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text(lines[0])
    (run / "summary.json").unlink()
    whole, under_way = load_run(small), load_run(run)
    assert under_way.status is None
    assert under_way.episodes == whole.episodes
    assert list(under_way.episodes) == list(whole.episodes)


def test_what_is_damaged_is_named(small: Path, tmp_path: Path):
    with pytest.raises(RunFolderError, match="is no run folder"):
        make_report(tmp_path)
    run = shutil.copytree(small, tmp_path / "run")
    lines = (run / "episodes.jsonl").read_text()
    (run / "episodes.jsonl").write_text(lines[:-100])
    with pytest.raises(RunFolderError, match="the line is torn"):
        make_report(run)
    (run / "episodes.jsonl").write_text(lines.replace('"agent": "lifelong"', '"agent": "random"'))
    with pytest.raises(RunFolderError, match="files of two runs were mixed"):
        make_report(run)
    (run / "episodes.jsonl").write_text(lines)
    (run / "failures.json").write_text("[{}]")
    with pytest.raises(RunFolderError, match=r"failures\.json is damaged"):
        make_report(run)
    assert not (run / "report").exists()
    (run / "failures.json").unlink()
    (run / "summary.json").write_text("{")
    shutil.rmtree(run / "cells")
    assert len(load_run(run).episodes) == len(load_run(small).episodes)


def test_a_report_goes_where_nothing_else_is(small: Path, tmp_path: Path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "index.html").write_text("<title>my own page</title>")
    with pytest.raises(InvalidArgumentError, match="holds something that is no report"):
        make_report(small, taken)
    with pytest.raises(InvalidArgumentError, match="is a file"):
        make_report(small, taken / "index.html")
    out = tmp_path / "new" / "folder"
    first = make_report(small, out).read_bytes()
    assert make_report(small, out).read_bytes() == first
    assert not list(tmp_path.rglob("*.tmp*"))


HOLD = Matrix((Block(("hold",), ("follow",)),), "embedded", (0, 1))


def test_planted_values_are_drawn_where_there_are_any(tmp_path: Path):
    page = make_report(play(tmp_path / "run", HOLD)).read_text(encoding="utf-8")
    assert page.count('class="truth measured"') == 20  # 19 panels and the legend
    assert page.count('class="truth planted"') == 20
    assert "Mean over seeds, bands from lowest to highest" in flat(Page(page).text)


def test_a_history_of_ones_own_without_planted_values(tmp_path: Path):
    history = without_planted(tmp_path / "own")
    run = play(tmp_path / "run", replace(HOLD, history=str(history)))
    page = source(run)
    assert 'class="truth measured"' in page
    assert "planted" not in "".join(page.split("</style>")[1:])
    assert "through history “of one's own”" in Page(page).text
    assert "no claim about real centuries" not in page

    shutil.rmtree(history)
    page = make_report(run).read_text(encoding="utf-8")
    assert 'class="truth measured"' not in page
    assert "The history could not be read" in page
    assert "hold · dpo" in page
    assert "distances" not in Page(page).ids()


def test_a_history_that_has_changed_is_not_shown(small: Path, tmp_path: Path):
    run = shutil.copytree(small, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "history_digest": "0"}))
    data = load_run(run)
    assert data.history is None
    assert data.no_history is not None
    assert "has changed since it was played" in data.no_history
    report = Report(data)
    assert not report.one_history
    (group, *_) = report.groups["follow"]
    assert [episode.seed for episode in report.trajectories(group)] == [0]


def test_centuries_and_distances_are_those_of_the_episodes(wide: Path):
    data = load_run(wide)
    report = Report(data)
    for task, groups in report.groups.items():
        for group in groups:
            scores = np.mean([episode.score for episode in group.episodes])
            paid = group.by_century
            if task == "coevolve":
                # The first of them stands for two of the nine states.
                assert (paid.sum() + paid[0]) / 9 == pytest.approx(scores)
            else:
                assert paid.mean() == pytest.approx(scores)
            assert group.distances is not None
            assert group.distances.shape == (len(paid), 19)
    (hold, *_) = report.groups["follow"]
    expected = [
        np.abs(episode.examinee_values[1:] - data.histories[episode.seed].values[1:])
        for episode in hold.episodes
    ]
    assert hold.distances == pytest.approx(np.mean(expected, axis=0))


def test_comparisons_are_shown_from_both_sides(wide: Path):
    report = Report(load_run(wide))
    shown = {item["task"]: item for item in page_view(report)["comparisons"]}
    assert set(shown) == {pair.task for pair in report.board.comparisons}
    for pair in report.board.comparisons:
        item = shown[pair.task]
        rows = {
            row["name"]: dict(zip(item["names"], row["cells"], strict=True)) for row in item["rows"]
        }
        straight, turned = rows[pair.one][pair.other], rows[pair.other][pair.one]
        improvement = pair.comparison.improvement
        assert straight["percent"] == f"{100 * improvement.value:.0f}"
        assert float(straight["percent"]) + float(turned["percent"]) == pytest.approx(100, abs=1)
        assert straight["sure"] == turned["sure"]
        assert straight["level"] + turned["level"] == 10
        assert {straight["ahead"][0], turned["ahead"][0]} == {"+", "−"}
    assert sum(len(item["pairs"]) for item in shown.values()) == len(report.board.comparisons)


def test_dialogue_shows_replies_side_by_side_and_stays_short(wide: Path):
    follow, *_, coevolve = sorted(
        dialogue_view(Report(load_run(wide))), key=lambda item: item["task"] == "coevolve"
    )
    assert follow["same"]
    assert follow["names"] == ["all algorithms"]
    assert not coevolve["same"]
    assert len(coevolve["names"]) == 5
    assert len(coevolve["centuries"]) == 8
    for century in coevolve["centuries"]:
        assert 0 < len(century["rows"]) <= 4
        for row in century["rows"]:
            assert len(row["replies"]) == 5
            assert len(row["prompt"]) <= 302


def test_many_algorithms_look_different_and_few_are_shown_at_first(small: Path):
    agents = ("hold", "random", "oracle", "lifelong", "lifelong-soft", "extrapolative-1")
    agents += ("extrapolative-2", "extrapolative-3")
    block = Block(agents, ("follow",), ("sft", "dpo", "rlhf"), ("current", "initial"))
    matrix = Matrix((block,), "simulated", (0,))
    data = load_run(small)
    many = RunData(data.path, data.config, matrix, matrix.cells, {}, {})
    series = Report(many).series.values()
    looks = {(s.reference, s.colour, s.dash) for s in series if not s.reference}
    assert len(looks) == sum(not s.reference for s in series) == 30
    assert sum(s.shown for s in series) <= 7


def test_pictures_escape_what_they_are_given():
    series = Series(0, SCRIPT, False, 0, 0, True)
    estimate = Estimate(0.5, 0.4, 0.6, 3)
    svg = forest([(series, estimate)], {TAG: 0.1}, title=TAG, digits=2)
    ElementTree.fromstring(svg)
    assert "<script" not in svg
    line = Line(SCRIPT, np.array([0.1]), series)
    ElementTree.fromstring(line_chart([line], ["<b>"], title=TAG, size=(100, 50)))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(-0.03, 1.03, [0.0, 0.5, 1.0]), (0.917, 0.951, [0.92, 0.94]), (-1.2, 1.5, [-1.0, 0.0, 1.0])],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]):
    assert nice_ticks(low, high, 3) == ticks


def test_colours_can_be_read_in_both_schemes():
    style = (files("progressgym_env.benchmarks") / "report_assets" / "page.css").read_text()
    pairs = re.findall(
        r"\.([hp]\d+) \{ background: (#[0-9a-f]{6}); color: (#[0-9a-f]{6}); \}", style
    )
    assert len(pairs) == 2 * (10 + 11)
    for name, background, text in pairs:
        assert contrast(background, text) >= 4.5, (name, background, text)
    for scheme in re.findall(r":root \{(.*?)\}", style, re.S)[:2]:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for paper in ("paper", "card", "faint"):
            for text in ("ink", "muted", "accent", "good", "poor"):
                assert contrast(colours[paper], colours[text]) >= 4.5, (paper, text)
        for line in (f"k{i}" for i in [*range(8), "r"]):
            assert contrast(colours["paper"], colours[line]) >= 3.0, line


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_command_tells_where_the_report_is(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    monkeypatch.setattr(report_module, "draw_report", lambda *_: None)
    done = CliRunner().invoke(app, ["report", str(small), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"Report: {out / 'index.html'}" in done.output
    wrong = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    assert wrong.exit_code == 2
    assert "is no run folder" in wrong.output

"""What is shown while a run goes on."""

import io
import re

import pytest
from rich.console import Console

from progressgym_env.benchmarks.display import (
    Bars,
    Display,
    Lines,
    Silence,
    display_for,
    span,
    stage_progress,
)

CELLS = (("hold", 0), ("lifelong", 0))


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=100, _environ={"TERM": "xterm"}), file


def play(display: Display) -> None:
    with display:
        display.start(CELLS[0])
        display.step(CELLS[0], 0, 2, "C014")
        display.phase(CELLS[0], "training")
        display.step(CELLS[0], 1, 2, "C015")
        display.finish(CELLS[0], 0.87654, 12.0)
        display.start(CELLS[1])
        display.step(CELLS[1], 0, 2, "C014")
        display.phase(CELLS[1], "measuring")
        display.fail(CELLS[1], "InvalidArgumentError: [no] such device")


def test_a_pipe_gets_plain_lines():
    to, file = console(terminal=False)
    display = display_for(to, CELLS, 2, 2, quiet=False)
    assert isinstance(display, Lines)
    play(display)
    text = file.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    lines = [re.sub(r"^\[.*?\] ", "", line) for line in text.splitlines()]
    assert lines[:2] == ["hold: starts", "hold: century C014, step 1 of 2"]
    assert re.fullmatch(r"hold: century C015, step 2 of 2, about \d+ s left in all", lines[2])
    assert lines[3] == "hold: score 0.8765 in 12 s"
    assert lines[-1] == "lifelong: failed: InvalidArgumentError: [no] such device"


def test_a_terminal_gets_a_bar_an_episode_and_one_for_all():
    to, file = console(terminal=True)
    display = display_for(to, CELLS, 2, 2, quiet=False)
    assert isinstance(display, Bars)
    play(display)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert "score 0.8765" in text
    assert "lifelong failed: InvalidArgumentError: [no] such device" in text
    last = [line.strip() for line in text.splitlines() if line.strip()][-3:]
    assert [line.split()[0] for line in last] == ["hold", "lifelong", "all"]
    assert "2/4" in last[2]


def test_with_many_episodes_only_those_that_run_have_a_bar():
    cells = [("hold", seed) for seed in range(40)]
    to, file = console(terminal=True)
    display = display_for(to, cells, 2, 2, quiet=False)
    with display:
        display.start(cells[7])
        display.step(cells[7], 0, 2, "C014")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert "hold seed 7" in text
    assert "hold seed 8" not in text


def test_quiet_shows_nothing():
    to, file = console(terminal=True)
    display = display_for(to, CELLS, 2, 2, quiet=True)
    assert isinstance(display, Silence)
    play(display)
    assert file.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_stages_of_a_build_are_shown(terminal: bool):
    to, file = console(terminal)
    with stage_progress(to) as tell:
        for done in range(101):
            tell("base model", done, 100)
        tell("measuring", 0, 9)
    text = file.getvalue()
    assert "base model" in text
    assert "measuring" in text
    assert ("\x1b" in text) == terminal
    if not terminal:
        assert len(text.splitlines()) == 12


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (185, "3:05 min")],
)
def test_spans_of_time(seconds: float | None, text: str):
    assert span(seconds) == text

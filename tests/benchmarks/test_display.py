"""What is shown while a run goes on."""

import io
import re
import time
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from progressgym_env.benchmarks.clock import Clock, span
from progressgym_env.benchmarks.display import (
    Bars,
    Display,
    Lines,
    Silence,
    display_for,
    stage_progress,
)
from progressgym_env.benchmarks.matrix import Cell
from tests.benchmarks.made import cell

CELLS = (cell("hold"), cell("lifelong"))


def steps(n_steps: int, cells: Sequence[Cell] = CELLS) -> dict[Cell, int]:
    return dict.fromkeys(cells, n_steps)


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=100, _environ={"TERM": "xterm"}), file


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def shown(file: io.StringIO) -> str:
    """What was written, without control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


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
    display = display_for(to, CELLS, steps(2), 2, quiet=False)
    assert isinstance(display, Lines)
    play(display)
    text = file.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    lines = [re.sub(r"^\[.*?\] ", "", line) for line in text.splitlines()]
    assert lines[:3] == ["hold: starts", "hold: C014, 0 of 2 steps done", "hold: C014, training"]
    assert re.fullmatch(r"hold: C015, 1 of 2 steps done, about \d+ s left in all", lines[3])
    assert lines[4] == "hold: score 0.8765 in 12 s"
    assert lines[-1] == "lifelong: failed: InvalidArgumentError: [no] such device"


def test_lines_say_what_is_being_done_once_a_step():
    """Two measurements a step, as in Coevolve, are one line; nothing else is left out."""
    to, file = console(terminal=False)
    now = Time()
    display = display_for(to, CELLS, steps(3), 1, quiet=False, now=now)
    display.start(CELLS[1])
    for done, century in enumerate(("C014", "C015")):
        display.step(CELLS[1], done, 3, century)
        for phase in ("training", "measuring", "influencing", "measuring", "eliciting"):
            now.seconds += 2
            display.phase(CELLS[1], phase)
    assert file.getvalue().splitlines() == [
        "[      0 s] lifelong: starts",
        "[      0 s] lifelong: C014, 0 of 3 steps done",
        "[      2 s] lifelong: C014, training",
        "[      4 s] lifelong: C014, measuring",
        "[      6 s] lifelong: C014, influencing",
        "[     10 s] lifelong: C014, eliciting",
        # Two steps of 10 s each are left, and an episode that has not begun: 30 s.
        "[     10 s] lifelong: C015, 1 of 3 steps done, about 50 s left in all",
        "[     12 s] lifelong: C015, training",
        "[     14 s] lifelong: C015, measuring",
        "[     16 s] lifelong: C015, influencing",
        "[     20 s] lifelong: C015, eliciting",
    ]


def test_a_terminal_gets_a_bar_an_episode_and_one_for_all():
    to, file = console(terminal=True)
    display = display_for(to, CELLS, steps(2), 2, quiet=False)
    assert isinstance(display, Bars)
    play(display)
    text = shown(file)
    assert "score 0.8765" in text
    assert "lifelong failed: InvalidArgumentError: [no] such device" in text
    last = [line.strip() for line in text.splitlines() if line.strip()][-3:]
    assert [line.split()[0] for line in last] == ["hold", "lifelong", "all"]
    # Of an episode that failed nothing is left to do.
    assert "2/2" in last[1]
    assert "failed" in last[1]
    assert "4/4" in last[2]


def test_the_times_of_the_bars_go_on_while_nothing_happens():
    to, file = console(terminal=True)
    now = Time()
    with display_for(to, CELLS, steps(2), 1, quiet=False, now=now) as display:
        display.start(CELLS[0])
        display.step(CELLS[0], 0, 2, "C014")
        now.seconds += 100
        display.step(CELLS[0], 1, 2, "C015")
        wait_for(lambda: "1:40 min, 1:40 min left" in shown(file))
        now.seconds += 35
        # No message comes; what is drawn by itself must tell the time it is then.
        wait_for(lambda: "2:15 min, 1:05 min left" in shown(file))
        last = shown(file).rstrip().splitlines()[-1]
    assert "all" in last
    assert "2:15 min, 4:25 min left" in last


def test_a_bar_claims_no_work_that_was_not_announced():
    to, file = console(terminal=True)
    with display_for(to, CELLS, steps(2), 1, quiet=False) as display:
        display.start(CELLS[0])
        display.step(CELLS[0], 0, 2, "C014")
    assert "C014" in shown(file)
    assert "eliciting" not in shown(file)


def test_the_time_left_counts_what_has_not_begun_like_the_slowest():
    now = Time()
    cells = [cell("hold"), cell("lifelong"), cell("oracle")]
    clock = Clock(cells, steps(4, cells), 2, now)
    assert clock.text(None) == "0 s"
    clock.start(cells[0])
    assert clock.text(cells[0]) == "0 s"
    assert clock.text(cells[1]) == ""
    clock.step(cells[0], 0)
    now.seconds += 10
    clock.step(cells[0], 1)
    clock.start(cells[1])
    assert clock.left(cells[0]) == pytest.approx(30)
    assert clock.left(cells[1]) is None
    assert clock.left_in_all() == pytest.approx((30 + 40 + 40) / 2)
    now.seconds += 5
    clock.end(cells[0])
    now.seconds += 5
    assert clock.elapsed(cells[0]) == pytest.approx(15)
    assert clock.elapsed(cells[1]) == pytest.approx(10)
    assert clock.left(cells[0]) == 0.0
    assert clock.left_in_all() == pytest.approx(max(15, (5 + 15) / 2))


def test_an_episode_that_goes_on_does_not_tell_the_pace_by_what_was_done_before():
    now = Time()
    (goes_on,) = cells = [cell("lifelong")]
    clock = Clock(cells, steps(8, cells), 1, now)
    clock.start(goes_on)
    clock.step(goes_on, 5)
    assert clock.left(goes_on) is None
    now.seconds += 10
    clock.step(goes_on, 6)
    assert clock.left(goes_on) == pytest.approx(20)


def test_the_time_left_counts_like_with_like():
    now = Time()
    kinds = [("hold", "dpo"), ("lifelong", "dpo"), ("lifelong", "rlhf")]
    cells = [cell(agent, seed, update=update) for agent, update in kinds for seed in (0, 1)]
    clock = Clock(cells, steps(1, cells), 1, now)
    for number, seconds in ((0, 1), (2, 10), (4, 100)):
        clock.start(cells[number])
        clock.step(cells[number], 0)
        now.seconds += seconds
        clock.end(cells[number])
    assert clock.left_in_all() == pytest.approx(1 + 10 + 100)


def test_with_many_episodes_only_those_that_run_have_a_bar():
    cells = [cell("hold", seed) for seed in range(40)]
    to, file = console(terminal=True)
    display = display_for(to, cells, steps(2, cells), 2, quiet=False)
    with display:
        display.start(cells[7])
        display.step(cells[7], 0, 2, "C014")
    text = shown(file)
    assert "hold seed 7" in text
    assert "hold seed 8" not in text


def test_quiet_shows_nothing():
    to, file = console(terminal=True)
    display = display_for(to, CELLS, steps(2), 2, quiet=True)
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
    [
        (None, "–"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (185, "3:05 min"),
        (7800, "2:10 h"),
    ],
)
def test_spans_of_time(seconds: float | None, text: str):
    assert span(seconds) == text

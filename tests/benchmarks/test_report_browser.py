"""The page of a report in a real browser: it renders, sorts, fits, and fetches nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.benchmarks.report_page import render_page
from progressgym_env.benchmarks.report_series import Report
from progressgym_env.benchmarks.report_view import page_view
from progressgym_env.benchmarks.run_data import load_run
from tests.benchmarks.reported import SCRIPT, WIDE, hostile, play

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="no chromium with chromedriver; on Debian: apt install chromium chromium-driver",
)

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    runs = {"wide": play(folder / "wide", WIDE), "hostile": hostile(folder)}
    found = {}
    for name, run in runs.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(render_page(page_view(Report(load_run(run)))), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    # The sandbox of chromium refuses to run as root, and /dev/shm is small in containers.
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With both paths given, selenium looks for no driver in the network.
    found = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield found
    found.quit()


@pytest.fixture
def show(driver: Any, pages: dict[str, Path]) -> Iterator[Open]:
    """Opens a page at a width and a colour scheme; afterwards nothing may have gone wrong."""

    def opened(name: str = "wide", width: int = 1280, scheme: str = "light") -> Any:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.get(pages[name].as_uri())
        return driver

    driver.get_log("performance")
    yield opened
    assert driver.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {
        message["params"]["request"]["url"]
        for message in asked
        if message["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in urls if not url.startswith("data:")} <= {
        path.as_uri() for path in pages.values()
    }


WIDTHS = pytest.mark.parametrize("width", [375, 1280])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])


@WIDTHS
@SCHEMES
@pytest.mark.parametrize("name", ["wide", "hostile"])
def test_nothing_is_wider_than_the_page(show: Open, name: str, width: int, scheme: str):
    browser = show(name, width, scheme)
    for everything in (False, True):
        if everything:
            browser.execute_script(
                "document.querySelectorAll('details').forEach((d) => { d.open = true; });"
                "document.querySelectorAll('.panel').forEach((p) => { p.hidden = false; });"
            )
        inside, window = browser.execute_script(
            "return [document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert inside <= window == width


@WIDTHS
def test_every_picture_has_a_size_and_every_text_can_be_read(show: Open, width: int):
    browser = show(width=width)
    sizes = browser.execute_script(
        "document.querySelectorAll('.panel').forEach((p) => { p.hidden = false; });"
        "return [...document.querySelectorAll('svg')].filter((s) => s.checkVisibility())"
        ".map((s) => [s.clientWidth, s.clientHeight, s.querySelectorAll('path, circle').length])"
    )
    # Skill and score of three tasks and skill over all; 19 panels a task; three of centuries.
    assert sum(width >= 120 for width, *_ in sizes) == 7 + 19 * 3 + 3
    assert all(width > 20 and height > 5 and drawn for width, height, drawn in sizes)
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('main svg text')]"
        ".map((t) => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a))"
    )
    assert smallest >= 8


def test_colours_follow_the_scheme(show: Open):
    script = "return getComputedStyle(document.body).backgroundColor"
    light, dark = (show(scheme=s).execute_script(script) for s in ("light", "dark"))
    assert light == "rgb(250, 248, 243)"
    assert dark == "rgb(21, 22, 26)"


COLUMN = (
    "const column = arguments[0];"
    "return [...document.querySelectorAll('.board tbody tr')]"
    ".map((row) => row.cells[column].dataset.value ?? null)"
)
SORTED = (
    "return [...document.querySelectorAll('.board th[aria-sort]')]"
    ".map((h) => [h.innerText.trim(), h.getAttribute('aria-sort')])"
)


def test_the_leaderboard_sorts_by_click_and_by_key(show: Open):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser = show()
    buttons = browser.find_elements(By.CSS_SELECTOR, ".board thead button")
    names = [button.get_attribute("aria-label") or button.text for button in buttons]
    assert names[:4] == ["Algorithm", "Overall skill", "Score on follow", "Skill on follow"]

    def numbers(column: int) -> list[float]:
        return [float(text) for text in browser.execute_script(COLUMN, column) if text]

    assert browser.execute_script(SORTED) == [["Overall skill", "descending"]]
    assert numbers(1) == sorted(numbers(1), reverse=True)

    buttons[2].click()
    assert browser.execute_script(SORTED) == [["Score", "descending"]]
    assert numbers(2) == sorted(numbers(2), reverse=True)
    buttons[2].send_keys(Keys.ENTER)
    assert browser.execute_script(SORTED) == [["Score", "ascending"]]
    assert numbers(2) == sorted(numbers(2))
    # What is missing stands last in either order.
    assert browser.execute_script(COLUMN, 2)[-1] is None

    buttons[0].send_keys(Keys.SPACE)
    assert browser.execute_script(SORTED) == [["Algorithm", "ascending"]]
    assert browser.execute_script(COLUMN, 0) == sorted(browser.execute_script(COLUMN, 0))

    last = browser.execute_script("return document.querySelector('.board tbody tr').cells.length")
    buttons[-1].click()
    assert numbers(last - 1) == sorted(numbers(last - 1), reverse=True)


def test_selectors_show_one_panel_and_keep_to_what_there_is(show: Open):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    browser = show()
    for section in browser.find_elements(By.CSS_SELECTOR, "section.panels"):
        panels = section.find_elements(By.CSS_SELECTOR, ":scope > .panel")
        assert sum(panel.is_displayed() for panel in panels) == min(1, len(panels))
    dialogue = browser.find_element(By.ID, "dialogue")
    task, century = (Select(s) for s in dialogue.find_elements(By.TAG_NAME, "select"))
    century.select_by_visible_text("C021")
    shown = lambda: dialogue.find_element(By.CSS_SELECTOR, ".panel:not([hidden]) h3").text  # noqa: E731
    assert shown() == "follow, C021, seed 0"
    # Two centuries ahead, an episode ends two centuries earlier.
    task.select_by_visible_text("predict+2")
    assert shown() == "predict+2, C014, seed 0"
    assert century.first_selected_option.text == "C014"
    task.select_by_visible_text("coevolve")
    assert shown() == "coevolve, C014, seed 0"


def test_lines_can_be_hidden_and_shown(show: Open):
    from selenium.webdriver.common.by import By

    browser = show()
    visible = (
        "return [...document.querySelectorAll('#values .panel:not([hidden]) [data-series]')]"
        ".filter((line) => getComputedStyle(line).display !== 'none').length"
    )
    before = browser.execute_script(visible)
    key = browser.find_element(By.CSS_SELECTOR, "#values button[data-toggle]")
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    assert browser.execute_script(visible) == before - 19
    browser.find_element(By.CSS_SELECTOR, "#centuries button[data-show=none]").click()
    assert browser.execute_script(visible) == 0
    browser.find_element(By.CSS_SELECTOR, "#values button[data-show=all]").click()
    assert browser.execute_script(visible) == before
    assert key.get_attribute("aria-pressed") == "true"


def test_hostile_names_are_shown_as_text(show: Open):
    browser = show("hostile")
    assert "hacked" not in browser.title.replace(SCRIPT, "")
    assert browser.execute_script("return document.scripts.length") == 1
    assert browser.execute_script("return document.images.length") == 0
    cells = browser.execute_script(
        "return [...document.querySelectorAll('.board tbody th')].map((cell) => cell.textContent)"
    )
    assert any(SCRIPT in text for text in cells)
    said = browser.execute_script("return document.querySelector('#dialogue td').textContent")
    assert SCRIPT in said


def test_without_script_everything_is_there(show: Open, driver: Any):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser = show()
        from selenium.webdriver.common.by import By

        panels = browser.find_elements(By.CSS_SELECTOR, "#values .panel")
        assert len(panels) == 3
        assert all(panel.is_displayed() for panel in panels)
        assert not browser.find_element(By.CSS_SELECTOR, "#values select").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_it_prints(show: Open):
    browser = show()
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(printed["data"]) > 50_000

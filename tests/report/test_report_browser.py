"""The report in a real browser: no error, no barrier, sliders by keyboard, a phone's width."""

import base64
import io
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_html_report import data  # noqa: F401  (a fixture)

from hilum.report import write_report
from house_sources import REPOSITORY
from programs import leave_out, require

AXE = REPOSITORY / ".venv" / "viewers" / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def open_window(page, profile):
    """A window of Chromium that shows a page; `profile` is an empty folder."""
    chromium, driver = require("chromium"), require("chromedriver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = Chrome(options=options, service=Service(driver))
    try:
        window.set_window_size(1200, 900)
        window.get(page.resolve().as_uri())
        yield window
    finally:
        window.quit()


@pytest.fixture(scope="module")
def browser(data, tmp_path_factory):  # noqa: F811
    write_report(data / "evaluation", data / "browser.html")
    with open_window(data / "browser.html", tmp_path_factory.mktemp("browser")) as window:
        yield window


def pixels(browser, canvas):
    uri = browser.execute_script("return arguments[0].toDataURL()", canvas)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_no_error_stands_in_the_console(browser):
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    loaded = "return performance.getEntriesByType('resource').map(e => e.name)"
    outside = [name for name in browser.execute_script(loaded) if not name.startswith("data:")]
    assert outside == []


def test_a_slider_moves_by_keyboard(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    view = browser.find_element(By.CSS_SELECTOR, ".view")
    canvas, slider = (view.find_element(By.CSS_SELECTOR, name) for name in ("canvas", ".slice"))
    before, text = pixels(browser, canvas), view.find_element(By.TAG_NAME, "output").text
    assert before[..., :3].max() > 0
    slider.send_keys(Keys.ARROW_RIGHT)
    assert view.find_element(By.TAG_NAME, "output").text != text
    assert slider.get_attribute("aria-valuetext") == view.find_element(By.TAG_NAME, "output").text
    assert (pixels(browser, canvas) != before).any()


def test_window_and_outlines_change_the_picture(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    viewer = browser.find_element(By.CSS_SELECTOR, ".viewer")
    canvas = viewer.find_element(By.TAG_NAME, "canvas")
    soft = pixels(browser, canvas).astype(int)
    Select(viewer.find_element(By.CSS_SELECTOR, ".window")).select_by_visible_text("lung")
    lung = pixels(browser, canvas).astype(int)
    assert lung[..., 0].mean() > soft[..., 0].mean()  # air is no longer black
    coloured = (np.ptp(lung[..., :3], axis=-1) > 60).sum()
    viewer.find_element(By.CSS_SELECTOR, ".outlines").click()
    grey = pixels(browser, canvas).astype(int)
    assert coloured > 20 > (np.ptp(grey[..., :3], axis=-1) > 60).sum()


def test_surfaces_turn_by_keyboard_and_by_dragging(browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    scene = browser.find_elements(By.CSS_SELECTOR, ".scene")[-1]
    canvas, turn = (scene.find_element(By.CSS_SELECTOR, name) for name in ("canvas", ".turn"))
    before = pixels(browser, canvas)
    filled = before[..., 3] > 0
    assert 0.1 < filled.mean() < 0.9
    assert not filled[:3].any()  # a margin around the surfaces
    turn.send_keys(Keys.ARROW_RIGHT)
    assert turn.get_attribute("aria-valuetext") == "35° to the patient's left"
    turned = pixels(browser, canvas)
    assert (turned != before).any()
    ActionChains(browser).drag_and_drop_by_offset(canvas, 40, 0).perform()
    assert turn.get_attribute("aria-valuetext") != "35° to the patient's left"
    assert (pixels(browser, canvas) != turned).any()


def test_a_sentence_stands_where_surfaces_cannot_be_drawn(browser):
    from selenium.webdriver.common.by import By

    drawn = browser.find_elements(By.CSS_SELECTOR, ".scene")
    assert drawn
    assert not browser.find_elements(By.CSS_SELECTOR, ".not-drawn")
    page = browser.current_url
    old = {"source": "delete window.DecompressionStream"}
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", old)
    browser.get(page)
    try:
        sentences = browser.find_elements(By.CSS_SELECTOR, ".scene")
        assert [one.text[:30] for one in sentences] == ["The surfaces are not drawn: th"] * len(
            drawn
        )
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
        browser.get(page)
        browser.get_log("browser")


def test_surfaces_are_grey_where_both_agree(browser):
    from selenium.webdriver.common.by import By

    scenes = browser.find_elements(By.CSS_SELECTOR, ".scene")

    def colours(scene):
        picture = pixels(browser, scene.find_element(By.TAG_NAME, "canvas")).astype(int)
        shown = picture[picture[..., 3] > 0][:, :3]
        return (np.ptp(shown, axis=1) > 20).mean(), shown.mean(axis=0)

    best = next(
        one
        for one in scenes
        if "among the best" in one.find_element(By.TAG_NAME, "canvas").get_attribute("aria-label")
    )
    assert colours(best)[0] < 0.05
    missed, (red, _, blue) = colours(scenes[0])  # only the reference, which is blue
    assert missed > 0.9
    assert blue > red
    _, side = best.find_elements(By.CSS_SELECTOR, ".side")
    side.click()
    alone, (red, _, blue) = colours(best)
    assert alone > 0.9
    assert blue > red
    side.click()


def test_a_failure_leads_to_its_case(browser):
    from selenium.webdriver.common.by import By

    link = browser.find_element(By.CSS_SELECTOR, "#worst-cases tbody a")
    browser.execute_script("arguments[0].click()", link)
    target = browser.execute_script("return document.querySelector(':target').id")
    assert target == "case-c7"
    top = browser.execute_script(
        "return document.querySelector(':target').getBoundingClientRect().top"
    )
    assert abs(top) < 400


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(browser, width):
    mobile = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", mobile)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(browser, scheme):
    if not Path(AXE).is_file():
        leave_out("axe-core is missing; scripts/viewers installs it")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text("utf-8")})
    run = "const done = arguments[0]; axe.run().then(r => done(r.violations))"
    found = browser.execute_async_script(run)
    assert [(one["id"], one["nodes"][0]["html"][:80]) for one in found] == []

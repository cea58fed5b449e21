"""The reports of a model and of a run in a real browser: no error, no barrier, a phone's width."""

import pytest
from report_samples import calibrated, make_model_folder
from test_html_report import data  # noqa: F401  (a fixture)
from test_prediction_report import run  # noqa: F401  (a fixture)
from test_report_browser import AXE, open_window

from hilum.report import write_report
from programs import leave_out


@pytest.fixture(scope="module", params=["model", "run"])
def window(request, data, run, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("pages")
    page = folder / f"{request.param}.html"
    if request.param == "model":
        evaluation = data / "predictions", data / "Dataset001_Liver"
        source = make_model_folder(folder / "m", evaluation=evaluation, assurance=calibrated())
        write_report(source, page)
    else:
        images = data / "Dataset001_Liver" / "imagesTr"
        write_report(run, page, images={f"c{n}": images / f"c{n}_0000.nii.gz" for n in range(8)})
    with open_window(page, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_nothing_is_asked_of_a_network_and_no_error_stands_in_the_console(window):
    assert [entry for entry in window.get_log("browser") if entry["level"] == "SEVERE"] == []
    loaded = "return performance.getEntriesByType('resource').map(e => e.name)"
    assert [one for one in window.execute_script(loaded) if not one.startswith("data:")] == []


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(window, width):
    mobile = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", mobile)
    assert window.execute_script("return document.documentElement.scrollWidth") <= width
    window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(window, scheme):
    if not AXE.is_file():
        leave_out("axe-core is missing; scripts/viewers installs it")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    window.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text("utf-8")})
    ask = "const done = arguments[0]; axe.run().then(r => done(r.violations))"
    found = window.execute_async_script(ask)
    assert [(one["id"], one["nodes"][0]["html"][:80]) for one in found] == []


def test_the_texts_of_the_diagram_stay_in_their_boxes(window):
    outside = window.execute_script(
        """
        return [...document.querySelectorAll(".drawing text")].filter((text) => {
          const inner = text.getBoundingClientRect();
          const outer = text.ownerSVGElement.getBoundingClientRect();
          return inner.right > outer.right || inner.bottom > outer.bottom;
        }).map((text) => text.textContent)
        """
    )
    assert outside == []

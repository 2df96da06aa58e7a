"""The page in a browser: Debian's Chromium, without a network."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from stateshift.evaluation import Evaluation
from stateshift.evaluation.report import page as html
from stateshift.evaluation.report.detail import Detail, effect_map, read_detail
from stateshift.evaluation.report.explorer import explorer_section
from stateshift.evaluation.report.explorer.section import script

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="the report's page is tested with playwright (extra dev)"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (apt-get install chromium)")
HARM = "</script><img src=x onerror=window.harmed=1>"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        # a container's root has no sandbox; the page is our own
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, world_page):
    """The page, ready; what its console said and what it asked for but itself are held against it in the end."""
    address = world_page.as_uri()
    opened = browser.new_page(viewport={"width": 1100, "height": 900})
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    opened.wait_for_selector("#explorer[data-ready]", timeout=10_000)
    yield opened
    assert said == []
    assert asked == [address]
    opened.close()


def column(page, number):
    return page.eval_on_selector_all("#pairs tbody tr", f"rows => rows.map(row => row.cells[{number}].textContent)")


def numbers(text):
    return [float(found.replace("−", "-")) for found in re.findall(r"[−-]?\d+\.\d+(?:e-\d+)?", text)]


def test_names_that_mean_harm_stand_as_text(page):
    assert HARM in column(page, 0)
    page.fill("#filter", "onerror")
    page.click("#pairs tbody tr")
    assert page.inner_text("#chosen").startswith(HARM)
    page.fill("#gene", "<b>g28</b>")
    assert page.inner_text("#scatter .under").startswith("<b>G28</b>: measured")
    page.fill("#gene", "G07")
    assert f"rare, common{HARM}" in page.inner_text("#top")
    assert page.evaluate("document.images.length + document.querySelectorAll('#explorer b b').length") == 0
    assert page.evaluate("window.harmed") is None
    assert page.evaluate("document.scripts.length") == 3


def test_rows_are_filtered_by_name_and_by_context(page):
    assert page.inner_text("#count") == "16 of 16"
    page.fill("#filter", "g0")
    assert page.inner_text("#count") == "14 of 16"
    page.select_option("[data-filter=context]", "RPE1")
    assert page.inner_text("#count") == "7 of 16"
    assert set(column(page, 1)) == {"RPE1"}
    assert set(column(page, 2)) == {"J"}


def test_a_header_sorts_down_then_up(page, world_folder):
    scores = Evaluation.load(world_folder / "scores").scores
    expected = sorted(scores.loc[scores["model"] == "state_tiny", "mae"])
    shown = lambda: [float(value) for value in column(page, 5)]  # noqa: E731
    page.click("th[data-key=mae] button")
    assert shown() == pytest.approx(expected[::-1], abs=5e-4)
    page.click("th[data-key=mae] button")
    assert shown() == pytest.approx(expected, abs=5e-4)
    assert page.get_attribute("th[data-key=mae]", "aria-sort") == "ascending"
    assert page.get_attribute("th[data-key=pearson_delta]", "aria-sort") == "none"


def test_arrow_keys_choose_the_next_pair_and_the_gene_found_has_its_numbers(page, world_folder):
    detail = read_detail(world_folder / "predicted.h5ad", world_folder / "truth.h5ad")
    page.focus("#pairs tbody tr[tabindex='0']")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    chosen = [column(page, 0)[1], column(page, 1)[1]]
    assert page.inner_text("#chosen") == " in ".join(chosen)
    assert page.evaluate("[...document.querySelectorAll('#pairs [aria-current=true]')].map(r => r.rowIndex)") == [2]
    page.fill("#gene", "G07")
    row, gene = detail.row_of(*chosen), detail.genes.index("G07")
    low = detail.centres[row, gene] - 0.5
    told = [detail.measured[row, gene], detail.predicted[row, gene], low, low + 1.0]
    assert numbers(page.inner_text("#scatter .under"))[:4] == pytest.approx(told, abs=2.1e-3)
    assert page.inner_text("#volcano .under") == page.inner_text("#scatter .under")
    responding = int((detail.fdr[row] < 0.05).sum())
    counts = re.findall(r"\((\d+)\)", page.inner_text("#scatter .legend"))
    assert int(counts[1]) + int(counts[2]) == responding


def test_the_top_genes_are_the_largest_changes(page, world_folder):
    detail = read_detail(world_folder / "predicted.h5ad", world_folder / "truth.h5ad")
    page.select_option("#top-by", "predicted")
    name, context = page.inner_text("#chosen").rsplit(" in ", 1)
    row = detail.row_of(name, context)
    expected = [detail.genes[i] for i in np.argsort(-np.abs(np.round(detail.predicted[row], 3)), kind="stable")[:20]]
    assert page.eval_on_selector_all("#top tbody tr", "rows => rows.map(r => r.cells[0].textContent)") == expected


def test_the_map_chooses_a_pair_by_keys_and_by_click(page):
    before = page.inner_text("#chosen")
    page.focus("#map-0 svg")
    page.keyboard.press("ArrowRight")
    told = page.inner_text("#map-0 .under").split(",")[0]
    page.keyboard.press("Enter")
    first = page.inner_text("#chosen")
    assert first != before
    assert first.startswith(told)
    box = page.locator("#map-0 .ring").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.inner_text("#chosen") == first
    assert page.eval_on_selector_all("#map-1 .legend .key", "keys => keys.map(k => k.textContent)") == [
        "other genes with features (13)",
        "predicted (8)",
    ]


def test_dark_narrow_and_print_are_readable(page):
    colours = "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; })()"
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colours) == ["rgb(230, 228, 223)", "rgb(22, 24, 27)"]
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate(colours) == [light[0], "rgb(255, 255, 255)"]
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 380


def test_nine_contexts_long_names_absent_values_and_all_rows_on_paper(browser, tmp_path):
    rng = np.random.default_rng(0)
    contexts = [f"K{i}" for i in range(9) for _ in range(63 - 7 * i)]
    names = [f"P{i}" for i in range(314)] + ["Ж\u2028'\"&" * 60]
    rows = pd.DataFrame({"context": contexts, "perturbation": names, "route": "", "regime": "", "n_predicted": 3})
    rows["tier"] = np.resize(["weak", "strong", "medium"], 315)
    rows["pearson_delta"] = [np.nan, *rng.normal(size=314)]
    predicted, measured = rng.normal(size=(2, 315, 12))
    fdr, half_widths = rng.random((315, 12)), np.where(rng.random((315, 12)) < 0.5, np.nan, 0.3)
    fdr[:, 0], measured[:, 1] = 0.0, np.inf
    detail = Detail("m", [f"G{i}" for i in range(12)], rows, predicted, measured, fdr, predicted, half_widths, 0.9)
    path = tmp_path / "odd.html"
    path.write_text(html.page("odd", explorer_section(detail, {"by effect": effect_map(detail)}, {}), script()))
    opened = browser.new_page(viewport={"width": 390, "height": 800})
    said = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(path.as_uri())
    opened.wait_for_selector("#explorer[data-ready]", timeout=10_000)
    keys = opened.eval_on_selector_all("#map-0 .legend .key", "keys => keys.map(k => k.textContent)")
    assert keys == ["K0 (63)", "K1 (56)", "K2 (49)", "K3 (42)", "K4 (35)", "K5 (28)", "3 others (42)"]
    assert len(column(opened, 0)) == 300
    opened.pdf()
    assert len(column(opened, 0)) == 315
    assert column(opened, 0)[-1] == "P0"
    opened.click("th[data-key=tier] button")
    assert list(dict.fromkeys(column(opened, 3))) == ["strong", "medium", "weak"]
    assert opened.evaluate("[...document.querySelectorAll('#explorer svg')].every(s => !s.innerHTML.includes('NaN'))")
    opened.fill("#filter", "ж")
    opened.click("#pairs tbody tr")
    assert opened.evaluate("document.documentElement.scrollWidth") == 390
    assert said == []
    opened.close()

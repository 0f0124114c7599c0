"""Every page of the preview in a browser: light and dark, wide and on a phone."""

import io
import os
import re
import shutil

import numpy as np
import PIL.Image
import pytest

from gzlib import paths
from gzlib.book import preview

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WIDE, PHONE = 1400, 390
# On a phone, what depends on the width; the rest was looked at on the wide page.
ROWS = {"exclude": [["tbody tr:nth-child(n + 12)"]]}  # the rows of a long table are all alike
WITH_WIDTH = {"runOnly": {"type": "rule", "values": ["scrollable-region-focusable", "target-size"]}}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / "pages"
    preview(paths.ROOT, folder)
    return sorted(folder.rglob("*.html"))


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        assert not os.environ.get("GZLIB_NEEDS_BROWSER"), "Chromium is missing, without which pages are not looked at."
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_by_everybody(pages, browser, scheme, width):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page, asked, problems = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    for file in pages:
        page.goto(file.as_uri())
        page.wait_for_load_state("load")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            problems.append(f"{file.name} scrolls sideways")
        options = WITH_WIDTH if width == PHONE else None
        found = axe.Axe().run(page, context=ROWS, options=options).response["violations"]
        problems += [
            f"{file.name}: {v['id']} at {v['nodes'][0]['target']} and {len(v['nodes']) - 1} more" for v in found
        ]
    context.close()
    assert not problems
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


LEAST = 7.5  # points: the smallest letters of a chart on a phone; it was drawn with 9


def test_charts_and_tables_that_are_wider_than_a_phone_scroll_and_say_so(pages, browser):
    page = browser.new_page(viewport={"width": PHONE, "height": 844})
    for number in ("02", "04"):
        page.goto(next(file for file in pages if file.name.startswith(number)).as_uri())
        page.wait_for_load_state("load")
        charts = page.locator(".scroll.chart img")
        scales = charts.evaluate_all("images => images.map(image => image.clientWidth / image.naturalWidth)")
        assert scales and 9 * min(scales) >= LEAST
        wide = page.locator(".scroll[data-more~=right]")
        assert wide.count() >= len(scales) - 1 and page.locator(".scroll-hint:visible").count() >= wide.count()
        for region in (wide.first, page.locator(".scroll:has(> table)[data-more~=right]").first):
            assert re.match(r"(Figure|Table) \d+\.\d+, scrolls", region.get_attribute("aria-label"))
            region.focus()
            page.keyboard.press("ArrowRight")
            page.wait_for_function("region => region.scrollLeft > 0", arg=region.element_handle())
    page.goto(next(file for file in pages if file.name == "index.html").as_uri())
    page.wait_for_load_state("load")
    svg = page.locator("#headline svg")
    assert svg.evaluate("svg => svg.clientWidth / svg.viewBox.baseVal.width") > 0.95  # letters have their own size
    cell = page.locator("table.prose td").nth(1)
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content").startswith('"real galaxies')
    page.close()


def test_figures_are_enlarged_by_keyboard(pages, browser):
    page = browser.new_page()
    page.goto(next(file for file in pages if file.name.startswith("04")).as_uri())
    page.locator("figure img").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] img").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.close()


def test_long_tables_sort_and_filter_by_keyboard(pages, browser):
    page = browser.new_page()
    page.goto(next(file for file in pages if file.name.startswith("90")).as_uri())
    table = page.locator(".scroll.tall table")
    assert table.locator("xpath=..").get_attribute("aria-label").startswith("Table B")
    numbers = "cells => cells.map(cell => parseFloat(cell.textContent.replaceAll(',', '').replace('−', '-')))"
    place = table.locator("th").all_inner_texts().index("result") + 1
    before = table.locator(f"td:nth-child({place})").evaluate_all(numbers)
    table.get_by_role("button", name="result").focus()
    for key, order, down in (("Enter", "ascending", False), ("Space", "descending", True)):
        page.keyboard.press(key)
        assert table.locator(f"th:nth-child({place})").get_attribute("aria-sort") == order
        assert table.locator(f"td:nth-child({place})").evaluate_all(numbers) == sorted(before, reverse=down)
    page.get_by_label("Filter rows").last.fill("pretrain resnet_w8")
    shown = [text for text in table.locator("tbody tr:visible").all_inner_texts()]
    assert shown and all("pretrain" in text and "resnet_w8" in text for text in shown)
    assert page.get_by_role("status").last.inner_text() == f"{len(shown)} of {len(before)} rows"
    page.close()


def test_charts_do_not_stand_on_paper_in_the_dark(pages, browser):
    context = browser.new_context(color_scheme="dark", viewport={"width": WIDE, "height": 900})
    page = context.new_page()
    page.goto(next(file for file in pages if file.name.startswith("02")).as_uri())
    chart = page.locator('figure img[src$=".svg"]').first
    chart.scroll_into_view_if_needed()
    corner = np.asarray(PIL.Image.open(io.BytesIO(chart.screenshot())).convert("RGB"))[2, 2]
    body = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert np.abs(corner - np.array([int(n) for n in re.findall(r"\d+", body)])).max() <= 2
    context.close()


def test_the_front_pages_chart_is_read_off_by_keyboard_and_by_dragging(pages, browser):
    page = browser.new_page(viewport={"width": WIDE, "height": 1200})
    page.goto(next(file for file in pages if file.name == "index.html").as_uri())
    chart = page.locator("#headline")
    slider, number, answer = chart.get_by_role("slider"), chart.locator("b.n"), chart.locator(".answer")
    before = number.inner_text()
    slider.focus()
    for _ in range(200):
        page.keyboard.press("ArrowRight")
    assert number.inner_text() != before and answer.inner_text().startswith(f"With {number.inner_text()} labels")
    assert slider.get_attribute("aria-valuetext") == f"{number.inner_text()} labels"
    chart.locator("svg").scroll_into_view_if_needed()
    svg = chart.locator("svg").bounding_box()
    page.mouse.move(svg["x"] + svg["width"] / 2, svg["y"] + 100)
    page.mouse.down()
    page.mouse.move(svg["x"] + 5, svg["y"] + 100)
    page.mouse.up()
    assert number.inner_text() == "25" and chart.locator("tbody tr").count() == 2
    options = chart.locator("select option").all_inner_texts()
    assert options[0].startswith("Real galaxies") and options[-1].startswith("Simulated galaxies")
    chart.locator("select").select_option(label=options[-1])
    slider.focus()
    page.keyboard.press("End")
    assert "no run does" in answer.inner_text() and chart.locator("svg rect.reach").count() == 1
    page.close()

"""Every page of the preview in a browser: light and dark, wide and on a phone."""

import io
import json
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
# Contrast takes nearly all of the time, so it is looked at in both schemes, but for three elements of each kind alone:
# elements of one kind have the same tags, classes and styles from the page's body down, and three rows show striping.
# Every other rule holds in both schemes alike.
BUT_CONTRAST = {"rules": {"color-contrast": {"enabled": False}}, "resultTypes": ["violations"]}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}, "resultTypes": ["violations"]}
REMOVE_ALIKE = """() => {
  const all = [...document.body.querySelectorAll("*")], kinds = new Map([[document.body, ""]]), seen = new Map();
  const repeated = all.map(element => {
    const own = [element.localName, element.getAttribute("class"), element.getAttribute("style")];
    const kind = [kinds.get(element.parentElement), ...own].join(" ");
    kinds.set(element, kind);
    seen.set(kind, (seen.get(kind) || 0) + 1);
    return seen.get(kind) > 3;
  });
  all.reverse().forEach((element, i) => { // children before their parents
    if (repeated[all.length - 1 - i] && !element.children.length) element.remove();
  });
}"""


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
        found = []
        if width == PHONE:
            found += axe.Axe().run(page, context=ROWS, options=WITH_WIDTH).response["violations"]
        else:
            if scheme == "light":
                found += axe.Axe().run(page, context=ROWS, options=BUT_CONTRAST).response["violations"]
            page.evaluate(REMOVE_ALIKE)
            found += axe.Axe().run(page, options=CONTRAST).response["violations"]
        problems += [
            f"{file.name}: {v['id']} at {v['nodes'][0]['target']} and {len(v['nodes']) - 1} more" for v in found
        ]
    searched(page, "labels")
    found = axe.Axe().run(page, context={"include": [["dialog.search"]]}).response["violations"]
    problems += [f"search: {v['id']} at {v['nodes'][0]['target']}" for v in found]
    problems += ["search: wider than the page"] * page.evaluate("document.documentElement.scrollWidth > innerWidth")
    context.close()
    assert not problems
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def test_a_kind_of_text_that_is_too_pale_is_found(pages, browser):
    """Though all but three elements of a kind are taken out before contrast is looked at."""
    page = browser.new_page(viewport={"width": WIDE, "height": 844})
    page.goto(next(file for file in pages if file.name == "limits.html").as_uri())
    page.add_style_tag(content="main p { color: #bbb !important }")
    before = page.locator("main p").count()
    page.evaluate(REMOVE_ALIKE)
    assert 0 < page.locator("main p").count() <= before
    found = axe.Axe().run(page, options=CONTRAST).response["violations"]
    assert [violation["id"] for violation in found] == ["color-contrast"]
    page.close()


def searched(page, query):
    """The links that a search for something shows."""
    page.keyboard.press("/")
    page.keyboard.type(query)  # also while the index is on its way
    page.wait_for_function("/match/.test(document.querySelector('dialog.search [role=status]').textContent)")
    return page.locator("dialog.search li a")


def test_search_is_worked_by_keyboard_and_leads_to_a_section(pages, browser):
    page, asked = browser.new_page(viewport={"width": WIDE, "height": 844}), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(next(file for file in pages if file.name.startswith("05")).as_uri())
    page.wait_for_load_state("load")
    assert not [url for url in asked if "search" in url]  # until a reader wants it
    links = searched(page, "gzlib.fitting.labels_needed")
    assert links.first.locator(".title").inner_text().endswith("labels_needed")
    assert links.first.locator("mark").first.inner_text() == "labels_needed"
    assert "labels_needed" in links.first.locator(".snippet").inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert links.nth(1).evaluate("link => link === document.activeElement")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/reference/fitting.html#api-fitting-labels-needed")
    assert page.locator(":target").inner_text().endswith("labels_needed")
    assert searched(page, "irreducible loss").first.get_attribute("href")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("Control+k")
    assert page.get_by_role("searchbox", name="Search").evaluate("field => field === document.activeElement")
    # A word of the glossary, a letter of a formula, a slip of the pen.
    for query, where in (("floor", "glossary.html#term-floor"), ("α", ""), ("forcasting", "05-forecasting.html")):
        page.get_by_role("searchbox", name="Search").fill(query)
        page.wait_for_function("document.querySelector('dialog.search li')")
        assert where in page.locator("dialog.search li a").first.get_attribute("href")
    page.get_by_role("searchbox", name="Search").fill("zzzz")
    assert page.locator("dialog.search [role=status]").inner_text() == "Nothing in the book matches “zzzz”."
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    page.close()


def test_words_of_strangers_stay_words_in_the_search(pages, browser, tmp_path):
    book = tmp_path / "book"
    shutil.copytree(pages[0].parents[1] / "assets", book / "assets")
    shutil.copy(next(file for file in pages if file.name == "limits.html"), book / "limits.html")
    bad = "<img src=x onerror=alert(1)> survey </script><script>alert(2)</script>"
    index = {"pages": [["limits.html", bad]], "sections": [[0, '" onclick=alert(3) x', bad, bad], [0, "", bad, bad]]}
    (book / "assets" / "search-index.js").write_text(f"window.bookIndex = {json.dumps(index)};")
    page, dialogs = browser.new_page(), []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto((book / "limits.html").as_uri())
    links = searched(page, "survey")
    assert links.count() == 2 and bad in links.first.inner_text()
    assert page.locator("dialog.search li :not(a, span, mark)").count() == 0
    assert links.first.get_attribute("href").endswith("limits.html#%22%20onclick%3Dalert(3)%20x")
    links.first.click()
    assert not dialogs
    page.close()


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


def test_the_first_column_of_a_table_stays_in_view_on_a_phone(pages, browser):
    page, lost = browser.new_page(viewport={"width": PHONE, "height": 844}), []
    places = """all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => {
      e.scrollLeft = e.scrollWidth;
      const cell = e.querySelector("tbody tr > :first-child");
      const share = cell.offsetWidth / e.clientWidth;
      return [e.ariaLabel, e.scrollLeft, cell.offsetLeft, share, Boolean(cell.querySelector("math"))];
    })"""
    for file in pages:
        page.goto(file.as_uri())
        page.wait_for_load_state("load")
        for name, scrolled, left, share, formula in page.locator(".scroll:has(> table)").evaluate_all(places):
            if not formula and (left < scrolled - 1 or share >= 0.45):  # a formula does not break
                lost.append(f"{file.name}: {name} at {left:.0f} of {scrolled:.0f} px, {share:.2f} of the width")
    page.close()
    assert not lost


def test_tables_fit_the_screens_that_they_are_read_on(pages, browser):
    page, wide = browser.new_page(), []
    too_wide = "all => all.filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)"
    for file in pages:
        page.goto(file.as_uri())
        page.wait_for_load_state("load")
        for width in (1000, 1100, 1210, 1300, WIDE):
            page.set_viewport_size({"width": width, "height": 844})
            for _ in range(40):  # on a busy machine the page's script comes later
                page.wait_for_timeout(50)
                if not (found := page.locator(".scroll:has(> table):not(.tall)").evaluate_all(too_wide)):
                    break
            wide += [f"{file.name}: {name} at {width} px" for name in found]
    page.close()
    assert not wide


def test_pages_are_printed_light_whole_and_without_folded_code(pages, browser):
    context = browser.new_context(color_scheme="dark", viewport={"width": 690, "height": 900})
    page = context.new_page()
    for number in ("04", "91", "92"):
        page.goto(next(file for file in pages if file.name.startswith(number)).as_uri())
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), number
        assert page.locator("details.code:visible").count() == 0 and page.locator(".table-tools:visible").count() == 0
    context.close()


def test_cells_break_after_headings_and_code_that_goes_on_fades(pages, browser):
    page = browser.new_page(viewport={"width": WIDE, "height": 844})
    page.goto(next(file for file in pages if file.name.startswith("03")).as_uri())
    page.wait_for_load_state("load")
    rows = page.locator("#tbl-real-means tbody tr").evaluate_all("rows => rows.map(row => row.offsetHeight)")
    assert len(rows) > 3 and max(rows) - min(rows) <= 1  # each on one line
    page.set_viewport_size({"width": PHONE, "height": 844})
    page.goto(next(file for file in pages if file.name == "index.html").as_uri())
    code = page.locator("main pre.more")
    assert code.count() == 1
    code.evaluate("pre => { pre.scrollLeft = pre.scrollWidth; }")
    page.wait_for_function("!document.querySelector('main pre.more')")
    page.close()


def test_the_page_that_is_read_is_seen_in_the_list_of_pages(pages, browser):
    page = browser.new_page(viewport={"width": WIDE, "height": 700})
    for name in ("book.html", "index.html"):
        page.goto(next(file for file in pages if file.name == name).as_uri())
        box = page.locator("#sidebar [aria-current]").bounding_box()
        assert 0 <= box["y"] <= 700 - box["height"]
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

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting import fit_curves
from gzlib.fitting.intervals import student_quantile
from gzlib.fitting.laws import LAWS
from gzlib.fitting.optimise import log_gradient
from gzlib.fitting.planner import compare_options, labels_needed
from gzlib.study import forecasts as panel

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOURS = {"small": 1e-4, "large": 4e-4}
CHOICE = {"cost_per_label": 2.0, "cost_per_hour": 50.0, "owned": 4000}


@pytest.fixture(scope="module")
def loss():
    sizes = np.array([250, 500, 1000, 2000, 4000.0])
    rng = np.random.default_rng(0)
    curves = np.stack([1 + 0.8 * (sizes / 1000) ** -0.3, 0.9 + 0.9 * (sizes / 1000) ** -0.4])
    values = curves[..., None] * np.exp(0.004 * rng.standard_normal((2, 5, 3)))
    return xr.DataArray(
        values,
        dims=("encoder", "n_train", "seed"),
        coords={"encoder": ["small", "large"], "n_train": sizes, "seed": [0, 1, 2]},
    )


@pytest.fixture(scope="module")
def html(loss):
    return panel.planner_panel(loss, target=1.35, hours_per_label=HOURS, **CHOICE)


def data_of(html):
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)[1])


def expected(loss, target):
    needed = labels_needed(loss, target, max_factor=panel.MAX_FACTOR)
    return compare_options(
        needed,
        cost_per_label=CHOICE["cost_per_label"],
        cost_per_gpu_hour=CHOICE["cost_per_hour"],
        gpu_hours=lambda option, labels: HOURS[option["encoder"]] * labels,
        owned_labels=CHOICE["owned"],
    )


def test_panel_stands_alone(html):
    assert not re.search(r"https?:|src=|href=|@import|url\(|fetch\(|import\s*\(", html)
    assert "\n\n" not in html and "{{<" not in html and "```" not in html
    assert not re.search(r"@[A-Z]+@", html)
    for name in ("target", "slide", "encoder", "label_price", "hour_price", "owned"):
        assert len(re.findall(rf'name="{name}"', html)) == 1
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert ids == ["planner"]
    assert 'aria-live="polite"' in html and 'role="img"' in html


def test_every_control_has_a_label(html):
    controls = re.findall(r"<label>.*?</label>", html, re.DOTALL)
    inside = "".join(controls)
    for control in re.findall(r"<(?:input|select)[^>]*>", html):
        assert control in inside
    assert all(re.match(r"<label>\s*\S+", control) for control in controls)


def test_same_forecast_gives_the_same_bytes(loss, html):
    assert panel.planner_panel(loss, target=1.35, hours_per_label=HOURS, **CHOICE) == html


def test_without_script_the_table_shows_the_plan(loss, html):
    body = re.search(r"<tbody>(.*?)</tbody>", html, re.DOTALL)[1]
    rows = expected(loss, 1.35)
    assert [name for name in re.findall(r'<th scope="row">(\w+)</th>', body)] == [row["encoder"] for row in rows]
    first = re.findall(r"<td>([^<]*)</td>", body)[0]
    assert float(first.replace(",", "")) == pytest.approx(rows[0]["labels"], rel=0.005)


def test_a_name_cannot_end_the_script(loss):
    renamed = loss.assign_coords(encoder=["</script><b>", "large"])
    page = panel.planner_panel(renamed, target=1.35, hours_per_label={"</script><b>": 1e-4, "large": 4e-4}, **CHOICE)
    assert page.count("</script>") == 2 and "<b>" not in page
    assert data_of(page)["options"][0]["name"] == "</script><b>"


def test_missing_hours_and_bad_prices_are_refused(loss):
    with pytest.raises(UserError, match="training hours of 'large'"):
        panel.planner_panel(loss, target=1.35, hours_per_label={"small": 1}, **CHOICE)
    with pytest.raises(UserError, match="label_price is -1"):
        panel.planner_panel(loss, target=1.35, hours_per_label=HOURS, **CHOICE | {"cost_per_label": -1})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: the page's arithmetic was not run")
def test_the_page_computes_what_python_computes(loss, html, tmp_path):
    targets = [2.5, 1.6, 1.44, 1.4, 1.38, 1.36, 1.35, 1.3, 1.25, 1.2, 1.05, 0.5]
    script = Path(panel.__file__).with_name("panel.js").read_text(encoding="utf-8")
    (tmp_path / "data.json").write_text(json.dumps(data_of(html)), encoding="utf-8")
    script += """
const data = JSON.parse(require("fs").readFileSync(process.argv[2], "utf-8"));
const choice = { label_price: 2, hour_price: 50, owned: 4000 };
const plans = JSON.parse(process.argv[3]).map((target) => plan(data, { ...choice, target }));
if (place(5, [1, 2, 3]).join() !== "2,1" || place(0, [1, 2, 3]).join() !== "1,0") throw new Error("place");
console.log(JSON.stringify(plans, (key, value) => (value === Infinity ? 1e300 : value)));
"""
    (tmp_path / "plan.js").write_text(script, encoding="utf-8")
    done = subprocess.run(
        ["node", tmp_path / "plan.js", tmp_path / "data.json", json.dumps(targets)],
        capture_output=True,
        text=True,
        check=True,
    )
    statuses = set()
    for target, plan in zip(targets, json.loads(done.stdout), strict=True):
        rows = {row["encoder"]: row for row in expected(loss, target)}
        assert len(plan) == len(rows)
        statuses |= {row["status"] for row in rows.values()}
        for found in plan:
            row = rows[found["name"]]
            for key in ("labels", "labels_low", "labels_high", "cost", "cost_low", "cost_high"):
                wanted = row[key] if np.isfinite(row[key]) else 1e300
                near = 0.2 if key.endswith("_high") else 0.01  # the upper end jumps as laws no longer reach the target
                assert found[key] == pytest.approx(wanted, rel=near, abs=0.5), (target, found["name"], key)
            assert found["chance"] == pytest.approx(row["reachable"], abs=0.02)
        costs = [found["cost"] for found in plan]
        assert costs == sorted(costs)
    assert statuses == {"already reached", "forecast", "out of reach"}


def pasted_curves(count=50):
    """Curves as a reader may have them: arrays (sizes,) and (sizes, runs), with a floor and without."""
    rng = np.random.default_rng(4)
    for k in range(count):
        x = np.round(np.geomspace(100, 100 * rng.uniform(20, 500), rng.integers(4, 13)))
        floor, alpha = rng.choice([0.0, 0.1, 0.3]), rng.uniform(0.15, 0.9)
        noise = rng.choice([0.003, 0.01, 0.03])
        mean = floor + (x / x[0]) ** -alpha
        yield x, mean[:, None] * np.exp(noise * rng.standard_normal((len(x), 1 + 2 * (k % 2))))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: the page's fit was not run")
def test_a_pasted_curve_is_fitted_as_python_fits_it(tmp_path):
    curves = list(pasted_curves())
    texts = ["\n".join(f"{n:.0f}\t{v:.10g}" for n, row in zip(x, loss, strict=True) for v in row) for x, loss in curves]
    script = panel.own_curve_script()
    script += """
const texts = JSON.parse(require("fs").readFileSync(process.argv[2], "utf-8"));
const found = texts.map((text) => {
  const points = readCurve(text), fit = fitCurve(points), last = points.at(-1).size;
  return { ...fit, rows: [1, 2, 4, 8].map((k) => [fit.at(k * last), ...fit.band(k * last, 0.95)]) };
});
console.log(JSON.stringify(found));
"""
    (tmp_path / "fit.js").write_text(script, encoding="utf-8")
    (tmp_path / "curves.json").write_text(json.dumps(texts), encoding="utf-8")
    command = ["node", tmp_path / "fit.js", tmp_path / "curves.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for (x, loss), found in zip(curves, json.loads(done.stdout), strict=True):
        array = xr.DataArray(loss, dims=("n_train", "seed"), coords={"n_train": x})
        fit = fit_curves(array, draws=0)
        new = x[-1] * np.array([1, 2, 4, 8.0])
        law, scaled = LAWS["power-offset"], new / fit.attrs["x_ref"]
        values = [float(fit[name]) for name in law.names]
        wanted = law.function(scaled, *values)
        np.testing.assert_allclose([row[0] for row in found["rows"]], wanted, rtol=0.01)
        matrix = fit["covariance"].values
        free = np.isfinite(np.diag(matrix))
        slopes = log_gradient(law, [scaled], np.array([values]))[0][:, free]
        spread = np.sqrt(np.einsum("np,pq,nq->n", slopes, matrix[np.ix_(free, free)], slopes))
        half = student_quantile(0.975, float(fit["dof"])) * spread
        np.testing.assert_allclose([row[2] for row in found["rows"]], wanted * np.exp(half), rtol=0.01)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: the page's reading was not run")
def test_a_pasted_curve_is_read_as_people_write_it(tmp_path):
    texts = [
        "n;loss\n100;0,5\n200;0,4",
        "100,0.5\n200,0.4\n",
        "size loss\n100  0.5\n200 0.4",
        "100\t0.5\n100\t0.5\n200\t0.4",
    ]
    texts += ["100, 0.5\n200, 0.4", "100 0.5\n200 no", "100 0.5 3", "100 -1", "100"]
    texts += ["\n\n\nn loss\n\n\n100 0.5\n\n\n200 0.4\n\n\n", "100 .5\n200 .4\n\n\n100 .6\n200 .5"]
    script = (
        panel.own_curve_script()
        + """
const read = (text) => {
  try { return readCurve(text).map((p) => [p.size, Math.exp(p.log)]); } catch (error) { return error.message; }
};
console.log(JSON.stringify(JSON.parse(process.argv[2]).map(read)));
"""
    )
    (tmp_path / "read.js").write_text(script, encoding="utf-8")
    command = ["node", tmp_path / "read.js", json.dumps(texts)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for points in [*found[:5], found[9]]:
        np.testing.assert_allclose(points, [[100, 0.5], [200, 0.4]])
    assert "Line 2" in found[5] and "3 values" in found[6] and "above zero" in found[7]
    assert found[8].startswith("Line 1 has 1 value:") and found[10].startswith("Two blank lines separate two curves")


def test_the_panel_of_an_own_curve_stands_alone():
    page = panel.own_curve_panel("1 2 <b>\n")
    assert not re.search(r"https?:|src=|href=|@import|url\(|fetch\(|import\s*\(", page)
    assert "\n\n" not in page and not re.search(r"@[A-Z]+@", page) and "<b>" not in page
    assert page.count('name="curve"') == 1 and 'aria-live="polite"' in page


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: the axes were not marked")
def test_numbers_of_one_axis_have_equal_decimals(tmp_path):
    script = panel.page_source("axes.js")
    script += (
        "\nconsole.log(JSON.stringify([[0.94, 1.23], [1.5, 20], [1e-8, 1]].map((ends) => markTexts(marks(...ends)))));"
    )
    (tmp_path / "axes.js").write_text(script, encoding="utf-8")
    done = subprocess.run(["node", tmp_path / "axes.js"], capture_output=True, text=True, check=True)
    near, far, tiny = json.loads(done.stdout)
    assert near == ["0.95", "1.00", "1.05", "1.10", "1.15", "1.20"] and far == ["2", "3", "5", "7", "10", "20"]
    assert tiny[0] == "1e-8"


def opened(page_of_panel, script, tmp_path):
    """The page of a panel, as a browser has it after a script."""
    page = tmp_path / "panel.html"
    text = f'<!doctype html><meta charset="utf-8"><body>{page_of_panel}<script>{script}</script></body>'
    page.write_text(text, encoding="utf-8")
    command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


FILL = """
const fill = (name, value) => {
  const field = document.querySelector(`[name="${name}"]`);
  field.value = value; field.dispatchEvent(new Event("input"));
};
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: the panel was not opened")
def test_the_planners_line_joins_means_and_says_when_it_stays_above_the_target(loss, html, tmp_path):
    shown = opened(html, f'{FILL} fill("encoder", "small"); fill("target", 1.2);', tmp_path)
    measured = re.search(r'class="measured" points="([^"]+)"', shown)[1].split()
    centres = re.findall(r'<circle class="points" cx="([\d.]+)" cy="([\d.]+)"', shown)
    for place, centre in zip(measured, centres, strict=True):
        np.testing.assert_allclose([float(v) for v in place.split(",")], [float(v) for v in centre], atol=0.06)
    ahead = re.search(r'class="median" points="([^"]+)"', shown)[1].split()
    assert float(ahead[0].split(",")[0]) == pytest.approx(float(centres[-1][0]), abs=0.06)
    small = next(one for one in data_of(html)["options"] if one["name"] == "small")
    lowest = min(small["median"][small["last"] :])
    for target, stays in ((1.02 * lowest, False), (0.999 * lowest, True)):
        shown = opened(html, f'{FILL} fill("encoder", "small"); fill("target", {target});', tmp_path)
        row = re.search(r'<tr class="chosen" data-labels="([^"]+)"', shown)[1]
        told = "The line of small stays above the target" in shown
        assert told == (stays and float(row) < float("inf")) and (stays or float(row) < float("inf"))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: the panel was not opened")
def test_what_costs_nothing_is_not_called_the_cheapest(html, tmp_path):
    free = f'{FILL} fill("label_price", 0); fill("hour_price", 0); fill("target", 1.35);'
    assert "At these prices it costs nothing to reach the target with" in opened(html, free, tmp_path)
    shown = opened(html, f'{free} fill("owned", 1e9);', tmp_path)
    assert "Reached already, with the labels owned, by" in shown and "Cheapest" not in shown.partition("<script>")[0]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: the panel was not opened")
def test_a_curve_that_cannot_be_fitted_leaves_no_blank_chart(tmp_path):
    shown = opened(panel.own_curve_panel(), f'{FILL} fill("curve", "1 2");', tmp_path)
    assert re.search(r"<svg[^>]*hidden", shown) and re.search(r"<table[^>]*hidden", shown)
    shown = opened(panel.own_curve_panel(), FILL, tmp_path)
    assert not re.search(r"<svg[^>]*hidden", shown) and re.search(r"rotate\(-90\)[^>]*>loss<", shown)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: the panel was not opened")
def test_panel_works_in_a_browser_from_a_file(loss, html, tmp_path):
    change = """<script>
const field = document.querySelector('#planner [name="target"]');
field.value = 1.2; field.dispatchEvent(new Event("input"));
</script>"""
    page = tmp_path / "panel.html"
    page.write_text(f'<!doctype html><meta charset="utf-8"><body>{html}{change}</body>', encoding="utf-8")
    done = subprocess.run(
        [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rows = expected(loss, 1.2)
    shown = re.findall(r'data-labels="([^"]+)" data-cost="([^"]+)"><th scope="row">(\w+)</th>', done.stdout)
    assert [name for *_, name in shown] == [row["encoder"] for row in rows]
    for (labels, cost, _), row in zip(shown, rows, strict=True):
        assert float(labels) == pytest.approx(row["labels"], rel=0.01)
        assert float(cost) == pytest.approx(row["cost"], rel=0.01)
    assert "Cheapest: large" in done.stdout
    assert '<polyline class="median"' in done.stdout and '<polygon class="band"' in done.stdout
    assert "<fieldset>" in done.stdout  # the controls appear once the script runs


def option(name, labels, low, high, cost, chance=0.98, status="forecast"):
    numbers = {"labels": labels, "labels_low": low, "labels_high": high, "cost": cost, "reachable": chance}
    return {"encoder": name, **numbers, "status": status}


def test_a_plan_is_told_in_a_table_and_in_words():
    options = [
        option("small", 10_123.0, 8_000.0, 20_400.0, 2_123.0),
        option("large", 30_000.0, 9_000.0, np.inf, 30_000.0, 0.84),
        option("stuck", np.inf, np.inf, np.inf, np.inf, 0.0, "out of reach"),
    ]
    table = panel.planner_table(options, level=0.9)
    assert table.values.tolist() == [
        ["small", "10,100", "8,000 to 20,400", "98 %", "2,120", "forecast"],
        ["large", "30,000", "9,000 to no limit", "84 %", "30,000", "forecast"],
        ["stuck", "out of reach", "out of reach", "0 %", "out of reach", "out of reach"],
    ]
    assert "90 % interval" in table
    said = {"best": 2.5, "target": 2.25, "owned": 8000, "prices": "1 for a label", "level": 0.9}
    assert panel.planner_words(options, **said) == (
        "To bring the loss from 2.50 to 2.25 nats, `small` is forecast to need 10,100 labels in all (90 %"
        " interval: 8,000 to 20,400), 2,120 more than this study has, if more labels can bring it there at all (chance:"
        " 98 %). At 1 for a label that costs 2,120."
        " The next option, `large`, costs 30,000."
    )
    open_ended = panel.planner_words(options[1:], **said)
    assert "No other encoder gets there. The pilot does not exclude that the target is never" in open_ended
    assert panel.planner_words(options[2:], **said).startswith(
        "No encoder of this study is forecast to reach 2.25 nats"
    )


def test_registered_forecasts_are_told_in_a_table_and_in_words():
    one = {
        "date": "2026-01-01",
        "name": "resnet_w4, sim:2000",
        "n_train": 4000.0,
        "forecast": 2.0,
        "lower": 1.9,
        "upper": 2.1,
    }
    rows = pd.DataFrame(
        [
            one | {"outcome": 2.05, "inside": True},
            one | {"outcome": 2.2, "inside": False},
            one | {"outcome": np.nan, "inside": None},
        ]
    )
    table = panel.registered_table(rows)
    assert table["outcome"].tolist() == ["2.05", "2.20", "–"]
    assert table["in band"].tolist() == ["yes", "no", "–"] and table["galaxies"].tolist() == [4000] * 3
    assert panel.registered_words(rows) == "Of 2 outcomes of the total that have been measured, 1 lies within the band."
    assert panel.registered_words(rows[1:]).startswith(
        "Of 1 outcome of the total that has been measured, none lie within"
    )
    assert panel.registered_words(pd.DataFrame()) == "No outcome has been measured yet."


def test_labels_by_risk_are_told_encoder_by_encoder():
    data = {"labels_by_risk": (("encoder", "risk"), [[10_123.0, np.inf], [np.nan, np.nan]])}
    data["reachable"] = ("encoder", [0.997, np.nan])
    needed = xr.Dataset(data, {"encoder": ["small", "new"], "risk": [0.5, 0.05]})
    table = panel.risk_table(needed)
    assert list(table) == ["encoder", "50 % sure", "95 % sure", "can be reached"]
    assert table.values.tolist() == [["small", "10,100", "out of reach", "over 99 %"], ["new", "–", "–", "–"]]

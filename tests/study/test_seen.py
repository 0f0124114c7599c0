"""The sentences beside figures say what the numbers are, whichever way those go."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from gzlib.study import seen


def runs(values, encoders=("resnet_w8", "resnet_w16"), n=(100, 200, 400)):
    coords = {"encoder": list(encoders), "n_train": list(n), "seed": [0]}
    return xr.DataArray(np.asarray(values, float)[..., None], coords, ["encoder", "n_train", "seed"])


LOSS = runs([[4.0, 3.0, 2.5], [4.2, 2.9, 2.1]])


def test_curves_are_told_by_the_one_that_ends_lowest():
    assert seen.falls(LOSS) == (
        "From 100 to 400 training galaxies the mean of resnet_w16 goes from 4.20 to 2.10 nats; the last doubling took"
        " 0.80 nats away."
    )
    rising = seen.falls(runs([[1.0, 2.0, 3.0], [np.nan, np.nan, np.nan]]))
    assert "resnet_w8 goes from 1.00 to 3.00" in rising and "took −1.00 nats away" in rising


def test_size_is_told_with_few_and_with_many_galaxies():
    said = seen.sizes(LOSS, {"resnet_w8": 10, "resnet_w16": 40})
    assert said == (
        "With 100 galaxies resnet_w16 lies 5.0 % above resnet_w8, with 400 galaxies resnet_w16 lies 16.0 % below"
        " resnet_w8."
    )


def test_panels_bars_and_histograms_name_both_ends():
    two = xr.concat([LOSS, LOSS**0.1], pd.Index(["deep", "flat"], name="question"))
    said = seen.panels(two, panel="question")
    assert "changes most for deep (−44 %) and least for flat (−5.6 %)" in said
    assert seen.bars(pd.Series({"bar": 1200, "arms": 7.25}), "galaxies") == (
        "Most galaxies: bar (1,200); fewest: arms (7.25)."
    )
    said = seen.agreement({"a: yes": np.array([0.0, 1.0]), "b: yes": np.array([0.5, 0.95]), "none": np.array([])})
    assert said.replace("&#58;", ":") == (
        "Nine in ten volunteers agree most often on a: yes (100 % of the galaxies) and least often on b: yes (50 %)."
    )
    assert seen.shares(["smooth 0.9", "featured 0.5", "smooth 0.7"]) == (
        "Most votes say smooth for 2 and featured for 1 of these 3 galaxies."
    )


def test_effects_scatter_and_diagonals_are_counted():
    low, high = np.array([-2.0, -1, 1, np.nan]), np.array([-1.0, 1, 2, np.nan])
    ends = {"estimate": (low + high) / 2, "low": low, "high": high}
    values = xr.Dataset({name: ("question", end) for name, end in ends.items()}, {"question": list("abcd")})
    assert seen.sides(values) == "Of 3 questions, 1 have their interval left of zero, 1 right of it, and 1 hold zero."
    x = xr.DataArray([1.0, 2, 3, 4], dims="question")
    assert "points fall from left to right (Spearman's correlation −1.00)" in seen.together(x, -x)
    assert seen.together(x[:2], x[:2]).startswith("Too few")
    assert seen.below_diagonal(pd.DataFrame({"linear": [1.0, 2], "full": [0.5, 3]})).startswith("1 of 2 points")


def test_bands_and_splits_say_where_they_end():
    band = xr.Dataset(
        {"loss": LOSS.mean("seed"), "lower": LOSS.mean("seed") * 0.9, "upper": LOSS.mean("seed") * np.inf}
    )
    assert seen.reach(band) == (
        "Continued to 400 galaxies, resnet_w16 is lowest with 2.10 nats, in a band from 1.89 to ∞."
    )
    assert seen.splits(None).startswith("No budget")
    frontier = xr.Dataset(
        {name: ("budget", [1e3, 2e3]) for name in ("N", "D")} | {"bracketed": ("budget", [True, False])},
        {"budget": [1e12, 1e13]},
    )
    said = seen.splits(frontier, largest=500)
    assert "the most up to the cost of the largest run whose best split lies between the encoder sizes tried" in said
    whole = seen.splits(frontier.assign(bracketed=("budget", [True, True])))
    assert "10¹³ operations, what training the largest encoder on the largest training set costs, are best" in whole
    assert said.startswith("1.0\u00a0×\u00a010¹² operations") and "about 1,000 parameters" in said
    assert said.endswith("more than any run had.") and "more than" not in seen.splits(frontier, largest=2000)


@pytest.mark.parametrize(
    ("best", "said"), [([50, 10], "fewer passes"), ([10, 50], "50 with 400 (over all encoders and seeds of a size).")]
)
def test_lengths_of_runs_say_which_way_they_go(best, said):
    assert said in seen.lengths(pd.DataFrame({"n_train": [100, 400], "best": best}))


def test_sheets_curves_and_atlases_name_both_ends():
    rng = np.random.default_rng(0)
    images = {name: (100 + sd * rng.normal(size=(4, 32, 32, 3))).astype(np.uint8) for name, sd in (("a", 9), ("b", 3))}
    assert "noisiest in a, with a scatter of 8.9" in seen.looks(images) and "smoothest in b, with 3" in seen.looks(
        images
    )
    one, other = LOSS.isel(encoder=0, drop=True), LOSS.isel(encoder=1, drop=True)[:2]
    both = xr.concat([one, other], pd.Index(["real", "simulated"], name="galaxies"), join="outer")
    assert seen.slopes(both, hue="galaxies") == (
        "The loss falls by 38 % with real galaxies (100 to 400) and 31 % with simulated galaxies (100 to 200)."
    )
    atlas = pd.DataFrame({"law": ["p", "p", "q"], "forecast": [2.0, 3.0, 1.0]})
    assert seen.choices(atlas, "forecast", "law", "nats") == (
        "By the choice of the law, the median forecast runs from 1.00 nats (q) to 2.50 nats (p)."
    )
    laws = seen.choices(atlas.replace("p", "A n^-α"), "forecast", "law", "nats")
    assert "21" not in laws and laws.endswith("to 2.50 nats ($A n^{-α}$).")


def test_the_nearest_prediction_is_named_at_each_distance():
    table = pd.DataFrame({"extrapolated by": ["2 ×", "4 ×"], "power law": [0.02, 0.01], "forecast": [0.03, 0.04],
                          "last value": [0.01, 0.02]})  # fmt: skip
    assert seen.nearest(table) == (
        "Nearest comes the power law at 4 × and carrying the last value forward at 2 ×; the forecast is the farthest"
        " off at every distance."
    )
    assert "farthest" not in seen.nearest(table.assign(forecast=[0.03, 0.0]))


def test_what_waiting_brought_is_said_of_the_sizes_where_it_is_much():
    table = pd.DataFrame({"galaxies": [500, 1000, 2000], "gain": [0.3, 0.01, 0.2]})
    table["of a doubling"] = [1.0, 0.5, np.nan]
    assert seen.waits(table) == (
        "With 500 galaxies the gain is more than 10 % of what a doubling brings; with 2,000 it is 0.200 nats, where"
        " the doubling before brought 0.500."
    )
    assert seen.waits(table[1:2]).startswith("The gain is at most 2 %") and seen.waits(table[:0]) == ""


def test_laws_that_miss_more_than_seeds_scatter_are_named():
    fits = xr.Dataset({"lack_of_fit_p": ("encoder", [1e-4, 0.5, np.nan])}, {"encoder": ["a", "b", "c"]})
    loss = runs(np.ones((3, 3)), encoders="abc").isel(seed=[0, 0]).assign_coords(seed=[0, 1])
    loss = loss * xr.DataArray([1.0, 1.01], dims="seed")
    said = seen.misfits(fits, loss)
    assert "explains for a (Holm over 2 encoders" in said and "whose seeds differ by 0.70 %. How" in said
    assert seen.misfits(fits.isel(encoder=[1]), loss).startswith("For none of the 1 encoders")


def test_what_the_scatter_of_seeds_moves_is_said_of_encoders_that_tell():
    at, known = {"encoder": list("abcd")}, ("encoder", ["identified"] * 3 + ["E one-sided only"])
    alike = xr.Dataset({"alpha": ("encoder", [0.5, 0.4, 0.3, 0.9]), "verdict": known}, at)
    falling = xr.Dataset(
        {"alpha": ("encoder", [0.4, 0.44, 0.3, 0.1]), "lack_of_fit_p": ("encoder", [1e-3, 0.5, np.nan, 0.5])}, at
    )
    said = seen.by_scatter(alike, falling)
    assert "the exponents of the 2 encoders that identify one move by \u221220 to +10 %, to 0.40 to 0.44" in said
    assert said.endswith("explains for 1 of them.")
    assert seen.by_scatter(alike, falling.isel(encoder=[2])).startswith("No seeds tell")


def test_plans_and_forecasts_say_what_came_of_them():
    rows = pd.DataFrame({"forecast": [2.0, 2.0, 2.0], "lower": 1.9, "upper": 2.1, "outcome": [2.02, 1.9, None]})
    assert seen.outcomes(rows) == (
        "The 2 outcomes lie −5.0 to +1.0 % from their forecasts; half of a band's width is 5.0 % in the median."
    )
    assert seen.outcomes(rows[2:]) == seen.outcomes(rows[:0]) == "No outcome has been measured yet."
    options = [{"encoder": name, "cost": cost} for name, cost in (("a", 10.0), ("b", 25.0), ("c", np.inf))]
    for option, chance in zip(options, (0.999, 0.58, 0.9), strict=True):
        option["reachable"] = chance
    assert seen.cheapest(options) == (
        "2 of 3 encoders have a number of labels for the target; the chance that more labels can bring them there at"
        " all lies between 58 % and over 99 %. If they can, the next best costs 2.5 times as much as a."
    )
    assert seen.cheapest(options[::2]) == (
        "1 of 2 encoders has a number of labels for the target; the chance that more labels can bring it there at all"
        " is over 99 % (a)."
    )
    assert seen.cheapest(options[2:]) == "None of 1 encoders has a number of labels for the target."
    assert seen.example() == (
        "The example, measured up to 8,000, comes to 1.116 at 64,000, in a 95 % band from 1.072 to 1.162."
    )


def test_words_of_strangers_are_shown_as_they_are():
    loss = LOSS.assign_coords(encoder=["*x*", "<b>"])
    assert "<b>" not in seen.falls(loss) and "*x*" not in seen.bars(pd.Series({"*x*": 2, "y": 1}), "votes")


def test_how_often_one_exponent_is_refused_is_said_by_how_seeds_scatter(monkeypatch):
    rates = {"alike": 0.05, "falling": 0.06, "falling.falling": 0.07, "alike.falling": 0.4}
    rows = [{"name": f"claims.one_exponent.{name}", "value": rate} for name, rate in rates.items()]
    monkeypatch.setattr(seen, "measured", lambda _: pd.DataFrame(rows))
    said = seen.one_exponent()
    assert "in 5 % (scatter alike) and 6 % (scatter falling)" in said
    assert said.endswith("with size in 40 % if it is taken for alike and in 7 % if not.")
    monkeypatch.setattr(seen, "measured", lambda _: pd.DataFrame(rows[:3]))
    assert seen.one_exponent().endswith("not been simulated here yet.")

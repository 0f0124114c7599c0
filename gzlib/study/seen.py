"""What there is to see: a sentence for each figure, from its numbers, and the interactive chart of the front page."""

import json
from functools import partial
from html import escape

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from gzlib.data.survey import label_values
from gzlib.fitting import holm, summarise_replicates
from gzlib.fitting.curves import IDENTIFIED
from gzlib.fitting.report import chance_text
from gzlib.study.figures import encoder_style, family_of, start_colour
from gzlib.study.forecasts import Panel, example_fit, page_source, rounded
from gzlib.study.sheets import transfer_curves
from gzlib.study.tables import REAL_TASKS, formula, listed, measured, number, share, words

_figure = partial(rounded, digits=5)


def headline_panel(transfer: dict, loss: xr.DataArray, band: xr.Dataset, *, kind: str, level: float) -> Panel:
    """The front page's chart: errors against galaxies, read off at a number that the reader drags.

    Real galaxies come first: errors of linear probes with and without further pretraining. Then the test loss of the
    encoders, with the fitted law and its band.

    Parameters
    ----------
    transfer : dict
        As :func:`gzlib.study.sheets.transfer_report` gives it; may be empty.
    loss : DataArray (encoder, n_train, seed)
    band : Dataset (encoder, n_train)
        ``loss``, ``lower`` and ``upper`` of the fitted laws.
    kind : str
        What ``loss`` was measured on, such as "simulated galaxies".
    level : float
        Coverage of the band.

    Returns
    -------
    Panel
    """
    views = [*_real_views(transfer), _law_view(loss, band, kind, level)]
    first = views[0]
    rows = [(curve["name"], *_at(curve["line"], first["start"])) for curve in first["curves"]]
    form = f".{first['digits']}f"
    parts = {
        "ID": "headline",
        "WHAT": escape(first["what"]),
        "VALUE": escape(first["y"]),
        "ANSWER": escape(f"{first['name']}, with {first['start']:,.0f} {first['x']}."),
        "ROWS": "\n".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{number(value, form)}</td>'
            f"<td>{number(low, form)} to {number(high, form)}</td></tr>"
            for name, value, low, high in sorted(rows, key=lambda row: row[1])
        ),
        "NOTE": escape(first["note"]),
        # In a script element, '</' would end it and '<!--' would hide what follows.
        "DATA": json.dumps({"views": views}, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "SCRIPT": page_source("headline.js")
        + '\nconst root = document.getElementById("headline");'
        + '\npage(root, JSON.parse(root.querySelector(".data").textContent));',
    }
    page = page_source("headline.html")
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return Panel("\n".join(line for line in page.splitlines() if line.strip()))


def _real_views(transfer: dict) -> list[dict]:
    """One view for each task of real galaxies that was measured with several numbers of labels."""
    if not transfer:
        return []
    views, curves = [], transfer_curves(transfer)
    classes = {REAL_TASKS[row["task"]] for row in transfer["rows"] if row.get("balanced_accuracy") is not None}
    for task in curves["task"].values:
        share = task in classes  # of galaxies in the wrong class, else a root mean square
        one = curves.sel(task=task).dropna("n_train", how="all") * (100 if share else 1)
        lines = []
        for start in map(str, one["start"].values):
            runs = one.sel(start=start).transpose("n_train", "seed")
            ends = np.stack([runs.mean("seed"), runs.min("seed"), runs.max("seed")], axis=1)
            line = [[int(n), *map(_figure, row)] for n, row in zip(runs.n_train.values, ends, strict=True)]
            lines.append({"name": start, "colour": start_colour(start), "line": line} | _measured(runs))
        n = [int(v) for v in one.n_train.values]
        views.append(
            {"name": f"Real galaxies: {task}", "x": "labels", "what": "features from", "compare": True}
            | {"y": "galaxies in the wrong class [%]" if share else "root mean square error"}
            | {"unit": "\u00a0%" if share else "", "digits": 1 if share else 3}
            | {"range": "range", "measured": n[-1], "ticks": n, "start": n[len(n) // 2]}
            | {"note": _REAL_NOTE, "curves": lines}
        )
    return views


_REAL_NOTE = (
    "Measured on real galaxies: linear probes on features of ImageNet, and of ImageNet and further pretraining on"
    " simulated galaxies. Points are five draws of the labels, the range is theirs; between measured numbers, values"
    " are interpolated."
)


def _law_view(loss: xr.DataArray, band: xr.Dataset, kind: str, level: float) -> dict:
    lines = []
    for encoder in band.encoder.values:
        fitted = band.sel(encoder=encoder)
        ends = np.stack([fitted[name] for name in ("loss", "lower", "upper")], axis=1)
        line = [[_figure(n), *map(_figure, row)] for n, row in zip(fitted.n_train.values, ends, strict=True)]
        runs = loss.sel(encoder=encoder).transpose("n_train", "seed")
        runs = runs.where(runs.n_train >= line[0][0] * 0.999).dropna("n_train", how="all")
        style = encoder_style(str(encoder))
        lines.append({"name": str(encoder), "colour": style["color"], "line": line} | _measured(runs))
    largest, far = float(loss.n_train.max()), float(band.n_train.max())
    ticks = [float(band.n_train.min())]
    while ticks[-1] * 2 <= far * 1.001:
        ticks.append(ticks[-1] * 2)
    title = kind[0].upper() + kind[1:]
    return {
        "name": f"{title}: test loss of each encoder", "x": "training galaxies", "y": "test loss [nats]",
        "unit": "\u00a0nats",
        "what": "encoder", "compare": False, "digits": 2, "range": f"{100 * level:g}\u00a0% band", "measured": largest,
        "ticks": [round(tick) for tick in ticks], "start": largest, "curves": lines,
        "note": f"Measured on {kind}: points are runs, lines fitted power laws with the {100 * level:g}\u00a0% band of"
        " their mean; in the shaded part there are no runs.",
    }  # fmt: skip


def _measured(runs: xr.DataArray) -> dict:
    """Runs (n_train, seed) as points, and the largest size among them: beyond it, a curve is a forecast."""
    sizes = np.repeat(runs.n_train.values, runs.sizes["seed"])
    points = [[int(n), _figure(v)] for n, v in zip(sizes, runs.values.ravel(), strict=True) if np.isfinite(v)]
    return {"points": points, "measured": points[-1][0]}


def _at(line: list[list[float]], n: float) -> tuple[float, float, float]:
    table = np.asarray(line, float)
    value, low, high = (
        float(np.exp(np.interp(np.log(n), np.log(table[:, 0]), np.log(table[:, i])))) for i in (1, 2, 3)
    )
    return value, low, high


def shares(titles: list[str]) -> str:
    """For a sheet of galaxies, whose titles begin with an answer: how many have which."""
    answers = [title.split()[0] for title in titles]
    counts = sorted(((answers.count(name), name) for name in dict.fromkeys(answers)), key=lambda pair: -pair[0])
    return f"Most votes say {listed([f'{words(name)} for {n}' for n, name in counts])} of these {len(titles)} galaxies."


def ladders(rows: dict[str, tuple]) -> str:
    """For a ladder of votes: how far it reaches, over its rows."""
    ends = np.array([(chance[0], chance[-1]) for _, chance in rows.values() if len(chance)])
    return (
        f"Over the {len(ends)} rows the share of volunteers climbs from {ends[:, 0].mean():.2f} to"
        f" {ends[:, 1].mean():.2f} on average; what changes along a row is what they answer to."
    )


def bars(values: pd.Series, what: str) -> str:
    """For a bar chart: its longest and its shortest bar."""
    most, least = values.idxmax(), values.idxmin()
    high, low = (number(value, ",.3g" if value < 1000 else ",.0f") for value in (values.max(), values.min()))
    return f"Most {what}: {words(most)} ({high}); fewest: {words(least)} ({low})."


def agreement(fractions: dict[str, np.ndarray]) -> str:
    """For histograms of vote fractions: on which answer volunteers agree most, and where they divide."""
    clear = {name: float(np.mean((f < 0.1) | (f > 0.9))) for name, f in fractions.items() if len(f)}
    most, least = max(clear, key=clear.__getitem__), min(clear, key=clear.__getitem__)
    return (
        f"Nine in ten volunteers agree most often on {words(most)} ({100 * clear[most]:.0f} % of the galaxies) and"
        f" least often on {words(least)} ({100 * clear[least]:.0f} %)."
    )


def falls(loss: xr.DataArray, *, hue: str = "encoder", unit: str = "nats", x: str = "training galaxies") -> str:
    """For learning curves: from where to where that one comes which ends lowest, and what its last doubling brought."""
    means = loss.mean("seed").transpose(hue, "n_train")
    best = str(means.isel(n_train=-1).idxmin(hue).item())
    curve = means.sel({hue: best}).dropna("n_train")
    n, values = curve.n_train.values, curve.values
    doublings = np.log2(n[-1] / n[-2])
    last = (values[-2] - values[-1]) / doublings
    return (
        f"From {n[0]:,} to {n[-1]:,} {x} the mean of {words(best)} goes from {values[0]:.2f} to {values[-1]:.2f}"
        f" {unit}; the last doubling took {number(last, '.2f')} {unit} away."
    )


def panels(loss: xr.DataArray, *, panel: str) -> str:
    """For small multiples: where the curve falls most, and where least, relative to its start."""
    means = loss.mean("seed").mean([dim for dim in loss.dims if dim not in ("seed", panel, "n_train")])
    change = {}
    for name in means[panel].values:
        curve = means.sel({panel: name}).dropna("n_train")
        change[str(name)] = float(curve[-1] / curve[0] - 1)
    most, least = min(change, key=change.__getitem__), max(change, key=change.__getitem__)
    return (
        f"From the smallest to the largest training set the loss changes most for {words(most)}"
        f" ({number(100 * change[most], '+.0f')} %) and least for {words(least)}"
        f" ({number(100 * change[least], '+.1f')} %)."
    )


def starts(errors: xr.DataArray, *, of: str = "ImageNet + galaxies", other: str = "ImageNet") -> str:
    """For errors by starting weights: on how many tasks, and at how many label counts, one is ahead of another."""
    means = errors.mean("seed")
    ratio = (means.sel(start=of) / means.sel(start=other)).transpose("task", "n_train")
    ahead = pd.DataFrame(ratio.values)
    ends = ahead.apply(lambda row: row.dropna().iloc[-1], axis=1)
    counts = ahead.stack().dropna()
    return (
        f"With the most labels, {of} makes fewer errors than {other} on {share(ends < 1)} tasks; over all numbers of"
        f" labels, in {share(counts < 1)} comparisons."
    )


def sizes(loss: xr.DataArray, n_params: dict[str, int]) -> str:
    """For losses against encoder size: what the largest family's ends differ by, with few galaxies and with many."""
    families = [family_of(str(name)) for name in loss.encoder.values]
    family = max(families, key=families.count)
    means = loss.mean("seed").sel(encoder=[n for n in loss.encoder.values if family_of(str(n)) == family])
    said = []
    for n in (means.n_train.values[0], means.n_train.values[-1]):
        row = means.sel(n_train=n).dropna("encoder")
        small, large = (f(row.encoder.values, key=lambda name: n_params[str(name)]) for f in (min, max))
        change = float(row.sel(encoder=large) / row.sel(encoder=small) - 1)
        side = "below" if change < 0 else "above"
        said.append(f"with {n:,} galaxies {words(large)} lies {100 * abs(change):.1f} % {side} {words(small)}")
    return f"{said[0][0].upper()}{said[0][1:]}, {said[1]}."


def best_points(histories: dict[str, dict[str, dict]]) -> str:
    """For validation losses during training: after how many galaxies seen the best came, by panel."""
    said = []
    for title, lines in histories.items():
        if lines:
            seen = [h["examples"][int(np.argmin(h["val_loss"]))] for h in lines.values()]
            said.append(f"after {number(np.median(seen), ',.0f')} galaxies seen with {words(title)}")
    return (
        f"The best validation loss comes {listed(said)} (medians over the encoders, one run of each)." if said else ""
    )


def lengths(table: pd.DataFrame) -> str:
    """For how long runs were: median epochs to the best, over the runs of the smallest and of the largest set."""
    median = table.groupby("n_train").best.median()
    (few, first), (many, last) = ((int(n), median.loc[n]) for n in (median.index[0], median.index[-1]))
    less = ": more galaxies need fewer passes over each" if last < first else ""
    return (
        f"The median run is at its best after {first:,.0f} epochs with {few:,} galaxies and after {last:,.0f} with"
        f" {many:,} (over all encoders and seeds of a size){less}."
    )


def below_diagonal(errors: pd.DataFrame) -> str:
    """For full finetuning against linear probes: how many points gain from training all weights."""
    return f"{share(errors.full < errors.linear)} points lie below the diagonal: there, training all weights pays."


def reach(band: xr.Dataset, *, hue: str = "encoder", unit: str = "nats") -> str:
    """For continued curves: what the lowest one comes to at the end, and how wide its band is there."""
    end = band.isel(n_train=-1)
    best = end.sel({hue: end["loss"].idxmin(hue)})
    low, high = float(best.lower), float(best.upper)
    return (
        f"Continued to {float(end.n_train):,.0f} galaxies, {words(best[hue].item())} is lowest with"
        f" {float(best['loss']):.2f} {unit}, in a band from {number(low, '.2f')} to {number(high, '.2f')}."
    )


def exponents(values: xr.Dataset) -> str:
    """For exponents of questions: their median over questions and encoders, and the questions at both ends."""
    mean = values.estimate.mean([dim for dim in values.estimate.dims if dim != "question"]).to_series().dropna()
    if not len(mean):
        return "No question has an exponent yet."
    return (
        f"The median exponent is {number(float(values.estimate.median()), '.2f')}; averaged over encoders it is largest"
        f" for {words(mean.idxmax())} ({number(mean.max(), '.2f')}) and smallest for {words(mean.idxmin())}"
        f" ({number(mean.min(), '.2f')})."
    )


def sides(values: xr.Dataset) -> str:
    """For effects with intervals: how many lie below zero, above it, or hold it."""
    known = values.where(np.isfinite(values.estimate), drop=True)
    below, above = int((known.high < 0).sum()), int((known.low > 0).sum())
    return (
        f"Of {known.sizes['question']} questions, {below} have their interval left of zero, {above} right of it, and"
        f" {known.sizes['question'] - below - above} hold zero."
    )


def together(across: xr.DataArray, up: xr.DataArray) -> str:
    """For a scatter plot: how the ranks of the two go together."""
    x, y = across.values, up.values
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3:
        return "Too few questions are known to say whether the two go together."
    rho = float(stats.spearmanr(x[known], y[known]).statistic)
    how = "fall" if rho < -0.1 else "rise" if rho > 0.1 else "neither rise nor fall"
    return (
        f"Over {int(known.sum())} questions the points {how} from left to right"
        f" (Spearman's correlation {number(rho, '+.2f')})."
    )


def splits(frontier: xr.Dataset | None, *, largest: float = np.inf) -> str:
    """For a surface: the best split of the largest budget that lies between the encoder sizes tried.

    Budgets end with the cost of the largest encoder on the largest training set, so that a larger one is not excluded.
    ``largest`` is the largest training set: a split beyond it is said to be one.
    """
    if frontier is None or not frontier.bracketed.any():
        return "No budget has its best split between the encoder sizes that were tried."
    last = frontier.where(frontier.bracketed, drop=True).isel(budget=-1)
    what = (
        "what training the largest encoder on the largest training set costs"
        if float(last.budget) == float(frontier.budget[-1])
        else "the most up to the cost of the largest run whose best split lies between the encoder sizes tried"
    )
    return (
        f"{number(float(last.budget), '.1e')} operations, {what}, are best spent on about"
        f" {_about(last.N)} parameters and {_about(last.D)} galaxies"
        f"{', more than any run had' if float(last.D) > largest else ''}."
    )


def _about(value) -> str:
    """A large number to two figures: ``880,000``."""
    return f"{float(f'{float(value):.2g}'):,.0f}"


def held(survey: xr.Dataset, predictions: pd.DataFrame, answer: str) -> str:
    """For predicted fractions, row for row with a survey: how many observed ones the two intervals hold."""
    observed = label_values(survey, f"{answer}_fraction")
    columns = {level: [predictions[f"{answer}_fraction_{end}{level}"] for end in ("low", "high")] for level in (50, 95)}
    inside = {level: (low <= observed) & (observed <= high) for level, (low, high) in columns.items()}
    return f"The intervals of 50 % hold {share(inside[50])} observed fractions, those of 95 % {share(inside[95])}."


def growth(rows: pd.DataFrame) -> str:
    """For the cost of training: how time grows with encoders, from rows with ``n_params`` and ``value`` [s]."""
    ordered = rows.sort_values("n_params")
    first, last = ordered.iloc[0], ordered.iloc[-1]
    return (
        f"From {words(first['encoder'])} to {words(last['encoder'])} parameters grow"
        f" {last.n_params / first.n_params:,.0f}-fold and the time for an image {last.value / first.value:,.0f}-fold."
    )


def looks(images: dict[str, np.ndarray]) -> str:
    """For sheets of campaigns, images (n, y, x, 3) uint8 by title: whose empty sky is noisiest and smoothest."""
    edges = {title: np.concatenate([v[:, :4].reshape(len(v), -1), v[:, -4:].reshape(len(v), -1)], 1).astype(float)
             for title, v in images.items()}  # fmt: skip
    noise = {title: float(np.median(1.4826 * np.median(np.abs(v - np.median(v, 1, keepdims=True)), 1)))
             for title, v in edges.items()}  # fmt: skip
    most, least = max(noise, key=noise.__getitem__), min(noise, key=noise.__getitem__)
    return (
        f"The empty sky is noisiest in {words(most)}, with a scatter of {noise[most]:.1f} of 255 grey levels, and"
        f" smoothest in {words(least)}, with {noise[least]:.1f}."
    )


def slopes(loss: xr.DataArray, *, hue: str) -> str:
    """For learning curves on one axis: by how much the mean of each falls from its first size to its last."""
    said = []
    for name in loss[hue].values:
        curve = loss.sel({hue: name}).mean("seed").dropna("n_train")
        change = number(100 * (1 - float(curve[-1] / curve[0])), ".0f")
        said.append(f"{change} % with {words(name)} {hue} ({int(curve.n_train[0]):,} to {int(curve.n_train[-1]):,})")
    return f"The loss falls by {listed(said)}."


def choices(atlas: pd.DataFrame, column: str, choice: str, unit: str) -> str:
    """For an atlas of analyses: which value of a choice gives the lowest and the highest result, in the median."""
    medians = atlas.groupby(choice)[column].median().sort_values()
    low, high = (formula(name) if "^" in str(name) else words(name) for name in medians.index[[0, -1]])
    return (
        f"By the choice of the {choice}, the median {column} runs from {medians.iloc[0]:.2f} {unit} ({low}) to"
        f" {medians.iloc[-1]:.2f} {unit} ({high})."
    )


def nearest(table: pd.DataFrame) -> str:
    """For predictions of held-out sizes: which method came nearest at each distance, and which was farthest off."""
    methods = [name for name in ("power law", "forecast", "last value") if name in table]
    names = {"last value": "carrying the last value forward"}
    best, worst = table[methods].idxmin(axis=1), table[methods].idxmax(axis=1)
    groups = [
        f"{names.get(name, f'the {name}')} at {listed(list(table['extrapolated by'][best == name]))}"
        for name in methods
        if (best == name).any()
    ]
    said = f"Nearest comes {listed(groups)}"
    if worst.nunique() == 1:
        last = str(worst.iloc[0])
        return f"{said}; {names.get(last, f'the {last}')} is the farthest off at every distance."
    return f"{said}."


def waits(table: pd.DataFrame) -> str:
    """For what one more evaluation of patience brought: where that is much beside a doubling of the galaxies."""
    if not len(table):
        return ""
    part = (table["gain"] / table["of a doubling"]).to_numpy()
    sizes = [f"{n:,}" for n in table["galaxies"]]
    much = [size for size, share_of in zip(sizes, part, strict=True) if share_of > MUCH]
    told = f"The gain is at most {100 * np.nanmax(part):.0f} % of what a doubling brings"
    if much:
        told = f"With {listed(much)} galaxies the gain is more than {100 * MUCH:.0f} % of what a doubling brings"
    last = table.iloc[-1]
    if np.isfinite(part[-1]) or len(part) < 2 or not np.isfinite(part[-2]):
        return f"{told}."
    return (
        f"{told}; with {int(last.galaxies):,} it is {last.gain:.3f} nats, where the doubling before brought"
        f" {table['of a doubling'].iloc[-2]:.3f}."
    )


MUCH = 0.1  # of what a doubling of the galaxies brings


def misfits(fits: xr.Dataset, loss: xr.DataArray, *, level: float = 0.05) -> str:
    """For fitted laws: for which encoders the misfit is larger than the scatter of their seeds explains."""
    p = fits["lack_of_fit_p"].to_series().dropna()
    rejected = [str(name) for name, one in zip(p.index, holm(p.to_numpy()), strict=True) if one < level]
    if not rejected:
        return (
            f"For none of the {len(p)} encoders with repeated sizes is the misfit larger than the scatter of the seeds"
            f" explains (Holm, {100 * level:g} %)."
        )
    spread = summarise_replicates(loss.sel(encoder=rejected)).seed_sd
    differ = [f"{100 * float(spread.sel(encoder=name)):.2f} %" for name in rejected]
    return (
        f"The misfit is larger than the scatter of the seeds explains for {listed([words(n) for n in rejected])} (Holm"
        f" over {len(p)} encoders with repeated sizes, {100 * level:g} %), whose seeds differ by {listed(differ)}. How"
        " large a misfit is, rather than how certain, is asked further down."
    )


def by_scatter(alike: xr.Dataset, falling: xr.Dataset, *, level: float = 0.05) -> str:
    """For fits with one scatter of runs at all sizes and with one that falls: what that moves.

    Encoders whose replicates do not tell have the same fit in both and are left out.
    """
    both = xr.Dataset({"alike": alike["alpha"], "falling": falling["alpha"], "p": falling["lack_of_fit_p"]})
    told = both.to_dataframe().loc[alike["verdict"].to_series() == IDENTIFIED].dropna()
    told = told[told["alike"] != told["falling"]]
    if not len(told):
        return "No seeds tell how their scatter goes with the number of galaxies."
    moved = 100 * (told["falling"] / told["alike"] - 1)
    rejected = int((holm(told["p"].to_numpy()) < level).sum())
    low, high = (number(end, ".2f") for end in (told["falling"].min(), told["falling"].max()))
    return (
        "Seeds differ less on more galaxies, and the fits above weigh all sizes alike. With weights that follow the"
        f" scatter, the exponents of the {len(told)} encoders that identify one move by"
        f" {number(moved.min(), '+.0f')} to {number(moved.max(), '+.0f')} %, to {low} to {high}, and the misfit is"
        f" larger than the scatter explains for {rejected} of them."
    )


def one_exponent() -> str:
    """How often the test of one exponent errs in simulated studies, by how seeds scatter and how it takes them to."""
    table = measured("claims").set_index("name").value
    names = [f"claims.one_exponent.{name}" for name in ("alike", "falling", "falling.falling", "alike.falling")]
    if not set(names) <= set(table.index):
        return "How often this test errs has not been simulated here yet."
    alike, falling, told, untold = (number(100 * table[name], ".0f") for name in names)
    return (
        f"In simulated studies with one exponent, the test refuses it at 5 % in {alike} % (scatter alike) and"
        f" {falling} % (scatter falling) of those whose seeds scatter alike at all sizes, and where the scatter falls"
        f" with size in {untold} % if it is taken for alike and in {told} % if not."
    )


def outcomes(rows: pd.DataFrame) -> str:
    """For stored forecasts beside what came: how far outcomes lie from forecasts, and how wide the bands are."""
    found = rows[rows["outcome"].notna()] if len(rows) else rows
    if not len(found):
        return "No outcome has been measured yet."
    off = 100 * (found["outcome"].astype(float) / found["forecast"] - 1)
    half = 50 * (found["upper"] - found["lower"]) / found["forecast"]
    return (
        f"The {len(found)} outcomes lie {number(off.min(), '+.1f')} to {number(off.max(), '+.1f')} % from their"
        f" forecasts; half of a band's width is {half.median():.1f} % in the median."
    )


def cheapest(options: list[dict]) -> str:
    """For a planner's options, cheapest first: the chance that each gets there, and what the next best costs more."""
    there = [option for option in options if np.isfinite(option["cost"])]
    if not there:
        return f"None of {len(options)} encoders has a number of labels for the target."
    ends = [chance_text(f(option["reachable"] for option in there)) for f in (min, max)]
    has = f"{len(there)} of {len(options)} encoders {'has' if len(there) == 1 else 'have'} a number of labels for the"
    chance = f"the chance that more labels can bring {'it' if len(there) == 1 else 'them'} there at all"
    lies = f"is {ends[0]}" if ends[0] == ends[1] else f"lies between {ends[0]} and {ends[1]}"
    said = f"{has} target; {chance} {lies}"
    if len(there) == 1:
        return f"{said} ({words(there[0]['encoder'])})."
    times = number(there[1]["cost"] / there[0]["cost"], ".1f")
    return f"{said}. If they can, the next best costs {times} times as much as {words(there[0]['encoder'])}."


def example(level: float = 0.95) -> str:
    """For the panel with a pasted curve: what its example comes to at eight times its largest size."""
    largest, loss, low, high = example_fit(8, level=level)
    return (
        f"The example, measured up to {largest:,.0f}, comes to {loss:#.4g} at {8 * largest:,.0f}, in a"
        f" {100 * level:g} % band from {low:#.4g} to {high:#.4g}."  # with as many digits as the panel's table
    )

"""Tables of the chapters: what the stored benchmarks measured, words for counts, and strangers' words in pages."""

import json
import numbers
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from tabulate import tabulate

from gzlib import paths
from gzlib.errors import UserError
from gzlib.trace import input_files
from gzlib.training import stored_records
from gzlib.training.card import words


def in_words(yes, noun):
    """What a count says: ``yes``, an array of bools, one for each thing that ``noun`` (plural) names.

    "yes: all 20 questions", "no: none of 20 questions", "in part: 8 of 20 questions".
    """
    yes = np.asarray(yes, bool).reshape(-1)
    if not yes.size:
        return f"not tested: there are no {noun}"
    count = int(yes.sum())
    if count == yes.size:
        return f"yes: all {count} {noun}"
    return f"no: none of {yes.size} {noun}" if not count else f"in part: {count} of {yes.size} {noun}"


def note_table(text: str) -> str:
    """A sentence as a table of one cell: what a numbered table shows when there is nothing to tabulate."""
    return f"|   |\n|:--|\n| {text} |"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NONE = "–"  # what a table shows where there is no number


def number(value, form: str = "g") -> str:
    """A number for a page: a true minus sign, powers of ten as such, no negative zero; a dash for NaN and None."""
    if value is None or value is pd.NA or value != value:
        return NONE
    mantissa, power, exponent = format(value, form).partition("e")
    mantissa = mantissa.removesuffix(".")  # of "#.3g", which keeps the zeros that count
    if not re.search("[1-9n]", mantissa):  # zero has no sign; "inf" has
        mantissa = mantissa.lstrip("+-")
    text = mantissa.replace("-", "−").replace("inf", "∞")
    return f"{text}\u00a0×\u00a010{str(int(exponent)).translate(_SUPERSCRIPTS)}" if power else text


def intervals(values, lows, highs, *, digits: int = 3) -> list[str]:
    """``0.034 (0.029 to 0.169)`` for each estimate and its ends, all with the decimals that the greatest one needs.

    Rounded alike, no estimate lies outside of its own interval.

    Parameters
    ----------
    values, lows, highs : array (n,) or float
    digits : int
        Figures of the greatest estimate that are shown, or of a tenth of the greatest end.
    """
    ends = np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (values, lows, highs))))
    sizes = np.where(np.isfinite(ends), np.abs(ends), 0)
    greatest = max(sizes[0].max(), 0.1 * sizes.max()) or 1.0  # an estimate near zero needs no more than its ends
    form = f",.{int(np.clip(digits - 1 - np.floor(np.log10(greatest)), 0, 9))}f"
    texts = ([number(v, form) for v in row] for row in ends)
    return [f"{value} ({low}\u00a0to\u00a0{high})" for value, low, high in zip(*texts, strict=True)]


def formula(text: str) -> str:
    """A law as it is written in plain text, such as ``E + A n^-alpha``, as a formula for a page."""
    text = re.sub(r"\^(-?\w+)", r"^{\1}", text)
    text = re.sub(r"\b([A-Za-z])(\d+)\b", r"\1_{\2}", text)
    return "$" + re.sub(r"\b(alpha|beta|gamma)\b", r"\\\1", text) + "$"


def share(mask) -> str:
    """``8 of 20``: how many of an array of bools are true."""
    return f"{int(np.sum(mask)):,} of {np.size(mask):,}"


def span(values, form: str) -> str:
    """``0.03 to 0.24``: the least and the greatest of some numbers."""
    return f"{number(np.nanmin(values), form)} to {number(np.nanmax(values), form)}"


_NUMERIC = re.compile(r"(?:[<>≥≤] )?[−+-]?(\d[\d,]*)(\.\d+)?( ?%)?|–")
_ENDLESS = re.compile(
    r"out of reach|(?:over|under) \d+ %|\d[\d,]* to no limit"
)  # in place of a number that is too large
_PAIR = re.compile(r"[−+-]?\d[\d,.]*(?:[ \u00a0](?:to|of|±)[ \u00a0]|/)[−+-]?\d[\d,.]*( ?%)?|–|")  # a range, a share


def markdown_table(frame: pd.DataFrame, *, index: bool = True, floatfmt="g", intfmt="", markup=(), units=None) -> str:
    """A table as Markdown, in which every text, the headings' too, is shown as it is (:func:`words`).

    Columns of numbers stand right, each with its decimal points below one another and minus signs of a number's width;
    NaN and None are shown as a dash.

    Parameters
    ----------
    frame : DataFrame
    index : bool
        Whether the index makes the first columns.
    floatfmt : str, list or dict
        Format of floats; or one for each column, the index's among them, by place or by heading, which then holds for
        whole numbers too. ``""`` in a list, or a heading that the dict lacks, stands for "g".
    intfmt : str
        Format of whole numbers.
    markup : collection of str
        Headings of columns whose texts are Markdown of the book's own, such as code or formulas.
    units : dict, optional
        Heading to unit: ``{"E": "nats"}`` makes "E [nats]" of it.

    Returns
    -------
    str
    """
    heads, columns = [str(name) for name in frame.columns], [list(frame.iloc[:, i]) for i in range(frame.shape[1])]
    if index:
        heads = ["" if name is None else str(name) for name in frame.index.names] + heads
        columns = [list(frame.index.get_level_values(i)) for i in range(frame.index.nlevels)] + columns
    if isinstance(floatfmt, str):
        forms = [None] * len(heads)
    else:
        forms = [floatfmt.get(name) for name in heads] if isinstance(floatfmt, dict) else list(floatfmt)
    default = floatfmt if isinstance(floatfmt, str) else "g"
    cells, sides = [], []
    for name, column, form in zip(heads, columns, forms, strict=True):
        texts = [_cell(value, form, default, intfmt, name in markup) for value in column]
        told = [_is_number(v) or _NUMERIC.fullmatch(str(v)) or _PAIR.fullmatch(str(v)) for v in column]
        endless = [bool(_ENDLESS.fullmatch(str(v))) for v in column]
        numeric = any(texts) and any(told) and all(a or b for a, b in zip(told, endless, strict=True))
        cells.append(_aligned(texts) if numeric else texts)
        sides.append("right" if numeric else "left")
    heads = [words(f"{name} [{units[name]}]" if name in (units or {}) else name) for name in heads]
    return tabulate(list(zip(*cells, strict=True)), heads, tablefmt="pipe", disable_numparse=True, colalign=sides)


def _is_number(value) -> bool:
    return value is None or (isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_))


def _cell(value, form: str | None, floats: str, ints: str, markup: bool) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if _is_number(value):
        return number(value, form or (ints if isinstance(value, numbers.Integral) else floats))
    return str(value).replace("|", "\\|") if markup else words(value)


def _aligned(texts: list[str]) -> list[str]:
    """Numbers filled up with spaces as wide as a digit or a point, where their decimals differ in count."""
    tails = [len(match[2] or "") if (match := _NUMERIC.fullmatch(text)) and match[1] else None for text in texts]
    if any(tail is None and text != NONE for tail, text in zip(tails, texts, strict=True)):
        return texts  # powers of ten, which have no one place for their points
    most = max((tail for tail in tails if tail is not None), default=0)
    return [text + _blank(most, tail) for text, tail in zip(texts, tails, strict=True)]


def _blank(most: int, tail: int | None) -> str:
    if tail is None or tail == most:
        return ""
    return "&#8199;" * (most - max(tail, 1)) + "&#8200;" * (tail == 0)


COLUMNS = ["name", "value", "unit", "goal", "ok", "detail"]


def measured(name: str, columns=COLUMNS, *, part: str | None = None) -> pd.DataFrame:
    """Rows of ``data/benchmarks/<name>.json`` as a table; empty if the file is missing.

    Parameters
    ----------
    columns : list of str, optional
        By default those of every benchmark that ``gzlib bench`` lists; None for all that there are.
    part : str, optional
        Only the rows whose ``part`` is this.

    Raises
    ------
    UserError
        If the file holds no rows of that form.
    """
    files = input_files(f"data/benchmarks/{name}.json")
    if not files:
        return pd.DataFrame(columns=columns)
    try:
        content = json.loads(files[0].read_text(encoding="utf-8"))
        rows = content["rows"] if isinstance(content, dict) else content
        rows = [row for row in rows if part is None or row["part"] == part]
        return pd.DataFrame(rows if columns is None else [[row[c] for c in columns] for row in rows], columns=columns)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"data/benchmarks/{name}.json does not hold the rows of a benchmark ({type(error).__name__}: {error}): "
            f"make it again with `benchmarks/{name}.py`."
        ) from error


def reports(name: str) -> list[dict]:
    """Records of ``data/benchmarks/<name>.json``.

    Raises
    ------
    UserError
        If the report is missing.
    """
    files = input_files(f"data/benchmarks/{name}.json")
    if not files:
        raise UserError(
            f"data/benchmarks/{name}.json is missing; run `python benchmarks/{name}.py --write` to make it."
        )
    try:
        rows = json.loads(files[0].read_text(encoding="utf-8"))
        if not isinstance(rows, list) or any(not isinstance(row["detail"], dict) or "value" not in row for row in rows):
            raise TypeError("no list of rows with 'value' and 'detail'")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"data/benchmarks/{name}.json does not hold the rows of a report ({type(error).__name__}: {error}); restore"
            f" it from git, or make it again with `benchmarks/{name}.py --write`."
        ) from None
    return rows


NOT_YET = note_table("Not measured here yet: `python -m gzlib bench` measures it.")


def curves_table() -> pd.DataFrame:
    """Extrapolation error of each method on the public benchmark, and on how many curves it is the best; or empty."""
    value = measured("curves").set_index("name").value
    methods = [name.removeprefix("curves.wins.") for name in value.index if name.startswith("curves.wins.")]
    return pd.DataFrame(
        {
            "method": ["forecast of this book" if m == "ours" else m for m in methods],
            "error": [value["curves.rmsle" if m == "ours" else f"curves.rmsle.{m}"] for m in methods],
            "best on": [value[f"curves.wins.{m}"] for m in methods],
        }
    )


def coverage_words() -> str:
    """How often the forecast's bands hold on the public benchmark, as a sentence."""
    value = measured("curves").set_index("name").value
    if not len(value):
        return "This has not been measured here yet."
    held = [f"{100 * value[f'curves.coverage{nominal}']:.0f} %" for nominal in (50, 80, 95)]
    return f"Its bands of 50, 80 and 95 % hold {held[0]}, {held[1]} and {held[2]} of the continuations."


def peers_table() -> pd.DataFrame:
    """The forecast beside published packages on a part of the benchmark: failures, error, coverage, seconds a curve."""
    columns = ["method", "curves", "failed", "rmsle", "coverage95", "seconds_per_curve"]
    table = measured("curves_peers", columns, part="curves").astype({"coverage95": float})
    names = {"rmsle": "error", "coverage95": "coverage", "seconds_per_curve": "time"}
    return table.rename(columns=names)


def recovery_table() -> pd.DataFrame:
    """Known laws found again from synthetic designs: the share of truths in each kind of interval, over all designs."""
    table = measured("recovery")
    if not len(table):
        return table
    table[["of", "interval"]] = table.name.str.extract(r"^recovery\.coverage\.all\.([^.]+)\.([^.]+)$")
    table = table.dropna(subset=["of", "value"])
    names = {"alpha": "α", "loss at 4x, mean": "mean loss at 4 ×", "loss at 4x, new run": "new run at 4 ×"}
    kinds = ["profile", "covariance", *(f"bootstrap {kind}" for kind in ("parametric", "residual", "wild"))]
    kinds += [kind for kind in table.interval.unique() if kind not in kinds]
    shown = table.assign(of=table.of.replace(names)).pivot(index="interval", columns="of", values="value")
    columns = [name for name in ("A", "E", "α", *list(names.values())[1:]) if name in shown]
    return shown.reindex(index=kinds, columns=columns).rename_axis(columns=None).reset_index()


def recovery_words() -> str:
    """How often fits of synthetic designs fail and how far off they are in the median, in a sentence."""
    rows = measured("recovery")
    if not len(rows):
        return NOT_YET
    rows = rows.set_index("name")
    names = {"E": "E", "A": "A", "alpha": "α", "ln loss at 4x, forecast": "the logarithm of the loss forecast at 4 ×"}
    errors = [
        f"{number(rows.value[f'recovery.bias.all.{key}'], '+.4f')} in {shown}"
        for key, shown in names.items()
        if f"recovery.bias.all.{key}" in rows.index
    ]
    return f"{rows.detail['recovery.failed']}; the median error is {', '.join(errors)}."


def families_table() -> pd.DataFrame:
    """Made-up curves by family: error of the forecast, the best of the others, and coverage of three bands."""
    rows = measured("curves_families")
    rows[["family", "what"]] = rows.name.str.extract(r"^curves_families\.(\w+)\.(\w+)$")
    table = rows.pivot(index="family", columns="what", values="value")
    best = rows[rows.what == "rmsle"].set_index("family").detail.str.extract(r"others: (\S+) (\S+)$")
    table = table.assign(best=best[0], theirs=best[1].astype(float))
    table = table.reindex(columns=["rmsle", "theirs", "best", "coverage50", "coverage80", "coverage95"])
    table.columns = ["error", "of the others", "which is", "50 %", "80 %", "95 %"]
    return table.set_index(table.index.str.replace("_", " ")).rename_axis("family")


def claims_table() -> pd.DataFrame:
    """What the tests of the claims find in simulated studies of the plan's design, by the scatter of the encoders.

    ``without an effect`` is the share of questions found at 5 % where there is no effect, ``scatter falls`` the same
    where seeds differ less on more galaxies, ``interval holds`` the share of 95 % intervals with the truth in them,
    ``bound`` the change of ln(excess loss) for ten times the parameters that four in five such questions exclude; the
    other columns are the shares found of effects of that size.
    """
    rows: dict[float, dict[str, float]] = {}
    for row in measured("claims").to_dict("records"):
        detail = row["detail"]
        if "encoder_scatter" not in detail:  # how laws are distinguished
            continue
        _, what, *_ = row["name"].split(".")
        found = rows.setdefault(detail["encoder_scatter"], {})
        found |= {"interval holds": detail["covered_95"]} if "covered_95" in detail else {}
        names = {"null": "scatter falls" if "fall" in detail else "without an effect", "bound": "bound"}
        found[names.get(what) or f"effect {number(detail['slope'], '.2f')}"] = row["value"]
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("scatter").reset_index()
    first = ["scatter", "without an effect", "scatter falls", "interval holds", "bound"]
    return table.reindex(columns=[*first, *(name for name in map(str, table) if name.startswith("effect"))])


def questions_table() -> tuple[pd.DataFrame, str]:
    """Test galaxies that each question of the study's plan is asked of, by campaign, and how many can be decided.

    Raises
    ------
    UserError
        If the list is missing or is no such list.
    """
    try:
        (file,) = input_files("data/plans/questions.json")
        plan = json.loads(file.read_text(encoding="utf-8"))
        asked, few, least = pd.Series(plan["asked"]), list(plan["undecidable"]), plan["least"]
        names = asked.index.str.rsplit("-", n=1, expand=True).set_names(["question", "campaign"])
        campaigns = list(dict.fromkeys(names.get_level_values("campaign")))
        table = asked.set_axis(names).unstack(sort=False)[campaigns].reset_index()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"data/plans/questions.json is missing or not the list of a plan's questions ({type(error).__name__}):"
            " restore it from git, or make it again with `benchmarks/questions.py --write`."
        ) from None
    if not few:
        return table, f"All {len(asked)} questions are asked of at least {least} test galaxies."
    return (
        table,
        f"{len(asked) - len(few)} of {len(asked)} questions are asked of at least {least}; not {', '.join(few)}.",
    )


def listed(parts: list[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def listed_runs() -> list[dict]:
    """The runs that the book lists: those of the store that the build names, else the book's own."""
    return stored_records(store=None if "GZLIB_STORE" in os.environ else paths.BOOK_RUNS)


PROVENANCE = (
    "key", "kind", "what", "mode", "encoder", "weights", "n", "seed", "result", "survey", "seconds", "device", "torch",
    "timm", "python", "git",
)  # fmt: skip


def provenance(records: list[dict]) -> pd.DataFrame:
    """One row a run, for the chapter that lists them all: what it was, its result, where and with what it was made.

    ``what`` is the task of a downstream run, else the survey; ``result`` the test loss of a pretraining run, the test
    error of a downstream one; ``mode`` is "pretrain" for the former. ``survey`` and ``git`` begin the fingerprint and
    the commit, and ``weights`` the key where they are those of a run.
    """
    rows = []
    for record in records:
        config, made = record["config"], record["provenance"]
        row = {"key": record["key"], "kind": record["kind"], "n": config["n_train"]}
        row |= {name: config.get(name, "") for name in ("encoder", "weights", "seed")}
        row["mode"] = config.get("mode", record["kind"])
        if re.fullmatch("[0-9a-f]{16}", str(row["weights"])):
            row["weights"] = row["weights"][:8]
        row |= {name: made.get(name) or "" for name in ("device", "torch", "timm", "python")}
        row["seconds"] = made["seconds"]
        row["what"] = config.get("task", record["survey"]["source"])
        row["result"] = record["metrics"]["loss" if record["kind"] == "pretrain" else "error"]
        rows.append(row | {"survey": record["survey"]["fingerprint"][:8], "git": (made.get("git") or "")[:7]})
    return pd.DataFrame(rows, columns=list(PROVENANCE))


FAULTS = "data/faults.json"  # what the tests marked `fault` found, by kind of input and outcome


def fault_table() -> pd.DataFrame:
    """Inputs as people have them: kind, outcome, and how many cases there are and passed.

    A project without tests, as a copy of the book's pages is, shows the results as they are stored.

    Raises
    ------
    UserError
        If there are no stored results, or they are not of the tests that there are now.
    """
    tests = input_files("tests/**/*fault*.py")  # anyone who changes them makes the table stale
    if not (files := input_files(FAULTS)):
        raise UserError(f"'{FAULTS}' is missing; run: python -m pytest -m fault --faults={FAULTS}")
    stored = pd.DataFrame(json.loads(files[0].read_text(encoding="utf-8")))
    if not tests:
        return stored
    columns = ["kind", "outcome", "cases"]
    found = pd.DataFrame(collected_faults(), columns=[*columns, "passed", "skipped"])
    if stored[columns].values.tolist() != found[columns].values.tolist():
        raise UserError(
            f"'{FAULTS}' is not of the tests that there are now; run: python -m pytest -m fault --faults={FAULTS}"
        )
    return stored


def disturbed(by: str) -> pd.DataFrame:
    """What became of commands that were disturbed, as ``benchmarks/faults.py`` measured it.

    Parameters
    ----------
    by : {"fault", "phase"}
        A row for each kind of fault; or for each command, with the kills alone.

    Returns
    -------
    DataFrame
        ``times``; what the command did then; ``sums compared`` (checksums of files); ``lost`` and ``half-written``
        files; and how often the same command, run again, led to the ``same end`` as one that is not disturbed. Empty
        if nothing was measured.

    Raises
    ------
    UserError
        If the stored file holds no such rows.
    """
    rows = measured("faults", [*COLUMNS, "phase", "fault", "moment", "outcome", "compared", "half_written", "equal"])
    if by == "phase":
        rows = rows[rows.fault == "kill"]
    found = []
    for what, some in rows.groupby(by, sort=False):
        row = {{"fault": "what happened", "phase": "command"}[by]: what, "times": len(some)}
        if by == "fault":
            row["commands"] = ", ".join(dict.fromkeys(some.phase))
            row["the command"] = ", ".join(f"{word} {n}" for word, n in _endings(some.outcome).items())
        else:
            at_operations = int(some.moment.str.contains("operation").sum())
            row |= {"at a file operation": at_operations, "at a moment": len(some) - at_operations}
            row["had ended before"] = int((some.outcome == "finished").sum())
        row |= {"sums compared": int(some.compared.sum()), "lost": int(some.value.sum())}
        row["half-written"] = int(some.half_written.sum())
        found.append(row | {"same end": share(some.ok.astype(bool) & some.equal.astype(bool))})
    return pd.DataFrame(found)


def _endings(outcomes: pd.Series) -> pd.Series:
    """How many ended in which way, the commonest first; of two commands at once, each counts."""
    each = outcomes.str.split(" and ").explode().replace("", "ended otherwise")
    return each.value_counts()


def collected_faults() -> list[dict]:
    """What the marks of the tests say, without running a test."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "faults.json"
        command = [sys.executable, "-m", "pytest", "-m", "fault", "--collect-only", "-q", "--faults", str(file)]
        done = subprocess.run(command, cwd=paths.project(), capture_output=True, text=True, check=False)
        if done.returncode or not file.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise UserError(f"The tests could not be collected ({lines[-1] if lines else 'no reason given'}).")
        return json.loads(file.read_text(encoding="utf-8"))


def domains_table() -> pd.DataFrame:
    """Public curves by domain, each forecast by itself: our error and that of the version before, the best of the
    others, and coverage of three bands."""
    rows, before = measured("domains", None), measured("domains_baseline", None)
    if not len(rows):
        return rows
    rows, errors_before = rows[rows["mode"] == "alone"], before[before["mode"] == "alone"].set_index("name").value
    out = []
    for domain, own in rows.groupby("domain", sort=False):
        value = own.set_index("name").value
        error = own[own.name.str.endswith("rmsle")].iloc[0]
        best = min(error.others, key=error.others.get)
        row = {
            "domain": domain,
            "curves": int(error.curves),
            "error": error.value,
            "version before": errors_before[error["name"]],
        }
        row |= {"of the others": error.others[best], "which is": best}
        out.append(row | {f"{p} %": value[f"domains.{domain}.alone.coverage{p}"] for p in (50, 80, 95)})
    return pd.DataFrame(out)


def designs_table() -> tuple[pd.DataFrame, str]:
    """Simulated pilots by law and number of sizes: coverage of 95 % bands, and how many are finite; and a sentence."""
    first = measured("designs", None)
    if not len(first):
        return first, "This has not been measured here yet."
    cells = pd.DataFrame(first.iloc[0].cells)
    table = cells.groupby(["law", "sizes"])[["coverage", "finite"]].mean()
    table["score over the oracle’s"] = cells.groupby(["law", "sizes"]).ratio.median()
    inside = first.iloc[0]
    pooled = cells.groupby(["sizes", "seeds", "curves", "noise", "law"]).coverage.mean().reset_index()
    less, more = (pooled[own] for own in (pooled.coverage < 0.93, pooled.coverage > 0.98))
    loud, quiet = pooled.noise.max(), pooled.noise.min()
    said = (
        f"{inside.value:.0f} of {len(pooled)} designs hold 93 to 98 % ({int(cells.truths.iloc[0])} truths in each),"
        f" {len(less)} fewer ({(less.noise == loud).sum()} of them at {100 * loud:g} % noise) and {len(more)} more"
        f" ({(more.seeds == 1).sum()} of them with one seed, {(more.noise == quiet).sum()} at {100 * quiet:g} % noise);"
        f" over all, the bands hold {100 * cells.coverage.mean():.1f} %.{_limit_words(cells.ratio.median())}"
    )
    return table.reset_index(), said


def _limit_words(ours: float) -> str:
    """How near the best possible band of the simulated pilots comes to the oracle's score, after a space."""
    rows = measured("designs_limit")
    if not len(rows):
        return ""
    best = rows.set_index("name").value
    offset, broken, logarithm, all_laws = (
        f"{best[f'designs_limit.{law}.score']:.1f}" for law in ("offset", "broken", "logarithm", "all")
    )
    return (
        " Bands are scored by their width, plus a penalty for each truth outside of them, so that less is better, and"
        " compared with those of an oracle, which is told the noise and the law of each curve and fits that law's"
        f" parameters. The bands here score {ours:.1f} times as much as the oracle's in the median. Bands made with the"
        " noise, the three laws and the distribution of their parameters, but without knowing which law a curve"
        f" follows, score {all_laws} times as much ({offset} under the offset law, {broken} under the broken one,"
        f" {logarithm} under the logarithm; less than one is possible, as the oracle does not use how parameters are"
        " distributed). The rest is the price of not knowing the noise, and of not believing that a curve must follow"
        " one of these laws."
    )


def planning_table() -> pd.DataFrame:
    """Plans from the first third of public curves: how often the loss stays above the target, and at what cost."""
    rows = measured("planning")
    if not len(rows):
        return rows
    kinds = "plain power law|offset power law|law known|labels|(?:risk|regression) [0-9.]+"
    rows[["plan", "what"]] = rows.name.str.extract(rf"^planning\.({kinds})\.(failures|cost|x1\.3|x2|x3)$")
    rows = rows.dropna(subset="plan")
    table = rows.pivot(index="plan", columns="what", values="value")
    table["no number"] = (
        rows[rows.what == "failures"].set_index("plan").detail.str.extract(r"(\d+)% open")[0].astype(float) / 100
    )
    return (
        table.sort_values("failures")
        .reset_index()[["plan", "failures", "cost", "no number", "x1.3", "x2", "x3"]]
        .rename(columns={"x1.3": "1.3 ×", "x2": "2 ×", "x3": "3 ×"})
    )


def risk_table() -> tuple[pd.DataFrame, str]:
    """Plans with a stated risk: how many missed the target by domain and by the pilot's share of the sizes; and what
    the best foresight of the law would get, in a sentence."""
    rows = measured("planning", None)
    if not len(rows) or "risk" not in rows:
        return pd.DataFrame(), "This has not been measured here yet."
    stated = rows.dropna(subset="risk")
    out = []
    for domain, part in dict.fromkeys(zip(stated.domain, stated.share, strict=True)):
        own = stated[(stated.domain == domain) & (stated.share == part)].sort_values("risk", ascending=False)
        row: dict[str, object] = {
            "curves of": domain,
            "pilot": f"{100 * part:.0f} %",
            "curves": int(own.curves.iloc[0]),
        }
        row |= {f"missed at {100 * r:g} %": v for r, v in zip(own.risk, own.value, strict=True)}
        cost = {f"cost at {100 * own.risk.iloc[-1]:g} %": own.cost.iloc[-1]}
        out.append(row | cost | {"with a number": own.finite.iloc[-1]})
    value = rows.set_index("name").value
    known, last = (value[f"planning.{plan}.failures"] for plan in ("law known", "labels"))
    said = (
        f"With an offset law that was fitted to the curve itself, {100 * known:.0f} % of plans miss the target, and"
        f" {100 * value['planning.law known.x1.3']:.0f} % of plans of 1.3 times the size; with the planner's median,"
        f" from the pilot, it is {100 * last:.0f} % and {100 * value['planning.labels.x1.3']:.0f} %."
    )
    return pd.DataFrame(out), said


def interval_words() -> str:
    """How many numbers of labels lie in the planner's intervals: of public curves, and of pilots with known truth."""
    rows, said = measured("planning", None), []
    if len(rows) and "place" in rows:
        rows = rows[rows.name.str.startswith("planning.interval.") & (rows.place == 1)]
        for part in rows.share.unique():
            own = rows[rows.share == part]
            held = " / ".join(f"{100 * value:.0f}" for value in own.value)
            said.append(f"{held} % of {int(own.curves.iloc[0])} curves from a pilot of {100 * part:.0f} % of the sizes")
        levels = " / ".join(f"{100 * level:g}" for level in own.level)
        said = [f"The {levels} % intervals of labels hold what was needed for {', '.join(said)}."]
    value = {row["name"]: row for row in stored_rows("designs_labels", "rows")}
    if value:
        inside, below = (value[f"designs_labels.{name}"]["value"] for name in ("inside", "below"))
        said.append(
            f"Under the known laws of @tbl-designs, the 95 % intervals hold 93 to 98 % in {inside:.0f} of 180 designs,"
            f" fewer in {below:.0f} and more in the rest, {100 * value['designs_labels.coverage']['value']:.0f} % over"
            " all."
        )
    return " ".join(said)


def own_curves_words() -> str:
    """How forecasts and plans of the study's questions, from their smaller training sets, came out."""
    rows = measured("own_curves", None)
    if not len(rows):
        return ""
    value = rows.set_index("name")
    leads = sorted(rows.lead.dropna().unique().astype(int))
    times = " / ".join(str(lead) for lead in leads)

    def each(what: str, digits: int) -> str:
        return " / ".join(f"{value.value[what.format(lead)]:.{digits}f}" for lead in leads)

    bands = " / ".join(f"{100 * value.held[f'own_curves.falling.x{lead}.rmsle'][-1]:.0f}" for lead in leads)
    plans = rows[(rows.variant == "falling") & rows.risk.notna()].sort_values("risk", ascending=False)
    risks, missed, cost = (
        " / ".join(f"{factor * v:{form}}" for v in plans[name])
        for name, factor, form in (("risk", 100, "g"), ("value", 100, ".0f"), ("cost", 1, ".2g"))
    )
    low = plans.value.iloc[0] > plans.risk.iloc[0] + 0.1 and plans.value.iloc[-1] <= plans.risk.iloc[-1]
    return (
        f"Of the study's own curves, every question with every encoder forecast from its smaller training sets at"
        f" {times} times as many galaxies, the 95 % bands of one run hold {bands} % of"
        f" {sum(int(value.outcomes[f'own_curves.falling.x{lead}.rmsle']) for lead in leads):,} outcomes, with errors of"
        f" {each('own_curves.falling.x{}.rmsle', 3)} in ln(loss). If seeds are taken to scatter alike at every size,"
        f" not less where there are more galaxies, the errors are {each('own_curves.alike.x{}.rmsle', 3)} and the"
        f" interval scores {each('own_curves.alike.x{}.score', 2)} in place of"
        f" {each('own_curves.falling.x{}.score', 2)}."
        f" Plans made from the same pilots miss {missed} % of {int(plans.targets.iloc[0]):,} targets at stated risks of"
        f" {risks} %, with {cost} times the galaxies that were needed in the median."
    ) + (" The centre of these forecasts is too low, and what is said of the rest wide enough." if low else "")


def stored_rows(name: str, part: str) -> list[dict]:
    """The list ``part`` of ``data/benchmarks/NAME.json``; empty where nothing was measured.

    Raises
    ------
    UserError
        If the file holds no such list.
    """
    files = input_files(f"data/benchmarks/{name}.json")
    if not files:
        return []
    try:
        rows = json.loads(files[0].read_text(encoding="utf-8"))[part]
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError(f"'{part}' holds something else than rows")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"data/benchmarks/{name}.json does not hold the list '{part}' ({type(error).__name__}); restore it from"
            " git, or make it again with its benchmark."
        ) from None
    return rows


# Tasks of real galaxies: what is asked, and of which images.
REAL_TASKS = {
    "gz2_five_classes": "five classes, GZ2",
    "gz1_six_classes": "six classes, GZ1",
    "decals_rings": "rings, DECaLS",
    "gz2_smooth": "smooth fraction, GZ2",
    "first_radio": "radio shapes, FIRST",
}


def zoobot_table() -> pd.DataFrame:
    """Test errors of finetuning beside Zoobot's own, from ``data/benchmarks/zoobot_finetune.json``: a row for each task
    and number of labels whose repeats are all there; mean and standard deviation over seeds."""
    rows = []
    for row in stored_rows("zoobot_finetune", "rows"):
        if "errors" in row:
            told = {name: np.array(errors) for name, errors in row["errors"].items()}
            texts = {tool: f"{number(e.mean(), '.2f')} ± {number(e.std(ddof=1), '.2f')}" for tool, e in told.items()}
            about = {"task": _task(row["task"]), "labels": row["n_train"]}
            rows.append(about | texts | {"commonest class": number(row["commonest"], ".2f")})
    return pd.DataFrame(rows)


def _task(name: str, form: str = "{}, {}") -> str:
    return form.format(*REAL_TASKS[name].split(", ")) if name in REAL_TASKS else name.replace("_", " ")


def zoobot_words() -> str:
    """How many times the processor time Zoobot's finetuning took, how that was measured, what was not, and where it
    learned no more than the commonest class; "" if nothing was measured."""
    rows = stored_rows("zoobot_finetune", "rows")
    ratio = {row["name"]: row for row in rows}.get("zoobot_finetune.time")
    if ratio is None or ratio["value"] is None:
        return ""
    times = number(ratio["value"], ".1f")
    said = [f"Zoobot's runs took {times} times the time of full finetuning here ({ratio['detail']})."]
    for row in rows:
        where = f"{_task(row.get('task', ''), '{} ({})')} with {row.get('n_train')} labels"
        if "errors" in row and np.mean(row["errors"]["Zoobot"]) > row["commonest"] - 0.01:
            said.append(f"On {where} it ended at the error of the commonest class, which says little of it.")
        elif "task" in row and "errors" not in row:
            said.append(f"The runs on {where} are not complete.")
    return " ".join(said)


def recipe_table(name: str) -> pd.DataFrame:
    """Runs of one comparison of recipes (``data/benchmarks/recipe-NAME.json``), a column for each setting that they
    differ in, or one with the recipe's name; a run that failed has no loss."""
    cells = stored_rows(f"recipe-{name}", "cells")
    rows = [
        {"encoder": cell["encoder"], "galaxies": cell["n_train"]}
        | _settings(cell["candidate"])
        | {"test loss": cell["loss"], "best after": cell.get("best_epoch")}
        | {"ended": cell["why"].split(" (")[0].split(", where")[0] if cell["loss"] else "not a number"}
        for cell in cells
    ]
    return (
        pd.DataFrame(rows).sort_values(["galaxies", "encoder", "test loss"], kind="stable") if rows else pd.DataFrame()
    )


def _settings(recipe: str) -> dict[str, float | str]:
    """``dropout 0.5, rate 0.01`` as numbers by their names; a recipe of another name as it is."""
    try:
        return {name: float(value) for name, value in (part.rsplit(" ", 1) for part in recipe.split(", "))}
    except ValueError:
        return {"recipe": recipe}


def convergence_words() -> str:
    """How far other budgets and rates move the test loss, as a share of what twice the galaxies bring, in sentences."""
    cells = stored_rows("recipe-convergence", "cells")
    if not cells:
        return "It was not measured."
    by = {(row["encoder"], row["n_train"], row["candidate"]): row["loss"] for row in cells}
    gains = {(row["encoder"], row["n_train"]): row["gain"] for row in stored_rows("recipe-convergence", "doublings")}
    shifts = {
        place: (loss - by[(*place[:2], "study")]) / gains[place[:2]]
        for place, loss in by.items()
        if place[2] != "study" and place[:2] in gains and (*place[:2], "study") in by
    }
    if len(shifts) < 2:
        return "Too few runs were made to say."
    values = np.array(list(shifts.values()))
    worst = max(shifts, key=lambda place: abs(shifts[place]))
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    low, mean, high = (number(100 * v, ".0f") for v in (values.mean() - half, values.mean(), values.mean() + half))
    return (
        f"Over {len(values)} cells the loss moves by {mean} % of what a doubling of the galaxies brings (95 %: {low} to"
        f" {high} %; below 0 is better than the study's run); the most in one cell is"
        f" {number(100 * shifts[worst], '.0f')} %"
        f" ({worst[0]}, {worst[1]:,} galaxies, {worst[2]}). The goal was a mean within 20 % and no cell beyond 40 %."
    )


def devices_table() -> pd.DataFrame:
    """The same runs on two devices (``benchmarks/devices.py``): test losses and galaxies shown; or empty."""
    rows = stored_rows("devices", "runs")
    names = {
        "encoder": "encoder",
        "n_train": "galaxies",
        "device": "device",
        "loss": "on the GPU",
        "loss_here": "on a processor",
    }
    table = pd.DataFrame([{new: row[old] for old, new in names.items()} for row in rows], columns=[*names.values()])
    return table.assign(difference=table["on a processor"] - table["on the GPU"])


def encoders_table() -> tuple[pd.DataFrame, pd.DataFrame]:
    """What became of timm's encoders at each image size, in numbers, and those that are refused with what they take."""
    rows = measured("timm_families", columns=None)
    rows = (
        rows[rows["encoder"].notna()] if len(rows) else pd.DataFrame(columns=["encoder", "family", "size", "outcome"])
    )
    plural = {"encoder": "encoders", "family": "families"}
    words_of = {"works": "that work", "refused": "refused", "fails": "that fail"}
    kinds = [(outcome, name) for outcome in words_of for name in plural]
    counts = []
    for _, found in rows.groupby("size"):
        number_of = {f"{plural[name]} {words_of[o]}": found[found.outcome == o][name].nunique() for o, name in kinds}
        counts.append({"image side": int(found["size"].iloc[0])} | number_of)
    refused = rows[rows.outcome == "refused"]
    takes = refused["sentence"].str.extract(r"it takes (.*) px\.$")[0] if len(refused) else pd.Series(dtype=str)
    listed = pd.DataFrame({"encoder": refused["encoder"], "refused at": refused["size"].astype(int), "takes": takes})
    return pd.DataFrame(counts), listed

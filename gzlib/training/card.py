"""A saved model's card, its page of figures, and strangers' words in pages: text that comes from data."""

import base64
import io
import json
import re
import unicodedata
import warnings
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gzlib.training.saved import SavedModel

_SPACE = re.compile(r"[ \t\n\r\f\v\x85\u2028\u2029]+")
# What sets the direction of the text that follows, is not a character, or cannot be stored.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
# Punctuation means something to Markdown, HTML, math or Quarto, but for some of it inside of words.
_MEANS = re.compile(r"(?<![^\W_])[.,\-_/+%]|[.,\-_/+%](?![^\W_])|[!-+:-@\[-^`{-~]|(?<=0)x(?=[0-9a-fA-F]{6})")


def one_line(text) -> str:
    """Text from anywhere on one line, each unprintable character replaced by U+FFFD."""
    text = _UNSEEN.sub("\ufffd", _SPACE.sub(" ", str(text)).strip())
    return "".join("\ufffd" if unicodedata.category(c) in ("Cn", "Cc") else c for c in text)


def words(text) -> str:
    """Text that comes from data, such as a class or a file name, for a page: shown letter by letter, never markup.

    Whatever means something to Markdown, HTML or Quarto becomes a character reference; a page's tables
    (:func:`gzlib.study.markdown_table`) do this by themselves, prose needs it (``publish(name=words(name))``). Text
    that runs from right to left does not turn what stands around it.

    Returns
    -------
    str
        Markdown, on one line.
    """
    text = one_line(text)
    turns = any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)
    text = _MEANS.sub(lambda match: f"&#{ord(match[0])};", text)
    return f"\u2068{text}\u2069" if turns else text


def label_words(text, most: int = 60) -> str:
    """Text that comes from data, for a figure: on one line, no math, at most so many characters."""
    text = one_line(text)
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    # matplotlib leaves labels out of legends that begin with an underscore.
    return text.replace("$", r"\$").replace("_", "\u2009_", 1 if text.startswith("_") else 0)


def model_card(model: "SavedModel") -> str:
    """The model card, Markdown with Hugging Face's front matter."""
    config, training = model.config, model.config.training
    head, metrics, name = config.head, config.metrics, words(training.get("task") or config.head.label)
    survey = training.get("survey", {})
    rows = [f"| {key} | {value} |" for key, value in _shown_metrics(model)]
    recipe = ", ".join(f"{key} {value}" for key, value in training.get("recipe", {}).items() if key != "augment")
    limits = (
        "It knows galaxies as its training images show them: other telescopes, depths, colours, pixel scales or cutout"
        " sizes change its predictions, and their stated uncertainties hold for galaxies like the test galaxies alone."
        " It gives an answer for stars, artefacts and empty sky, too. Don't select samples by its predictions without"
        " a completeness measured on labels of your own, and don't read what it predicts as a measurement by people."
    )
    lines = [
        "---",
        _front_matter(model).rstrip(),
        "---",
        "",
        f"# {name}",
        "",
        f"{_what(model)} by `{one_line(config.encoder).replace('`', '')}` from images of {config.image.size} px, saved"
        f" by gzlib {words(config.gzlib)}.",
        "",
        "```python",
        "import gzlib as gz",
        "",
        'model = gz.load_model("FOLDER")  # of this card, or "hf_hub:OWNER/NAME"',
        'table = model.predict("path/to/images")  # a row for each galaxy',
        "```",
        "",
        "## Data",
        "",
        f"Trained on {training.get('n_train', 0):,} labels (`{_code(head.label)}`) of {words(survey.get('name', ''))}"
        f" ({words(survey.get('kind', ''))}), calibrated on {config.calibration.n:,} validation galaxies, tested on"
        f" {metrics.get('n', 0):,} others. Images are RGB in 0..1, square, resized by Lanczos interpolation to"
        f" {config.image.size} px.",
        "",
        *_label_lines(model),
        "## Recipe",
        "",
        f"{_mode(training)}, from weights `{_code(training.get('weights', ''))}`, seed {training.get('seed', 0)}."
        + (f" {words(recipe)}." if recipe and training.get("mode") != "linear" else ""),
        "",
        "## Metrics",
        "",
        "On test galaxies that took no part in training, validation or calibration.",
        "",
        "| metric | value |",
        "|:--|--:|",
        *rows,
        "",
        "Figures with the worst errors are in `figures.html`.",
        "",
        "## What it must not be used for",
        "",
        limits,
        "",
        "Images and labels have licences of their own, which this card does not change.",
        "",
    ]
    return "\n".join(lines)


def _code(text) -> str:
    return one_line(text).replace("`", "'")


def _what(model: "SavedModel") -> str:
    head = model.config.head
    if head.kind == "votes":
        return f"Predicts the votes of {len(head.tree)} questions"
    if head.kind == "classes":
        return f"Predicts {len(head.classes)} classes"
    return f"Predicts a number{f' in {words(head.unit)}' if head.unit else ''}"


def _mode(training: dict) -> str:
    return {"linear": "A linear probe on the frozen encoder", "full": "All weights trained"}.get(
        training.get("mode", ""), "Pretraining on votes"
    )


def _label_lines(model: "SavedModel") -> list[str]:
    head = model.config.head
    if head.kind == "classes":
        named = [f"{words(n)} (`{_code(c)}`)" for n, c in zip(head.classes, head.codes, strict=True)]
        return [f"Classes, and how the column writes them: {', '.join(named)}.", ""]
    if head.kind == "votes":
        return ["The decision tree:", "", "```text", *_tree_lines(model), "```", ""]
    return []


def _tree_lines(model: "SavedModel") -> list[str]:
    return [line.replace("`", "'") for line in map(_keep_indent, model.schema.tree().splitlines())]


def _keep_indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip())) + one_line(line)


def _shown_metrics(model: "SavedModel", escaped=words) -> list[tuple[str, str]]:
    """Names and values for a table; ``escaped`` makes strangers' words safe there."""
    m, head = model.config.metrics, model.config.head
    unit = f" {escaped(head.unit)}" if head.unit else ""
    baseline = {"classes": "error of the commonest class", "votes": "error of the mean answers"}.get(
        head.kind, "error of the mean"
    )
    what = {"classes": "error (1 - accuracy)", "votes": "error of vote fractions (root mean square)"}.get(
        head.kind, "error (root mean square)"
    )
    names = {"error": what, "baseline_error": baseline, "balanced_accuracy": "balanced accuracy"}
    names |= {"auc": "area under the curve", "loss": "loss", "calibration_error": "expected calibration error"}
    shown = [
        (name, f"{m[key]:.4g}{unit if 'error' in key else ''}") for key, name in names.items() if m.get(key) is not None
    ]
    for key, value in m.get("coverage", {}).items():
        if isinstance(value, float):
            shown.append((f"coverage of {key} % intervals", f"{100 * value:.1f} %"))
        else:
            said = ", ".join(f"{level} %: {100 * share:.1f} %" for level, share in value.items() if level != "n")
            shown.append((f"coverage, {escaped(key)} ({value['n']:,} galaxies)", said))
    return shown


def _front_matter(model: "SavedModel") -> str:
    """YAML, whose texts are written as JSON, which YAML reads."""
    head, training, metrics = model.config.head, model.config.training, model.config.metrics
    classes = head.kind == "classes"
    results = [
        {"type": kind, "value": round(float(metrics[key]), 6), "name": key}
        for key, kind in (("accuracy", "accuracy"), ("balanced_accuracy", "accuracy"), ("error", "rmse"))
        if key in metrics and (key == "error") != classes
    ]
    index = {
        "name": one_line(training.get("task") or head.label),
        "results": [
            {
                "task": {"type": "image-classification" if classes else "image-feature-extraction"},
                "dataset": {"name": one_line(training.get("survey", {}).get("name", "")), "type": "galaxies"},
                "metrics": results,
            }
        ],
    }
    fields = {
        "library_name": "gzlib",
        "pipeline_tag": "image-classification" if classes else "image-feature-extraction",
        "tags": ["galaxies", "astronomy", "galaxy-zoo", "gzlib", one_line(model.config.encoder)],
        "model-index": [index],
    }
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=True)}\n" for key, value in fields.items())


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse}td{padding:.2rem .8rem;border-bottom:1px solid #ddd}"
)
WORST = 24  # images of errors on the page


def figure_page(model: "SavedModel", outputs: np.ndarray, truth: np.ndarray, images: np.ndarray, ids: list[str]) -> str:
    """One self-contained HTML page: what the model's errors are, of test galaxies.

    Parameters
    ----------
    outputs, truth : (n, ...)
        See :func:`gzlib.training.evaluation.scores`.
    images : (n, y, x, 3) uint8
        May be memory-mapped.
    ids : list of str
    """
    kind = model.config.head.kind
    draw = {"classes": _class_figures, "votes": _vote_figures}.get(kind, _number_figures)
    title = escape(one_line(model.config.training.get("task") or model.config.head.label))
    rows = "".join(
        f"<tr><td>{name}</td><td>{value}</td></tr>"
        for name, value in _shown_metrics(model, lambda text: escape(one_line(text)))
    )
    figures = "".join(
        f'<h2>{escape(head)}</h2><p>{escape(caption)}</p><img alt="{escape(caption)}" src="{_png(figure)}">'
        for head, caption, figure in draw(model, outputs, truth, images, ids)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1><p>{len(truth):,} test galaxies.</p><table>{rows}</table>{figures}</body></html>\n"
    )


def _png(figure: "Figure") -> str:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a user's names in a script that the font lacks
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _figure(width: float, height: float, rows: int = 1, columns: int = 1):
    from matplotlib.figure import Figure  # without pyplot: no screen, and no other figures are touched

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _class_figures(model, outputs, truth, images, ids):
    names = [label_words(name, 24) for name in model.config.head.classes]
    probability = model.probabilities(outputs)
    said, n = probability.argmax(1), len(names)
    counts = np.bincount(truth * n + said, minlength=n * n).reshape(n, n)
    figure, ((axis,),) = _figure(2.6 + 0.42 * n, 2.2 + 0.4 * n)
    axis.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(n), names, rotation=90)
    axis.set_yticks(range(n), names)
    axis.set(xlabel="predicted", ylabel="label")
    for row, column in np.argwhere(counts) if n <= 30 else ():
        dark = counts[row, column] > counts[row].sum() / 2
        axis.text(column, row, counts[row, column], ha="center", va="center", color="white" if dark else "black")
    yield "Confusion matrix", "Test galaxies by label and predicted class; shade: share of the label's.", figure

    figure, ((axis,),) = _figure(4.6, 4.2)
    bins = model.config.metrics["reliability"]
    sizes = [12 + 300 * b["n"] / len(truth) for b in bins]
    axis.plot([0, 1], [0, 1], color="grey", lw=1)
    axis.scatter([b["confidence"] for b in bins], [b["accuracy"] for b in bins], s=sizes)
    axis.set(xlabel="probability of the predicted class", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    caption = "How often the predicted class is right, by its calibrated probability; larger points: more galaxies."
    yield "Reliability", caption, figure

    wrong = np.flatnonzero(said != truth)
    worst = wrong[np.argsort(-probability[wrong, said[wrong]], kind="stable")][:WORST]
    titles = [f"{names[said[i]]} {probability[i, said[i]]:.2f}\nlabel {names[truth[i]]}" for i in worst]
    yield from _worst(worst, titles, images, ids, "Wrong classes with the highest probability.")


def _number_figures(model, outputs, truth, images, ids):
    head, width = model.config.head, model.config.calibration.half_widths
    unit = f" [{label_words(head.unit)}]" if head.unit else ""
    figure, ((axis,),) = _figure(4.8, 4.4)
    ends = [float(min(truth.min(), outputs.min())), float(max(truth.max(), outputs.max()))]
    axis.fill_between(ends, [e - width["95"] for e in ends], [e + width["95"] for e in ends], alpha=0.15, lw=0)
    axis.plot(ends, ends, color="grey", lw=1)
    axis.plot(truth, outputs, ".", ms=4)
    axis.set(xlabel=f"label{unit}", ylabel=f"predicted{unit}")
    yield "Predicted against label", "Each point is a test galaxy; the band is the 95 % interval.", figure

    difference = np.abs(outputs - truth)
    levels = np.sort([float(level) / 100 for level in width])
    held = [float((difference <= width[f"{100 * level:g}"]).mean()) for level in levels]
    figure, ((axis,),) = _figure(4.4, 4)
    axis.plot([0, 1], [0, 1], color="grey", lw=1)
    axis.plot(levels, held, "o")
    axis.set(xlabel="level of the interval", ylabel="share of the labels in it", xlim=(0, 1.02), ylim=(0, 1.02))
    yield "Reliability", "Share of test labels inside of the intervals of each level.", figure
    worst = np.argsort(-difference, kind="stable")[:WORST]
    yield from _worst(worst, [f"{outputs[i]:.3g}\nlabel {truth[i]:.3g}" for i in worst], images, ids, "Largest errors.")


def _vote_figures(model, outputs, truth, images, ids):
    import torch

    from gzlib.training.loss import question_scores

    concentrations, schema = model.concentrations(outputs), model.schema
    totals = schema.question_totals(concentrations)[:, schema.question_of_answer]
    votes = schema.question_totals(truth)[:, schema.question_of_answer]
    figure, ((axis,),) = _figure(4.8, 4.4)
    axis.plot([0, 1], [0, 1], color="grey", lw=1)
    for place in range(len(schema.label_cols)):
        asked = votes[:, place] > 0
        expected, seen = (concentrations / totals)[asked, place], truth[asked, place] / votes[asked, place]
        edges = np.unique(np.quantile(expected, np.linspace(0, 1, 9))) if len(expected) >= 40 else np.zeros(0)
        bins = np.digitize(expected, edges[1:-1]) if len(edges) > 2 else np.zeros(len(expected), int)
        points = [(expected[bins == b].mean(), seen[bins == b].mean()) for b in np.unique(bins)]
        axis.plot(*zip(*points, strict=True), "-o", ms=2.5, lw=0.6, alpha=0.6) if points else None
    axis.set(xlabel="expected vote fraction", ylabel="observed, mean", xlim=(0, 1), ylim=(0, 1))
    yield "Reliability", "Observed against expected vote fractions, one line for each answer.", figure

    coverage = model.config.metrics["coverage"]
    figure, ((axis,),) = _figure(6.4, 0.9 + 0.25 * len(coverage))
    for level in model.config.calibration.levels:
        axis.axvline(float(level), color="grey", lw=0.8)
        axis.plot([100 * row[level] for row in coverage.values()], range(len(coverage)), "o", label=f"{level} %")
    axis.set_yticks(range(len(coverage)), [label_words(name) for name in coverage], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="votes inside of the interval [%]", xlim=(0, 101))
    axis.legend(loc="lower left", fontsize=8)
    yield "Coverage", "Share of votes inside of the 50, 80 and 95 % intervals, by question.", figure
    worth = {name: value for name, value in model.config.metrics["volunteers"].items() if value is not None}
    if worth:
        figure, ((axis,),) = _figure(6.4, 0.9 + 0.25 * len(worth))
        axis.barh(range(len(worth)), list(worth.values()), height=0.7)
        axis.set_yticks(range(len(worth)), [label_words(name) for name in worth], fontsize=8)
        axis.invert_yaxis()
        axis.set(xlabel="volunteers")
        caption = "How many volunteers come as near to the answers of very many as the model does, by question."
        yield "Worth in volunteers", caption, figure
    _, losses = question_scores(torch.from_numpy(concentrations), torch.from_numpy(truth), schema)
    worst = np.argsort(-losses, kind="stable")[:WORST]
    yield from _worst(worst, [f"loss {losses[i]:.1f}" for i in worst], images, ids, "Largest losses.")


def _worst(rows: np.ndarray, titles: list[str], images, ids: list[str], caption: str):
    if not len(rows):
        return
    columns = 6
    down = -(-len(rows) // columns)
    figure, axes = _figure(1.7 * columns, 2.1 * down, down, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, row, title in zip(axes.flat, rows, titles, strict=False):
        axis.imshow(images[row])
        axis.set_title(f"{label_words(ids[row], 22)}\n{title}", fontsize=7, pad=2)
    yield "Worst errors", caption, figure

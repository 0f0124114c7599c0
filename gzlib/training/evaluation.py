"""What a saved model is worth: its scores on galaxies with labels, and the calibration that they are measured with."""

import numpy as np
import torch
import xarray as xr

from gzlib.config import SurveySpec
from gzlib.data.curation import is_survey_source, make_survey
from gzlib.data.schema import Schema, load_schema, schema_from_records
from gzlib.data.sources.registry import open_source
from gzlib.data.survey import label_values, labelled, open_survey
from gzlib.errors import UserError, some_of
from gzlib.models.heads import split_questions
from gzlib.progress import Progress
from gzlib.training.finetuning import refuse_placeholders
from gzlib.training.loss import (
    class_scores,
    fit_half_widths,
    fit_levels,
    fit_scale,
    fit_temperature,
    fraction_error,
    number_scores,
    question_scores,
    vote_coverage,
)
from gzlib.training.saved import TREE, CalibrationShape, HeadShape, SavedModel

PART = 1024  # galaxies at a time


def calibrate(head: HeadShape, outputs: np.ndarray, truth: np.ndarray, *, spread: float) -> CalibrationShape:
    """Fit what makes probabilities and intervals hold on galaxies that took no part in the fit of the weights.

    Parameters
    ----------
    head : HeadShape
    outputs, truth : (n, ...)
        See :func:`scores`.
    spread : float
        Standard deviation of the labels of a number.
    """
    found = CalibrationShape(n=len(truth))
    if head.kind == "classes":
        found.temperature = fit_temperature(outputs, truth)
    elif head.kind == "votes":
        schema = schema_from_records(head.tree_name or "own", head.tree)
        for some, votes in split_questions(outputs, truth, schema):
            found.scale.append(fit_scale(some, votes))
            for level, values in fit_levels(some * found.scale[-1], votes).items():
                found.levels.setdefault(level, []).extend(values)
    else:
        found.half_widths = fit_half_widths(outputs.astype(float) - truth, spread)
    return found


def labelled_rows(model: SavedModel, survey: xr.Dataset, label: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Which galaxies of a survey have a label that the model predicts, and their labels in the model's own terms.

    Returns
    -------
    known : (galaxies,) bool
    values : (galaxies,) int64 class numbers of the model, (galaxies,) float64, or (galaxies, answers) votes
        Any value where there is no label.

    Raises
    ------
    UserError
        If there is no such label, a class that the model does not know, or a placeholder such as -99 among numbers.
    """
    head = model.config.head
    label = label or head.label
    if head.kind == "votes":
        return _labelled_votes(model, survey)
    known, values = labelled(survey, label), label_values(survey, label)
    if not known.any():
        raise UserError(f"Label column '{label}' holds no label at all.")
    if head.kind != "classes":
        if values.dtype.kind in "UO":
            raise UserError(f"Label column '{label}' holds text, and the model predicts numbers.")
        # In a small table -1 may be the lowest of the numbers by chance, but no fraction is -1.
        refuse_placeholders(values[known], label, minus_one=head.kind == "fraction")
        return known, np.where(known, values, 0).astype(float)
    text = values.dtype.kind in "UO"
    numbers = {str(code): i for i, code in enumerate(head.codes)}
    numbers |= {name: i for i, name in enumerate(head.classes)} if text else {}
    written = [str(int(v)) if not text and float(v).is_integer() else str(v) for v in values[known].tolist()]
    if unknown := [word for word in dict.fromkeys(written) if word not in numbers]:
        raise UserError(
            f"Label column '{label}' holds '{unknown[0]}', which is not a class of the model; it has"
            f" {', '.join(head.classes[:12])}."
        )
    found = np.zeros(len(values), np.int64)
    found[known] = [numbers[word] for word in written]
    return known, found


def _labelled_votes(model: SavedModel, survey: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    wanted = model.schema.label_cols
    there = load_schema(survey.attrs["schema"]).label_cols if "votes" in survey else []
    if not set(wanted) & set(there):
        held = f"has votes of '{survey.attrs['schema']}'" if there else "has no votes"
        raise UserError(
            f"The survey of '{survey.attrs['source']}' {held}, but none of the vote columns that this model predicts:"
            f" {some_of(wanted)}; add them to its table, and curate it again."
        )
    votes = np.zeros((survey.sizes["galaxy"], len(wanted)), np.int64)
    for place, answer in enumerate(wanted):
        if answer in there:
            votes[:, place] = survey.votes.values[:, there.index(answer)]
    return votes.sum(1) > 0, votes


def scores(model: SavedModel, outputs: np.ndarray, truth: np.ndarray) -> dict:
    """What outputs are worth beside the truth, (n, ...) each; see :mod:`gzlib.training.loss`."""
    head = model.config.head
    if head.kind == "classes":
        return class_scores(model.probabilities(outputs), truth)
    if head.kind != "votes":
        return number_scores(outputs, truth, model.config.calibration.half_widths)
    concentrations = model.concentrations(outputs)
    metrics, _ = question_scores(torch.from_numpy(concentrations), torch.from_numpy(truth), model.schema)
    error = fraction_error(concentrations, truth, model.schema)
    coverage = vote_coverage(concentrations, truth, model.schema, model.config.calibration.levels)
    worth = worth_in_volunteers(concentrations, truth, model.schema)
    fractions = fraction_benchmark(concentrations, truth, model.schema)
    found = {"n": len(truth), "error": error, **metrics, "coverage": coverage, "volunteers": worth}
    return found | {"fractions": fractions}


def evaluate(
    model: SavedModel,
    source,
    *,
    label: str | None = None,
    part: str | None = None,
    spec: SurveySpec | None = None,
    progress: bool = False,
) -> dict:
    """Score a model on galaxies with labels.

    Parameters
    ----------
    source : str or xarray.Dataset
        A curated survey, or a source that is curated first, as for training.
    label : str, optional
        The column; by default the one that the model was trained on.
    part : {"all", "train", "val", "test"}, optional
        Which galaxies. By default the test split of the survey that the model was trained on, all of another one.
    spec : SurveySpec, optional
        How to curate the source; by default as the model's own survey was.

    Returns
    -------
    dict
        ``n``, ``part``, and of classes ``error``, ``accuracy``, ``balanced_accuracy``, ``auc``, ``loss``,
        ``calibration_error``, ``reliability`` and ``confusion`` (rows: truth); of numbers ``error`` (root mean square),
        ``bias``, ``median_error`` and ``coverage``; of votes ``error`` (of fractions), ``loss``, and by question
        ``questions`` (loss), ``coverage`` and ``volunteers`` (see :func:`worth_in_volunteers`); and ``fractions`` (see
        :func:`fraction_benchmark`). ``label`` is the column.

    Raises
    ------
    UserError
        If there is no labelled galaxy, or the images have another size than the model's.
    """
    if not isinstance(source, xr.Dataset):
        source = open_survey(make_survey(spec or own_spec(model, str(source)), progress=progress))
    known, truth = labelled_rows(model, source, label)
    own = model.config.training.get("survey", {}).get("fingerprint") == source.attrs["fingerprint"]
    part = part or ("test" if own else "all")
    rows = np.flatnonzero(known & (True if part == "all" else source.split.values == part))
    if not len(rows):
        raise UserError(f"There is no labelled galaxy in part '{part}' of '{source.attrs['source']}'.")
    outputs = survey_outputs(model, source, rows, progress=progress)
    return {"part": part, "label": label or model.config.head.label} | scores(model, outputs, truth[rows])


def own_spec(model: SavedModel, source: str) -> SurveySpec:
    """How to curate a source as the model's own survey was."""
    trained = model.config.training.get("survey", {})
    named = {
        name: trained[name]
        for name in ("split", "schema", "aspect", "central_fraction", "match_radius")
        if trained.get(name)
    }
    if model.folder is not None and (model.folder / TREE).is_file():
        named["schema"] = str(model.folder / TREE)
    if is_survey_source(source) or not open_source(source, schema=named.get("schema")).has_published_split:
        named.pop("split", None)
    return SurveySpec(source, size=model.config.image.size, **named)


def survey_outputs(model: SavedModel, survey: xr.Dataset, rows: np.ndarray, *, progress: bool = False) -> np.ndarray:
    """A model's outputs before calibration for some galaxies of a survey, (n, ...)."""
    images, found = survey.images.values, []
    with Progress("evaluating", len(rows), "galaxies", progress) as bar:
        for start in range(0, len(rows), PART):
            some = rows[start : start + PART]
            found.append(model.outputs(images[some]))
            bar.update(len(some))
    return np.concatenate(found)


def told(found: dict) -> list[str]:
    """What :func:`evaluate` found, as lines for the screen."""
    names = {"error": "error", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auc": "AUC"}
    names |= {"bias": "bias", "median_error": "median absolute error", "loss": "loss"}
    names |= {"calibration_error": "expected calibration error"}
    shown = [f"{name} {short_number(found[key])}" for key, name in names.items() if found.get(key) is not None]
    lines = [f"{found['n']:,} galaxies ({found['part']}): {', '.join(shown)}"]
    coverage = found.get("coverage", {})
    if coverage and "50" in coverage:
        coverage = {"": coverage}
    for name, row in coverage.items():
        asked = f" ({row['n']:,} galaxies)" if "n" in row else ""
        shares = ", ".join(f"{level} %: {100 * share:.1f} %" for level, share in row.items() if level != "n")
        lines.append(f"coverage{f' of {name}' if name else ''}{asked}: {shares}")
    for name, worth in found.get("volunteers", {}).items():
        lines.append(f"{name}: worth {'more than can be told' if worth is None else f'{worth:.1f}'} volunteers")
    return lines + benchmark_words(found)


def short_number(value: float) -> str:
    """Four decimals, or four digits of what is far from 1, such as the error of a number in its own unit."""
    return f"{value:.4f}" if not value or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


# Galaxy Zoo Evo's own benchmarks (arXiv:2512.23691; figures of its public notebooks). Vote fractions: of each answer of
# the public decision trees, over the test galaxies with so many votes on its question; then the mean over answers.
ENOUGH_VOTES = 20
BENCHMARK_TREE = "public"
PUBLISHED_FRACTIONS = {  # root mean square error, mean absolute deviation
    "ConvNeXt-Base": (0.084238, 0.059842),
    "MaxViT-Base": (0.085165, 0.060449),
    "MaxViT-Tiny": (0.085793, 0.061052),
    "ConvNeXt-Large": (0.086484, 0.060899),
    "EfficientNetV2-L": (0.086918, 0.062027),
    "ConvNeXt-Nano": (0.087379, 0.062129),
    "EfficientNetV2-M": (0.087864, 0.062738),
    "EfficientNetV2-S": (0.087838, 0.062526),
    "ResNet50": (0.095979, 0.068546),
}
PUBLISHED_CLASSES = {  # accuracy, balanced accuracy
    "EfficientNetV2-S": (0.930564, 0.810),
    "ConvNeXt-Base": (0.930219, 0.818),
    "MaxViT-Tiny": (0.927524, 0.804),
    "MaxViT-Small": (0.926058, 0.803),
    "EfficientNetV2-L": (0.925886, 0.799),
    "EfficientNetV2-M": (0.922006, 0.784),
    "MaxViT-Base": (0.901354, 0.696),
    "ConvNeXt-Large": (0.893550, 0.612),
    "MaxViT-Large": (0.892925, 0.619),
    "ResNet50": (0.887212, 0.615),
    "ConvNeXt-Nano": (0.879064, 0.591),
}
# Test galaxies behind the published rows: in all, and with a class; a survey is taken for theirs if it has as many,
# within so much, since curation rejects a few.
PUBLISHED_TEST = {"votes": 141_760, "classes": 46_388}
ALIKE = 0.03
SUMMARY = "summary"  # the column of the six classes


def fraction_benchmark(
    concentrations: np.ndarray, votes: np.ndarray, schema: Schema, *, least: int = ENOUGH_VOTES
) -> dict:
    """Galaxy Zoo Evo's benchmark of vote fractions.

    Parameters
    ----------
    concentrations, votes : (n, answers)
    least : int
        Galaxies with fewer votes on a question do not count for it.

    Returns
    -------
    dict
        ``rmse``, ``mad`` and ``mse``: root mean square error, mean absolute deviation and mean square error of each
        answer's fraction, mean over ``answers`` of them; ``n``, the galaxies that count for any. Only answers of the
        public decision trees count, unless a tree of another project has none of them; None where there is none.
    """
    public = set(load_schema(BENCHMARK_TREE).label_cols)
    public = public if public & set(schema.label_cols) else set(schema.label_cols)
    errors, counted = [], np.zeros(len(votes), bool)
    for question, (some, counts) in zip(schema.questions, split_questions(concentrations, votes, schema), strict=True):
        total = counts.sum(1)
        asked = total >= least
        names = schema.label_cols[question.columns]
        own = [i for i, name in enumerate(names) if name in public]
        if not (asked.any() and own):
            continue
        counted |= asked
        expected = some[asked] / some[asked].sum(1, keepdims=True)
        errors.append((expected - counts[asked] / total[asked, None])[:, own])
    if not errors:
        return {"rmse": None, "mad": None, "mse": None, "answers": 0, "n": 0}
    square = np.concatenate([(error**2).mean(0) for error in errors])
    deviation = np.concatenate([np.abs(error).mean(0) for error in errors])
    means = {"rmse": np.sqrt(square).mean(), "mad": deviation.mean(), "mse": square.mean()}
    return {name: float(v) for name, v in means.items()} | {"answers": len(square), "n": int(counted.sum())}


def benchmark_words(found: dict) -> list[str]:
    """Galaxy Zoo Evo's benchmarks of what :func:`evaluate` found, and published rows where it is their test set."""
    if fractions := found.get("fractions"):
        names, values = ("RMSE", "MAD"), (fractions["rmse"], fractions["mad"])
        what = f"vote fractions of {fractions['answers']} answers, {ENOUGH_VOTES} votes or more"
        published, known = PUBLISHED_FRACTIONS, PUBLISHED_TEST["votes"]
        if values[0] is None:
            return []
    elif found.get("label") == SUMMARY and found.get("balanced_accuracy") is not None:
        names, values = ("accuracy", "balanced accuracy"), (found["accuracy"], found["balanced_accuracy"])
        what, published, known = "six classes", PUBLISHED_CLASSES, PUBLISHED_TEST["classes"]
    else:
        return []
    said = ", ".join(f"{name} {value:.4f}" for name, value in zip(names, values, strict=True))
    lines = [f"Galaxy Zoo Evo's benchmark, {what}: {said}"]
    if abs(found["n"] / known - 1) > ALIKE or found["part"] != "test":
        return [*lines, f"  (published rows are of its own {known:,} test galaxies, and not shown beside these)"]
    for model, row in published.items():
        lines.append(f"  published, {model}: " + ", ".join(f"{n} {v:.4f}" for n, v in zip(names, row, strict=True)))
    return lines


def worth_in_volunteers(concentrations: np.ndarray, votes: np.ndarray, schema: Schema) -> dict[str, float | None]:
    """How many volunteers' votes come as near to the answers of very many as a model does, for each question.

    ``k`` volunteers miss the fraction ``p`` of very many by ``p (1 - p) / k``, squared; the model's mean square error
    is measured beside votes of ``n`` volunteers, whose own part, ``f (1 - f) / (n - 1)``, is taken out.

    Parameters
    ----------
    concentrations, votes : (n, answers)
        Of galaxies that the model did not learn from.

    Returns
    -------
    dict
        None where the model's error is no larger than what the votes themselves leave open.
    """
    worth: dict[str, float | None] = {}
    for question, (some, counts) in zip(schema.questions, split_questions(concentrations, votes, schema), strict=True):
        n = counts.sum(1, keepdims=True)
        asked = n[:, 0] > 1
        if not asked.any():
            continue
        n, seen, expected = n[asked], counts[asked] / n[asked], some[asked] / some[asked].sum(1, keepdims=True)
        spread = (seen * (1 - seen) / (n - 1)).sum(1)  # of the volunteers' own mean
        error = ((expected - seen) ** 2).sum(1).mean() - spread.mean()
        single = (spread * n[:, 0]).mean()
        worth[question.name] = float(single / error) if error > 0 else None
    return worth

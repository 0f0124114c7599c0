"""Which column of a table of learning curves is what, and what its cells say: from names and text to runs."""

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from shlex import quote
from typing import Any
from unicodedata import digit

import numpy as np
import numpy.typing as npt
import pandas as pd

from gzlib.errors import UserError, some_of
from gzlib.fitting.curves import like_accuracy, runs_like


@dataclass
class Blocks:
    """Parts of a text between blank lines: ``part`` of each row, ``names`` of the parts, if each has one above it.

    ``are_sets`` says that two blank lines separate them, as data sets of gnuplot; ``places`` where each begins.
    """

    part: list[int]
    names: list[str]
    are_sets: bool
    places: list[str]


@dataclass
class Table:
    """Cells as they were found: ``places`` says where each row stands, ``notes`` what is to be said of the reading."""

    name: str
    frame: pd.DataFrame
    places: list[str]
    notes: list[str] = field(default_factory=list)
    blocks: Blocks | None = None


def is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d.,_' ]*\d[\d.,_' ]*(e[+-]?\d+|[ED][+-]?\d+)?\s*[%kKmMbBGT]?", cell))


def _words(text: str) -> set[str]:
    return set(text.split())


# What words of a column's name say, once units, counts and affixes are gone.
COUNTS = {"n", "num", "number", "nb", "no", "of", "count", "total", "the"}
SIZES = _words(
    "size sizes set samples sample examples images galaxies points instances observations obs rows tokens"
    " train training trainset subset anchor seen labels labelled labeled annotated annotations sentences documents"
    " records patients data dataset stars objects shots datapoints imgs sequences molecules structures"
    " trajectories episodes demonstrations events cells utterances clips frames gal gals obj objs spectra cutouts"
)
FIRST_SIZES = {"train", "training", "trainset", "seen"}
NO_SIZE = {
    "train",
    "training",
    "data",
    "set",
    "number",
    "the",
    "of",
    "total",
    "count",
    "sample",
    "no",
    "gal",
    "obj",
}  # alone
AFFIXES = _words(
    "test val valid validation eval evaluation mean avg average heldout holdout out final best cv value percent pct"
)
LOSSES = _words(
    "loss error err error_rate errors misclassification misclassification_rate mse rmse mae nll cross_entropy ce"
    " log_loss logloss perplexity ppl wer cer brier risk deviance bpc bpb"
)
LOSSES |= _words(
    "mean_squared_error root_mean_squared_error mean_absolute_error squared_error absolute_error"
    " zero_one_loss brier_score brier_score_loss hinge_loss cross_entropy_loss bits_per_char bits_per_byte"
)
RISING = _words(
    "accuracy acc balanced_accuracy auc auroc roc_auc auprc f1 f1_score precision recall r2 r_squared iou miou dice"
    " map ap average_precision ndcg mrr bleu rouge exact_match macro_f1 f1_macro micro_f1 f1_weighted completeness"
    " purity r_2 top1 top_1 top1_accuracy top_1_accuracy top5 top5_accuracy top1_acc top5_acc accuracy_score mcc kappa"
)
NEGATED = _words(
    "log_likelihood loglikelihood loglik log_lik ll elbo log_prob log_evidence"
)  # and neg_...: rise, below 0
SPREADS = _words("std sd stderr stdev se sem var variance ci ci95 low high lower upper min max q025 q975 p05 p95")
# These are metrics of their own (sigma_NMAD, MAD) or errors unless they stand behind a metric's name, or beside one.
DEVIATIONS, OF_MEANS = _words("std sd stdev stddev"), _words("sem se stderr")  # between runs, and of their mean
BARS = _words("sigma mad uncertainty unc iqr err errorbar stddev")
MOST_RUNS = 1_000  # that a row is the mean of
MEASURED = ("loss", "rising", "negated", "score", "training metric", "spread", "runs", "log", "logarithm")
# What programs that track runs note of each, and none that learns from curves wants.
TIMES = _words(
    "time times runtime duration elapsed seconds secs minutes hours timestamp date datetime created started finished"
    " walltime wallclock mem memory vram ram"
)
LOGGED = _words(
    "notes note comment comments tags state status sweep user author host hostname commit git_commit git_hash url link"
    " artifact_uri experiment_id lifecycle_stage"
)
# Columns of tables that have a row for each metric of a run.
METRIC_NAMES = _words("metric metrics measure metric_name variable scorer quantity")
METRIC_VALUES = _words("value values val estimate mean score result")
# One name for each run, unless a name comes back at another size.
NAMES = _words("name run_name experiment")
SEEDS = _words("seed random_seed random_state run run_id rep repeat repetition replicate replica fold trial init")
LABELS = ("domain", "curve", "encoder", "question", "task", "model")
MORE_LABELS = _words(
    "dataset data_set method algorithm learner architecture arch backbone network group config configuration experiment"
    " setting variant series name classifier estimator regressor strategy"
)


def _plain(name: object) -> str:
    """A column's name in lower case, with single underscores and without units or a tracking program's prefix."""
    name = re.sub(r"\(.*?\)|\[.*?\]|\s/\s.*$|\bin (?:thousand|million|billion)s?\b", "", str(name))
    name = re.sub(r"^(?:(?:params?|metrics?|config|summary|hparams?|args)[./]|params_)(?=.)", "", name.strip())
    whole, parted = (
        re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_")
        for text in (name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name))
    )
    return whole if whole in LOSSES | RISING else parted  # mAP, logLoss; nTrain


LOGARITHM = re.compile(r"(?:log|ln|lg)(?:[ _]?(?:10|2|e(?![a-z])))?[ _]*(?:\((.+)\)|\[(.+)\]|(.+))", re.IGNORECASE)
IN_LOGARITHMS = re.compile(r"[(\[]\s*(?:in )?(?:log|ln|lg)[ _]?(?:10|2|e)?(?: scale)?\s*[)\]]", re.IGNORECASE)
COMPLEMENT = re.compile(r"(?:.*\s)?(?:100|1|one|hundred)\s*(?:[-\u2212\u2013]|[ _]minus[ _])\s*(.+)", re.IGNORECASE)
MINUS = re.compile(r"(?:[-\u2212\u2013]\s*)(.+)")
OPPOSITES = {"negated": "loss", "loss": "negated", "rising": None}
PERCENT = re.compile(r"(?<!\d)(?<!\d )%|\bpercent|\bpct|_pct|_percent", re.IGNORECASE)


def kind_of(name: object) -> tuple[str | None, int]:
    """What a column's name says, and its rank among those of the kind: (kind or None, rank)."""
    plain, text = _plain(name), str(name).strip()
    words = plain.split("_")
    if plain[:1] == "n" and plain[1:] in SIZES:  # Ngal, ntrain
        words = ["n", plain[1:]]
    if IN_LOGARITHMS.search(text):
        return "logarithm", 0
    if (rest := COMPLEMENT.fullmatch(text)) and (kind := kind_of(rest[1]))[0] == "rising":
        return "loss", kind[1]
    if rest := MINUS.fullmatch(text):
        kind = kind_of(rest[1])
        return (OPPOSITES[kind[0]], kind[1]) if kind[0] in OPPOSITES else kind
    if plain in ("n_train", "loss"):
        return ("size" if plain == "n_train" else "loss"), 0
    if plain in SEEDS:
        return "seed", 0
    stopped = {"epoch", "step", "iteration"} & set(words) and {"best", "last", "final", "stopped"} & set(words)
    if str(name).startswith("tags.") or plain in LOGGED or set(words) & TIMES or stopped:
        return "log", 0
    if plain in LABELS or plain in MORE_LABELS:
        return "label", 0
    if plain == "training":
        return "training", 0
    spread = words[-1] in SPREADS or (set(words) & SPREADS and len(words) <= 4)
    if spread and (len(words) > 1 or plain not in ("low", "high", "min", "max")):
        return "spread", 0
    if plain in ("n_runs", "n_seeds", "n_repeats", "runs", "seeds", "repeats"):
        return "runs", 0
    metric = kind_of("_".join(words[:-1]))[0] if len(words) > 1 and words[0][:3] != "top" else None  # top-1 error
    rises = metric in ("rising", "score")
    if re.match(r"±|\+/-", text) or (words[-1] in BARS and (rises or metric in ("loss", "negated"))):
        return "spread", 0
    if words[-1] == "error" and (rises or words[-2:-1] == ["loss"]):
        return "spread", 0
    if at := re.fullmatch(r"(.+?)[ _]?@\s*[\d.:-]+(.*)", text):  # recall@10, mAP@0.5:0.95 (%)
        return ("rising", 2) if at[1].lower() in ("hits", "pass", "p", "r") else kind_of(at[1] + at[2])
    base = "_".join(word for word in words if word not in AFFIXES)
    rank = 1 + ("test" not in words) + bool({"val", "valid", "validation"} & set(words))
    stem = re.sub(r"_(loss|error|err)$", "", base)
    if base in LOSSES or (stem != base and stem in LOSSES | RISING):
        return "loss", rank
    if base in RISING:
        return "rising", rank
    if base in NEGATED:
        return "negated", rank
    if rest := re.fullmatch(r"(?:neg|negative)_(.+)", base):
        return OPPOSITES.get(kind_of(rest[1])[0] or ""), rank
    of = next(filter(None, found.groups()), "") if (found := LOGARITHM.fullmatch(text)) else ""
    if of and kind_of(of)[0] in ("size", "loss", "rising"):
        return "logarithm", 0
    if {"train", "training"} & set(words) and "_".join(w for w in words if w not in ("train", "training")) in (
        LOSSES | RISING | {"score", "scores"}
    ):
        return "training metric", 0
    if base in ("score", "scores"):
        return "score", rank
    if plain in ("n", "x") or (set(words) <= SIZES | COUNTS and plain not in NO_SIZE | COUNTS):
        named = "dataset" in words and not set(words) & {"size", *COUNTS}  # train_dataset
        if named or PERCENT.search(text):  # a share of the data is not a number of examples
            return None, 0
        return "size", 1 if FIRST_SIZES & set(words) else (3 if plain == "x" else 2)
    return (
        (("y", 0) if plain in ("y", "mean") else ("index", 0))
        if plain in ("y", "mean", "index", "unnamed_0")
        else (
            None,
            0,
        )
    )


@dataclass
class _Roles:
    """Which column is what; ``wide`` are those that hold a curve or a run each, ``rest`` what is unknown."""

    size: str | None = None
    loss: str | None = None
    rising: bool = False
    negated: bool = False  # as log-likelihoods are: the loss is minus the column
    seeds: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    training: str | None = None
    spread: str | None = None  # between the runs that a row is the mean of,
    counts: str | None = None  # and how many they are
    wide: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    chosen: bool = False  # the caller said which columns distinguish curves


def as_runs(
    table: Table,
    size: str | None,
    loss: str | None,
    accuracy: str | None,
    seed: str | None,
    curve: list[str],
    ignore: list[str],
) -> pd.DataFrame:
    """The table that ``read_curves`` returns, from cells as they were found and the columns that the caller named."""
    named = {size, loss, accuracy, seed, *curve, *ignore}
    table.frame.columns = [str(column).strip() for column in table.frame.columns]
    table = _by_metric(table, named)
    return _runs(*_long(table, _roles(table, size, loss, accuracy, seed, curve, ignore)))


def _by_metric(table: Table, named: set[str | None]) -> Table:
    """A table with a row for each metric of a run ("metric, value") as one with a column for each metric."""
    frame, columns = table.frame, [str(column) for column in table.frame.columns]
    names = [column for column in columns if _plain(column) in METRIC_NAMES and column not in named]
    values = [column for column in columns if _plain(column) in METRIC_VALUES and column not in named]
    if len(names) != 1 or len(values) != 1 or frame.columns.duplicated().any():
        return table
    metrics, keys = _texts(frame, names[0]), [column for column in columns if column not in (*names, *values)]
    kinds = {kind_of(metric)[0] for metric in metrics.unique()}
    if not (kinds & {"loss", "rising", "negated"} and kinds <= set(MEASURED)) or set(metrics) & set(columns):
        return table
    rows = frame.assign(**{names[0]: metrics})
    order = rows.groupby([*keys, names[0]], dropna=False, sort=False).cumcount()  # repeated runs without a seed
    run = rows[keys].assign(order=order).astype(str).agg("\0".join, axis=1)
    first = ~run.duplicated()
    wide = frame.loc[first, keys].reset_index(drop=True)
    places = [place for place, keep in zip(table.places, first, strict=True) if keep]
    for metric in metrics.unique():
        cells = dict(zip(run[metrics == metric], frame.loc[metrics == metric, values[0]], strict=True))
        wide[metric] = pd.Series([cells.get(key) for key in run[first]], dtype=object)
    return Table(table.name, wide, places, table.notes)


def _roles(
    table: Table,
    size: str | None,
    loss: str | None,
    accuracy: str | None,
    seed: str | None,
    curve: list[str],
    ignore: list[str],
) -> _Roles:
    frame, name = table.frame, table.name
    columns = [*frame.columns]
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise UserError(f"{name}: the column {twice[0]!r} appears twice; remove or rename one of them.")
    across = kind_of(columns[0])[0] if not size and _across(frame) else None
    if across:
        frame = table.frame = frame.rename(columns={columns[0]: "curve"})
        columns = list(frame.columns)
    for column in [*filter(None, (size, loss, accuracy, seed)), *curve, *ignore]:
        if column not in columns:
            near = get_close_matches(column, columns, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"found: {_listed(frame)}"
            raise UserError(f"{name} has no column {column!r} ({hint}).")
    if loss and accuracy:
        raise UserError(f"Name either the loss ({loss!r}) or a metric that rises ({accuracy!r}), not both.")
    if frame.empty:
        raise UserError(f"{name} has a header but no rows: add one row for each training run.")
    named = {size, loss, accuracy, seed, *curve, *ignore}
    kinds = {column: kind_of(column) for column in columns if column not in named and not _blank(frame[column])}

    def of(*wanted: str) -> list[str]:
        return [column for column, (kind, _) in kinds.items() if kind in wanted]

    def best(kind: str, option: str) -> str | None:
        found = of(kind)
        if kind == "size" and len(found) > 1:  # a column of words, such as "subset", is not one of sizes
            words = [c for c in found if not any(is_number(cell) for cell in _texts(frame, c))]
            found = [column for column in found if column not in words] or found
            kinds.update({column: (None, 0) for column in words if column not in found})
        first = [column for column in found if kinds[column][1] == min(kinds[c][1] for c in found)]
        if len(first) > 1:
            raise UserError(
                f"{name}: {' and '.join(map(repr, first[:2]))} could each be the {option}: say which with"
                f" --{option}-column (in Python {option}=)."
            )
        return _held_out(first[0], found, table) if first else None

    roles = _Roles(size=size or best("size", "size"), loss=loss or accuracy, rising=bool(accuracy), chosen=bool(curve))
    if roles.loss is None:
        roles.loss = best("loss", "loss")
    if roles.loss is None:
        roles.loss = best("rising", "accuracy")
        roles.rising = roles.loss is not None
    if roles.loss is None:
        roles.loss = best("negated", "loss")
        roles.negated = roles.loss is not None
    if roles.loss is None and len(found := of("y")) == 1:
        roles.loss = found[0]
    if roles.loss is None and of("score"):
        _take_score(table, roles, best("score", "accuracy"))
    unknown = [column for column, (kind, _) in kinds.items() if kind is None]
    again = [column for column in unknown if roles.loss and re.fullmatch(re.escape(roles.loss) + r"[._ ]?\d+", column)]
    if again and not (loss or accuracy):
        raise UserError(
            f"{name}: {roles.loss!r} and {again[0]!r} could each be the loss: if they are runs, number all of them"
            f" ({roles.loss}_0, {roles.loss}_1); if not, say which with --loss-column or --accuracy-column (in Python"
            " loss=, accuracy=)."
        )
    if not loss and roles.size and _may_be_bar(table, roles.loss, of("rising")):
        raise UserError(
            f"{name}: {roles.loss!r} is not what {of('rising')[0]!r} leaves of its best value: is it a loss of its own"
            f" (--loss-column {roles.loss}, in Python loss=) or the error bar of {of('rising')[0]!r} (--accuracy-column"
            f" {of('rising')[0]}, accuracy=)?"
        )
    roles.rising = roles.rising or across == "rising"
    roles.seeds = [seed] if seed else of("seed")
    labels = [column for column in of("label") if not _names_runs(frame, column, roles.size)]
    unused = [column for column in of("label") if column not in labels]
    roles.labels = curve or [*sorted((c for c in labels if _plain(c) in LABELS), key=lambda c: LABELS.index(_plain(c)))]
    if not curve:
        roles.labels += [column for column in labels if column not in roles.labels]
    training = of("training")
    roles.training = training[0] if training else None
    used = {roles.size, roles.loss, roles.training, *roles.seeds, *roles.labels}
    unused = [c for c in unused if c not in used] + [column for column in of(*MEASURED) if column not in used]
    roles.rest = [c for c in kinds if c not in used and c not in unused and kinds[c][0] != "index"]
    if roles.loss is None:
        _take_metric_rows(table, roles)
        frame = table.frame
        roles.wide = _wide(table, roles)
        roles.rest = [column for column in roles.rest if column not in roles.wide]
    _fill_merged(table, roles)
    logarithms = of("logarithm")
    if logarithms and ((roles.loss is None and not roles.wide) or roles.size is None):
        raise UserError(
            f"{name}: the column {logarithms[0]!r} holds logarithms: give the sizes and losses themselves"
            f" (found: {_listed(frame)})."
        )
    if (roles.loss is None or roles.size is None) and not roles.wide and sum(map(is_number, columns)) > 1:
        raise UserError(
            f"{name} has no header, or one of numbers ({_listed(frame)}): name the columns in its first line, such as"
            " n_train and loss."
        )
    if roles.loss is None and not roles.wide:
        missing = "loss" if roles.size else "n_train"
        raise UserError(
            f"{name} has no column {missing!r}: it needs n_train and loss, or columns that --size-column and"
            f" --loss-column name (found: {_listed(frame)})."
        )
    if roles.size is None and roles.loss is not None:
        raise UserError(
            f"{name} has no column 'n_train': say which column holds the training sizes with --size-column (in Python"
            f" size=; found: {_listed(frame)})."
        )
    unused = [
        column for column in unused if kinds[column][0] not in ("log", "label") or _texts(frame, column).nunique() > 1
    ]
    if roles.loss and not roles.wide and not roles.seeds:
        _take_means(table, roles, of("spread"), of("runs"))
        unused = [column for column in unused if column not in (roles.spread, roles.counts)]
    if unused:
        table.notes.append(f"not used: {', '.join(unused)}")
    if table.blocks and roles.size is not None and not roles.labels:
        _take_blocks(table, table.blocks, roles, roles.size)
    return roles


def _take_means(table: Table, roles: _Roles, spreads: list[str], counts: list[str]) -> None:
    """Find the columns that say of how many runs a row is the mean, and how far these lie apart."""
    own = {*_plain(roles.loss).split("_")}

    def about_the_loss(kinds: set[str]) -> list[str]:
        words = {column: _plain(column).split("_") for column in spreads}
        return [c for c, found in words.items() if found[-1] in kinds and {*found[:-1]} - AFFIXES <= own]

    spread = about_the_loss(DEVIATIONS) or about_the_loss(OF_MEANS)
    if len(spread) == 1 and not counts:
        table.notes.append(f"{spread[0]} would count with a column n_runs: how many runs each row is the mean of")
    if len(spread) != 1 or len(counts) != 1:
        return
    cells = pd.to_numeric(_texts(table.frame, counts[0]), errors="coerce").dropna()
    if len(cells) and (cells % 1 == 0).all() and cells.between(1, MOST_RUNS).all():
        roles.spread, roles.counts = spread[0], counts[0]


def _without(words: list[str], some: set[str]) -> list[str]:
    return [word for word in words if word not in some]


HELD_OUT = _words("test val valid validation eval evaluation heldout holdout")


def _held_out(column: str, found: list[str], table: Table) -> str:
    """Of a metric and the same one on held-out data, as Keras logs loss and val_loss, the latter."""
    words = _plain(column).split("_")
    twins = [c for c in found if HELD_OUT & set(parts := _plain(c).split("_")) and words == _without(parts, HELD_OUT)]
    if not twins:
        return column
    best = min(twins, key=lambda c: kind_of(c)[1])
    table.notes.append(f"{column} beside {best} is taken as that on the training set")
    return best


def _take_blocks(table: Table, blocks: Blocks, roles: _Roles, size: str) -> None:
    """Parts of a text between blank lines that hold the same sizes are curves, or runs if their names say so.

    Raises
    ------
    UserError
        If they may be either.
    """
    rows = pd.DataFrame(
        {"part": blocks.part, "size": numbers(Table(table.name, table.frame, table.places), size, True)}
    )
    rows = rows.assign(**{f"seed {i}": _texts(table.frame, column) for i, column in enumerate(roles.seeds)})
    rows = rows.dropna(subset="size").drop_duplicates()
    if not rows.drop(columns="part").duplicated().any():  # one curve, whose rows are set in groups
        return
    parts = pd.Series(blocks.part, table.frame.index)
    for column in roles.rest:  # which tells the same curves apart, with a name for them
        if (_texts(table.frame, column).groupby(parts).nunique() == 1).all() and table.frame[column].nunique() > 1:
            return
    if not (blocks.names or blocks.are_sets):
        raise UserError(
            f"{table.name}: a blank line above {blocks.places[1]} begins a second block of rows with the same sizes: if"
            " each block is a curve, name it in a comment above it (# resnet) or in a column 'curve'; if it is one more"
            " run of the same curve, number it in a column 'seed'."
        )
    names = blocks.names or [f"index {i}" for i in range(len(blocks.places))]
    column = _free("block", table.frame)
    table.frame = table.frame.assign(**{column: [names[part] for part in blocks.part]})
    stems = {re.sub(r"[\W_]*\d+$", "", name.lower()) for name in names}
    are_runs = len(stems) == 1 and stems <= SEEDS
    what, chosen = ("runs (seeds) of one curve", roles.seeds) if are_runs else ("curves", roles.labels)
    chosen.append(column)
    table.notes.append(f"blocks of rows between blank lines are taken as {what}: {some_of(names, 6)}")


def _listed(frame: pd.DataFrame) -> str:
    names = [name if len(name) <= 40 else f"{name[:39]}…" for name in map(str, frame.columns)]
    return some_of(names, 12)


MOST_ROUNDING = 0.05  # of 1 - accuracy, between an error and the accuracy beside it


def _may_be_bar(table: Table, loss: str | None, rising: list[str]) -> bool:
    """Whether a column "error" beside an accuracy is not 1 minus it, so that it may be the error bar."""
    if loss is None or _plain(loss) not in ("error", "err", "errors") or not rising:
        return False
    quiet = Table(table.name, table.frame, table.places)
    error, best = (numbers(quiet, column, False) for column in (loss, rising[0]))
    known = np.isfinite(error) & np.isfinite(best)
    share = best[known] / (100 if best[known].max(initial=0) > 1.5 else 1)
    gap = [np.median(np.abs(1 - share - error[known] / top)) for top in (1, 100)] if known.any() else [0]
    return min(gap) > MOST_ROUNDING


def _fill_merged(table: Table, roles: _Roles) -> None:
    """Write names of curves in each of their rows where merged cells left only the first."""
    above = pd.Series("", table.frame.index)
    for column in roles.labels:
        names = _texts(table.frame, column)
        blank, block = names == "", above.ne(above.shift()).cumsum()
        filled = names.where(~blank).groupby(block).ffill()
        if blank.any() and filled.notna().all() and not pd.DataFrame({0: block, 1: names})[~blank].duplicated().any():
            first = table.places[int(np.argmax(blank))]
            table.frame = table.frame.assign(**{column: filled})
            table.notes.append(f"blank cells of {column} are taken as the name above them ({first} and others)")
            names = filled
        above = above + "\0" + names


def _across(frame: pd.DataFrame) -> bool:
    """Whether the sizes stand in the header: "n_train, 100, 200, 400", then a row for each curve."""
    if len(frame.columns) < 4:
        return False
    first, *others = frame.columns
    cells = _texts(frame, first)
    return (
        kind_of(first)[0] in ("size", "loss", "rising")
        and all(SIZE_NAME.fullmatch(column) for column in others)
        and not any(is_number(cell) for cell in cells)
    )


def _names_runs(frame: pd.DataFrame, column: str, size: str | None) -> bool:
    """Whether a column gives each run a name of its own, as programs that track runs do, and tells no curves apart."""
    if _plain(column) not in NAMES or size is None:
        return False
    names = _texts(frame, column)
    return len(names) > 1 and not names.duplicated().any()


def _take_score(table: Table, roles: _Roles, column: str | None) -> None:
    """A score is what its numbers show: one that rises, in 0..1 or percent, or below 0, as scikit-learn's negated."""
    name = table.name
    if column is not None and roles.size is not None:
        values = numbers(Table(name, table.frame, table.places), column, False)
        rises = _falls(table, roles.size, column, sign=-1)
        if rises and np.nanmin(values) >= 0 and np.nanmax(values) <= 100:
            roles.loss, roles.rising = column, True
        elif rises and np.nanmax(values) < 0:
            roles.loss, roles.negated = column, True
    if roles.loss is None:
        raise UserError(
            f"{name}: does {column!r} rise or fall as models get better? Say so with --accuracy-column {column}"
            f" or --loss-column {column} (in Python accuracy=, loss=)."
        )


def _blank(column: pd.Series) -> bool:
    return all(_text(cell) == "" for cell in column)


def _texts(frame: pd.DataFrame, column: str) -> pd.Series:
    return pd.Series([_text(cell) for cell in frame[column]], frame.index, dtype=object)


def _text(cell: Any) -> str:
    """A cell as text without blanks around it; whole floats as whole numbers, and nothing for what is missing."""
    if cell is None or (isinstance(cell, float) and np.isnan(cell)) or cell is pd.NA or cell is pd.NaT:
        return ""
    return str(cell).strip()


def _label(cell: Any) -> str:
    """A cell that distinguishes curves, as text; 1000.0 is 1000."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", " ".join(_text(cell).split())) or "(blank)"


INFINITE = r"[+-]?inf(inity)?"
MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "-", "--", "?"}
SIZE_NAME = re.compile(r"(?:(?:n|n_train|size|samples)[ _=]{1,3})?([\d.,_ ']*\d[\d.,_ ']*[kKmMbBGT]?)")


def _wide(table: Table, roles: _Roles) -> list[str]:
    """Columns that hold a curve or a run each, or (without a size) that are named by sizes; none if it is not plain."""
    if roles.size is None:
        sizes = [column for column in map(str, table.frame) if SIZE_NAME.fullmatch(column)]
        return sizes if len(sizes) >= 3 else []
    found = [c for c in roles.rest if all(is_number(t) or t.lower() in MISSING for t in _texts(table.frame, c))]
    metrics = {column: metric for column in found if (metric := _metric_in(column))}
    for kind in ("loss", "rising"):  # "resnet_error", "acc_vit", "resnet - val_loss" beside "Step"
        if kind in metrics.values():
            roles.rising = kind == "rising"
            return [column for column, metric in metrics.items() if metric == kind]
    falling = found and all(_falls(table, roles.size, column, sign=-1 if roles.rising else 1) for column in found)
    if found and not falling and not _constant(table, found):
        rising, one = all(_falls(table, roles.size, column, sign=-1) for column in found), len(found) == 1
        cure = {
            (True, True): f"rises with the size: is it an accuracy? Then say --accuracy-column {quote(found[0])} (in"
            f" Python accuracy={found[0]!r}).",
            (True, False): "rise with the size: are they accuracies? Give 1 - accuracy, name them so (resnet_accuracy),"
            " or say --accuracy-column (in Python accuracy=).",
            (False, True): f"does not fall with the size: if it is the loss, say --loss-column {quote(found[0])} (in"
            f" Python loss={found[0]!r}).",
            (False, False): "do not all fall with the size: say which is the loss with --loss-column (in Python"
            " loss=).",
        }
        columns = f"column{'' if one else 's'} {', '.join(found[:4])}"
        raise UserError(f"{table.name} has no column 'loss', and its {columns} {cure[rising, one]}")
    return found


def _constant(table: Table, columns: list[str]) -> bool:
    """Whether nothing in some columns changes, so that neither rises."""
    return all(_texts(table.frame, column).nunique() < 2 for column in columns)


DIFFERENCES = _words("gain improvement delta diff difference change gap ratio")


def _metric_in(column: str) -> str | None:
    """ "loss" or "rising" if the name of a column begins or ends with a metric's: "resnet_error", "acc_seed0"."""
    if (rest := COMPLEMENT.fullmatch(column.strip())) and kind_of(rest[1])[0] == "rising":
        return "loss"
    if MINUS.fullmatch(column.strip()):
        return None
    words = _plain(_stem(column)).split("_")
    if DIFFERENCES & set(words):
        return None
    parts = [words[i:] for i in range(len(words))] + [words[:i] for i in range(len(words) - 1, 0, -1)]
    kinds = (kind_of("_".join(part))[0] for part in sorted(parts, key=len, reverse=True))
    return next((kind for kind in kinds if kind in ("loss", "rising")), None)


def _stem(column: str) -> str:
    """The name of a numbered column without its number: "acc" of "acc_seed0"."""
    return re.sub(r"[_ ]?(?:seed|run|rep|fold|trial)?[_ ]?\d+$", "", column.lower())


SEED_BEHIND = re.compile(r"(.+?)[\W_]*(?:seed|run|rep|fold|trial)[\W_]*(\d+)", re.IGNORECASE)  # resnet_seed0


def _are_runs(stems: set[str]) -> bool:
    """Whether numbered columns are runs of one curve, as "seed1" and "loss_2" are and "resnet18" is not."""
    return len(stems) == 1 and ("" in stems or stems <= SEEDS or kind_of(next(iter(stems)))[0] in ("loss", "rising"))


def _falls(table: Table, size: str, column: str, sign: int = 1) -> bool:
    quiet = Table(table.name, table.frame, table.places)  # how numbers were read is said once, when they are used
    rows = pd.DataFrame({"x": numbers(quiet, size, True), "y": numbers(quiet, column, False)}).dropna()
    mean = rows.groupby("x")["y"].mean()
    return len(mean) > 1 and sign * (mean.iloc[-1] - mean.iloc[0]) < 0


def _take_metric_rows(table: Table, roles: _Roles) -> None:
    """Of rows that are named by metrics those of the loss, or of what rises; of other rows those of no spread."""
    for column in [*roles.labels, *roles.rest]:
        names = _texts(table.frame, column)
        kinds = names.map({name: kind_of(name)[0] for name in names.unique()})
        wanted = pd.Series(True, names.index)
        if kinds.isin(MEASURED).all() and kinds.isin(("loss", "rising")).any():
            roles.rising = "loss" not in set(kinds)  # the rows are called accuracy
            wanted = kinds == ("rising" if roles.rising else "loss")
        elif roles.labels == [column] and roles.size is None:
            stems = names.map(lambda name: re.sub(r"[\W_]*[^\W_]+$", "", name))
            wanted = (kinds != "spread") | ~(stems.isin(names) | (stems == ""))
        if wanted.all():
            continue
        table.notes.append(f"not used: {', '.join(names[~wanted].unique())}")
        table.frame = table.frame[wanted].reset_index(drop=True)
        table.places = [place for place, keep in zip(table.places, wanted, strict=True) if keep]
        if table.blocks:
            table.blocks.part = [part for part, keep in zip(table.blocks.part, wanted, strict=True) if keep]


def _free(name: str, frame: pd.DataFrame) -> str:
    """A name for a new column, with underscores behind it where the table has such a column already."""
    while name in frame:
        name += "_"
    return name


def _long(table: Table, roles: _Roles) -> tuple[Table, _Roles]:
    """The same table with one loss in each row."""
    if not roles.wide:
        return table, roles
    if len(roles.wide) == 1 and not (roles.loss is None and roles.size is None):
        (roles.loss,), roles.wide = roles.wide, []
        table.notes.append(f"the column {roles.loss!r} is taken as the {'accuracy' if roles.rising else 'loss'}")
        return table, roles
    frame, kept = table.frame, [c for c in table.frame if c not in roles.wide]
    of, value, sizes = (_free(name, frame) for name in ("column", "loss", "n_train"))
    long = frame.reset_index(drop=True).melt(kept, roles.wide, of, value, ignore_index=False)
    if roles.loss is None and roles.size is None:
        long[sizes] = [match[1] for match in map(SIZE_NAME.fullmatch, long.pop(of)) if match]
        roles.size = sizes
        what = "accuracy" if roles.rising else "loss"
        table.notes.append(f"the columns are named by sizes: each cell is taken as one run's {what}")
    elif all(column[-1].isdigit() for column in roles.wide) and _are_runs({_stem(column) for column in roles.wide}):
        roles.seeds = [*roles.seeds, of]
        table.notes.append(f"the columns {roles.wide[0]} to {roles.wide[-1]} are taken as runs (seeds) of one curve")
    elif all(map(SEED_BEHIND.fullmatch, roles.wide)):
        run = _free("run", long)
        long[run] = long[of].str.replace(SEED_BEHIND, r"\2", regex=True)
        long[of] = long[of].str.replace(SEED_BEHIND, r"\1", regex=True)
        roles.labels, roles.seeds = [*roles.labels, of], [*roles.seeds, run]
        table.notes.append(f"the columns {roles.wide[0]} to {roles.wide[-1]} are taken as runs (seeds) of curves")
    else:
        roles.labels = [*roles.labels, of]
        table.notes.append(f"each column is taken as a curve: {', '.join(roles.wide)}")
    roles.loss = value
    places = [table.places[i] for i in long.index]
    return Table(table.name, long.reset_index(drop=True), places, table.notes), roles


GROUPS = r"[1-9]\d{0,2}(?:%s\d{3})+"
SUFFIXES = {"k": 1e3, "K": 1e3, "m": 1e6, "M": 1e6, "b": 1e9, "B": 1e9, "G": 1e9, "T": 1e12}
SUFFIX_WORDS = {1e3: "thousands", 1e6: "millions", 1e9: "billions", 1e12: "trillions"}


def without_suffix(cell: str) -> tuple[str, float]:
    """A size without its suffix, and what that multiplies it by: ``16k`` is ``16`` and 1000."""
    factor = SUFFIXES.get(cell[-1:], 1.0) if len(cell) > 1 else 1.0
    return (cell[:-1].strip() if factor != 1 else cell), factor


UNIT_OF_SIZES = re.compile(
    r"""\bin\ (thousands?|millions?)\b
    | [(\[] \s* (?:in\ )? (k|K|M|B|thousands?|millions?|billions?) \s* [)\]]
    | [(\[] \s* (?:in\ )? (?:[x×*]\s*)? (?:1\s*[x×*]\s*)?
      (?: 10\s*(?:\^|\*\*)\s*(\d) | 10([²³⁴⁵⁶⁷⁸⁹]) | 1e\+?0*(\d) | (1[\ ,']?000(?:[\ ,']?000)?)s? ) \s* [)\]]""",
    re.VERBOSE,
)
SPREAD_BEHIND = re.compile(
    r"""(.*\d)\s*%?\s*(?:
      (?:±|\+/-|\+-|\\pm)\s*[\d.,eE+-]+\s*%?           # 0.50 ± 0.02
    | _?[({]\s*(?:±|\+/-|\+-|\\pm)\s*[\d.,]+\s*%?\s*[)}]  # 0.50 (±0.02), 0.50_{\\pm 0.02}
    | \([\d.,eE+-]+\)\s*%?                               # 0.50(2)
    | [(\[]\s*[\d.]+\s*%?\s*(?:[,;\u2013-]|to)\s*[\d.]+\s*%?\s*[)\]]\s*%?  # 0.50 [0.48, 0.52]
    )""",
    re.VERBOSE,
)


def without_spread(cell: str) -> str:
    """A number without the spread behind it, in percent if either is."""
    found = SPREAD_BEHIND.fullmatch(cell)
    return found[1] + "%" * ("%" in cell) if found else cell


NOUN_BEHIND = re.compile(r"(.*[\dkKmMbBGT])\s+([a-z]+)")  # 10k images


def numbers(table: Table, column: str, is_size: bool) -> np.ndarray:
    """A column as floats, NaN where a cell is missing.

    Raises
    ------
    UserError
        With the line, where a cell is not a number, or can be read as two.
    """
    if is_size and (unit := UNIT_OF_SIZES.search(column)):
        if word := (unit[1] or unit[2] or "").removesuffix("s"):
            factor = {"thousand": 1e3, "million": 1e6, "billion": 1e9}.get(word) or SUFFIXES[word]
        elif unit[6]:
            factor = float(re.sub(r"\D", "", unit[6]))
        else:
            factor = 10.0 ** digit(unit[3] or unit[4] or unit[5])
        table.notes.append(f"{column}: each is multiplied by {factor:,.0f}")
        return factor * _numbers(table, column, is_size)
    return _numbers(table, column, is_size)


def _numbers(table: Table, column: str, is_size: bool) -> np.ndarray:
    cells = [_text(cell) for cell in table.frame[column]]
    if pd.api.types.is_bool_dtype(table.frame[column]) or pd.api.types.is_complex_dtype(table.frame[column]):
        raise UserError(f"{table.name}: the column {column!r} holds {table.frame[column].dtype} values, not numbers.")
    if pd.api.types.is_numeric_dtype(table.frame[column]):
        return pd.to_numeric(table.frame[column]).astype(float).to_numpy(na_value=np.nan)
    if not is_size and (example := next((cell for cell in cells if SPREAD_BEHIND.fullmatch(cell)), None)):
        cells = [without_spread(cell) for cell in cells]
        table.notes.append(
            f"spreads behind numbers in {column} are not used: {example} is read as {without_spread(example)}"
        )
    if is_size:
        nouns = [NOUN_BEHIND.fullmatch(cell) for cell in cells]
        cells = [n[1] if n and n[2] in SIZES else cell for n, cell in zip(nouns, cells, strict=True)]
    shares = [i for i, cell in enumerate(cells) if cell.endswith("%")] if is_size else []
    if is_size and (shares or PERCENT.search(column)):
        is_share = f"is {cells[shares[0]]!r}" if shares else "is in percent by its name"
        raise UserError(
            f"{table.name}{f', {table.places[shares[0]]}' if shares else ''}: {column} {is_share}: give the number of"
            " training examples, not their share."
        )
    known = [i for i, cell in enumerate(cells) if cell.lower() not in MISSING]
    percent = [i for i in known if cells[i].endswith("%")]
    if percent and len(percent) < len(known):
        names = table.frame.get("column")  # where each column is a curve
        shown = [
            f"{cells[i]!r} in {table.places[i]}" + (f" of {names.iloc[i]}" if names is not None else "")
            for i in (percent[0], next(i for i in known if i not in percent))
        ]
        raise UserError(
            f"{table.name}: {column} is {shown[0]} and {shown[1]}: write all cells with a percent sign, or none."
        )
    bare = [_bare(cell) for cell in cells]
    decimal = _decimal_mark(table, column, is_size)
    group = "." if decimal == "," else ","
    if is_size:
        odd = [i for i, cell in enumerate(bare) if re.fullmatch(GROUPS % re.escape(decimal), cell)]
        plain = UNIT_OF_SIZES.search(column) or any("." in cell for i, cell in enumerate(bare) if i not in odd)
        if odd and (decimal == "," or any(cell and decimal not in cell for cell in bare) or not plain):
            raise UserError(
                f"{table.name}, {table.places[odd[0]]}: {column} {cells[odd[0]]!r} can be read as"
                f" {bare[odd[0]].replace(decimal, '')} or as {bare[odd[0]].replace(decimal, '.')}; write sizes without"
                " thousands separators."
            )
    out, grouped, suffixed = np.full(len(cells), np.nan), None, None
    used: dict[str, str] = {}  # what suffixes mean, and the first one of each meaning
    for i, cell in enumerate(bare):
        if cell.lower() in MISSING:
            continue
        number, factor = without_suffix(cell) if is_size else (cell, 1.0)
        if re.fullmatch(GROUPS % re.escape(group) + rf"(?:{re.escape(decimal)}\d+)?", number):
            grouped, number = grouped or cells[i], number.replace(group, "")
        try:
            if not re.fullmatch(r"[\d.,+eE-]+", number) or group in number:
                raise ValueError
            out[i] = float(number.replace(decimal, ".")) * factor
        except ValueError:
            raise UserError(
                f"{table.name}, {table.places[i]}: {column} is {_shown(cells[i])}; it must be a positive number"
                f"{': leave out the row' if re.fullmatch(INFINITE, cell.lower()) else ''}."
            ) from None
        if factor != 1:
            suffixed = suffixed or cells[i]
            used.setdefault(SUFFIX_WORDS[factor], cell[-1])
        if number != cells[i] and re.fullmatch(r"\d+[\s\u00a0\u202f_'’]\d.*", cells[i]):
            grouped = grouped or cells[i]
    meaning = " and ".join(f"{suffix} for {word}" for word, suffix in used.items())
    for example, what in ((grouped, "thousands separators"), (suffixed, meaning)):
        if example:
            value = out[cells.index(example)]
            table.notes.append(f"{what} in {column}: {example} is read as {value:.12g}")
    if decimal == "," and any("," in cell for cell in bare):
        table.notes.append(f"decimal commas in {column}: {next(c for c in cells if ',' in c)} is read with a point")
    return out


def _shown(cell: object) -> str:
    text = repr(cell)
    return "blank" if text == "''" else text if len(text) <= 40 else f"{text[:39]}…"


def _bare(cell: str) -> str:
    """A number's text without blanks, quotes or underscores between its digits, and without a percent sign."""
    cell = cell.replace("\u2212", "-").removesuffix("%").strip()
    cell = re.sub(r"(?<=[\d.])[dD](?=[+-]\d+$)", "e", cell)  # as Fortran writes double precision
    return re.sub(r"(?<=\d)[\s\u00a0\u202f\u2009_'’](?=\d{3}(?!\d))", "", cell)


def _decimal_mark(table: Table, column: str, is_size: bool) -> str:
    """ "." or ",", from what the text columns with numbers show together."""
    found: dict[str, Any] = {}
    ambiguous = None
    for name in table.frame:
        if pd.api.types.is_numeric_dtype(table.frame[name]):
            continue
        for place, raw in zip(table.places, table.frame[name], strict=True):
            cell = _bare(without_spread(_text(raw)))
            for mark, other in ((",", "."), (".", ",")):
                number = rf"[+-]?(?:\d*|{GROUPS % re.escape(other)}){re.escape(mark)}\d+(?:[eE][+-]?\d+)?"
                plain_groups = re.fullmatch(GROUPS % re.escape(mark), cell)
                if plain_groups and cell.count(mark) > 1:
                    found.setdefault(other, (place, cell))
                elif plain_groups:
                    ambiguous = ambiguous or ((place, cell) if name == column and mark == "," else None)
                elif re.fullmatch(number, cell):
                    found.setdefault(mark, (place, cell))
    if len(found) == 2:
        (one, first), (two, second) = found["."], found[","]
        raise UserError(
            f"{table.name} has both decimal points and decimal commas ({one}: {first}; {two}: {second}): write all"
            " numbers with one of them."
        )
    if not found and ambiguous and not is_size:
        raise UserError(
            f"{table.name}, {ambiguous[0]}: {column} {ambiguous[1]!r} can be read as {ambiguous[1].replace(',', '')} or"
            f" as {ambiguous[1].replace(',', '.')}; write it with a decimal point, without thousands separators."
        )
    return next(iter(found), ".")


def _runs(table: Table, roles: _Roles) -> pd.DataFrame:
    """The table of ``read_curves`` from a long table."""
    table = _without_summaries(table, roles)
    frame, name, notes = table.frame, table.name, table.notes
    assert roles.size is not None and roles.loss is not None  # _roles and _long see to both
    out = pd.DataFrame(
        {"n_train": numbers(table, roles.size, True), "loss": numbers(table, roles.loss, False)}, dtype=float
    )
    metric = "loss" if "column" in frame and roles.loss == "loss" else roles.loss
    metric = re.sub(r"(?<!\b1)(?<!\b100) - ", " ", metric)
    missing = out["loss"].isna().to_numpy()
    if missing.all():
        raise UserError(f"{name}: no cell of the column {roles.loss!r} holds a number.")
    if missing.any():
        first = ", ".join(table.places[i] for i in np.flatnonzero(missing)[:3])
        if not roles.wide:
            some = "..." if missing.sum() > 3 else ""
            notes.append(f"{missing.sum()} of {len(out)} rows have no {roles.loss} and are left out ({first}{some})")
    if roles.rising:
        shown = "accuracy" if roles.wide else roles.loss
        title = " ".join([shown, *roles.wide])
        top = best_value(name, out["loss"].max(), [title, *(_text(cell) for cell in frame[roles.loss])], shown)
        out["loss"] = (top - out["loss"]).round(12)
        metric = f"{top:g} - {shown}"
        notes.append(f"{shown} rises as models get better: fitted is {metric}")
    elif roles.negated:
        out["loss"], metric = -out["loss"], f"minus {metric}"
        notes.append(f"{roles.loss} rises as models get better: fitted is {metric}")
    for column, label in (("n_train", roles.size), ("loss", roles.loss)):
        bad = ~(np.isfinite(out[column]) & (out[column] > 0)).to_numpy() & ~missing
        if bad.any():
            i = int(np.argmax(bad))
            cell = frame[label].iloc[i]
            cell = cell.item() if isinstance(cell, np.generic) else cell
            why = "it must be a positive number"
            if column == "n_train" and out[column].iloc[i] == 0:
                why += ": leave out the row of a model that was not trained"
            elif np.isinf(out[column].iloc[i]):
                why += ": leave out the row"
            elif column == "loss":
                if roles.rising:
                    why = (
                        f"{top:g} - it is not a positive loss, as laws need: leave the row out, or measure it on a"
                        " larger test set"
                    )
                elif out[column].iloc[i] == 0:
                    why += ": leave the row out, or measure it on a larger test set"
                else:
                    why += " (laws describe losses above 0; of a log-likelihood give its negative)"
            raise UserError(f"{name}, {table.places[i]}: {label} is {_shown(cell)}; {why}.")
    check_unit(out["loss"][~missing], f"{name}: the losses")
    _note_sizes(out["n_train"][~missing], roles.size, notes)
    out["training"] = _flags(table, roles)
    labels = {column: _texts(frame, column).map(_label) for column in roles.labels}
    for column in _telling(table, roles, out, labels):
        labels[column] = _texts(frame, column).map(_label)
    own = {"n_train", "loss", "training", "seed", "curve"}
    for column, values in labels.items():
        plain = _plain(column) if _plain(column) in LABELS else column
        if plain not in own:
            out[plain] = values.to_numpy()
    joined = pd.DataFrame(labels).agg(" / ".join, axis=1).to_numpy() if labels else "curve"
    out.insert(3, "curve", joined)
    out.insert(3, "seed", _seeds(table, roles, out))
    names = roles.wide or [roles.loss]
    in_percent = any(map(PERCENT.search, names)) or any(_text(cell).endswith("%") for cell in frame[roles.loss])
    if not in_percent and (roles.rising or all(map(is_rate, names))):
        given = out.assign(loss=top - out["loss"] if roles.rising else out["loss"])
        refuse_jumps(name, ("accuracy" if roles.rising else "error") if roles.wide else roles.loss, given[~missing])
    if roles.rising and not PERCENT.search(title):
        refuse_mixed(name, shown, out["loss"].groupby(out["curve"]).min(), top)
    out["_place"] = table.places
    if roles.spread and roles.counts:
        out["_spread"], out["_count"] = numbers(table, roles.spread, False), numbers(table, roles.counts, True)
    out = out[~missing]
    if not roles.seeds:
        out = _without_twins(out, notes)
    out = _taken_apart(table, roles, out)
    _check_seeds(name, out)
    out = out.sort_values(["curve", "n_train", "seed"], kind="stable").reset_index(drop=True)
    places = out.pop("_place")
    del places
    check_falling(out, name, roles.loss if roles.loss in frame else "loss", top if roles.rising else None)
    out.attrs |= {"notes": notes, "metric": metric, "name": name, "rising": roles.rising}
    return out


def _note_sizes(sizes: pd.Series, column: str, notes: list[str]) -> None:
    """Say that sizes may be shares of the data, or logarithms, where they can hardly be numbers of examples."""
    if sizes.nunique() < 2 or UNIT_OF_SIZES.search(column):
        return
    if sizes.max() <= 1:
        notes.append(f"{column} is {sizes.max():g} at most: if it is the share of the data, so are all sizes told here")
    elif sizes.min() > 1 and sizes.max() < 20 and (sizes % 1 > 0).any():
        notes.append(f"{column} is {sizes.min():g} to {sizes.max():g}: if these are logarithms, give the sizes")


SUMMARIES = _words("mean avg average median std sd stdev sem stderr min max")


def _without_summaries(table: Table, roles: _Roles) -> Table:
    """The table without rows that sum up the runs of a size: the mean is not one more run."""
    summed = np.zeros(len(table.frame), bool)
    for column in roles.seeds:
        summed |= _texts(table.frame, column).str.lower().isin(SUMMARIES).to_numpy()
    if not summed.any() or summed.all():
        return table
    places = [table.places[i] for i in np.flatnonzero(~summed)]
    first = int(np.argmax(summed))
    words = " / ".join(_text(table.frame[column].iloc[first]) for column in roles.seeds)
    table.notes.append(
        f"{summed.sum()} rows that sum up runs are left out (the first: {words!r}, {table.places[first]})"
    )
    return Table(table.name, table.frame[~summed].reset_index(drop=True), places, table.notes)


def refuse_mixed(name: str, shown: str, least: pd.Series, top: float) -> None:
    """Refuse curves of which some are in percent and others not, from the least loss of each."""
    if top == 100 and (least >= 99).any():
        curve = least.index[int(np.argmax(least >= 99))]
        raise UserError(
            f"{name}: {shown} of {curve!r} is {100 - least[curve]:g} at most, and above 1 elsewhere: give all curves in"
            " percent, with a percent sign in the column's name, or none."
        )


RATES = _words("error err errors misclassification wer cer")
NO_RATE = _words("squared sq absolute abs relative rel")
JUMP, NEAR = 20.0, 5.0  # ratios of neighbouring values: beyond those of curves, and within them


def is_rate(column: str) -> bool:
    """Whether a column is a share of errors by its name, and no loss, which has a unit of its own."""
    if (rest := COMPLEMENT.fullmatch(column.strip())) and kind_of(rest[1])[0] == "rising":
        return True
    words = set(_plain(_stem(column)).split("_"))
    return bool(words & RATES or {"zero", "one", "loss"} <= words) and not words & NO_RATE


def refuse_jumps(name: str, shown: str, runs: pd.DataFrame) -> None:
    """Refuse shares of which some are in percent and others not, from ``n_train``, ``loss`` and ``curve`` of each run.

    A curve in percent may well cross 1; between its neighbours it does not jump as if one were multiplied by 100.
    """
    ordered = runs.sort_values(["curve", "n_train", "loss"], kind="stable")
    several = ordered["curve"].nunique() > 1
    for curve, one in ordered[ordered["loss"] > 0].groupby("curve", sort=False):
        sizes, values = one["n_train"].to_numpy(), one["loss"].to_numpy()
        at = np.flatnonzero(np.diff(values > 1))
        low, high = np.minimum(values[at], values[at + 1]), np.maximum(values[at], values[at + 1])
        alike = (high / 100 < NEAR * low) & (low < NEAR * high / 100)
        if len(at) and np.all((high > JUMP * low) & alike):
            of = f" of {curve!r}" if several and isinstance(curve, str) else ""
            pair = " and ".join(f"{values[i]:g} at {sizes[i]:g}" for i in (at[0], at[0] + 1))
            raise UserError(
                f"{name}: {shown}{of} is {pair}, as if one were in percent and the other not: write all values in"
                " percent, with a percent sign in the column's name, or none; a loss in another unit is better called"
                " 'loss'."
            )


def best_value(name: str, largest: float, texts: list[str], shown: str) -> float:
    """1, or 100 if a metric that rises is in percent, as its numbers, its header or its cells say."""
    named = PERCENT.search(texts[0])
    percent = named or any(text.endswith("%") for text in texts[1:])
    if percent and largest <= 1:
        raise UserError(
            f"{name}: {shown} is in percent by its name and {largest:g} at most: write 100 for the best value, or take"
            " the percent sign out of its name."
        )
    top = 100.0 if percent or largest > 1.5 else 1.0
    if largest > top:
        raise UserError(f"{name}: {shown} is {largest:g}, but its best value is 1, or 100 in percent.")
    return top


LEAST_LOSS, MOST_LOSS = 1e-30, 1e30  # far enough from the least and largest numbers


def check_unit(losses: npt.ArrayLike, what: str) -> None:
    """Raise UserError if losses are so small or large that powers of them overflow."""
    typical = float(np.median(np.asarray(losses, float)))
    if not LEAST_LOSS <= typical <= MOST_LOSS:
        unit = 10.0 ** np.round(np.log10(typical))
        raise UserError(
            f"{what} are about {typical:.1g}: give them in a unit nearer to 1, such as divided by {unit:.0e}."
        )


def _flags(table: Table, roles: _Roles) -> np.ndarray | bool:
    if roles.training is None:
        return True
    known = {"1": True, "0": False, "true": True, "false": False, "1.0": True, "0.0": False}
    flags = _texts(table.frame, roles.training).str.lower().map(known)
    if flags.isna().any():
        i = int(np.argmax(flags.isna()))
        cell = _shown(_text(table.frame[roles.training].iloc[i]))
        raise UserError(
            f"{table.name}, {table.places[i]}: {roles.training} is {cell}; it must be 1 (fit) or 0 (held out)."
        )
    return flags.astype(bool).to_numpy()


def _telling(table: Table, roles: _Roles, out: pd.DataFrame, labels: dict[str, pd.Series]) -> list[str]:
    """Columns of unknown names that distinguish curves; raises UserError where that is not plain."""
    found = []
    known = out["loss"].notna().to_numpy()  # a tracking program's rows without one tell nothing
    places = [place for place, keep in zip(table.places, known, strict=True) if keep]
    for column in roles.rest:
        values = _texts(table.frame, column)[known]
        if values.nunique() < 2:
            continue
        key = pd.DataFrame({**labels, "training": out["training"]}).astype(str).agg("/".join, axis=1)
        rows = pd.DataFrame({"key": key, "value": values, "size": out["n_train"]})[known]
        per_value = rows.groupby(["key", "value"])["size"].nunique()
        per_size = rows.groupby(["key", "size"])["value"].nunique()
        differs = values.nunique() > 0.9 * len(values)
        if _are_fractions(values):  # which curves may share, such as what a mean of the labels would score
            differs = rows.groupby("key")["value"].nunique().sum() > 0.9 * len(values)
        if per_value.max() == 1 and differs:
            table.notes.append(f"not used: {column} (it differs in each row)")
        elif per_value.max() == 1 and per_size.max() == 1:
            table.notes.append(f"not used: {column} (it goes with {roles.size})")
        elif per_size.max() > 1 and (per_value >= 2).all():
            found.append(column)
            table.notes.append(f"the column {column!r} tells {values.nunique()} curves apart")
        elif rows.groupby("key")["value"].nunique().max() > 1:
            size, place = rows["size"].iloc[0], places[0]
            crossed = per_size[per_size > 1]
            if len(crossed):
                size = crossed.index[0][1]
                place = places[int(np.argmax((rows["size"] == size).to_numpy()))]
            raise UserError(
                f"{table.name}, {place}: the column {column!r} differs along a curve (at n_train {size:g}"
                f" {'more than once' if len(crossed) else 'and elsewhere'}); is it part of what distinguishes curves"
                f" (--curve-column {column}, in Python curve=) or not (--ignore {column}, ignore=)?"
            )
    return found


def _are_fractions(values: pd.Series) -> bool:
    """Whether cells are numbers, not all of them whole: measured, rather than the name or the setting of a run."""
    found = pd.to_numeric(values, errors="coerce")
    return bool(found.notna().all() and (found % 1 != 0).any())


def _seeds(table: Table, roles: _Roles, out: pd.DataFrame) -> np.ndarray:
    """A label for each run; rows without one are runs of their own."""
    counted = out.groupby(["curve", "training", "n_train"], dropna=False).cumcount()
    if not roles.seeds:
        return counted.to_numpy()
    parts = [_texts(table.frame, column) for column in roles.seeds]
    blank = np.all([part.str.lower().isin(MISSING) for part in parts], axis=0)
    seeds = parts[0] if len(parts) == 1 else pd.concat(parts, axis=1).agg("/".join, axis=1)
    seeds = seeds.str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)
    if blank.any():
        table.notes.append(f"{blank.sum()} rows without a seed are counted as runs of their own")
        seeds = seeds.where(~blank, "unnamed " + counted.astype(str))
    if not (blank.any() or seeds.duplicated().any()):  # a name for each run: no size shares it with another
        return counted.to_numpy()
    whole = seeds.str.fullmatch(r"-?\d{1,18}")
    return seeds.astype(int).to_numpy() if whole.all() else seeds.to_numpy(object)


def _without_twins(out: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """A file pasted twice is not twice the evidence; single runs that agree to the last digit stay."""
    groups = out.groupby(["curve", "training", "n_train", "loss"])
    copies = groups["seed"].transform("size")
    if copies.min() < 2 or copies.max() > copies.min():
        return out
    notes.append(f"each row stands {copies.min()} times and is counted once")
    return out[groups.cumcount() == 0]


def _taken_apart(table: Table, roles: _Roles, out: pd.DataFrame) -> pd.DataFrame:
    """Rows that are means of several runs as so many runs of that mean and spread."""
    if not (roles.spread and roles.counts):
        return out
    spread, count = out.pop("_spread"), out.pop("_count").fillna(1).astype(int)
    if (bad := spread < 0).any():
        row = int(out.index[bad.to_numpy()][0])  # rows that were left out before keep their numbers
        cell = _shown(table.frame[roles.spread].iloc[row])
        raise UserError(f"{table.name}, {table.places[row]}: {roles.spread} is {cell}; a spread is 0 or more.")
    count = count.where(spread.notna(), 1)
    if of_mean := _plain(roles.spread).split("_")[-1] in OF_MEANS:
        spread = spread * np.sqrt(count)
    columns = {"loss": out["loss"], "spread": spread.fillna(0.0), "count": count}
    losses = [runs_like(*row, order=i) for i, row in enumerate(zip(*columns.values(), strict=True))]
    runs = out.loc[out.index.repeat(count)].assign(loss=np.concatenate(losses))
    runs["seed"] = runs.groupby(["curve", "training", "n_train"]).cumcount()
    what = "error of their mean" if of_mean else "deviation"
    table.notes.append(
        f"rows are means: each is taken as {roles.counts} runs with the mean {roles.loss} and the standard {what}"
        f" {roles.spread}"
    )
    return runs


def _check_seeds(name: str, out: pd.DataFrame) -> None:
    repeated = out.duplicated(["curve", "training", "n_train", "seed"])
    if repeated.any():
        row = out[repeated].iloc[0]
        raise UserError(
            f"{name}, {row['_place']}: curve {row['curve']!r} has two runs with n_train {row['n_train']:g} and seed"
            f" {row['seed']}: give each run its own seed, or name the column that differs with --curve-column."
        )


def check_falling(runs: pd.DataFrame, name: str, column: str = "loss", top: float | None = None) -> None:
    """Raise UserError if the losses of most curves rise with the size as accuracies do.

    ``top`` is the best value of a column that was turned: then it is the column that falls.
    """
    mean = np.log(runs["loss"]).groupby([runs["curve"], runs["n_train"]], sort=True).mean()
    curves, sizes = mean.index.get_level_values(0).to_numpy(), mean.index.get_level_values(1).to_numpy()
    starts = np.flatnonzero(np.append(True, curves[1:] != curves[:-1]))
    parts = np.split(mean.to_numpy(), starts[1:])
    rising = [i for i, part in enumerate(parts) if like_accuracy(part)]
    if len(rising) <= 0.5 * len(parts):
        return
    first = starts[rising[0]]
    curve, ends = curves[first], (first, first + len(parts[rising[0]]) - 1)
    values = [float(np.exp(mean.iloc[i])) for i in ends]
    which = "" if len(parts) == 1 else f" of {curve!r}"
    moves, cure = (
        "rises",
        f"is it an accuracy? Then say --accuracy-column {quote(column)} (in Python accuracy={column!r})",
    )
    if top is None:
        cure += f", which fits {100 if max(values) > 1.5 else 1} - {column}"
    else:
        values, moves = [top - value for value in values], "falls"
        cure = f"is it a loss? Then say --loss-column {quote(column)} (in Python loss={column!r})"
    shown = ", ".join(f"{value:.3g} at {sizes[i]:g}" for value, i in zip(values, ends, strict=True))
    raise UserError(f"{name}: the {column}{which} {moves} with n_train ({shown}); {cure}.")

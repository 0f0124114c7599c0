"""The command line: which commands and options there are, and what each does with the library.

Modules are imported where they are used, so that ``--help`` and a mistyped option answer at once.
"""

import argparse
import errno
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from gzlib.config import PRESETS, SPLIT_MODES, Conduct
from gzlib.errors import EXIT_STATUS, Stopped, UserError, handling, lacks_memory, stop_at_once
from gzlib.files import not_written

# Which modules, one of which a command may miss, each extra of the package brings.
EXTRAS = {
    "train": "torch torchvision timm tqdm pyarrow PIL safetensors psutil filelock huggingface_hub h5netcdf h5py"
    " pydantic",
    "fits": "astropy",
    "book": "papermill nbformat nbclient nbconvert jupyter_client ipykernel pypandoc yaml IPython",
    "plot": "matplotlib",
    "cluster": "dask distributed",
    "mcmc": "emcee",
    "onnx": "onnx onnxruntime",
    "bench": "zoobot galaxy_datasets lightning pytorch_lightning",
}
EXTRA_OF = {module: extra for extra, modules in EXTRAS.items() for module in modules.split()}


SPLIT_HELP = "'source' keeps a published test set, 'published' also the validation set"


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 if it went well, 1 if some runs of a sweep failed, 2 with one sentence on standard error if the input was
        bad or there was too little memory, 75 if SIGTERM, SIGHUP or Ctrl-C stopped it: the same command resumes.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    with handling(stop_at_once):
        return _run(args)


def _run(args) -> int:
    try:
        status = args.call(args) or 0
        sys.stdout.flush()  # here, where a closed pipe is told from other errors
        return status
    except UserError as error:
        if args.debug:
            raise
        _tell(f"gzlib {args.command}: {error}")
        return 2
    except BrokenPipeError:
        if not _stdout_is_closed():  # some other connection, as to a worker of a cluster
            raise
        return 0
    except ModuleNotFoundError as error:
        if args.debug or error.name not in EXTRA_OF:
            raise
        _tell(f"gzlib {args.command}: needs {error.name}; install it with: pip install 'gzlib[{EXTRA_OF[error.name]}]'")
        return 2
    except Exception as error:
        sentence = _of_the_machine(error)
        if args.debug or sentence is None:
            raise
        _tell(f"gzlib {args.command}: {sentence}")
        return 2
    except (Stopped, KeyboardInterrupt):
        _tell(f"gzlib {args.command}: stopped; finished work is kept, and the same command resumes from its checkpoint")
        return EXIT_STATUS


def _of_the_machine(error: Exception) -> str | None:
    """The sentence for a full or read-only disk, or too little memory, that nothing has met before; None for others."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return str(not_written(Path(error.filename or "a temporary file"), error))
    if not lacks_memory(error):
        return None
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"there is too little memory ({said}); close other programs, or choose smaller images, batches or encoders."
        " Finished work is kept, and the same command resumes."
    )


def _stdout_is_closed() -> bool:
    """Whether the reader of standard output, such as head, has enough; nothing is left to flush at exit then."""
    try:
        print(flush=True)  # a line, since what failed before may have been dropped and a flush alone succeed
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _tell(sentence: str):
    """A last word on standard error; of the processes that torchrun started, the first one has it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0":
        print(sentence, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gzlib", description="Scaling laws for galaxy images.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, **options) -> argparse.ArgumentParser:
        sub = parsers.add_parser(name, help=help, description=help, **options)
        sub.set_defaults(call=globals()[f"_{name}"])
        return sub

    sub = command("build", "run the chapters that are stale; with other parameters, run an experiment")
    sub.add_argument("--preset", choices=PRESETS, help="size of the study")
    sub.add_argument("--only", action="append", metavar="NN", help="a chapter by its number, such as 02; repeatable")
    sub.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    sub.add_argument("--force", action="store_true", help="run fresh chapters too; an experiment starts from nothing")
    sub.add_argument("--name", help="the experiment's folder below experiments/")

    sub = command("render", "build, then render the book with Quarto if it is here, else with the preview")
    sub.add_argument("--install", action="store_true", help="install Quarto from the package index if there is none")
    sub.add_argument("--article", action="store_true", help="set its first five chapters as a PDF, with Quarto")
    sub.add_argument("--open", action="store_true", help="then show it in a browser, from a server on this machine")

    sub = command("preview", "render the book as it stands through pandoc")
    sub.add_argument("--out", type=Path, help="the folder for the pages (default: _book)")

    sub = command("curate", "check, split, resize and pack galaxies into a survey")
    sub.add_argument("source", help="sim:N, a folder or catalogue of images, or hub:OWNER/NAME; several with commas")
    sub.add_argument("--out", type=Path, help="the survey's folder (default: one of its own)")
    _source_arguments(sub)
    sub.add_argument("--limit", type=int, help="maximum number of galaxies to read")
    sub.add_argument("--seed", type=int, default=0, help="of the simulated sky")
    sub.add_argument("--keep-going", action="store_true", help="make the survey although more than 5 %% are rejected")
    sub.add_argument("--force", action="store_true", help="curate even if the same input has been curated")

    sub = command("verify", "compare every byte of a curated survey with its checksums")
    sub.add_argument("survey", type=Path, help="a curated survey's folder")

    sub = command("pretrain", "train an encoder on a survey's votes")
    _training_arguments(sub, encoder="convnext_w10", weights="random")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="save the model there, for 'predict' and others")

    sub = command("finetune", "train an encoder on a task's labels")
    sub.add_argument("--task", default="task", help="a name for the task")
    sub.add_argument("--label", default="label", help="column that is predicted, or 'votes' (default: %(default)s)")
    sub.add_argument("--mode", choices=("linear", "full"), default="linear", help="linear probe, or all weights")
    _training_arguments(sub, encoder="tf_efficientnet_lite0", weights="imagenet")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="save the model there, for 'predict' and others")
    sub.add_argument("--unit", default="", help="of a number that is predicted, such as mag; for the saved model")

    for name, does in (("predict", "predictions of a saved model"), ("embed", "features of a saved model's encoder")):
        sub = command(name, f"{does} for every galaxy of a source, in a file")
        _model_arguments(sub)
        sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="a file .csv or .parquet")
        sub.add_argument("--aspect", choices=("pad", "crop"), help="of images that are not square (as in training)")
        sub.add_argument("--limit", type=int, help="maximum number of galaxies to predict for")
        sub.add_argument("--force", action="store_true", help="replace a file that is there")

    sub = command("evaluate", "score a saved model on galaxies with labels")
    _model_arguments(sub)
    sub.add_argument("--label", help="column of the labels (default: the model's)")
    sub.add_argument("--part", choices=("all", "train", "val", "test"), help="(default: test of its survey, else all)")
    sub.add_argument("--split", choices=SPLIT_MODES, help=SPLIT_HELP)
    sub.add_argument("--schema", help="decision tree of the votes, or a JSON file with one")
    sub.add_argument("--out", type=Path, metavar="FILE", help="all scores, as JSON")

    sub = command("export", "write a saved model for timm or as ONNX")
    sub.add_argument("model", help="a saved model's folder")
    sub.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    sub.add_argument("--format", choices=("timm", "onnx"), default="timm", help="(default: %(default)s)")

    sub = command("push", "upload a saved model to the Hugging Face hub")
    sub.add_argument("model", help="a saved model's folder")
    sub.add_argument("repository", help="OWNER/NAME")
    sub.add_argument("--private", action="store_true")
    sub.add_argument("--figures", action="store_true", help="with the page of figures, which shows images of galaxies")

    sub = command("rerun", "make a recorded run and its weights again")
    sub.add_argument("key", help="of the run, in the store or among the book's runs")
    sub.add_argument("--weights", metavar="FILE", help="the local file of weights that the run started from, if it did")
    _conduct_arguments(sub)

    which = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)  # before the action or after
    which.add_argument("--store", type=Path, metavar="FOLDER", help="(default: GZLIB_STORE, or ./runs)")
    which.add_argument("--book", action="store_true", help="the book's runs instead (they can't be removed here)")
    sub = command("runs", "list, show, export or remove the runs of a store", parents=[which])
    actions = sub.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("ls", parents=[which], help="one line a run")
    exporting = actions.add_parser("export", parents=[which], help="all runs as a table")
    exporting.add_argument("file", type=Path, help="a file .csv or .nc (netCDF)")
    for action in (listing, exporting):
        action.add_argument("--kind", choices=("pretrain", "finetune"))
        action.add_argument(
            "--where", action="append", default=[], metavar="NAME=VALUE", help="such as encoder=resnet_w12; repeatable"
        )
    listing.add_argument("-q", "--quiet", action="store_true", help="keys alone")
    showing = actions.add_parser("show", parents=[which], help="the record of one run, as JSON")
    showing.add_argument("key", help="or the first digits of it")
    releasing = actions.add_parser("release", parents=[which], help="write encoders as files to share, with cards")
    releasing.add_argument("folder", type=Path, help="where the weights and their cards are written")
    releasing.add_argument("keys", nargs="+", metavar="KEY", help="of pretraining runs whose weights are here")
    removing = actions.add_parser("rm", parents=[which], help="delete runs with their weights")
    removing.add_argument("keys", nargs="+", metavar="KEY")

    sub = command("sweep", "make the runs of a plan that are missing, here or on a cluster")
    sub.add_argument("plan", type=Path, help="a TOML file; see examples/plan.toml")
    sub.add_argument("--dry-run", action="store_true", help="list the runs, which are complete, and what all cost")
    sub.add_argument(
        "--workers", type=int, metavar="N", help="processes here, one thread each (default: as many as cores)"
    )
    sub.add_argument(
        "--scheduler", metavar="WHERE", help="Dask workers: local:N processes here, or a running scheduler's address"
    )
    sub.add_argument("--bring-weights", action="store_true", help="from workers that do not share this file system")
    _conduct_arguments(sub)

    _curve_arguments(command("fit", "fit power laws to learning curves, with intervals and verdicts"))
    sub = command("forecast", "forecast the loss at larger sizes, or the labels that reach a target, with a band")
    sub.add_argument("--target", type=float, help="the loss or error to reach")
    _curve_arguments(sub)
    sub = command("plan", "say how many labels reach a target, what they cost and which run would tell most")
    sub.add_argument("--target", type=float, required=True, help="the loss or error to reach")
    sub.add_argument("--cost", type=float, help="of one label, in any currency")
    sub.add_argument("--owned", type=float, default=0, metavar="LABELS", help="labels that already exist")
    sub.add_argument(
        "--risk", type=float, nargs="+", metavar="P", help="of missing the target: labels for each (0.5 0.2 0.05)"
    )
    _curve_arguments(sub)

    sub = command("register", "store a forecast before the runs that it is about exist")
    sub.add_argument("name", help="of the forecast, stored as data/forecasts/NAME.json")
    sub.add_argument("--run-outcome", action="store_true", help="make the runs that a stored forecast is about")
    sub.add_argument("--preset", choices=PRESETS, default="laptop", help="recipe (%(default)s)")
    sub.add_argument(
        "--plan", help="forecast the missing runs of a plan in data/plans from those that are made, as 'study'"
    )
    sub.add_argument("--source", help="survey of pilot and outcome, such as sim:24000")
    sub.add_argument("--encoder", action="append", help="repeatable")
    sub.add_argument("--pilot", type=int, nargs="+", metavar="N", help="training galaxies of the runs to learn from")
    sub.add_argument("--target", type=int, nargs="+", metavar="N", help="training galaxies of the runs to forecast")
    sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="S", help="(default: 0 1 2)")
    sub.add_argument("--level", type=float, default=0.95, help="coverage of the band (%(default)s)")

    sub = command("bench", "measure this project's figures on this machine")
    sub.add_argument("what", help="which figures; 'list' names them")
    sub.add_argument("--json", action="store_true", help="one JSON object a line")
    sub.add_argument("--csv", type=Path, help="learning curves for 'curves'")
    sub.add_argument(
        "--store", action="store_true", help="keep the figures in data/benchmarks, where the book reads them"
    )
    sub.add_argument("--kills", type=int, metavar="N", help="how many commands 'faults' kills")
    sub.add_argument("--seed", type=int, help="of the moments at which 'faults' disturbs them")

    command("doctor", "say what this machine has, what is missing, and what to do")
    return parser


def _curve_arguments(sub: argparse.ArgumentParser):
    """How curves are read and answers given, alike for fits, forecasts and plans."""
    sub.add_argument("curves", help="a table of runs (CSV, TSV, JSON, parquet) with sizes and losses; - reads stdin")
    sub.add_argument("--at", type=float, nargs="+", action="extend", default=[], metavar="SIZE", help="forecast there")
    sub.add_argument("--law", help="trust this law, such as power (default: E + A n^-alpha; forecasts: an ensemble)")
    sub.add_argument("--level", type=float, default=0.95, help="coverage of the intervals (%(default)s)")
    sub.add_argument("--plot", metavar="FILE", help="draw the curves: .svg, .png, .pdf, or .html, a page of its own")
    form = sub.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, default="text")
    for name in ("size", "loss", "accuracy", "seed"):
        sub.add_argument(f"--{name}-column", metavar="NAME", help=f"which column is the {name}")
    sub.add_argument("--curve-column", action="append", metavar="NAME", help="distinguishes curves; repeatable")
    sub.add_argument("--ignore", action="append", metavar="NAME", help="a column to leave out; repeatable")


def _source_arguments(sub: argparse.ArgumentParser):
    """How the galaxies of a source become a survey; a survey already curated is as it is."""
    sub.add_argument("--size", type=int, default=64, help="side of the images in px (default: %(default)s)")
    sub.add_argument("--split", choices=SPLIT_MODES, default="hash", help=SPLIT_HELP)
    sub.add_argument("--schema", help="decision tree of the votes, or a JSON file with one (default: recognised)")
    sub.add_argument("--aspect", choices=("pad", "crop"), help="of images that are not square (default: reject them)")
    sub.add_argument(
        "--match-radius", type=float, metavar="ARCSEC", help="two galaxies so near are one (default: the schema's)"
    )


def _training_arguments(sub: argparse.ArgumentParser, *, encoder: str, weights: str):
    sub.add_argument("--survey", help="a curated survey's folder, or a source to curate first")
    _source_arguments(sub)
    sub.add_argument(
        "--encoder",
        help=f"convnext_w<width>, resnet_w<width> or a timm name (default: that of the weights, else {encoder})",
    )
    sub.add_argument(
        "--weights",
        default=weights,
        help="random, imagenet, sky (in this package), a timm tag, hf_hub:OWNER/NAME, a file or folder, or a run's key"
        " (default: %(default)s)",
    )
    sub.set_defaults(usual_encoder=encoder)
    sub.add_argument("--n-train", type=int, help="training galaxies (default: all)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--examples", type=int, help="galaxies seen in all (default: the recipe's)")
    sub.add_argument("--batch-size", type=int, help="(default: the recipe's)")
    sub.add_argument("--learning-rate", type=float, help="(default: the recipe's)")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, such as recipe.weight_decay=0.1 or recipe.augment.flip=false; repeatable",
    )
    _conduct_arguments(sub)


def _model_arguments(sub: argparse.ArgumentParser):
    sub.add_argument("model", help="a saved model's folder, or hf_hub:OWNER/NAME")
    sub.add_argument("source", help="a folder of images, a catalogue, parquet, a curated survey, or another source")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")


def _conduct_arguments(sub: argparse.ArgumentParser):
    sub.add_argument("--store", type=Path, metavar="FOLDER", help="where runs are kept (GZLIB_STORE, else ./runs)")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    sub.add_argument("--compile", action="store_true", help="compile the model first: pays on GPUs, for long runs")
    sub.add_argument("--log", help="'tensorboard' writes training curves into the runs' folders")
    sub.add_argument(
        "--checkpoint-seconds", type=float, default=120.0, metavar="S", help="between checkpoints (%(default)s)"
    )


def _use_store(folder: Path | None):
    from gzlib import paths

    if folder:
        try:
            paths.STORE = folder.expanduser().resolve()
        except (ValueError, OSError, RuntimeError) as error:  # NUL, a loop of links, no such user
            raise UserError(f"{str(folder)!r} is not a path ({error}); name another folder with --store.") from None
    if paths.STORE.exists() and not paths.STORE.is_dir():
        raise UserError(f"'{paths.STORE}' is a file; runs are kept in a folder: name another with --store.")


def _conduct(args) -> Conduct:
    from gzlib.progress import logger_name

    _use_store(args.store)
    logger_name(args.log)  # a bad name is told before anything is made
    names = ("device", "compile", "log", "checkpoint_seconds")
    return Conduct(**{name: getattr(args, name) for name in names})


def _build(args):
    from gzlib.book import build

    built = build(preset=args.preset, only=args.only, parameters=dict(args.p), force=args.force, name=args.name)
    if built.page:
        print(f"Open {built.page}")


def _render(args):
    from gzlib.book import build, render, serve

    build()
    page = render(install=args.install, article=args.article)
    if args.open:
        serve(page)


def _preview(args):
    from gzlib.book import preview

    print(preview(out=args.out))


def _curate(args):
    from gzlib.data import curate, read_report

    names = ("out", "size", "limit", "split", "schema", "seed", "aspect", "match_radius", "keep_going", "force")
    folder = curate(args.source, **{name: getattr(args, name) for name in names})
    report = read_report(folder)
    counts = report["counts"]
    for sentence in report["notes"]:
        print(sentence)
    if reasons := report["rejected"]["reasons"]:
        said = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1]))
        print(f"rejected: {said}; all are in {folder / 'rejected.csv'}")
    splits = ", ".join(f"{n:,} {name}" for name, n in counts["splits"].items())
    print(f"{folder}: {counts['galaxies']:,} galaxies ({splits}), {counts['rejected']:,} rejected")


def _verify(args):
    from gzlib.data import verify_survey

    report = verify_survey(args.survey)
    print(f"{args.survey}: {report['counts']['galaxies']:,} galaxies, every byte as it was curated")


def _survey(args, label: str | None = None) -> tuple:
    """The survey that the arguments name, and how many of its galaxies (that have a label) to train on."""
    from gzlib.config import SurveySpec
    from gzlib.data import training_galaxies
    from gzlib.training.distributed import made_once

    if not args.survey:
        raise UserError("Name the survey with --survey: a curated folder, sim:N, or a source of real galaxies.")
    names = ("size", "split", "schema", "aspect", "match_radius")
    spec = SurveySpec(args.survey, **{name: getattr(args, name) for name in names})
    return spec, made_once(lambda: training_galaxies(spec, label)) if args.n_train is None else args.n_train


def _configured(args, default):
    """The configuration with what the command line says of its recipe and with ``--set``."""
    from gzlib.config import fill, parse_settings

    named = ("examples", "batch_size", "learning_rate")
    recipe = {name: value for name in named if (value := getattr(args, name)) is not None}
    return fill(fill(default, {"recipe": recipe}, "recipe"), parse_settings(args.set), "--set")


def _encoder(args) -> str:
    """The encoder named, else the one that the weights belong to, else the command's usual one."""
    from gzlib.models import encoder_for
    from gzlib.training import read_run

    if args.encoder or args.weights == "random":
        return args.encoder or args.usual_encoder
    record = read_run(args.weights) if len(args.weights) == 16 and args.weights.isalnum() else None
    return record["config"]["encoder"] if record else encoder_for(args.weights) or args.usual_encoder


def _pretrain(args):
    from gzlib.config import PretrainConfig
    from gzlib.training.distributed import joined

    conduct = _conduct(args)
    with joined():
        survey, n_train = _survey(args)
        config = PretrainConfig(_encoder(args), n_train, seed=args.seed, weights=args.weights)
        made = _made(_configured(args, config), survey, args, conduct, need_weights=True)
    _save(made, args)


def _finetune(args):
    from gzlib.config import FinetuneConfig
    from gzlib.training.distributed import joined

    conduct = _conduct(args)
    with joined():
        survey, n_train = _survey(args, args.label)
        start = {"label": args.label, "seed": args.seed, "weights": args.weights, "mode": args.mode}
        config = FinetuneConfig(args.task, _encoder(args), n_train, **start)
        made = _made(_configured(args, config), survey, args, conduct, need_weights=args.mode == "full")
    _save(made, args)


def _made(config, survey, args, conduct: Conduct, *, need_weights: bool) -> tuple | None:
    """Make the run and tell what came of it; configuration, survey and record, in the first process alone."""
    from gzlib.training import run
    from gzlib.training.distributed import is_main

    if args.out:
        from gzlib.training.publish import check_out

        check_out(args.out)
    record = run(config, survey, conduct=conduct, need_weights=need_weights)
    _tell_run(record)
    return (config, survey, record) if is_main() else None


def _save(made: tuple | None, args):
    """Save the run's model where ``--out`` asks for that."""
    if args.out and made:
        from gzlib.training.publish import save_run

        config, survey, record = made
        unit = getattr(args, "unit", "")
        model = save_run(config, survey, record, args.out, unit=unit, device=args.device, report=_tell)
        print(f"{args.out}: {model!r}, calibrated on {model.config.calibration.n:,} galaxies")


def _predict(args):
    from gzlib.training import load_model
    from gzlib.training.predict import write_table

    how = {name: getattr(args, name) for name in ("aspect", "limit", "force")}
    done = write_table(load_model(args.model, device=args.device), args.source, args.out, what=args.command, **how)
    for id_str, problem in done["problems"][:10]:
        _tell(f"not used: {id_str}: {problem}")
    lost = f", {len(done['problems']):,} of them without a usable image (column 'problem')" if done["problems"] else ""
    print(f"{args.out}: {done['galaxies']:,} galaxies{lost}")


_embed = _predict


def _evaluate(args):
    from dataclasses import replace

    from gzlib.training import load_model
    from gzlib.training.evaluation import evaluate, own_spec, told

    model = load_model(args.model, device=args.device)
    spec = own_spec(model, args.source)
    spec = replace(spec, **{name: value for name in ("split", "schema") if (value := getattr(args, name))})
    found = evaluate(model, args.source, label=args.label, part=args.part, spec=spec, progress=True)
    print("\n".join(told(found)))
    if args.out:
        from gzlib.files import replace_file

        replace_file(args.out, json.dumps(found, indent=1) + "\n")


def _export(args):
    from gzlib.training import load_model
    from gzlib.training.publish import export

    print(export(load_model(args.model, device="cpu"), args.out, form=args.format))


def _push(args):
    from gzlib.training.publish import push

    print(push(args.model, args.repository, private=args.private, figures=args.figures))


def _rerun(args):
    from gzlib.training import rerun
    from gzlib.training.distributed import joined

    conduct = _conduct(args)
    with joined():
        _tell_run(rerun(args.key, weights=args.weights, conduct=conduct))


def _tell_run(record: dict):
    from gzlib.training.distributed import is_main

    m = record["metrics"]
    if record["kind"] == "pretrain":
        found = f"test loss {m['loss']:.4f} +- {m['loss_se'] or 0:.4f} (mean answers: {m['baseline']:.4f})"
    else:
        what = "test error" if m["n_classes"] else "test error (root mean square)"
        beside = []
        if m.get("baseline_error") is not None:  # an earlier version's runs have none
            always = "commonest class" if m["n_classes"] else "mean of the training labels"
            beside.append(f"{always}: {m['baseline_error']:.4f}")
        if m.get("balanced_accuracy") is not None:
            beside.append(f"balanced accuracy: {m['balanced_accuracy']:.4f}")
        said = f" ({', '.join(beside)})" if beside else ""
        found = f"{what} {m['error']:.4f}{said}, loss {m['loss']:.4f}, {m['n_test']} test galaxies"
    if is_main():
        print(
            f"run {record['key']}: {found}{'' if _in_store(record['key']) else ' (from the book: gzlib runs --book)'}"
        )


def _in_store(key: str) -> bool:
    from gzlib import paths

    return (paths.STORE / key / "run.json").is_file()


def _runs(args):
    from gzlib import paths
    from gzlib.training import export_runs, find_key, read_run, remove_runs

    store = getattr(args, "store", None)
    _use_store(store)
    if "book" in args:
        paths.STORE = paths.project() / "data" / "runs"
    elif store and not paths.STORE.exists():
        raise UserError(f"There is no folder '{store}' with runs; check the path.")
    if args.action == "rm":
        remove_runs(args.keys)
        print(f"removed from {paths.STORE}: {', '.join(dict.fromkeys(args.keys))}")
    elif args.action == "release":
        from gzlib.training import release  # with torch, which the others do without

        for file in release([find_key(key) for key in args.keys], args.folder):
            print(file)
    elif args.action == "show":
        record = read_run(find_key(args.key))
        print(json.dumps(record, indent=1, sort_keys=True))
    elif args.action == "export":
        records = _chosen_runs(args)
        export_runs(records, args.file)
        print(f"{args.file}: {len(records)} runs")
    else:
        _list_runs(_chosen_runs(args), args)


def _chosen_runs(args) -> list[dict]:
    """The store's runs of the kind and with the settings asked for; damaged ones are told and left out."""
    from gzlib.training import runs_table, stored_records

    damaged: list[str] = []
    records = stored_records(args.kind, damaged=damaged)
    for sentence in damaged:
        _tell(f"gzlib runs: left out: {sentence}")
    for pair in args.where:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--where {pair}: write NAME=VALUE, such as encoder=resnet_w12.")
        rows = runs_table(records)
        if rows and not any(name in row for row in rows):
            raise UserError(f"--where {pair}: runs have no '{name}'; they have {', '.join(rows[0])}.")
        records = [r for r, row in zip(records, rows, strict=True) if str(row.get(name)) == value]
    return records


def _list_runs(records: list[dict], args):
    from gzlib import paths
    from gzlib.training import runs_table, unfinished_runs

    rows = runs_table(records)
    if args.quiet:
        print("".join(f"{row['key']}\n" for row in rows), end="")
        return
    if unfinished := unfinished_runs():
        print(f"failed or unfinished: {', '.join(unfinished)}")
    if not rows:
        print(f"no {'such ' if args.where or args.kind else ''}runs in {paths.STORE}")
        return
    import pandas as pd

    columns = ["key", "kind", "task", "mode", "encoder", "weights", "source", "n_train", "seed"]
    table = pd.DataFrame(rows)[columns]
    table["result"] = [row["loss"] if row["kind"] == "pretrain" else row["error"] for row in rows]
    table["started"] = [row.get("started") or "" for row in rows]
    texts = [i for i, name in enumerate(table) if name not in ("n_train", "seed", "result")]  # 20,000 runs take a while
    print(table.to_markdown(index=False, floatfmt=".4f", intfmt=",", disable_numparse=texts))


def _sweep(args):
    from gzlib.study import preset_jobs, recipe_rule
    from gzlib.training import plan_notes, read_plan, sweep, sweep_on

    conduct = replace(_conduct(args), noted=plan_notes(args.plan))
    if args.dry_run:
        return _tell_plan(args.plan)
    jobs = read_plan(args.plan, preset=preset_jobs, rule=recipe_rule)
    if args.scheduler:
        records = sweep_on(args.scheduler, jobs, bring_weights=args.bring_weights, conduct=conduct)
    else:
        records = sweep(jobs, workers=args.workers, conduct=conduct)
    print(f"{len(records)} of {len(jobs)} runs complete")
    return 0 if len(records) == len(jobs) else 1


def _tell_plan(plan: Path):
    """Which runs of a plan are complete, and what all of them cost; nothing is made or fetched for it."""
    from functools import partial

    import pandas as pd

    from gzlib.study import preset_jobs, recipe_rule
    from gzlib.study.cost import plan_words, planned_training
    from gzlib.training import plan_summary, plan_table, read_plan

    jobs = read_plan(plan, preset=partial(preset_jobs, planned=True), rule=recipe_rule, planned=planned_training)
    rows = plan_table(jobs)
    table = pd.DataFrame(plan_summary(rows))
    texts = [i for i, name in enumerate(table) if name not in ("runs", "n_train", "seed", "seeds")]
    print(table.to_markdown(index=False, disable_numparse=texts), end="\n\n")
    print("\n".join(plan_words(jobs)), end="\n\n")
    print(", ".join(f"{n} {state}" for state, n in pd.Series([row["state"] for row in rows]).value_counts().items()))


def _fit(args, **more):
    from gzlib.fitting.report import answer

    columns = {name: getattr(args, f"{name}_column") for name in ("size", "loss", "accuracy", "seed", "curve")}
    columns |= {"ignore": args.ignore or ()}
    how = {"at": args.at, "law": args.law, "level": args.level, "file": args.plot, "form": args.form}
    print(answer(args.command, args.curves, **how, **columns, **more))


def _forecast(args):
    _fit(args, target=args.target)


def _plan(args):
    _fit(args, target=args.target, cost=args.cost, owned=args.owned, risks=args.risk)


def _register(args):
    from gzlib import paths
    from gzlib.study import register_forecast, register_plan, run_outcome

    paths.STORE = paths.project() / "data" / "runs"  # a registered forecast is part of the book, and so are its runs
    if args.run_outcome:
        print(f"{len(run_outcome(args.name))} runs complete")
        return
    absent = [name for name in ("source", "encoder", "pilot", "target") if not getattr(args, name)]
    if args.plan:
        if len(absent) < 4:
            raise UserError(
                "A plan says itself which runs it has: --plan goes without --source, --encoder, --pilot, --target."
            )
        print(register_plan(args.name, plan=args.plan, level=args.level))
        return
    if absent:
        raise UserError(f"A forecast needs {', '.join('--' + name for name in absent)}, too.")
    choice = {"preset": args.preset, "source": args.source, "encoders": args.encoder, "seeds": args.seeds}
    print(register_forecast(args.name, pilot=args.pilot, targets=args.target, level=args.level, **choice))


def _bench(args):
    from gzlib import paths

    folder = paths.project() / "benchmarks"
    if str(folder) not in sys.path:  # benchmarks share helpers; last, so that none hides a package
        sys.path.append(str(folder))
    from harness import bench

    return bench(args.what, as_json=args.json, csv=args.csv, store=args.store, kills=args.kills, seed=args.seed)


def _doctor(args):
    from gzlib.paths import doctor

    return doctor()

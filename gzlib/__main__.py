"""The command line: ``python -m gzlib COMMAND``; every command is a thin call of the library."""

import argparse
import json
import sys
from pathlib import Path

from gzlib.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 with one sentence on standard error if the input was bad."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        return args.call(args) or 0
    except UserError as error:
        if args.debug:
            raise
        print(f"gzlib {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"gzlib {args.command}: stopped; what was finished is kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gzlib", description="Scaling laws for galaxy images.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, call, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(call=call)
        return sub

    sub = command("build", _build, "run the chapters that are stale; with other parameters, run an experiment")
    sub.add_argument("--preset", choices=("smoke", "laptop", "paper"), help="size of the study")
    sub.add_argument("--only", action="append", metavar="NN", help="a chapter by its number, such as 02; repeatable")
    sub.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    sub.add_argument("--force", action="store_true", help="run fresh chapters too; an experiment starts from nothing")
    sub.add_argument("--name", help="the experiment's folder below experiments/")

    sub = command("render", _render, "build, then render the book with Quarto if it is here, else with the preview")
    sub.add_argument("--no-install", action="store_true", help="do not try to install Quarto where there is none")

    sub = command("preview", _preview, "render the book as it stands through pandoc")
    sub.add_argument("--out", type=Path, help="the folder for the pages (default: _book)")

    sub = command("curate", _curate, "check, split, resize and pack galaxies into a survey")
    sub.add_argument("source", help="sim:N, a folder or catalogue of pictures, or hub:OWNER/NAME")
    sub.add_argument("--out", type=Path, help="the survey's folder (default: one of its own in data/surveys)")
    sub.add_argument("--size", type=int, default=64, help="side of the pictures in px (default: %(default)s)")
    sub.add_argument("--limit", type=int, help="read at most so many galaxies")
    sub.add_argument("--split", choices=("hash", "source"), default="hash", help="'source' keeps a published test set")
    sub.add_argument("--schema", help="decision tree to read (default: recognised by its columns)")
    sub.add_argument("--seed", type=int, default=0, help="of the simulated sky")

    sub = command("pretrain", _pretrain, "train an encoder on a survey's votes")
    sub.add_argument("--again", metavar="KEY", help="make the weights of a recorded run again")
    _training_arguments(sub, weights="random")

    sub = command("finetune", _finetune, "train an encoder on a task's labels")
    sub.add_argument("--task", default="task", help="a name for the task")
    sub.add_argument("--label", default="label", help="column that is predicted (default: %(default)s)")
    sub.add_argument("--mode", choices=("linear", "full"), default="linear", help="linear probe, or all weights")
    _training_arguments(sub, weights="imagenet")

    sub = command("fit", _fit, "fit power laws to learning curves, with intervals and verdicts")
    sub.add_argument("curves", type=Path, help="CSV with columns n_train, loss, and optionally seed, curve")

    sub = command("forecast", _forecast, "say how many labels reach a target, with a band")
    sub.add_argument("curves", type=Path, help="CSV as for 'fit'")
    sub.add_argument("--target", type=float, required=True, help="the loss or error to reach")

    sub = command("bench", _bench, "measure this project's figures on this machine")
    sub.add_argument("what", help="which figures; 'list' names them")
    sub.add_argument("--json", action="store_true", help="one JSON object a line")
    sub.add_argument("--csv", type=Path, help="learning curves for 'curves'")

    command("doctor", _doctor, "say what this machine has, what is missing, and what to do")
    return parser


def _training_arguments(sub: argparse.ArgumentParser, *, weights: str):
    sub.add_argument("--survey", help="a curated survey's folder, or a source to curate first")
    sub.add_argument("--size", type=int, default=64, help="side of the pictures in px, if curated first")
    sub.add_argument("--split", choices=("hash", "source"), default="hash", help="'source' keeps a published test set")
    sub.add_argument("--encoder", default="convnext_w10", help="convnext_w<width> or a timm name (%(default)s)")
    sub.add_argument("--weights", default=weights, help="random, imagenet or a run's key (default: %(default)s)")
    sub.add_argument("--n-train", type=int, help="training galaxies (default: all)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--examples", type=int, help="galaxies seen in all (default: the recipe's)")
    sub.add_argument("--batch-size", type=int, help="(default: the recipe's)")
    sub.add_argument("--learning-rate", type=float, help="(default: the recipe's)")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")


def _build(args):
    from gzlib.book.build import build

    build(preset=args.preset, only=args.only, parameters=dict(args.p), force=args.force, name=args.name)


def _render(args):
    from gzlib.book.build import build
    from gzlib.book.render import render

    build()
    render(install=not args.no_install)


def _preview(args):
    from gzlib import paths
    from gzlib.book.preview import preview

    print(preview(paths.ROOT, args.out or paths.BOOK))


def _curate(args):
    from gzlib.data.curate import curate

    folder = curate(
        args.source,
        out=args.out,
        size=args.size,
        limit=args.limit,
        split=args.split,
        schema=args.schema,
        seed=args.seed,
    )
    counts = json.loads((folder / "survey.json").read_text())["counts"]
    splits = ", ".join(f"{n:,} {name}" for name, n in counts["splits"].items())
    print(f"{folder}: {counts['galaxies']:,} galaxies ({splits}), {counts['rejected']:,} rejected")


def _survey(args):
    from gzlib.data.curate import SurveySpec
    from gzlib.data.survey import open_survey

    if not args.survey:
        raise UserError("Name the survey with --survey: a curated folder, sim:N, or a source of real galaxies.")
    spec = SurveySpec(args.survey, size=args.size, split=args.split)
    if args.n_train is None:
        args.n_train = int((open_survey(spec.make()).split == "train").sum())
    return spec


def _recipe(args, default):
    from dataclasses import replace

    changed = {name: getattr(args, name) for name in ("examples", "batch_size", "learning_rate")}
    return replace(default, **{name: value for name, value in changed.items() if value is not None})


def _pretrain(args):
    from gzlib.training import PretrainConfig, Recipe, make_again, run

    if args.again:
        record = make_again(args.again, device=args.device)
    else:
        survey = _survey(args)
        config = PretrainConfig(
            args.encoder, args.n_train, seed=args.seed, weights=args.weights, recipe=_recipe(args, Recipe())
        )
        record = run(config, survey, device=args.device)
    m = record["metrics"]
    print(f"run {record['key']}: test loss {m['loss']:.4f} +- {m['loss_se']:.4f} (mean answers: {m['baseline']:.4f})")


def _finetune(args):
    from gzlib.training import FINETUNING, FinetuneConfig, run

    survey = _survey(args)
    config = FinetuneConfig(
        args.task,
        args.encoder,
        args.n_train,
        label=args.label,
        seed=args.seed,
        weights=args.weights,
        mode=args.mode,
        recipe=_recipe(args, FINETUNING),
    )
    record = run(config, survey, device=args.device)
    m = record["metrics"]
    print(f"run {record['key']}: test error {m['error']:.4f}, loss {m['loss']:.4f}, {m['n_test']} test galaxies")


def _fit(args):
    import pandas as pd

    from gzlib.fitting import fit_table, read_curves

    print(pd.DataFrame(fit_table(read_curves(args.curves))).to_markdown(index=False, floatfmt=".4g"))


def _forecast(args):
    from gzlib.fitting import forecast_labels, read_curves

    print(json.dumps(forecast_labels(read_curves(args.curves), args.target), indent=1))


def _bench(args):
    from gzlib.bench import bench

    return bench(args.what, as_json=args.json, csv=args.csv)


def _doctor(args):
    from gzlib.doctor import doctor

    return doctor()


if __name__ == "__main__":
    sys.exit(main())

"""The command line, ``python -m gzlib COMMAND``: what may be said; :mod:`gzlib.commands` does it."""

import argparse
import os
import sys
from pathlib import Path

from gzlib import commands
from gzlib.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 if it went well, 1 if some runs of a sweep failed, 2 with one sentence on standard error if the input was
        bad, 75 if SIGTERM stopped a training that the same command takes up again, 130 after Ctrl-C.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        return args.call(args) or 0
    except UserError as error:
        if args.debug:
            raise
        _tell(f"gzlib {args.command}: {error}")
        return 2
    except SystemExit as stop:
        _tell(f"gzlib {args.command}: stopped; what was done is kept, and the same command goes on from there")
        return stop.code
    except KeyboardInterrupt:
        _tell(f"gzlib {args.command}: stopped; what was finished is kept")
        return 130


def _tell(sentence: str):
    """A last word on standard error; of the processes that torchrun started, the first one has it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0":
        print(sentence, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gzlib", description="Scaling laws for galaxy images.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        sub = parsers.add_parser(name, help=help, description=help)
        sub.set_defaults(call=getattr(commands, name))
        return sub

    sub = command("build", "run the chapters that are stale; with other parameters, run an experiment")
    sub.add_argument("--preset", choices=("smoke", "laptop", "paper"), help="size of the study")
    sub.add_argument("--only", action="append", metavar="NN", help="a chapter by its number, such as 02; repeatable")
    sub.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    sub.add_argument("--force", action="store_true", help="run fresh chapters too; an experiment starts from nothing")
    sub.add_argument("--name", help="the experiment's folder below experiments/")

    sub = command("render", "build, then render the book with Quarto if it is here, else with the preview")
    sub.add_argument("--no-install", action="store_true", help="do not try to install Quarto where there is none")

    sub = command("preview", "render the book as it stands through pandoc")
    sub.add_argument("--out", type=Path, help="the folder for the pages (default: _book)")

    sub = command("curate", "check, split, resize and pack galaxies into a survey")
    sub.add_argument("source", help="sim:N, a folder or catalogue of pictures, or hub:OWNER/NAME")
    sub.add_argument("--out", type=Path, help="the survey's folder (default: one of its own in data/surveys)")
    sub.add_argument("--size", type=int, default=64, help="side of the pictures in px (default: %(default)s)")
    sub.add_argument("--limit", type=int, help="read at most so many galaxies")
    sub.add_argument("--split", choices=("hash", "source"), default="hash", help="'source' keeps a published test set")
    sub.add_argument("--schema", help="decision tree to read (default: recognised by its columns)")
    sub.add_argument("--seed", type=int, default=0, help="of the simulated sky")

    sub = command("pretrain", "train an encoder on a survey's votes")
    sub.add_argument("--again", metavar="KEY", help="make the weights of a recorded run again")
    _training_arguments(sub, weights="random")

    sub = command("finetune", "train an encoder on a task's labels")
    sub.add_argument("--task", default="task", help="a name for the task")
    sub.add_argument("--label", default="label", help="column that is predicted (default: %(default)s)")
    sub.add_argument("--mode", choices=("linear", "full"), default="linear", help="linear probe, or all weights")
    _training_arguments(sub, weights="imagenet")

    sub = command("sweep", "make the runs of a plan that are missing, here or on a cluster")
    sub.add_argument("plan", type=Path, help="a TOML file; see examples/plan.toml")
    sub.add_argument("--dry-run", action="store_true", help="list the runs and which of them are there; make none")
    sub.add_argument(
        "--scheduler", metavar="WHERE", help="Dask workers: local:N processes here, or a running scheduler's address"
    )
    sub.add_argument("--bring-weights", action="store_true", help="from workers that do not share this file system")
    _conduct_arguments(sub)

    sub = command("fit", "fit power laws to learning curves, with intervals and verdicts")
    sub.add_argument("curves", type=Path, help="CSV with columns n_train, loss, and optionally seed, curve")

    sub = command("forecast", "say how many labels reach a target, with a band")
    sub.add_argument("curves", type=Path, help="CSV as for 'fit'")
    sub.add_argument("--target", type=float, required=True, help="the loss or error to reach")

    sub = command("register", "store a forecast before the runs that it is about exist")
    sub.add_argument("name", help="of the forecast, stored as data/forecasts/NAME.json")
    sub.add_argument("--run-outcome", action="store_true", help="make the runs that a stored forecast is about")
    sub.add_argument("--preset", choices=("smoke", "laptop", "paper"), default="laptop", help="recipe (%(default)s)")
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

    command("doctor", "say what this machine has, what is missing, and what to do")
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
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, such as recipe.weight_decay=0.1 or recipe.augment.flip=false; repeatable",
    )
    _conduct_arguments(sub)


def _conduct_arguments(sub: argparse.ArgumentParser):
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    sub.add_argument("--compile", action="store_true", help="compile the model first: pays on GPUs, for long runs")
    sub.add_argument("--log", help="'tensorboard' writes training curves into the runs' folders")
    sub.add_argument(
        "--checkpoint-seconds", type=float, default=120.0, metavar="S", help="between checkpoints (%(default)s)"
    )


if __name__ == "__main__":
    sys.exit(main())

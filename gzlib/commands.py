"""What each command does with its arguments; the work itself is the library's.

Modules are imported where they are used, so that ``--help`` and a mistyped option answer at once.
"""

import json

from gzlib.errors import UserError


def _conduct(args) -> dict:
    from gzlib.training.logger import logger_name

    logger_name(args.log)  # a bad name is told before anything is made
    names = ("device", "compile", "log", "checkpoint_seconds")
    return {name: getattr(args, name) for name in names}


def build(args):
    from gzlib.book.build import build

    build(preset=args.preset, only=args.only, parameters=dict(args.p), force=args.force, name=args.name)


def render(args):
    from gzlib.book.build import build
    from gzlib.book.render import render

    build()
    render(install=not args.no_install)


def preview(args):
    from gzlib import paths
    from gzlib.book.preview import preview

    print(preview(paths.ROOT, args.out or paths.BOOK))


def curate(args):
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
    from gzlib.training.distributed import made_once

    if not args.survey:
        raise UserError("Name the survey with --survey: a curated folder, sim:N, or a source of real galaxies.")
    spec = SurveySpec(args.survey, size=args.size, split=args.split)
    if args.n_train is None:
        args.n_train = int((open_survey(made_once(spec.make)).split == "train").sum())
    return spec


def _configured(args, default):
    """The configuration with what the command line says of its recipe and with ``--set``."""
    from gzlib.training.settings import fill, parse_settings

    named = ("examples", "batch_size", "learning_rate")
    recipe = {name: value for name in named if (value := getattr(args, name)) is not None}
    return fill(fill(default, {"recipe": recipe}, "recipe"), parse_settings(args.set), "--set")


def pretrain(args):
    from gzlib.training import PretrainConfig, make_again, run
    from gzlib.training.distributed import is_main, joined

    conduct = _conduct(args)
    with joined():
        if args.again:
            record = make_again(args.again, **conduct)
        else:
            survey = _survey(args)
            config = PretrainConfig(args.encoder, args.n_train, seed=args.seed, weights=args.weights)
            record = run(_configured(args, config), survey, **conduct)
        m = record["metrics"]
        if is_main():
            found = f"test loss {m['loss']:.4f} +- {m['loss_se']:.4f} (mean answers: {m['baseline']:.4f})"
            print(f"run {record['key']}: {found}")


def finetune(args):
    from gzlib.training import FinetuneConfig, run
    from gzlib.training.distributed import is_main, joined

    conduct = _conduct(args)
    with joined():
        survey = _survey(args)
        config = FinetuneConfig(
            args.task,
            args.encoder,
            args.n_train,
            label=args.label,
            seed=args.seed,
            weights=args.weights,
            mode=args.mode,
        )
        record = run(_configured(args, config), survey, **conduct)
        m = record["metrics"]
        if is_main():
            found = f"test error {m['error']:.4f}, loss {m['loss']:.4f}, {m['n_test']} test galaxies"
            print(f"run {record['key']}: {found}")


def sweep(args):
    from gzlib.training import sweep
    from gzlib.training.plan import plan_table, read_plan

    jobs, conduct = read_plan(args.plan), _conduct(args)
    if args.dry_run:
        import pandas as pd

        table = pd.DataFrame(plan_table(jobs))
        print(table.to_markdown(index=False))
        print(", ".join(f"{n} {state}" for state, n in table.state.value_counts().items()))
        return 0
    if args.scheduler:
        from gzlib.training.cluster import sweep_on

        records = sweep_on(args.scheduler, jobs, bring_weights=args.bring_weights, **conduct)
    else:
        records = sweep(jobs, **conduct)
    print(f"{len(records)} of {len(jobs)} runs are there")
    return 0 if len(records) == len(jobs) else 1


def fit(args):
    import pandas as pd

    from gzlib.fitting import fit_table, read_curves

    print(pd.DataFrame(fit_table(read_curves(args.curves))).to_markdown(index=False, floatfmt=".4g"))


def forecast(args):
    from gzlib.fitting import forecast_labels, read_curves

    print(json.dumps(forecast_labels(read_curves(args.curves), args.target), indent=1))


def register(args):
    from gzlib.book.registered import register_forecast, run_outcome

    if args.run_outcome:
        print(f"{len(run_outcome(args.name))} runs are there")
        return
    absent = [name for name in ("source", "encoder", "pilot", "target") if not getattr(args, name)]
    if absent:
        raise UserError(f"A forecast needs {', '.join('--' + name for name in absent)}, too.")
    choice = {"preset": args.preset, "source": args.source, "encoders": args.encoder, "seeds": args.seeds}
    print(register_forecast(args.name, pilot=args.pilot, targets=args.target, level=args.level, **choice))


def bench(args):
    from gzlib.bench import bench

    return bench(args.what, as_json=args.json, csv=args.csv, store=args.store)


def doctor(args):
    from gzlib.doctor import doctor

    return doctor()

"""How often the claims' tests cry wolf, and what they can see: simulated studies of the plan's design.

    python benchmarks/claims.py [--draws 2000] [--subjectivity] [--write]

No effect of size: encoders scatter by half, one and two standard deviations of a seed, which is the null of claim 2
with encoders as the units. Power: the share of questions on which a given effect of ten times the parameters is
found, and the bound within which no effect is shown. Encoders, sizes and seeds are those of
``data/plans/study.toml`` from 8,000 galaxies on. The same for the comparison of laws: how often the power law is called
beaten where it, and where another law, made the runs. The tests take the seeds for alike at every size; where they
differ less on more galaxies (``FALL``), the same is asked of nulls and laws again. How often one exponent for all
encoders is refused where there is one, with a fifth of the draws. ``--write`` keeps the records in
``data/benchmarks/claims.json``.

``--subjectivity`` measures instead what claim 2 sets the effect of size against: how far volunteers disagree about a
question when they look at the same galaxy, which the simulated sky knows. Answers are drawn from known probabilities
for each galaxy, so the mean over asked test galaxies of their entropy is what the image leaves open; the entropy of the
mean probabilities is what someone has to guess who has not seen the image. No image is drawn at its size, so it takes
a minute; ``--write`` keeps it in ``data/benchmarks/subjectivity.json``.
"""

import argparse
import itertools
import json
from functools import cache

import numpy as np
import xarray as xr

from gzlib import paths, sky
from gzlib.data.schema import load_schema
from gzlib.files import replace_file
from gzlib.fitting import Curves, encoder_effect, shared_exponent
from gzlib.fitting.claims import EXCESS_LAWS, held_out, verdict_of_laws
from gzlib.models import count_parameters, load_encoder
from gzlib.sky.source import STUDY_HELD
from gzlib.training import read_plan

OUT = paths.ROOT / "data" / "benchmarks" / "claims.json"
SUBJECTIVITY = OUT.with_name("subjectivity.json")
LEAST = 8_000
SEED_SD = 0.02  # of ln(excess); the ratio to the encoders' scatter is what matters
FALL = 1.0  # exponent with which the variance between seeds falls with size, where it does


@cache
def design() -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Which runs there are (encoder, n_train, seed), each encoder's parameters and family."""
    jobs = read_plan(paths.ROOT / "data" / "plans" / "study.toml")
    made = {(c.encoder, c.n_train, c.seed) for c, _ in jobs if c.n_train >= LEAST}
    encoders, sizes, seeds = (sorted({place[i] for place in made}) for i in range(3))
    present = [[[(e, n, s) in made for s in seeds] for n in sizes] for e in encoders]
    coords = {"encoder": encoders, "n_train": sizes, "seed": seeds}
    count = [count_parameters(load_encoder(e, "random")) for e in encoders]
    family = [e.split("_")[0] for e in encoders]
    at = {"encoder": encoders}
    return xr.DataArray(present, coords), xr.DataArray(np.array(count, float), at), xr.DataArray(family, at)


def seed_sd(n_train: np.ndarray, fall: float) -> np.ndarray:
    """Of ln(excess) at each size: ``SEED_SD`` at their geometric mean."""
    return SEED_SD * (n_train / np.exp(np.log(n_train).mean())) ** (-0.5 * fall)


def effects(rng, draws: int, *, slope: float, scatter: float, fall: float = 0.0) -> xr.Dataset:
    """:func:`gzlib.fitting.encoder_effect` of so many made-up questions."""
    present, parameters, family = design()
    n = present.sizes
    size = np.log10(parameters.values / 1e5)[None, :, None, None]
    own = scatter * SEED_SD * rng.standard_normal((draws, n["encoder"], 1, 1))
    sd = seed_sd(present.n_train.values, fall)[:, None]
    noise = sd * rng.standard_normal((draws, n["encoder"], n["n_train"], n["seed"]))
    fall = -0.25 * np.log(present.n_train.values)[None, None, :, None]
    excess = xr.DataArray(np.exp(own + noise + fall + slope * size), coords=present.coords | {"question": range(draws)},
                          dims=["question", *present.dims])  # fmt: skip
    return encoder_effect(excess.where(present), parameters=parameters, family=family)


def record(name: str, value: float, unit: str, goal, ok: bool, **detail) -> dict:
    return {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "ok": bool(ok), "detail": detail}


def records(draws: int) -> list[dict]:
    rng, apart, out = np.random.default_rng(0), np.random.default_rng(2), []
    for scatter in (0.5, 1.0, 2.0):
        found = effects(rng, draws, slope=0.0, scatter=scatter)
        rate = float((found.p < 0.05).mean())
        covered = float(((found.low < 0) & (found.high > 0)).mean())
        detail = {"draws": draws, "encoder_scatter": scatter, "covered_95": round(covered, 4), "dof": int(found.dof[0])}
        out.append(
            record(
                f"claims.null.{scatter}", rate, "found at 5 % without an effect", 0.05, 0.03 <= rate <= 0.07, **detail
            )
        )
        bound = float(np.quantile(np.maximum(abs(found.inner_low), abs(found.inner_high)), 0.8))
        out.append(
            record(f"claims.bound.{scatter}", bound, "change of ln(excess) for ten times the parameters that four in"
                   " five null questions exclude", None, True, **detail)
        )  # fmt: skip
        for slope in (-0.02, -0.05, -0.1):
            power = float((effects(rng, draws, slope=slope, scatter=scatter).p < 0.05).mean())
            out.append(
                record(f"claims.power.{scatter}.{-slope:g}", power, "found at 5 %, one question by itself", None, True,
                       **detail, slope=slope)
            )  # fmt: skip
        found = effects(apart, draws, slope=0.0, scatter=scatter, fall=FALL)
        rate = float((found.p < 0.05).mean())
        detail = {"draws": draws, "encoder_scatter": scatter, "fall": FALL}
        out.append(
            record(f"claims.null.{scatter}.falling", rate, "found at 5 % without an effect, scatter of seeds falling",
                   0.05, 0.03 <= rate <= 0.07, **detail)
        )  # fmt: skip
    return out + law_records(draws) + law_records(draws, FALL) + one_exponent(draws // 5)


TRUTHS = {
    "power": lambda x: 5 * x**-0.15,
    "power-offset": lambda x: 1 + 4 * x**-0.4,
    "logarithmic": lambda x: 5 - 0.9 * np.log(x),
    "exponential": lambda x: 2 + 3 * np.exp(-1.2 * x),
}  # fmt: skip
RUNS = {1_000: 3, 2_000: 3, 4_000: 3, 8_000: 3, 16_000: 3, 32_000: 1, 64_000: 1}  # of a ResNet in the plan


def law_records(draws: int, fall: float = 0.0) -> list[dict]:
    """How often the power law is called beaten where it made the runs, and where another law did; and its bands."""
    rng, out = np.random.default_rng(1), []
    size = np.array(list(RUNS)) / np.exp(np.log(list(RUNS)).mean())
    sd, end = seed_sd(size, fall)[:, None], ".falling" if fall else ""
    there = np.arange(3) < np.array(list(RUNS.values()))[:, None]
    for name, law in TRUTHS.items():
        noise = sd * rng.standard_normal((draws, len(size), 3))
        curves = Curves(size, np.where(there, np.log(law(size))[None, :, None] + noise, np.nan))
        aicc = {tried: curves.fit(one).aicc for tried, one in EXCESS_LAWS.items()}
        words = [verdict_of_laws({tried: values[i] for tried, values in aicc.items()}) for i in range(draws)]
        beaten, own = words.count("beaten") / draws, name.startswith("power")
        what = "false" if own else "true"
        out.append(
            record(f"claims.beaten.{name}{end}", beaten, f"curves whose power law is called beaten, which is {what}",
                   None, beaten <= 0.07 if own else beaten >= 0.8, draws=draws, fall=fall)
        )  # fmt: skip
        if own:
            held = float(held_out(curves).mean())
            out.append(
                record(f"claims.held_out.{name}{end}", held, "runs at the two largest sizes within the 95 % band", 0.95,
                       0.93 <= held <= 0.97, draws=draws, fall=fall)
            )  # fmt: skip
    return out


ENCODERS = [(21.0, 1.5), (20.5, 2.0), (20.0, 2.4), (19.7, 2.7), (19.5, 3.0)]  # E and A of made-up totals, in nats


def one_exponent(draws: int) -> list[dict]:
    """How often one exponent is refused at 5 % where all encoders have one, and how often its interval holds it."""
    out, alpha = [], 0.35
    size = np.array(list(RUNS), float)
    there = np.arange(3) < np.array(list(RUNS.values()))[:, None]
    mean = np.array([[e + a * (n / 1e4) ** -alpha for n in size] for e, a in ENCODERS])
    coords = {"encoder": range(len(ENCODERS)), "n_train": size, "seed": range(3)}
    for fall, scatter in itertools.product((0.0, FALL), ("alike", "falling")):
        rng, refused, held = np.random.default_rng(3), [], []
        sd = 0.2 * seed_sd(size, fall)[:, None]  # of ln(loss), of which the excess is about a fifth
        for _ in range(draws):
            noise = sd * rng.standard_normal((*mean.shape, 3))
            loss = xr.DataArray(np.where(there, mean[..., None] * np.exp(noise), np.nan), coords, list(coords))
            found = shared_exponent(loss, scatter=scatter)
            refused.append(float(found.p_value) < 0.05)
            held.append(float(found.alpha_low) < alpha < float(found.alpha_high))
        rate, end = float(np.mean(refused)), ".falling" if fall else ""
        out.append(
            record(f"claims.one_exponent.{scatter}{end}", rate, "one exponent refused at 5 %, which is false", 0.05,
                   0.03 <= rate <= 0.07, draws=draws, fall=fall, covered_95=round(float(np.mean(held)), 4))
        )  # fmt: skip
    return out


def entropy(p: np.ndarray) -> np.ndarray:
    """Nats, over the last axis of probabilities."""
    return -np.sum(p * np.log(np.clip(p, 1e-12, 1.0)), axis=-1)


def subjectivity() -> dict:
    """For each question the entropy that an image leaves and that before it is seen [nats], and its test galaxies."""
    count, first = STUDY_HELD["test"]
    found = {}
    for campaign in sky.CAMPAIGNS:
        made, schema = sky.simulate(campaign, np.arange(first, first + count), seed=0, size=8), load_schema(campaign)
        p = made.truth[[f"{answer}_probability" for answer in schema.label_cols]].to_numpy()
        for question in schema.questions:
            asked = p[made.votes[:, question.columns].sum(1) > 0][:, question.columns]
            left, before = float(entropy(asked).mean()), float(entropy(asked.mean(0)))
            found[question.name] = {"left": round(left, 4), "before": round(before, 4), "galaxies": len(asked)}
    return {"survey": "sim:study, test galaxies", "sky": sky.sky_identity(), "unit": "nats", "questions": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--subjectivity", action="store_true", help="measure the questions' subjectivity instead")
    parser.add_argument("--write", action="store_true", help="keep the result in data/benchmarks")
    options = parser.parse_args()
    if options.subjectivity:
        result = subjectivity()
        print(json.dumps(result))
        if options.write:
            replace_file(SUBJECTIVITY, json.dumps(result, indent=1) + "\n")
        raise SystemExit
    results = records(options.draws)
    for result in results:
        print(json.dumps(result))
    if options.write:
        replace_file(OUT, json.dumps(results, indent=1) + "\n")

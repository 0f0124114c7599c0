"""The prior of the forecasts, learned: how members err and what the variance of an error is made of.

    python benchmarks/forecast_prior.py --csv FOLDER [--write]      five minutes

Learned from the held-out ends of public curves (``FOLDER``, in the benchmark's columns; not part of the project), each
domain counting alike, its curves forecast together and each alone, and from made-up pilots of the designs benchmark
with other seeds, one domain for each of its laws. The members' relative errors are means over domains; for the fit of
the variance a domain is forecast without its own part in them. The variance's coefficients, the weights of origins and
the degrees of freedom maximise the likelihood of Student's t, with a penalty where bands of 50, 80 and 95 % hold too
much or too little over all curves, or bands of 95 % too little in a domain. ``--write`` replaces
``gzlib/fitting/forecast_prior.json``; without it the coverage by domain is printed.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
from designs import LAWS, LEADS, NOISES, SEEDS, SIZES, draw_truth
from domains import read_domains
from scipy.optimize import minimize
from scipy.special import gammaln
from scipy.stats import t as student

from gzlib import paths
from gzlib.files import replace_file
from gzlib.fitting import forecasting
from gzlib.fitting.ensemble import MEMBERS, Pilot, look_ahead
from gzlib.fitting.forecasting import (
    COMPANY,
    FLOOR,
    LITTLE,
    OUTLIER,
    SCORED,
    Prior,
    expect,
    judge_origins,
    stack_members,
)

FILE = paths.ROOT / "gzlib" / "fitting" / "forecast_prior.json"
LEVELS = np.array([0.5, 0.8, 0.95])
CURVES = 4.0  # origins that the members' prior counts as; chosen with the public curves' errors in view
MOST_POINTS, STUDIES, OF_A_STUDY, SEED = 12, 2, 8, 5
WORST = 3.0  # relative error that a domain can charge a member with
# noise, parameters, trusted and doubted disagreement, slope^2 lead^2, slope^2 lead, lead^2; then scale, others, own,
# company; then degrees of freedom: of a long curve, least, for a point
START = np.log([0.5, 0.35, 0.7, 0.1, 0.02, 0.01, 6e-5, 4.0, 0.16, 4.5, 0.22, 4.5, 3.0, 0.4])


def public(folder):
    """Domain to pilots, new sizes, truths and the study of each curve."""
    out = {}
    for domain, curves in read_domains(folder).items():
        pilots, new, truth = [], [], []
        for curve in curves:
            (x, y), (ahead, loss) = curve["train"], curve["test"]
            chosen = np.unique(np.linspace(0, len(ahead) - 1, min(len(ahead), MOST_POINTS)).round().astype(int))
            pilots.append(Pilot(np.log(x), np.log(y), np.ones(len(x))))
            new.append(np.log(ahead[chosen]))
            truth.append(np.log(loss[chosen]))
        out[domain] = (pilots, new, truth, np.zeros(len(pilots), int))
    return out


def made_up():
    """The same for pilots of the designs, whose truths carry no noise."""
    rng, out = np.random.default_rng(SEED), {}
    for law in LAWS:
        pilots, new, truth, study = [], [], [], []
        designs = [(n, k, noise) for n in SIZES for k in SEEDS for noise in NOISES for _ in range(STUDIES)]
        for number, (n, k, noise) in enumerate(designs):
            for _ in range(OF_A_STUDY):
                x, function, parameters = draw_truth(law, n, rng)
                y = np.log(function(x, *parameters))[:, None] + noise * rng.standard_normal((n, k))
                seed = (float(y.var(axis=1, ddof=1).mean()), float(n * (k - 1))) if k > 1 else (0.0, 0.0)
                pilots.append(Pilot(np.log(x), y.mean(axis=1), np.full(n, float(k)), *seed))
                new.append(np.log(x[-1] * LEADS))
                truth.append(np.log(function(x[-1] * LEADS, *parameters)))
                study.append(number)
        out[law] = (pilots, new, truth, np.array(study))
    return out


class Domain:
    """What the members say of the curves of a domain and of their origins."""

    def __init__(self, pilots, new, truth, study, noisy):
        self.ahead, self.origins = look_ahead(pilots, new), judge_origins(pilots)
        self.truth, self.study, self.noisy = truth, study, noisy
        self.points = np.array([len(pilot.log_x) + pilot.seed_dof for pilot in pilots])
        self.noise = np.array([np.mean(ahead.noise) for ahead in self.ahead])
        errors = [np.sqrt(np.mean((a.mean - z) ** 2, axis=1)) for a, z in zip(self.ahead, truth, strict=True)]
        mean = np.mean(errors, axis=0)
        self.relative = np.minimum(mean / np.quantile(mean, forecasting.BEST), WORST)

    def table(self, members, together):
        """Errors and parts of the variance of held-out points and origins, as arrays for the fit."""
        prior = Prior(members, np.ones(7), CURVES, 1, 1, 1, 0, 5, 1, 1)
        possible, points, pieces = np.ones(len(MEMBERS), bool), [], []
        for i, (ahead, truth) in enumerate(zip(self.ahead, self.truth, strict=True)):
            found = [(1.0, True, origin) for origin in self.origins[i]]
            if together:
                near = np.flatnonzero((self.study == self.study[i]) & (np.arange(len(self.study)) != i))
                alike = forecasting._likeness(self.noise[i], self.noise)
                others = [(alike[j], False, origin) for j in near for origin in self.origins[j]]
                found += others[:: max(1, len(others) // SCORED)]
            errors = np.array([origin.errors for *_, origin in found]).reshape(-1, len(MEMBERS))
            shares = np.array([like * origin.importance for like, _, origin in found])
            weights = stack_members(errors, shares, prior, possible)
            mean, parts = expect(ahead, weights)
            points.append((mean - truth, parts, np.full(len(mean), i)))
            for share, (_, own, origin) in zip(shares, found, strict=True):
                if own or share > LITTLE:
                    mean, parts = expect(origin.ahead, weights)
                    pieces.append((mean - origin.truth, parts, i, share, own))
        where = np.repeat(np.arange(len(pieces)), [len(piece[0]) for piece in pieces])
        table = {name: np.concatenate([p[k] for p in points]) for k, name in enumerate(("errors", "parts", "curve"))}
        table |= {"counts": np.bincount(table["curve"]), "points": self.points, "noisy": self.noisy}
        table |= {"origin_errors": np.concatenate([p[0] for p in pieces]), "origin": where}
        table |= {"origin_parts": np.concatenate([p[1] for p in pieces]), "of": np.array([p[2] for p in pieces])}
        return table | {"share": np.array([p[3] for p in pieces]), "own": np.array([p[4] for p in pieces])}


def scale_and_dof(table, values):
    """Variance of every held-out point and its degrees of freedom, as ``forecast`` computes them."""
    coefficients, (scale, others, own, company) = np.exp(values[:7]), np.exp(values[7:11])
    long, least, each = np.exp(values[11:])
    squares = np.minimum(table["origin_errors"] ** 2 / (table["origin_parts"] @ coefficients + FLOOR), OUTLIER)
    squares = np.bincount(table["origin"], squares) / np.bincount(table["origin"])
    weight = table["share"] * np.where(table["own"], own, others)
    curves = len(table["points"])
    count = scale + np.bincount(table["of"], weight, curves)
    factor = (scale + np.bincount(table["of"], weight * squares, curves)) / count
    near = np.bincount(table["of"], table["share"] * ~table["own"], curves)
    factor = factor * np.exp(-company * near / (near + COMPANY))
    if not table["noisy"]:
        coefficients = coefficients * (np.arange(7) > 0)
    dof = 1 / (1 / long + 1 / (least + each * np.maximum(table["points"] - 2, 0)))
    return factor[table["curve"]] * (table["parts"] @ coefficients) + FLOOR, dof[table["curve"]]


def loss(table, values):
    """Minus the mean log density over curves; no point counts for more than exp(6) times a good one."""
    variance, dof = scale_and_dof(table, values)
    density = gammaln((dof + 1) / 2) - gammaln(dof / 2) - 0.5 * np.log(dof * np.pi * variance)
    density = density - (dof + 1) / 2 * np.log1p(table["errors"] ** 2 / variance / dof)
    return -np.mean(np.bincount(table["curve"], np.maximum(density, -6)) / table["counts"])


def coverage(table, values):
    variance, dof = scale_and_dof(table, values)
    half = student.ppf(0.5 * (1 + LEVELS[:, None]), dof) * np.sqrt(variance)
    inside = np.abs(table["errors"]) <= half
    return np.array([np.mean(np.bincount(table["curve"], row) / table["counts"]) for row in inside])


def objective(values, tables):
    total = np.mean([loss(table, values) for table in tables.values()]) + 0.002 * np.sum((values - START) ** 2)
    for mode in (True, False):
        held = {key: coverage(table, values) for key, table in tables.items() if key[1] == mode}
        real = {key: value for key, value in held.items() if tables[key]["noisy"]}
        curves = [len(tables[key]["points"]) for key in real]
        off = np.abs(np.average([*real.values()], axis=0, weights=curves) - LEVELS) - [0.015, 0.015, 0.005]
        total += 120 * np.sum(np.maximum(off, 0) ** 2)
        for key, value in held.items():
            low, high = (0.93, 1.0) if key in real else (0.94, 0.975)
            total += 8 * (max(low - value[2], 0) ** 2 + max(value[2] - high, 0) ** 2)
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    real, drawn = public(options.csv), made_up()
    domains = {name: Domain(*data, name in real) for name, data in (real | drawn).items()}
    without = {
        name: np.mean([other.relative for key, other in domains.items() if key != name or name in drawn], axis=0)
        for name in domains
    }
    tables = {(n, mode): d.table(without[n], mode) for n, d in domains.items() for mode in (True, False)}
    simplex = np.vstack([START, START + 0.7 * np.eye(len(START))])
    settings = {"maxfev": int(os.environ.get("PRIOR_STEPS", "1500")), "xatol": 0.01, "fatol": 1e-4}
    found = minimize(objective, START, (tables,), method="Nelder-Mead", options=settings | {"initial_simplex": simplex})
    for (name, mode), table in tables.items():
        print(f"{name:18} {'together' if mode else 'alone':9}", coverage(table, found.x).round(3))
    numbers = [float(f"{value:.3g}") for value in np.exp(found.x)]
    names = ("scale", "others", "own", "company", "dof", "dof_least", "dof_points")
    prior = {"members": [round(float(v), 2) for v in np.mean([d.relative for d in domains.values()], axis=0)]}
    prior |= {"variance": numbers[:7], "curves": CURVES} | dict(zip(names, numbers[7:], strict=True))
    made = "python benchmarks/forecast_prior.py --csv FOLDER --write"
    text = json.dumps({"made by": made, "curves": {n: len(d[0]) for n, d in real.items()}, "prior": prior}, indent=1)
    if options.write:
        replace_file(FILE, text + "\n")
    print(text)


if __name__ == "__main__":
    main()

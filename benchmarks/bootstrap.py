"""The bootstrap's speed, measured against one lmfit fit a draw on the same synthetic curves."""

import time

import numpy as np

from gzlib.fitting.laws import LAWS
from gzlib.fitting.optimise import batch_fit

GOAL_RATIO = 100.0
GOAL_DIFFERENCE = 0.01  # of the interval's width


def bench_bootstrap(*, questions=88, draws=1000, lmfit_fits=400, noise=0.02, seed=0):
    """Bootstrap ``questions`` curves of 8 sizes and 3 seeds with ``draws`` refits each, both ways.

    The lmfit side refits ``lmfit_fits`` of the very same draws from the same start and is scaled to all of them.

    Returns
    -------
    list of rows {"name", "value", "unit", "goal", "ok", "detail"}: ``bootstrap.ratio`` (lmfit time / our time),
    ``bootstrap.difference`` (largest difference of a 95 % limit over the interval's width, on the refitted draws),
    ``bootstrap.seconds`` (ours, all draws).
    """
    law = LAWS["power-offset"]
    rng = np.random.default_rng(seed)
    x = np.geomspace(0.03, 30, 8)
    truth = np.stack([rng.uniform(low, high, questions) for low, high in ((0.1, 0.5), (0.1, 0.4), (0.2, 0.6))], axis=1)
    mean = law.function(x, *(truth[:, [j]] for j in range(3)))
    y = mean[:, None] * np.exp(noise / np.sqrt(3) * rng.standard_normal((questions, draws, x.size)))
    y, start = y.reshape(-1, x.size), np.repeat(truth, draws, axis=0)

    began = time.perf_counter()
    ours = batch_fit(law, [x], y, start, tolerance=1e-7)
    seconds = time.perf_counter() - began

    model = law.model()
    one_question = np.arange(min(lmfit_fits, draws))
    began = time.perf_counter()
    theirs = []
    for i in one_question:
        params = model.make_params(**dict(zip(law.names, start[i], strict=True)))
        theirs.append(list(model.fit(np.log(y[i]), params, x=x).best_values.values()))
    each = (time.perf_counter() - began) / len(one_question)

    limits = [
        np.quantile(values, [0.025, 0.975], axis=0) for values in (ours.parameters[one_question], np.array(theirs))
    ]
    difference = float(np.max(np.abs(limits[0] - limits[1]) / (limits[1][1] - limits[1][0])))
    ratio = each * len(y) / seconds
    detail = (
        f"{len(y)} refits of {x.size} sizes; lmfit {each * 1e3:.2f} ms a fit over {len(one_question)} of the same "
        f"draws, {1 - ours.converged.mean():.1%} of ours not converged"
    )
    return [
        {
            "name": "bootstrap.ratio",
            "value": ratio,
            "unit": "",
            "goal": f">= {GOAL_RATIO:g}",
            "ok": bool(ratio >= GOAL_RATIO),
            "detail": detail,
        },
        {
            "name": "bootstrap.difference",
            "value": difference,
            "unit": "interval width",
            "goal": f"<= {GOAL_DIFFERENCE}",
            "ok": bool(difference <= GOAL_DIFFERENCE),
            "detail": "95 % limits from the same draws",
        },
        {"name": "bootstrap.seconds", "value": seconds, "unit": "s", "goal": None, "ok": None, "detail": detail},
    ]


def rows():
    return bench_bootstrap()

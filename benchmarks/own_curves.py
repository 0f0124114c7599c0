"""Forecasts and plans of the study's own curves from their smaller training sets, beside what came.

    python -m gzlib bench own_curves [--store]      some minutes of one core

Every question with every encoder is a curve of committed runs. It is forecast from the sizes up to 4,000, 8,000 and
16,000 galaxies, all curves together, at later sizes up to eight times as far; the plan's target is the mean loss
measured there, if it is below those of the pilot. Counted are the bands of one run that hold the outcome, their
interval score (width, plus 40 times what is missed), the error of the centre, the numbers of labels at a stated risk
that miss the target, and the intervals of labels that hold the size. "alike" takes the scatter between seeds for the
same at every size; the package lets it fall as the seeds of the pilot say (``FALL`` of ``gzlib.fitting.curves``).
"""

from dataclasses import replace

import numpy as np
from designs import interval_score
from harness import row

from gzlib.fitting.curves import flattened, summarise_replicates
from gzlib.fitting.forecasting import extrapolate_pilots, read_pilots
from gzlib.fitting.planner import MAX_FACTOR, RISKS, find_descents
from gzlib.study import StudyRuns, pretraining_study

ENDS, FEWEST = (4_000, 8_000, 16_000), 4
LEVELS = (0.5, 0.8, 0.95)
FAR = 8.01
TAILS = [0.5 * (1 + side * level) for level in LEVELS for side in (-1, 1)]
VARIANTS = ("falling", "alike")


def pilots(loss, variant):
    """What is known of each curve, as forecasts take it."""
    found = read_pilots(loss, x="n_train", replicate="seed")
    if variant == "falling":
        return found, found.pilots
    rest = list(found.log_mean.dims[:-1])
    pooled = flattened(summarise_replicates(loss)["seed_sd"], rest)
    return found, [
        replace(pilot, fall=0.0, seed_variance=float(np.nan_to_num(pooled[i]) ** 2))
        for i, pilot in zip(found.usable, found.pilots, strict=True)
    ]


def outcomes(loss, end, variant):
    """Each later size of each curve: dict of lead, error of the forecast, bands that hold it, score, plans."""
    part = loss.sel(n_train=slice(None, end))
    found, known = pilots(part, variant)
    rest = list(found.log_mean.dims[:-1])
    measured = flattened(np.log(loss).mean("seed").transpose(*rest, "n_train"), rest, "n_train")
    sizes = loss.n_train.values
    later = [(sizes > np.exp(p.log_x[-1]) * 1.01) & (sizes <= np.exp(p.log_x[-1]) * FAR) for p in known]
    new = [np.log(sizes[ahead]) for ahead in later]
    said = extrapolate_pilots(known, new, levels=LEVELS, one_run=True)
    for i, pilot, ahead, log_new, one, descent in zip(
        found.usable, known, later, new, said, find_descents(known), strict=True
    ):
        if len(pilot.log_x) < FEWEST:
            continue
        truth, best = measured[i, ahead], np.nanmin(measured[i, sizes <= end])
        for k in np.flatnonzero(np.isfinite(truth)):
            low, high = one.band[:, 0, k], one.band[:, 1, k]
            lead = log_new[k] - pilot.log_x[-1]
            plan = None
            if truth[k] < best - 1e-3:
                arrival = descent.arrival(truth[k])
                plan = (lead, np.nan_to_num(arrival.lead([*TAILS, *(1 - np.array(RISKS))]), nan=np.inf))
            yield {
                "lead": int(np.round(np.exp(lead))),
                "error": one.log_median[k] - truth[k],
                "inside": (low <= truth[k]) & (truth[k] <= high),
                "score": interval_score(low[-1], high[-1], truth[k], LEVELS[-1]),
                "plan": plan,
            }


def rows():
    loss = StudyRuns(pretraining_study("laptop", plan="study").records())
    loss = loss.questions.sel(encoder=loss.longest)
    out = []
    for variant in VARIANTS:
        seen = [one for end in ENDS for one in outcomes(loss, end, variant)]
        for lead in (2, 4, 8):
            own = [one for one in seen if one["lead"] == lead]
            held = np.mean([one["inside"] for one in own], axis=0)
            error = float(np.sqrt(np.mean([one["error"] ** 2 for one in own])))
            about = {"variant": variant, "lead": lead, "outcomes": len(own), "levels": LEVELS}
            detail = f"{len(own)} outcomes; {' / '.join(f'{v:.2f}' for v in held)} in bands of 50 / 80 / 95 %"
            score = float(np.mean([one["score"] for one in own]))
            name = f"own_curves.{variant}.x{lead}"
            out.append(row(f"{name}.rmsle", error, "ln(loss)", detail=detail, held=held.tolist(), **about))
            out.append(row(f"{name}.score", score, "ln(loss)", detail="interval score of the 95 % bands", **about))
        plans = [one["plan"] for one in seen if one["plan"] is not None]
        needed, told = np.array([lead for lead, _ in plans]), np.array([numbers for _, numbers in plans])
        for k, risk in enumerate(RISKS):
            planned = told[:, len(TAILS) + k]
            missed = float(np.mean(planned < needed))
            cost = float(np.median(np.exp(np.minimum(planned, np.log(MAX_FACTOR)) - needed)))
            detail = f"{len(plans)} targets; median of planned over needed {cost:.2f}"
            about = {"variant": variant, "risk": risk, "targets": len(plans), "cost": cost}
            out.append(row(f"own_curves.{variant}.risk.{risk:g}", missed, "", detail=detail, **about))
        for k, level in enumerate(LEVELS):
            low, high = told[:, 2 * k], told[:, 2 * k + 1]
            held = float(np.mean((low <= needed) & (needed <= high)))
            finite = float(np.mean(high <= np.log(MAX_FACTOR)))
            detail = f"{len(plans)} targets; {finite:.0%} finite"
            about = {"variant": variant, "level": level, "finite": finite}
            out.append(row(f"own_curves.{variant}.interval.{level:g}", held, "", detail=detail, **about))
    return out

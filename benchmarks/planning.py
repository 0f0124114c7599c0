"""One-round label planning on public curves: how often a plan fails, and what it costs beside hindsight.

    python -m gzlib bench planning --csv FOLDER [--store]      ten minutes

As the label-planning literature scores it: the pilot is the first third of a curve's sizes (five at least), the target
is the loss reached later (the mean ln(loss) of the last three sizes, smoothed alike for planner and truth), and the
planner names one number of labels. It fails if the curve, at that size, is above the target: measured sizes are joined
in ln x and ln(loss), smoothed to fall. A plan beyond the last measured size counts as enough, and what it costs is
counted in full. The cost ratio is the planned number over the smallest that would have done.

``labels`` and ``risk`` are plans of ``labels_needed``: its median, and those with a stated risk. ``interval`` is how
many of the smallest sufficient numbers lie in its intervals. What they were learned from (``SPREAD`` of
``gzlib.fitting.planner``: how far ln of the distance to the target scatters about laws and members) is here learned for
each domain from the others, from pilots of a third, a half and two thirds of the sizes and from targets near and far.
``law known`` is an offset law fitted to the curve itself, from the end of the pilot to the last size: what a planner
with perfect foresight of the law gets. ``regression`` is the other way to learn a risk: quantiles of the distance, a
line in what the laws and the plain power law say of it, learned from the other domains.
"""

import itertools

import numpy as np
import xarray as xr
from domains import read_domains
from harness import row
from scipy.optimize import linprog

from gzlib.errors import UserError
from gzlib.fitting import fit_law, labels_needed
from gzlib.fitting.ensemble import Pilot
from gzlib.fitting.planner import RISKS, SPREAD, find_descents

SHARE, FEWEST, LATE = 1 / 3, 5, 3
SHARES, PLACES = (1 / 3, 1 / 2, 2 / 3), (0.3, 1.0)  # pilots and targets that a risk is learned from
SPREADS = list(itertools.product((0.0, 0.05, 0.1, 0.15, 0.2), (0.15, 0.2, 0.25, 0.3), (0.3, 0.6, 1.0)))
STEP = 1e-3  # in ln(distance)
LIKELY = 1e-4  # least density of a distance: no curve counts for more than ln of it
MOST = 1e3  # a plan is not searched beyond this multiple of the pilot
GOALS = (0.05, 1.3)
INTERVALS = (0.5, 0.8, 0.95)
TIMES = (1.1, 1.3, 1.6, 2.0, 3.0)


def falling(log_y):
    """The closest falling curve to ln(loss), by pooling neighbours that rise (least squares)."""
    blocks = []
    for value in log_y:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] <= blocks[-1][0]:
            value, count = blocks.pop()
            blocks[-1] = [
                (blocks[-1][0] * blocks[-1][1] + value * count) / (blocks[-1][1] + count),
                blocks[-1][1] + count,
            ]
    return np.concatenate([np.full(count, value) for value, count in blocks])


def cases(domains, share=SHARE, place=1.0):
    """Curves that can be planned for: list of dict domain, pilot (x, y), whole (ln x, falling ln y), target.

    ``share`` of the sizes is the pilot; ``place``, 0 to 1, is where the target lies between its end and the last sizes.
    """
    found = []
    for domain, curves in domains.items():
        for curve in curves:
            x = np.concatenate([curve["train"][0], curve["test"][0]])
            y = np.concatenate([np.log(curve["train"][1]), np.log(curve["test"][1])])
            sizes, index = np.unique(x, return_inverse=True)
            log_y = np.bincount(index, weights=y) / np.bincount(index)
            count = max(int(np.ceil(share * len(sizes))), FEWEST)
            if len(sizes) < count + LATE:
                continue
            smooth = falling(log_y)
            first = count + round(place * (len(sizes) - count - LATE))
            target = float(np.mean(smooth[first : first + LATE]))
            if target >= smooth[:count].min() - 1e-3:
                continue  # nothing left to plan for
            found.append(
                {
                    "domain": domain,
                    "pilot": (sizes[:count], np.exp(log_y[:count])),
                    "whole": (np.log(sizes), smooth),
                    "target": target,
                }
            )
    return found


def hindsight(case):
    """ln of the smallest size at which the curve is at the target."""
    log_x, log_y = case["whole"]
    i = int(np.argmax(log_y <= case["target"] + 1e-12))
    share = (log_y[i - 1] - case["target"]) / max(log_y[i - 1] - log_y[i], 1e-12)
    return log_x[i - 1] + share * (log_x[i] - log_x[i - 1])


def plan_power(case, offset):
    """The size by a least-squares power law, plain or with an offset; infinite if its floor is above the target."""
    x, y = case["pilot"]
    fit = fit_law("power-offset" if offset else "power", x / x[-1], y)
    grid = np.geomspace(x[-1], x[-1] * MOST, 2000)
    below = fit.eval(x=grid / x[-1]) <= case["target"]
    return float(grid[np.argmax(below)]) if below.any() else np.inf


def plan_known(case):
    """The size by an offset law that was fitted to the curve itself, about the pilot's end and beyond."""
    (x, _), (log_x, log_y) = case["pilot"], case["whole"]
    late = log_x >= np.log(x[-1]) - np.log(2)
    fit = fit_law("power-offset", np.exp(log_x[late]) / x[-1], np.exp(log_y[late]))
    grid = np.geomspace(x[-1], x[-1] * MOST, 2000)
    below = fit.eval(x=grid / x[-1]) <= case["target"]
    return float(grid[np.argmax(below)]) if below.any() else np.inf


def lead(case):
    """ln of the smallest size that would have done over the pilot's largest."""
    return hindsight(case) - float(np.log(case["pilot"][0][-1]))


def arrivals(found):
    """When laws and members reach the target of each case."""
    pilots = [Pilot(np.log(x), np.log(y), np.ones(len(x))) for x, y in (case["pilot"] for case in found)]
    return [find_descents([pilot])[0].arrival(case["target"]) for pilot, case in zip(pilots, found, strict=True)]


def judge_spreads(arrival, distance):
    """Minus ln of the density of ln(distance) under each of ``SPREADS``, and the probability below it, (spreads, 2)."""
    log_lead = np.log(max(distance, 0.01)) + STEP * np.array([-1, 0, 1])
    below = np.array([arrival.below(log_lead, spread) for spread in SPREADS])
    return np.stack([-np.log((below[:, 2] - below[:, 0]) / (2 * STEP) + LIKELY), below[:, 1]], axis=1)


def learn_spread(found, reached, far):
    """The likeliest of ``SPREADS`` that keeps its promise: dict of domain to what the others say; all of them, None.

    A spread keeps it where no more of the ``far`` targets (cases,) are missed than each of ``RISKS`` says; nearer ones
    are missed less often. Domains count alike.
    """
    pairs = zip(reached, map(lead, found), strict=True)
    table = np.stack([judge_spreads(*pair) for pair in pairs], axis=1)  # (spreads, cases, 2)
    domain = np.array([case["domain"] for case in found])
    names = list(dict.fromkeys(domain))
    unlikely = np.array([table[:, domain == name, 0].mean(axis=1) for name in names])
    beyond = [table[:, (domain == name) & far, 1] for name in names]
    missed = np.array([[np.mean(own > 1 - risk, axis=1) for risk in RISKS] for own in beyond])
    best = {}
    for left_out in (None, *names):
        kept = np.array([name != left_out for name in names])
        over = np.max(missed[kept].mean(axis=0) - np.array(RISKS)[:, None], axis=0)
        best[left_out] = SPREADS[int(np.argmin(unlikely[kept].mean(axis=0) + 100 * np.maximum(over, 0)))]
    return best


def plan_risk(found, reached, spreads, risk):
    """Sizes that miss the target with this risk; open beyond ``MOST``."""
    leads = [a.lead(1 - risk, spreads[case["domain"]]) for case, a in zip(found, reached, strict=True)]
    ends = np.array([case["pilot"][0][-1] for case in found])
    return np.where(np.array(leads) <= np.log(MOST), ends * np.exp(np.minimum(leads, 700)), np.inf)


def plan_regressed(found, reached, power, risk):
    """Sizes by a regression of the quantile of ln(distance), learned for each domain from the others."""
    domain = np.array([case["domain"] for case in found])
    ends = np.array([case["pilot"][0][-1] for case in found])
    with np.errstate(invalid="ignore"):
        middle, far = (np.log([np.clip(a.lead(q), 0.02, 20) for a in reached]) for q in (0.5, 0.8))
    plain = np.log(np.clip(np.log(np.array(power) / ends), 0.02, np.log(MOST)))
    known = np.column_stack([np.ones(len(found)), middle, far - middle, plain])
    truth = np.log([max(lead(case), 0.01) for case in found])
    out = np.zeros(len(found))
    for name in dict.fromkeys(domain):
        own = domain == name
        weight = np.array([1 / np.sum(domain == other) for other in domain[~own]])
        eye = np.eye(len(weight))
        cost = np.concatenate([np.zeros(known.shape[1]), (1 - risk) * weight, risk * weight])
        bounds = [(None, None)] * known.shape[1] + [(0, None)] * (2 * len(weight))
        solved = linprog(cost, A_eq=np.hstack([known[~own], eye, -eye]), b_eq=truth[~own], bounds=bounds)
        out[own] = known[own] @ solved.x[: known.shape[1]]
    return ends * np.exp(np.minimum(np.exp(out), np.log(MOST)))


def judge(found, plans):
    """Share that fails and median cost ratio; a plan that is open is one of ``MOST`` times the pilot."""
    fails, ratios = [], []
    for case, plan in zip(found, plans, strict=True):
        plan = min(max(plan, case["pilot"][0][-1]), case["pilot"][0][-1] * MOST)
        need = hindsight(case)
        fails.append(np.log(plan) < need - 1e-9)
        ratios.append(np.exp(np.log(plan) - need))
    return float(np.mean(fails)), float(np.median(ratios)), np.array(fails)


def rows(csv):
    if csv is None:
        raise UserError("Name the folder with learning curves: gzlib bench planning --csv FOLDER.")
    domains = read_domains(csv)
    found = cases(domains)
    plans = {"plain power law": [], "offset power law": [], "law known": [], "labels": []}
    for case in found:
        plans["plain power law"].append(plan_power(case, offset=False))
        plans["offset power law"].append(plan_power(case, offset=True))
        plans["law known"].append(plan_known(case))
        x, y = case["pilot"]
        loss = xr.DataArray(y, dims="n_train", coords={"n_train": x}, name="loss")
        needed = labels_needed(loss, float(np.exp(case["target"])), max_factor=MOST, risks=())
        plans["labels"].append(float(needed["labels"]))
    problems = {(share, place): cases(domains, share, place) for share in SHARES for place in PLACES}
    reached = {key: arrivals(own) for key, own in problems.items()}
    every = [list(itertools.chain(*part.values())) for part in (problems, reached)]
    far = np.repeat([place == PLACES[-1] for _, place in problems], [len(part) for part in problems.values()])
    spreads = learn_spread(*every, far)
    own = reached[SHARE, 1.0]
    for risk in RISKS:
        plans[f"risk {risk:g}"] = plan_risk(found, own, spreads, risk)
        plans[f"regression {risk:g}"] = plan_regressed(found, own, plans["plain power law"], risk)
    out = []
    for name, planned in plans.items():
        out += _plan_rows(name, found, np.array(planned, float))
    learned = ", ".join(f"{name} {spread}" for name, spread in spreads.items() if name)
    detail = f"the package has {SPREAD}; best over all {spreads[None]}; without each domain: {learned}"
    out.append(row("planning.spread", float(spreads[None] == SPREAD), "", detail=detail))
    for share in SHARES:
        key = (share, 1.0)
        for risk in RISKS:
            planned = plan_risk(problems[key], reached[key], spreads, risk)
            out += _risk_rows(problems[key], planned, share, risk, by_domain=share == SHARE)
    for key, own in problems.items():
        out += _interval_rows(own, reached[key], spreads, *key)
    return out


def _interval_rows(found, reached, spreads, share, place):
    """How many of the smallest sufficient numbers of labels lie in, below and above the planner's intervals."""
    out, needed = [], np.array([lead(case) for case in found])
    for level in INTERVALS:
        low, high = (
            np.array([a.lead(end, spreads[case["domain"]]) for case, a in zip(found, reached, strict=True)])
            for end in (0.5 * (1 - level), 0.5 * (1 + level))
        )
        below, above, finite = np.mean(needed < low), np.mean(needed > high), np.mean(high <= np.log(MOST))
        about = {"level": level, "share": share, "place": place, "curves": len(found)}
        about |= {"below": float(below), "above": float(above), "finite": float(finite)}
        detail = f"{len(found)} curves; {below:.3f} below, {above:.3f} above; {finite:.0%} finite"
        value = float(1 - below - above)
        out.append(row(f"planning.interval.{share:.2f}.{place:g}.{level:g}", value, "", detail=detail, **about))
    return out


def _plan_rows(name, found, planned):
    fails, ratio, _ = judge(found, planned)
    promised = name == f"risk {RISKS[-1]:g}"
    detail = f"{len(found)} curves; {np.mean(np.isinf(planned)):.0%} open"
    out = [
        row(
            f"planning.{name}.failures",
            fails,
            "",
            goal=f"<= {GOALS[0]}" if promised else None,
            ok=fails <= GOALS[0] if promised else None,
            detail=detail,
            open=float(np.mean(np.isinf(planned))),
        ),
        row(
            f"planning.{name}.cost",
            ratio,
            "x",
            goal=f"<= {GOALS[1]}" if promised else None,
            ok=ratio <= GOALS[1] if promised else None,
            detail="median of planned over smallest sufficient",
        ),
    ]
    for extra in TIMES:
        fails, ratio, _ = judge(found, planned * extra)
        detail = f"failures at {extra:g} times; cost {ratio:.2f}"
        out.append(row(f"planning.{name}.x{extra:g}", fails, "", detail=detail))
    return out


def _risk_rows(found, planned, share, risk, *, by_domain):
    """Failures at a stated risk, over all curves and in each domain, with cost, finite plans and pilot's share."""
    out, domain = [], np.array([case["domain"] for case in found])
    for name in ("all", *(dict.fromkeys(domain) if by_domain else ())):
        own = np.flatnonzero((domain == name) | (name == "all"))
        fails, ratio, _ = judge([found[i] for i in own], planned[own])
        finite = float(np.mean(np.isfinite(planned[own])))
        about = {"domain": str(name), "risk": risk, "curves": len(own), "cost": ratio, "finite": finite}
        detail = f"{len(own)} curves; cost {ratio:.2f} x; {finite:.0%} finite; pilot of {share:.0%} of the sizes"
        out.append(row(f"planning.stated.{share:.2f}.{name}.{risk:g}", fails, "", detail=detail, share=share, **about))
    return out

"""One-round label planning on public curves: how often a plan fails, and what it costs beside hindsight.

    python -m gzlib bench planning --csv FOLDER [--store]

As the label-planning literature scores it: the pilot is the first third of a curve's sizes (five at least), the target
is the loss reached later (the mean ln(loss) of the last three sizes, smoothed alike for planner and truth), and the
planner names one number of labels. It fails if the curve, at that size, is above the target: measured sizes are joined
in ln x and ln(loss), smoothed to fall. A plan beyond the last measured size counts as enough, and what it costs is
counted in full. The cost ratio is the planned number over the smallest that would have done.
"""

import numpy as np
import xarray as xr
from domains import read_domains
from harness import row

from gzlib.errors import UserError
from gzlib.fitting import fit_law, labels_needed

SHARE, FEWEST, LATE = 1 / 3, 5, 3
MOST = 1e3  # a plan is not searched beyond this multiple of the pilot
GOALS = (0.05, 1.3)
SURE = (0.6, 0.7, 0.8, 0.9)


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


def cases(domains):
    """Curves that can be planned for: list of dict domain, pilot (x, y), whole (ln x, falling ln y), target."""
    found = []
    for domain, curves in domains.items():
        for curve in curves:
            x = np.concatenate([curve["train"][0], curve["test"][0]])
            y = np.concatenate([np.log(curve["train"][1]), np.log(curve["test"][1])])
            sizes, index = np.unique(x, return_inverse=True)
            log_y = np.bincount(index, weights=y) / np.bincount(index)
            count = max(int(np.ceil(SHARE * len(sizes))), FEWEST)
            if len(sizes) < count + LATE:
                continue
            smooth = falling(log_y)
            target = float(np.mean(smooth[-LATE:]))
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
    found = cases(read_domains(csv))
    plans = {"plain power law": [], "offset power law": [], "labels": [], "labels_safe": []}
    for case in found:
        plans["plain power law"].append(plan_power(case, offset=False))
        plans["offset power law"].append(plan_power(case, offset=True))
        x, y = case["pilot"]
        loss = xr.DataArray(y, dims="n_train", coords={"n_train": x})
        needed = labels_needed(loss, float(np.exp(case["target"])), max_factor=MOST)
        plans["labels"].append(float(needed["labels"]))
        plans["labels_safe"].append(float(needed["labels_safe"]))
        for sure in SURE:  # the size that is enough with this probability
            needed = labels_needed(loss, float(np.exp(case["target"])), max_factor=MOST, level=2 * sure - 1)
            plans.setdefault(f"sure {sure:g}", []).append(float(needed["labels_high"]))
    out = []
    for name, own in plans.items():
        fails, ratio, _ = judge(found, own)
        safe = name == "labels_safe"
        detail = f"{len(found)} curves; {np.mean(np.isinf(own)):.0%} open"
        out.append(
            row(
                f"planning.{name}.failures",
                fails,
                "",
                goal=f"<= {GOALS[0]}" if safe else None,
                ok=fails <= GOALS[0] if safe else None,
                detail=detail,
            )
        )
        out.append(
            row(
                f"planning.{name}.cost",
                ratio,
                "x",
                goal=f"<= {GOALS[1]}" if safe else None,
                ok=ratio <= GOALS[1] if safe else None,
                detail="median of planned over smallest sufficient",
            )
        )
        for extra in (1.1, 1.3, 1.6, 2.0, 3.0):
            fails, ratio, _ = judge(found, np.array(own) * extra)
            out.append(
                row(f"planning.{name}.x{extra:g}", fails, "", detail=f"failures at {extra:g} times; cost {ratio:.2f}")
            )
    for domain in dict.fromkeys(case["domain"] for case in found):
        own = [i for i, case in enumerate(found) if case["domain"] == domain]
        fails, ratio, _ = judge([found[i] for i in own], [plans["labels_safe"][i] for i in own])
        out.append(row(f"planning.{domain}.failures", fails, "", detail=f"{len(own)} curves; cost {ratio:.2f} x"))
    return out

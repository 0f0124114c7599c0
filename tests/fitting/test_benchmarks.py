"""The benchmarks of forecasts go through on small inputs, such that a stored figure can be measured again."""

import numpy as np
import pytest

designs, domains, planning = (pytest.importorskip(name) for name in ("designs", "domains", "planning"))


@pytest.fixture(scope="module")
def curves():
    """Curves as public data have them: smooth ones, one by chance flat, one that rises."""
    rng = np.random.default_rng(0)
    x = 100 * 2.0 ** np.arange(12)
    shapes = [0.2 + (x / x[0]) ** -0.4, 0.5 * (x / x[0]) ** -0.1, np.full(12, 0.95), 0.3 + 0.1 * np.log2(x / x[0])]
    return [
        {"domain": "d", "train": (x[:7], y[:7]), "test": (x[7:], y[7:])}
        for y in (shape * np.exp(0.02 * rng.standard_normal(12)) for shape in shapes)
    ]


def test_designs_are_drawn_and_forecast(monkeypatch):
    monkeypatch.setattr(designs, "PART", 1)
    for design in designs.designs()[::9]:
        if not design[2]:
            hits, finite, score, _ = designs.run_part(design, part=0)
            assert hits.shape == (1, len(designs.LEADS)) and finite.all() and np.isfinite(score).all()


def test_public_curves_that_rise_or_stay_are_forecast_too(curves):
    for make in (domains.together, domains.alone):
        errors, inside = domains.score(curves, make(curves))
        assert np.isfinite(errors).all() and errors[:2].max() < 0.2 and inside.shape == (4, len(domains.LEVELS))


def test_plans_of_public_curves(curves):
    found = planning.cases({"d": curves}, share=1 / 2)
    assert 2 <= len(found) <= 3  # the one that rises leaves nothing to plan for
    plans = planning.plan_risk(found, planning.arrivals(found), {"d": planning.SPREAD}, 0.2)
    assert np.all(plans > [case["pilot"][0][-1] for case in found])

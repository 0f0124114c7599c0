"""NIST Statistical Reference Datasets (nonlinear regression, public domain) through the same path as every law."""

import numpy as np
import pytest

from gzlib.fitting.fits import fit_law
from gzlib.fitting.laws import Law, Parameter

MISRA_X = [77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0]
MISRA_Y = [10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78]
RATES = np.geomspace(1e-5, 1e-2, 25)

# name: function, grid of the nonlinear parameters, x, y, certified parameters, certified residual sum of squares
PROBLEMS = {
    "DanWood": (
        lambda x, b1, b2: b1 * x**b2,
        {"b2": np.linspace(0.5, 8, 16)},
        [1.309, 1.471, 1.490, 1.565, 1.611, 1.680],
        [2.138, 3.421, 3.597, 4.340, 4.882, 5.660],
        {"b1": 7.6886226176e-01, "b2": 3.8604055871e00},
        4.3173084083e-03,
    ),
    "Misra1a": (
        lambda x, b1, b2: b1 * -np.expm1(-b2 * x),
        {"b2": RATES},
        MISRA_X,
        MISRA_Y,
        {"b1": 2.3894212918e02, "b2": 5.5015643181e-04},
        1.2455138894e-01,
    ),
    "Misra1b": (
        lambda x, b1, b2: b1 * (1 - (1 + b2 * x / 2) ** -2),
        {"b2": RATES},
        MISRA_X,
        MISRA_Y,
        {"b1": 3.3799746163e02, "b2": 3.9039091287e-04},
        7.5464681533e-02,
    ),
    "Misra1c": (
        lambda x, b1, b2: b1 * (1 - (1 + 2 * b2 * x) ** -0.5),
        {"b2": RATES},
        MISRA_X,
        MISRA_Y,
        {"b1": 6.3642725809e02, "b2": 2.0813627256e-04},
        4.0966836971e-02,
    ),
    "Misra1d": (
        lambda x, b1, b2: b1 * b2 * x / (1 + b2 * x),
        {"b2": RATES},
        MISRA_X,
        MISRA_Y,
        {"b1": 4.3736970754e02, "b2": 3.0227324449e-04},
        5.6419295283e-02,
    ),
    "MGH09": (
        lambda x, b1, b2, b3, b4: b1 * (x**2 + x * b2) / (x**2 + x * b3 + b4),
        {name: np.geomspace(0.03, 3, 6) for name in ("b2", "b3", "b4")},
        [4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625],
        [0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246],
        {"b1": 1.9280693458e-01, "b2": 1.9128232873e-01, "b3": 1.2305650693e-01, "b4": 1.3606233068e-01},
        3.0750560385e-04,
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_certified_values(name):
    function, grid, x, y, certified, squares = PROBLEMS[name]
    law = Law(
        name, name, "NIST StRD", function, {key: Parameter(0, np.inf, "", "") for key in certified}, ("b1",), grid
    )
    result = fit_law(law, x, y, transform="none")
    assert result.success
    assert np.sum((result.best_fit - y) ** 2) == pytest.approx(squares, rel=1e-9)
    for key, value in certified.items():
        assert result.best_values[key] == pytest.approx(value, rel=1e-5), key

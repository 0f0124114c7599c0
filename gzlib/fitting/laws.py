"""Scaling laws as documented functions: loss against training size, or against model and training size.

Every law is positive and falls with each of its sizes for parameters inside the bounds. Sizes are usually given in
units of a reference size (``x / x_ref``), which makes the amplitude the excess loss at that size and keeps amplitude
and exponent nearly uncorrelated. The formulas and the gradients of ln(loss) are plain functions of sizes and
parameters, all broadcast.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gzlib.errors import UserError
from gzlib.fitting.optimise import Sizes, nonnegative_least_squares

if TYPE_CHECKING:
    import lmfit

Values = Any  # what a formula takes and gives: floats, arrays or DataArrays, which all broadcast with one another


def power(x: Values, A: Values, alpha: Values) -> Values:
    return A * x**-alpha


def power_offset(x: Values, E: Values, A: Values, alpha: Values) -> Values:
    return E + A * x**-alpha


def power_gradient(x: Values, A: Values, alpha: Values) -> list[Values]:
    return [1 / A + 0 * x, -np.log(x) + 0 * A]


def power_offset_gradient(x: Values, E: Values, A: Values, alpha: Values) -> list[Values]:
    excess = A * x**-alpha
    loss = E + excess
    return [1 / loss, excess / (A * loss), -np.log(x) * excess / loss]


def shifted_power(x: Values, A: Values, g: Values, alpha: Values) -> Values:
    return A * (1 / x + g) ** alpha


def shifted_power_gradient(x: Values, A: Values, g: Values, alpha: Values) -> list[Values]:
    base = 1 / x + g
    return [1 / A + 0 * base, alpha / base, np.log(base)]


def saturating(x: Values, E: Values, L0: Values, A: Values, a: Values, alpha: Values) -> Values:
    # Solved for the loss: with u = (y - E)/(L0 - E), ln u - a ln(1 - u) = ln A - alpha ln x + (a - 1) ln(L0 - E).
    # In z = logit u the left side rises with slope between 1 and a, so Newton's method from either side converges.
    span = np.maximum(L0 - E, 1e-12)
    target = np.log(A) - alpha * np.log(x) + (a - 1) * np.log(span)
    z = np.where(target > 0, target / np.maximum(a, 0.05), target)
    for _ in range(30):
        value = -np.logaddexp(0, -z) + a * np.logaddexp(0, z)
        u = 1 / (1 + np.exp(-np.clip(z, -700, 700)))
        z = z - (value - target) / ((1 - u) + a * u)
    # E + (L0 - E) may round to just above L0.
    return np.minimum(E + span / (1 + np.exp(-np.clip(z, -700, 700))), np.maximum(L0, E + 1e-12))


def broken_power(x: Values, E: Values, A: Values, c0: Values, c1: Values, d: Values, f: Values) -> Values:
    # (1 + (x/d)^(1/f))^(-c1 f) through its logarithm: a sharp break, a small f, would overflow
    return E + A * x**-c0 * np.exp(-c1 * f * np.logaddexp(0, np.log(x / d) / f))


def broken_power_gradient(
    x: Values, E: Values, A: Values, c0: Values, c1: Values, d: Values, f: Values
) -> list[Values]:
    position = np.log(x / d) / f
    bend = np.logaddexp(0, position)
    past = np.exp(-np.logaddexp(0, -position))
    excess = A * x**-c0 * np.exp(-c1 * f * bend)
    loss = E + excess
    share = excess / loss
    slopes = [-np.log(x), -f * bend, c1 * past / d, -c1 * (bend - position * past)]
    return [1 / loss, share / A, *(share * slope for slope in slopes)]


def chinchilla(N: Values, D: Values, E: Values, A: Values, alpha: Values, B: Values, beta: Values) -> Values:
    return E + A * N**-alpha + B * D**-beta


def chinchilla_gradient(
    N: Values, D: Values, E: Values, A: Values, alpha: Values, B: Values, beta: Values
) -> list[Values]:
    by_size, by_data = N**-alpha, D**-beta
    loss = E + A * by_size + B * by_data
    return [1 / loss, by_size / loss, -A * np.log(N) * by_size / loss, by_data / loss, -B * np.log(D) * by_data / loss]


def kaplan(N: Values, D: Values, E: Values, A: Values, r: Values, R: Values, beta: Values) -> Values:
    return E + A * (N**-r + R / D) ** beta


def skaling(N: Values, D: Values, E: Values, A: Values, a: Values, R: Values, b: Values, k: Values) -> Values:
    return E + A * (N**-a + R * D**-b) ** k


def bounded(N: Values, D: Values, E: Values, L0: Values, A: Values, alpha: Values, B: Values, beta: Values) -> Values:
    h = A * N**-alpha + B * D**-beta
    return E + np.maximum(L0 - E, 0) * h / (1 + h)


def data_constrained(
    N: Values, U: Values, epochs: Values, E: Values, A: Values, alpha: Values, B: Values, beta: Values, R: Values
) -> Values:
    effective = U * (1 + R * -np.expm1(-(np.maximum(epochs, 1) - 1) / R))
    return E + A * N**-alpha + B * effective**-beta


def saturating_starts(variables: Sizes, y: np.ndarray, weights: np.ndarray, fixed: Mapping[str, float]) -> np.ndarray:
    # For given E, L0 and a the law is a straight line in ln x: ln(y - E) - a ln(L0 - y) = ln A - alpha ln x.
    log_x = np.log(variables[0])
    mesh = np.meshgrid(
        np.array([0, 0.3, 0.6, 0.8, 0.9, 0.97]) * y.min(),
        np.array([1.001, 1.02, 1.1, 1.5, 3.0]) * y.max(),
        [0.0, 0.25, 0.5, 1.0, 2.0],
        indexing="ij",
    )
    low, top, a = (part.reshape(-1, 1) for part in mesh)
    low, top, a = (
        np.full_like(part, fixed[name]) if name in fixed else part for name, part in (("E", low), ("L0", top), ("a", a))
    )
    line = np.log(np.maximum(y - low, 1e-12)) - a * np.log(np.maximum(top - y, 1e-12))
    centre = np.average(log_x, weights=weights**2)
    spread = np.average((log_x - centre) ** 2, weights=weights**2)
    slope = np.average((log_x - centre) * line, weights=weights**2, axis=-1) / max(spread, 1e-300)
    level = np.average(line, weights=weights**2, axis=-1)
    alpha = np.clip(-slope, 0.0, 5.0)
    amplitude = np.exp(np.clip(level + alpha * centre, -600, 600))
    return np.stack([low[:, 0], top[:, 0], amplitude, a[:, 0], alpha], axis=-1)


def bounded_starts(variables: Sizes, y: np.ndarray, weights: np.ndarray, fixed: Mapping[str, float]) -> np.ndarray:
    # For given E and L0, (y - E)/(L0 - y) = A N^-alpha + B D^-beta is linear in A and B.
    rows = []
    exponents = [0.15, 0.3, 0.5, 0.8]
    for low, top, alpha, beta in itertools.product([0, 0.5, 0.8, 0.95], [1.05, 1.5, 4.0], exponents, exponents):
        low, top = fixed.get("E", low * y.min()), fixed.get("L0", top * y.max())
        alpha, beta = fixed.get("alpha", alpha), fixed.get("beta", beta)
        odds = (y - low) / np.maximum(top - y, 1e-12)
        columns = np.stack([variables[0] ** -alpha / odds, variables[1] ** -beta / odds], axis=-1)
        (by_size, by_data), _ = nonnegative_least_squares(columns, np.ones(len(y)), weights=weights)
        rows.append([low, top, by_size, alpha, by_data, beta])
    return np.array(rows)


EXPONENTS = np.concatenate([[0.02, 0.05], np.arange(0.1, 1.01, 0.1), [1.25, 1.5, 2.0, 3.0]])
COARSE_EXPONENTS = np.array([0.1, 0.2, 0.3, 0.45, 0.65, 1.0])


@dataclass(frozen=True)
class Parameter:
    """Bounds, unit and meaning of one parameter; ``unit`` is in terms of the loss and of x_ref."""

    minimum: float
    maximum: float
    unit: str
    meaning: str


Starts = Callable[[Sizes, np.ndarray, np.ndarray, Mapping[str, float]], np.ndarray]


@dataclass(frozen=True, eq=False)  # a law is itself: its arrays and functions have no useful equality
class Law:
    """A scaling law: ``function(sizes..., parameters...)`` in raw (not logarithmic) loss.

    ``linear`` names the parameters that the loss is linear and non-negative in: variable projection solves them
    exactly. ``grid`` holds the starting values of the others. A law needs no registration: whatever takes a law's name
    takes a law too, and fits carry theirs as ``fits.attrs["law"]``. Before such fits are written to a file, give the
    name in its place (``fits.assign_attrs(law=law.name)``): a law of ``LAWS`` is found again by it.
    """

    name: str
    formula: str
    source: str
    function: Callable[..., Values]
    parameters: Mapping[str, Parameter]
    linear: tuple[str, ...]
    grid: Mapping[str, np.ndarray]
    variables: tuple[str, ...] = ("x",)
    min_sizes: int = 3  # distinct values of each variable below which a fit means nothing
    gradient: Callable[..., list[Values]] | None = (
        None  # d ln(loss) / d parameters, a list of arrays in the order of `parameters`
    )
    log_sized: tuple[str, ...] = ()  # parameters that are positions on the size axis
    starts: Starts | None = None  # (sizes, losses, weights, held values) -> array (starts, parameters), for `grid`

    def __str__(self) -> str:
        return self.name

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    def model(self, *, transform: str = "log") -> "lmfit.Model":
        """The law as an ``lmfit.Model`` of ln(loss) (``transform="log"``) or of the loss (``"none"``), with bounds."""
        import lmfit  # slow to load, and forecasts do without

        function = _log_of(self.function) if transform == "log" else self.function
        model = lmfit.Model(function, independent_vars=list(self.variables), name=self.name)
        for name, parameter in self.parameters.items():
            model.set_param_hint(name, min=parameter.minimum, max=parameter.maximum)
        return model


def _log_of(function: Callable[..., Values]) -> Callable[..., Values]:
    @functools.wraps(function)  # lmfit reads the parameter names from the signature
    def log_function(*args: Values, **kwargs: Values) -> Values:
        return np.log(np.maximum(function(*args, **kwargs), 1e-300))

    return log_function


_LOSS, _EXPONENT = "loss", "1"
_E = Parameter(0, np.inf, _LOSS, "irreducible loss: the limit of infinite size")
_A = Parameter(1e-12, np.inf, _LOSS, "excess loss at x_ref")
_AN = Parameter(1e-12, np.inf, _LOSS, "excess loss of finite model size at N_ref")
_BD = Parameter(1e-12, np.inf, _LOSS, "excess loss of finite training size at D_ref")
_L0 = Parameter(1e-12, np.inf, _LOSS, "loss before any training, the limit of vanishing size")


def _exponent(meaning: str, maximum: float = 5.0) -> Parameter:
    return Parameter(0, maximum, _EXPONENT, meaning)


_ALPHA = _exponent("exponent of the excess loss in x")

_REGISTRY = [
    Law(
        "power",
        "A x^-alpha",
        "Hestness et al. 2017, arXiv:1712.00409; M1 of arXiv:2209.06640",
        power,
        {"A": _A, "alpha": _ALPHA},
        ("A",),
        {"alpha": EXPONENTS},
        min_sizes=2,
        gradient=power_gradient,
    ),
    Law(
        "power-offset",
        "E + A x^-alpha",
        "Hestness et al. 2017, arXiv:1712.00409; M2 of arXiv:2209.06640",
        power_offset,
        {"E": _E, "A": _A, "alpha": _ALPHA},
        ("E", "A"),
        {"alpha": EXPONENTS},
        gradient=power_offset_gradient,
    ),
    Law(
        "shifted-power",
        "A (1/x + g)^alpha",
        "M3 of Alabdulmohsin et al. 2022, arXiv:2209.06640",
        shifted_power,
        {
            "A": _A,
            "g": Parameter(0, np.inf, "1/x_ref", "inverse of the size at which the curve levels off"),
            "alpha": _ALPHA,
        },
        ("A",),
        {"alpha": EXPONENTS, "g": np.concatenate([[0.0], np.geomspace(1e-3, 10, 9)])},
        gradient=shifted_power_gradient,
    ),
    Law(
        "saturating",
        "(y - E) / (L0 - y)^a = A x^-alpha",
        "M4 of Alabdulmohsin et al. 2022, arXiv:2209.06640",
        saturating,
        {
            "E": _E,
            "L0": _L0,
            "A": Parameter(1e-12, np.inf, "loss^(1-a)", "amplitude at x_ref"),
            "a": Parameter(0, 10, _EXPONENT, "how slowly the curve leaves L0"),
            "alpha": _ALPHA,
        },
        (),
        {},
        min_sizes=5,
        starts=saturating_starts,
    ),
    Law(
        "broken-power",
        "E + A x^-c0 (1 + (x/d)^(1/f))^(-c1 f)",
        "one break of Caballero et al. 2023, arXiv:2210.14891, equation 1",
        broken_power,
        {
            "E": _E,
            "A": _A,
            "c0": _exponent("exponent before the break"),
            "c1": Parameter(-5, 5, _EXPONENT, "change of the exponent at the break"),
            "d": Parameter(1e-12, np.inf, "x_ref", "size at the break"),
            "f": Parameter(0.02, 5, _EXPONENT, "width of the break in ln x"),
        },
        ("E", "A"),
        {
            "c0": np.array([0.0, 0.1, 0.3, 0.6]),
            "c1": np.array([-0.2, 0.2, 0.5, 1.0]),
            "d": np.array([0.1, 0.3, 1.0, 3.0]),
            "f": np.array([0.2, 1.0]),
        },
        min_sizes=6,
        gradient=broken_power_gradient,
        log_sized=("d",),
    ),
    Law(
        "chinchilla",
        "E + A N^-alpha + B D^-beta",
        "Hoffmann et al. 2022, arXiv:2203.15556, equation 2",
        chinchilla,
        {
            "E": _E,
            "A": _AN,
            "alpha": _exponent("exponent in model size"),
            "B": _BD,
            "beta": _exponent("exponent in training size"),
        },
        ("E", "A", "B"),
        {"alpha": EXPONENTS, "beta": EXPONENTS},
        ("N", "D"),
        gradient=chinchilla_gradient,
    ),
    Law(
        "kaplan",
        "E + A (N^-r + R/D)^beta",
        "Kaplan et al. 2020, arXiv:2001.08361, equation 1.5, with an offset",
        kaplan,
        {
            "E": _E,
            "A": _AN,
            "r": _exponent("ratio of the exponents in model and training size"),
            "R": Parameter(0, np.inf, "D_ref", "weight of finite training size"),
            "beta": _exponent("exponent in training size"),
        },
        ("E", "A"),
        {"r": np.array([0.3, 0.6, 1.0, 1.5]), "R": np.geomspace(0.03, 30, 7), "beta": COARSE_EXPONENTS},
        ("N", "D"),
    ),
    Law(
        "skaling",
        "E + A (N^-a + R D^-b)^k",
        "Videau et al. 2026 (Skaling), arXiv:2608.07222",
        skaling,
        {
            "E": _E,
            "A": _AN,
            "a": _exponent("inner exponent in model size"),
            "R": Parameter(0, np.inf, _EXPONENT, "weight of finite training size"),
            "b": _exponent("inner exponent in training size"),
            "k": Parameter(0.02, 10, _EXPONENT, "coupling of the two sizes; 1 is the Chinchilla law"),
        },
        ("E", "A"),
        {"a": COARSE_EXPONENTS, "R": np.geomspace(0.1, 10, 5), "b": COARSE_EXPONENTS, "k": np.array([0.4, 1.0, 2.0])},
        ("N", "D"),
    ),
    Law(
        "bounded",
        "E + (L0 - E) h/(1 + h), h = A N^-alpha + B D^-beta",
        "bounded rational law of Bryant and Liu 2026, arXiv:2605.09189, without data repetition",
        bounded,
        {
            "E": _E,
            "L0": _L0,
            "A": Parameter(0, np.inf, _EXPONENT, "weight of finite model size"),
            "alpha": _exponent("exponent in model size"),
            "B": Parameter(0, np.inf, _EXPONENT, "weight of finite training size"),
            "beta": _exponent("exponent in training size"),
        },
        (),
        {},
        ("N", "D"),
        starts=bounded_starts,
    ),
    Law(
        "data-constrained",
        "E + A N^-alpha + B D'^-beta, D' = U (1 + R (1 - exp(-(epochs - 1)/R)))",
        "Muennighoff et al. 2023, arXiv:2305.16264, repetition of data only",
        data_constrained,
        {
            "E": _E,
            "A": _AN,
            "alpha": _exponent("exponent in model size"),
            "B": _BD,
            "beta": _exponent("exponent in effective training size"),
            "R": Parameter(0.1, 1e4, "epochs", "repetitions after which another epoch brings nothing"),
        },
        ("E", "A", "B"),
        {"alpha": COARSE_EXPONENTS, "beta": COARSE_EXPONENTS, "R": np.array([1.0, 4, 15, 60])},
        ("N", "U", "epochs"),
    ),
]
LAWS = {law.name: law for law in _REGISTRY}


LawLike = Law | str  # a law, or the name of one of LAWS


def get_law(law: LawLike) -> Law:
    """The law of that name (a ``Law`` passes through); raises UserError naming the known ones."""
    if isinstance(law, Law):
        return law
    if law not in LAWS:
        raise UserError(f"unknown law {law!r}; available: {', '.join(LAWS)}.")
    return LAWS[law]

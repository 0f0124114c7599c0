"""The formulas of the scaling laws and gradients of ln(loss): plain functions of sizes and parameters, all broadcast.

Sources are with the laws in ``gzlib.fitting.laws``.
"""

import numpy as np


def power(x, A, alpha):
    return A * x**-alpha


def power_offset(x, E, A, alpha):
    return E + A * x**-alpha


def power_gradient(x, A, alpha):
    return [1 / A + 0 * x, -np.log(x) + 0 * A]


def power_offset_gradient(x, E, A, alpha):
    excess = A * x**-alpha
    loss = E + excess
    return [1 / loss, excess / (A * loss), -np.log(x) * excess / loss]


def shifted_power(x, A, g, alpha):
    return A * (1 / x + g) ** alpha


def shifted_power_gradient(x, A, g, alpha):
    base = 1 / x + g
    return [1 / A + 0 * base, alpha / base, np.log(base)]


def saturating(x, E, L0, A, a, alpha):
    # Solved for the loss: with u = (y - E)/(L0 - E), ln u - a ln(1 - u) = ln A - alpha ln x + (a - 1) ln(L0 - E).
    # In z = logit u the left side rises with slope between 1 and a, so Newton's method from either side converges.
    span = np.maximum(L0 - E, 1e-12)
    target = np.log(A) - alpha * np.log(x) + (a - 1) * np.log(span)
    z = np.where(target > 0, target / np.maximum(a, 0.05), target)
    for _ in range(30):
        value = -np.logaddexp(0, -z) + a * np.logaddexp(0, z)
        u = 1 / (1 + np.exp(-np.clip(z, -700, 700)))
        z = z - (value - target) / ((1 - u) + a * u)
    return E + span / (1 + np.exp(-np.clip(z, -700, 700)))


def broken_power(x, E, A, c0, c1, d, f):
    # (1 + (x/d)^(1/f))^(-c1 f) through its logarithm: a sharp break, a small f, would overflow
    return E + A * x**-c0 * np.exp(-c1 * f * np.logaddexp(0, np.log(x / d) / f))


def broken_power_gradient(x, E, A, c0, c1, d, f):
    position = np.log(x / d) / f
    bend = np.logaddexp(0, position)
    past = np.exp(-np.logaddexp(0, -position))
    excess = A * x**-c0 * np.exp(-c1 * f * bend)
    loss = E + excess
    share = excess / loss
    slopes = [-np.log(x), -f * bend, c1 * past / d, -c1 * (bend - position * past)]
    return [1 / loss, share / A, *(share * slope for slope in slopes)]


def chinchilla(N, D, E, A, alpha, B, beta):
    return E + A * N**-alpha + B * D**-beta


def chinchilla_gradient(N, D, E, A, alpha, B, beta):
    by_size, by_data = N**-alpha, D**-beta
    loss = E + A * by_size + B * by_data
    return [1 / loss, by_size / loss, -A * np.log(N) * by_size / loss, by_data / loss, -B * np.log(D) * by_data / loss]


def kaplan(N, D, E, A, r, R, beta):
    return E + A * (N**-r + R / D) ** beta


def skaling(N, D, E, A, a, R, b, k):
    return E + A * (N**-a + R * D**-b) ** k


def bounded(N, D, E, L0, A, alpha, B, beta):
    h = A * N**-alpha + B * D**-beta
    return E + np.maximum(L0 - E, 0) * h / (1 + h)


def data_constrained(N, U, epochs, E, A, alpha, B, beta, R):
    effective = U * (1 + R * -np.expm1(-(np.maximum(epochs, 1) - 1) / R))
    return E + A * N**-alpha + B * effective**-beta

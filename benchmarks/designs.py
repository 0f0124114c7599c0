"""Do the bands of few runs keep their promise? Made-up pilots with known truth, design by design."""

import numpy as np

SIZES = (3, 4, 5, 6, 8)
SEEDS = (1, 3)
LAWS = ("offset", "broken", "logarithm")
NOISES = (0.01, 0.02, 0.05)
LEADS = np.array([2.0, 4.0, 8.0])
MANY = 12  # curves of a study


def draw_truth(law, sizes, rng):
    """A curve of the family as a function of x, its sizes, and the parameters that a fit of it would start from."""
    step = rng.uniform(1.8, 3.0)
    x = step ** np.arange(sizes)
    end = x[-1]
    if law == "offset":
        alpha, share = rng.uniform(0.2, 0.8), rng.uniform(0.0, 0.8)  # exponent, and the floor's part of the last loss
        return lambda z: share + (1 - share) * (z / end) ** -alpha, x, (share, 1 - share, alpha)
    if law == "logarithm":
        fall = rng.uniform(0.05, 0.3)  # of the last loss, for each factor e
        return lambda z: 1 - fall * np.log(z / end), x, (1.0, fall)
    before, change = rng.uniform(0.05, 0.3), rng.uniform(0.1, 0.4)
    at = end ** rng.uniform(0.25, 0.75)
    width = 0.3

    def broken(z):
        bend = width * (np.logaddexp(0, np.log(z / at) / width) - np.logaddexp(0, np.log(end / at) / width))
        return (z / end) ** -before * np.exp(-change * bend)

    return broken, x, (1.0, before, change, at)

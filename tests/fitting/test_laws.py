import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gzlib.errors import UserError
from gzlib.fitting.laws import LAWS, get_law
from gzlib.fitting.optimise import log_gradient, log_loss

TRUTHS = {
    "power": {"A": 0.4, "alpha": 0.3},
    "power-offset": {"E": 0.2, "A": 0.4, "alpha": 0.3},
    "shifted-power": {"A": 0.4, "g": 0.1, "alpha": 0.5},
    "saturating": {"E": 0.1, "L0": 1.0, "A": 0.3, "a": 0.6, "alpha": 0.5},
    "broken-power": {"E": 0.1, "A": 0.3, "c0": 0.1, "c1": 0.4, "d": 1.0, "f": 0.3},
    "chinchilla": {"E": 0.3, "A": 0.2, "alpha": 0.4, "B": 0.3, "beta": 0.3},
    "kaplan": {"E": 0.3, "A": 0.2, "r": 0.8, "R": 1.0, "beta": 0.4},
    "skaling": {"E": 0.3, "A": 0.3, "a": 0.5, "R": 1.3, "b": 0.4, "k": 0.7},
    "bounded": {"E": 0.2, "L0": 2.0, "A": 0.2, "alpha": 0.4, "B": 0.3, "beta": 0.3},
    "data-constrained": {"E": 0.3, "A": 0.2, "alpha": 0.4, "B": 0.3, "beta": 0.3, "R": 5.0},
}


def sizes_for(law):
    """A full factorial design in units of the reference size."""
    axes = {
        "x": np.geomspace(0.02, 50, 9),
        "N": np.geomspace(0.05, 20, 5),
        "D": np.geomspace(0.05, 20, 6),
        "U": np.geomspace(0.05, 20, 5),
        "epochs": np.array([1.0, 4.0, 16.0]),
    }
    return [part.ravel() for part in np.meshgrid(*(axes[name] for name in law.variables), indexing="ij")]


def test_every_law_has_a_truth():
    assert set(TRUTHS) == set(LAWS)


@pytest.mark.parametrize("name", LAWS)
def test_law_is_positive_and_falls_with_each_size(name):
    law = LAWS[name]
    sizes = sizes_for(law)
    loss = law.function(*sizes, **TRUTHS[name])
    assert np.all(loss > 0)
    for j in range(len(sizes)):
        larger = [size * (2.0 if i == j else 1.0) for i, size in enumerate(sizes)]
        assert np.all(law.function(*larger, **TRUTHS[name]) < loss + 1e-15)


@pytest.mark.parametrize("name", LAWS)
def test_gradient_against_central_differences(name):
    law = LAWS[name]
    sizes = sizes_for(law)
    theta = np.array([[TRUTHS[name][key] for key in law.names]])
    gradient = log_gradient(law, sizes, theta)[0]
    for j in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, j] = 1e-5 * theta[0, j]
        difference = (log_loss(law, sizes, theta + step) - log_loss(law, sizes, theta - step))[0] / (2 * step[0, j])
        np.testing.assert_allclose(gradient[:, j], difference, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", LAWS)
def test_lmfit_model_has_the_law_s_parameters_and_bounds(name):
    law = LAWS[name]
    model = law.model()
    assert tuple(model.param_names) == law.names
    params = model.make_params(**TRUTHS[name])
    assert all(params[key].min == law.parameters[key].minimum for key in law.names)
    sizes = dict(zip(law.variables, sizes_for(law), strict=True))
    np.testing.assert_allclose(np.exp(model.eval(params, **sizes)), law.function(**sizes, **TRUTHS[name]))


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 0.5), st.floats(1.01, 3), st.floats(0.01, 20), st.floats(0.01, 4), st.floats(0, 3))
@example(0.06323889874688893, 1.1717374544340935, 8.5, 0.01, 0.0)  # E + (L0 - E) rounds to above L0
@example(0.33124956402649164, 2.9654235525528567, 20.0, 0.010000000000000002, 1.9321971851858728)
@example(0.05000000000000001, 1.0625, 0.01, 4.0, 3.0)
def test_saturating_law_solves_its_implicit_equation(E, L0, A, a, alpha):
    x = np.geomspace(1e-3, 1e3, 13)
    y = LAWS["saturating"].function(x, E, L0, A, a, alpha)
    assert np.all(np.isfinite(y)) and np.all((y >= E) & (y <= L0))
    inner = (y - E > 1e-6) & (L0 - y > 1e-6)
    left = np.log(y - E, where=inner, out=np.zeros_like(y)) - a * np.log(L0 - y, where=inner, out=np.zeros_like(y))
    np.testing.assert_allclose(left[inner], (np.log(A) - alpha * np.log(x))[inner], atol=1e-5)


def test_unknown_law_is_refused_by_name():
    with pytest.raises(UserError, match="'pwoer'.*power-offset"):
        get_law("pwoer")

"""Steps of the few-step samplers: exact where they must be, of the order that they claim."""

import math

import numpy as np
import pytest

from ms_ddpm.maths import schedules, solvers

FORMS = ("x_start", "eps")
KNOWN = 3  # the states at the beginning of a chain, whose steps are of lower order


def answer(form, y, sigma):
    """What a network says of data that are normal with mean 0.3 and variance 0.25."""
    start = 0.3 + 0.25 / (0.25 + sigma**2) * (y - 0.3)
    return start if form == "x_start" else (y - start) / sigma


def exact(y, sigma, later):
    """Where the ODE leads from ``sigma``: the distance from the mean shrinks as the whole variance's root."""
    return 0.3 + (y - 0.3) * math.sqrt((0.25 + later**2) / (0.25 + sigma**2))


def dpm_chain(sigmas, form, order, heun=False):
    y, answers = 2.0, []
    for i in range(len(sigmas) - 1):
        answers = [answer(form, y, sigmas[i]), *answers][:3]
        now = min(order, len(answers))
        row = solvers.dpm_row([sigmas[i + 1 - k] for k in range(now + 1)], now, form, heun)
        y = row.of_x * y + float(np.dot(row.of_outputs, answers[:now]))
        y = exact(2.0, sigmas[0], sigmas[i + 1]) if i < KNOWN else y
    return y


def unipc_chain(sigmas, form, order, b):
    y, answers, before = 2.0, [], None
    for i in range(len(sigmas) - 1):
        new = answer(form, y, sigmas[i])
        if i > KNOWN:
            last, now = before
            row = solvers.unipc_row([sigmas[i - k] for k in range(now + 1)], now, form, b, corrector=True)
            y = row.of_x * last + float(np.dot(row.of_outputs, [new, *answers[:now]]))
        answers = [new, *answers][:3]
        now = min(order, len(answers))
        before = (y, now)
        row = solvers.unipc_row([sigmas[i + 1 - k] for k in range(now + 1)], now, form, b)
        y = row.of_x * y + float(np.dot(row.of_outputs, answers[:now]))
        y = exact(2.0, sigmas[0], sigmas[i + 1]) if i < KNOWN else y
    return y


def order_of(chain, *args):
    """The power of the step with which the error falls, from 80 to 160 steps."""
    errors = []
    for steps in (80, 160):
        sigmas = solvers.exponential_sigmas(5.0, 0.2, steps + 1).tolist()
        errors.append(abs(chain(sigmas, *args) - exact(2.0, 5.0, 0.2)))
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("order", "heun"), [(1, False), (2, False), (2, True)])
def test_dpm_solver_is_of_its_order(form, order, heun):
    assert order_of(dpm_chain, form, order, heun) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("form", FORMS)
def test_the_published_third_order_step_is_of_order_2(form):
    """The authors' weight of the curvature is half of what an order of 3 needs; as published it is kept."""
    assert order_of(dpm_chain, form, 3) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("b", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_corrector_adds_one_order(form, b, order):
    assert order_of(unipc_chain, form, order, b) > order + 0.8


@pytest.mark.parametrize("form", FORMS)
def test_equal_answers_are_integrated_exactly_whatever_the_order(form):
    sigmas = [0.7, 1.1, 1.9, 4.0]
    whole = solvers.euler_row(1.1, 0.7) if form == "x_start" else solvers.transfer_row(1.1, 0.7)
    for order in (1, 2, 3):
        rows = [solvers.dpm_row(sigmas, order, form), solvers.dpm_row(sigmas, order, form, heun=True)]
        rows += [solvers.unipc_row(sigmas, order, form, b, end) for b in solvers.UNIPC_B for end in (False, True)]
        for row in rows:
            assert row.of_x == pytest.approx(whole.of_x, rel=1e-14)
            assert sum(row.of_outputs) == pytest.approx(whole.of_outputs[0], rel=1e-13)


@pytest.mark.parametrize("row", [solvers.ancestral_row(3.0, 1.2), solvers.dpm_row([1.2, 3.0], 1, "x_start_sde")])
def test_a_step_with_noise_is_the_posterior_of_ddpm(row):
    """In x, between two times: Ho et al., eq. 7, here from its own table."""
    abar, later = 1 / (1 + 3.0**2), 1 / (1 + 1.2**2)
    of_start, of_x, small, _ = schedules.posterior_row(abar, later)
    found = solvers.preserving(row, 3.0, 1.2)
    assert found.of_x == pytest.approx(of_x, rel=1e-12)
    assert found.of_outputs[0] == pytest.approx(of_start, rel=1e-12)
    assert found.of_noise**2 == pytest.approx(small, rel=1e-12)


def test_euler_and_the_transfer_are_a_ddim_step():
    abar, later = 0.3, 0.6
    sigma, sigma_next = solvers.sigmas_of(np.array([abar, later]))
    of_start, of_eps, _ = schedules.ddim_row(abar, later, 0.0)
    x_start, eps = 0.7, -1.3
    x = math.sqrt(abar) * x_start + math.sqrt(1 - abar) * eps
    for row, m in ((solvers.euler_row(sigma, sigma_next), x_start), (solvers.transfer_row(sigma, sigma_next), eps)):
        row = solvers.preserving(row, sigma, sigma_next)
        assert row.of_x * x + row.of_outputs[0] * m == pytest.approx(of_start * x_start + of_eps * eps, rel=1e-12)


def test_a_step_to_no_noise_is_the_newest_answer_and_one_of_no_length_nothing():
    assert solvers.dpm_row([0.0, 1.0], 1) == (0.0, (1.0,), 0.0)
    assert solvers.unipc_row([0.0, 1.0], 1, b="bh1") == (0.0, (1.0,), 0.0)
    assert solvers.dpm_row([0.0, 1.0], 1, "x_start_sde") == (0.0, (1.0,), 0.0)
    assert solvers.dpm_row([1.0, 1.0, 2.0], 2, heun=True) == (1.0, (0.0, 0.0), 0.0)
    assert solvers.unipc_row([1.0, 1.0, 2.0], 2, corrector=True) == (1.0, (0.0, 0.0, 0.0), 0.0)


def test_adams_and_bashforth_integrate_polynomials_of_their_degree():
    for count, weights in solvers.ADAMS_BASHFORTH.items():
        at = -np.arange(count, dtype=float)
        for degree in range(count):
            assert float(np.dot(weights, at**degree)) == pytest.approx(1 / (degree + 1), rel=1e-12)
    assert sum(solvers.RUNGE_KUTTA) == pytest.approx(1)


def test_sigmas_fall_from_the_largest_to_the_smallest_and_their_times_are_found_again():
    table = solvers.sigmas_of(np.cumprod(1 - schedules.scaled_linear(1000)))
    np.testing.assert_allclose(solvers.times_of_sigmas(table[[0, 17, 999]], table), [0, 17, 999], atol=1e-9)
    for spread in (solvers.karras_sigmas, solvers.exponential_sigmas):
        sigmas = spread(14.6, 0.03, 12)
        assert (np.diff(sigmas) < 0).all()
        np.testing.assert_allclose(sigmas[[0, -1]], [14.6, 0.03], rtol=1e-12)
        inside = solvers.times_of_sigmas(np.array([99.0, 1e-9]), table)
        assert inside.tolist() == [999, 0]
        assert spread(table[-1], table[0], 12)[[0, -1]].tolist() == [table[-1], table[0]]
    made_finite = np.append(table, [400.0, 90.0])  # the end of a schedule that was to end in pure noise
    assert solvers.times_of_sigmas(np.array([90.0, 400.0, table[500]]), made_finite).tolist() == [1001, 1000, 500]
    assert solvers.karras_sigmas(14.6, 0.03, 3)[1] == pytest.approx(((14.6 ** (1 / 7) + 0.03 ** (1 / 7)) / 2) ** 7)

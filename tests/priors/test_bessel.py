"""Bessel ratios against scipy, closed forms and the limits t = 0 and t to infinity."""

import math

import pytest
import torch
from scipy.special import ive

from priors.bessel import log_mean_exp, resultant_over_t

T = torch.tensor([1e-3, 0.03, 0.5, 3.0, 20.0, 90.0, 700.0], dtype=torch.float64)


@pytest.mark.parametrize("dimension", [2, 3, 4, 7, 42])
def test_ratio_agrees_with_scipy(dimension):
    nu = dimension / 2 - 1
    expected = torch.from_numpy(ive(nu + 1, T.numpy()) / ive(nu, T.numpy()))
    torch.testing.assert_close(T * resultant_over_t(T**2, dimension), expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("dimension", [2, 3, 4, 7, 42])
def test_log_mean_agrees_with_scipy(dimension):
    nu = dimension / 2 - 1
    expected = math.lgamma(nu + 1) + nu * (2 / T).log() + torch.from_numpy(ive(nu, T.numpy())).log()
    torch.testing.assert_close(log_mean_exp(T**2, dimension), expected, rtol=1e-11, atol=1e-12)


def test_three_dimensions_are_langevins_function():
    t = torch.tensor([0.7, 5.0, 1e3, 1e6], dtype=torch.float64)
    langevin = 1 / t.tanh() - 1 / t
    torch.testing.assert_close(t * resultant_over_t(t**2, 3), langevin, rtol=1e-14, atol=0)
    log_sinh_over_t = ((1 - (-2 * t).exp()) / (2 * t)).log()
    torch.testing.assert_close(log_mean_exp(t**2, 3), log_sinh_over_t, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dimension", [2, 3, 6, 1024])
def test_zero_and_large_arguments(dimension):
    zero, large = torch.zeros((), dtype=torch.float64), 1e8 * dimension
    assert float(resultant_over_t(zero, dimension)) == pytest.approx(1 / dimension, rel=1e-12)
    assert float(log_mean_exp(zero, dimension)) == pytest.approx(0, abs=1e-12)
    # A_d(t) = 1 - (d - 1)/(2t) + O(t^-2)
    ratio = large * float(resultant_over_t(torch.tensor(large, dtype=torch.float64) ** 2, dimension))
    assert 1 - ratio == pytest.approx((dimension - 1) / (2 * large), rel=1e-6)


@pytest.mark.parametrize("dimension", [2, 3, 6])
def test_derivative_of_log_mean_is_the_ratio(dimension):
    t = T[2:].clone().requires_grad_()
    (slope,) = torch.autograd.grad((log_mean_exp(t**2, dimension) + t).sum(), t)
    torch.testing.assert_close(slope, t.detach() * resultant_over_t(t.detach() ** 2, dimension), rtol=1e-10, atol=0)

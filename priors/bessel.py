"""Means of exp(t <u, e>) over the unit sphere: ratios and logarithms of modified Bessel functions.

For u uniform on the unit sphere of R^d, with order nu = d/2 - 1,

    E exp(t <u, e>) = Gamma(nu + 1) (2/t)^nu I_nu(t),     its logarithmic derivative A_d(t) = I_{nu+1}(t) / I_nu(t).

A_d is the mean resultant length of the von Mises-Fisher law (Mardia and Jupp 2000, Sec. 9.3). Both are computed from
the uniform expansion for large order (Debye; NIST DLMF 10.41) at a raised order, then brought down by the recurrence
I_{k-1} = I_{k+1} + (2k/t) I_k, which contracts errors. Made of elementary torch operations, so that any number of
derivatives, forward or backward, exists; the relative error in float64 is below 1e-13 for every t >= 0 and d >= 2.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

TERMS = 10
RAISED_ORDER = 20.0


@lru_cache(maxsize=1)
def _debye_polynomials() -> tuple[list[list[float]], list[list[float]]]:
    """Coefficients, lowest power first, of U_k and V_k for k < TERMS (DLMF 10.41.9)."""
    p, one_minus = Polynomial([0.0, 1.0]), Polynomial([1.0, 0.0, -1.0])
    u = [Polynomial([1.0])]
    v = [Polynomial([1.0])]
    for k in range(TERMS - 1):
        u.append(0.5 * p**2 * one_minus * u[k].deriv() + (Polynomial([1.0, 0.0, -5.0]) * u[k]).integ() / 8)
        v.append(u[k + 1] - 0.5 * p * one_minus * u[k] - p**2 * one_minus * u[k].deriv())
    return [list(map(float, q.coef)) for q in u], [list(map(float, q.coef)) for q in v]


def _series(coefficients: list[list[float]], p: Tensor, order: float) -> Tensor:
    """Sum over k of Q_k(p) / order^k, collected into one polynomial in p."""
    total = np.zeros(max(map(len, coefficients)))
    for k, row in enumerate(coefficients):
        total[: len(row)] += np.array(row) / order**k
    value = torch.full_like(p, total[-1])
    for c in total[-2::-1]:
        value = value * p + c
    return value


def _raised_order(nu: float) -> tuple[float, int]:
    steps = max(6, math.ceil(RAISED_ORDER - nu))
    return nu + steps, steps


def _ratios(t_squared: Tensor, nu: float) -> tuple[Tensor, list[Tensor]]:
    """I_{k+1}(t) / (t I_k(t)) at k = nu, and the same for all k from the raised order down to nu."""
    top, steps = _raised_order(nu)
    # Below this z the expansion cancels to nothing; the recurrence forgets its start there.
    z_squared = (t_squared / top**2).clamp_min(1e-6)
    s = (1 + z_squared).sqrt()
    u, v = _debye_polynomials()
    ratio = (s * _series(v, 1 / s, top) / _series(u, 1 / s, top) - 1) / (z_squared * top)
    chain = [ratio]
    for k in range(steps, 0, -1):
        ratio = 1 / (2 * (nu + k) + t_squared * ratio)
        chain.append(ratio)
    return ratio, chain


def resultant_over_t(t_squared: Tensor, dimension: int) -> Tensor:
    """A_d(t) / t as a smooth function of t^2, of the shape of t_squared; 1/d at t = 0."""
    if dimension == 2:  # two kernels instead of forty
        t = t_squared.clamp_min(1e-16).sqrt()
        return torch.special.i1e(t) / torch.special.i0e(t) / t
    return _ratios(t_squared, dimension / 2 - 1)[0]


def log_mean_exp(t_squared: Tensor, dimension: int) -> Tensor:
    """log E exp(t <u, e>) - t for u uniform on the unit sphere of R^dimension; 0 at t = 0."""
    if dimension == 2:
        return torch.special.i0e(t_squared.clamp_min(1e-30).sqrt()).log()
    nu = dimension / 2 - 1
    top, _ = _raised_order(nu)
    z = t_squared.clamp_min(1e-30).sqrt() / top
    s = (1 + z * z).sqrt()
    series = _series(_debye_polynomials()[0], 1 / s, top)
    scaled = top * (1 / (s + z) - (1 + s).log()) - 0.5 * s.log() + series.log()
    constant = math.lgamma(nu + 1) + nu * math.log(2) - top * math.log(top) - 0.5 * math.log(2 * math.pi * top)
    lowered = sum((ratio.log() for ratio in _ratios(t_squared, nu)[1][1:]), torch.zeros_like(z))
    return scaled + constant - lowered

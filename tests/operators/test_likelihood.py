from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deepinv.physics import (
    Denoising,
    GaussianNoise,
    LaplaceNoise,
    NoiseModel,
    Physics,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
    UniformNoise,
    ZeroNoise,
)
from scipy import special, stats
from torch import Tensor

import operators

NOISES = [
    GaussianNoise(0.3),
    LaplaceNoise(0.2),
    PoissonNoise(0.05),
    PoissonNoise(0.05, normalize=False),
    PoissonGaussianNoise(0.05, 0.1),
]


def _kind(noise: NoiseModel) -> str:
    return type(noise).__name__


def _direct(noise: NoiseModel, n: int = 1) -> operators.Likelihood:
    """The likelihood of A x = x on vectors of n entries, in float64."""
    return operators.likelihood(operators.create("denoising", (n,), noise=noise).double())


def _uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("noise", NOISES, ids=_kind)
@pytest.mark.parametrize(
    "name", ["denoising", "inpainting", "blur", "compressed-sensing", "fourier", "saturation", "phase-retrieval"]
)
def test_score_is_minus_the_gradient_of_nll(noise: NoiseModel, name: str) -> None:
    shape = (1, 6, 8)
    physics = operators.create(name, shape, noise=noise).double()
    z = physics.A(_uniform(2, *shape) + 0.1).abs()
    y = physics.noise_model(z) * (1 if operators.measured(physics) is None else operators.measured(physics))
    x = (_uniform(2, *shape, seed=1) + 0.1).requires_grad_()
    likelihood = operators.likelihood(physics)
    nll = likelihood.nll(x, y)
    expected = -torch.autograd.grad(nll.sum(), x)[0]
    assert nll.shape == (2,) and bool(torch.isfinite(nll).all()) and float(expected.abs().max()) > 0
    with torch.no_grad():
        score = likelihood.score(x, y)
    assert torch.allclose(score, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("noise", NOISES, ids=_kind)
def test_score_under_grad_can_be_differentiated_and_leaves_its_inputs(noise: NoiseModel) -> None:
    physics = operators.create("inpainting", (1, 4, 4), noise=noise)
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.2
    y = physics(x)
    kept = x.clone(), y.clone()
    likelihood = operators.likelihood(physics)
    assert likelihood.score(x, y).dtype == torch.float32 and likelihood.nll(x, y).dtype == torch.float32
    assert torch.equal(x, kept[0]) and torch.equal(y, kept[1])
    assert not x.requires_grad and not y.requires_grad and y.grad is None
    moved = torch.nn.Parameter(x)
    likelihood.nll(moved * 2, y).sum().backward()  # as DPS does, through a function of x
    assert bool(torch.isfinite(moved.grad).all()) and y.grad is None


@pytest.mark.parametrize("noise", [n for n in NOISES if not isinstance(n, LaplaceNoise)], ids=_kind)
def test_the_density_is_that_of_deepinvs_draws(noise: NoiseModel) -> None:
    # Two identities of the score s = d/dz log p(y|z) at the true z: E s = 0 and E s^2 = E(-ds/dz). Each is tested at
    # five standard errors: an error by chance has probability 1e-6.
    z = torch.full((1, 20_000), 0.8, dtype=torch.float64)
    likelihood = _direct(noise, z.shape[1])
    y = likelihood.physics(z)
    if isinstance(noise, PoissonNoise) and not noise.normalize:
        assert y.mean() > 2  # plain counts, not in units of z
    inside = z.clone().requires_grad_()
    slope = likelihood.slope(inside, y)
    curvature = -torch.autograd.grad(slope.sum(), inside)[0]
    if isinstance(noise, PoissonGaussianNoise):  # the closed form holds the weights of the sum fixed
        step = 1e-5
        curvature = -(likelihood.slope(z + step, y) - likelihood.slope(z - step, y)) / (2 * step)
    slope = slope.detach()
    for terms in (slope, slope**2 - curvature):
        assert abs(float(terms.mean())) < 5 * float(terms.std()) / math.sqrt(terms.numel())


def test_laplace_draws_have_the_scale_of_the_density() -> None:
    # E|y - z| = b with standard deviation b, and the score's square is 1/b^2 everywhere.
    likelihood = _direct(LaplaceNoise(0.2), 20_000)
    z = torch.full((1, 20_000), 0.8, dtype=torch.float64)
    deviation = (likelihood.physics(z) - z).abs()
    assert abs(float(deviation[deviation.isfinite()].mean()) - 0.2) < 5 * 0.2 / math.sqrt(20_000)


def test_gaussian_is_torchs_normal() -> None:
    x, y = _uniform(3, 5), _uniform(3, 5, seed=1)
    sigma = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    expected = torch.distributions.Normal(x, sigma[:, None]).log_prob(y).sum(dim=1)
    likelihood = _direct(GaussianNoise(sigma), 5)
    assert torch.allclose(-likelihood.nll(x, y), expected)
    assert torch.equal(likelihood.sigma, sigma) and torch.allclose(likelihood.information(y), sigma**-2)
    assert _direct(GaussianNoise(0.5)).sigma.shape == ()


def test_a_sigma_of_shape_b111_is_one_per_image() -> None:
    noise = GaussianNoise(torch.tensor([0.1, 0.2]).reshape(2, 1, 1, 1))
    physics = operators.create("denoising", (1, 2, 2))
    physics.noise_model = noise
    assert torch.equal(operators.likelihood(physics).sigma, torch.tensor([0.1, 0.2]))


def test_laplace_is_torchs_laplace() -> None:
    x, y = _uniform(3, 5), _uniform(3, 5, seed=1)
    b = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    expected = torch.distributions.Laplace(x, b[:, None]).log_prob(y).sum(dim=1)
    likelihood = _direct(LaplaceNoise(b[:, None]), 5)
    assert torch.allclose(-likelihood.nll(x, y), expected)
    assert torch.allclose(likelihood.information(y), b**-2)


@pytest.mark.parametrize("normalize", [True, False])
def test_poisson_is_torchs_poisson_of_the_counts(normalize: bool) -> None:
    gain, x = 0.25, _uniform(3, 5) * 4 + 0.1
    counts = torch.poisson(x / gain, generator=torch.Generator().manual_seed(0))
    y = counts * gain if normalize else counts
    likelihood = _direct(PoissonNoise(gain, normalize=normalize), 5)
    assert torch.allclose(-likelihood.nll(x, y), torch.distributions.Poisson(x / gain).log_prob(counts).sum(dim=1))
    assert torch.allclose(likelihood.information(y), 1 / (gain**2 * counts.amin(dim=1).clamp_min(1)))


@pytest.mark.parametrize("z", [0.02, 0.5, 30.0])
def test_poisson_probabilities_sum_to_one(z: float) -> None:
    counts = torch.arange(400.0, dtype=torch.float64)[None]
    log_p = _direct(PoissonNoise(0.25)).log_density(torch.full_like(counts, z), counts * 0.25)
    assert log_p.exp().sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("gain, sigma, z", [(0.2, 0.1, 1.0), (0.05, 0.5, 0.3), (1.0, 0.05, 2.5), (1e-3, 0.02, 0.5)])
def test_poisson_gaussian_density_integrates_to_one(gain: float, sigma: float, z: float) -> None:
    spread = math.sqrt(gain * z + sigma**2)
    y = torch.linspace(z - 9 * spread - 2 * gain, z + 14 * spread + 10 * gain, 40_001, dtype=torch.float64)[None]
    log_p = _direct(PoissonGaussianNoise(gain, sigma), y.shape[1]).log_density(torch.full_like(y, z), y)
    assert torch.trapezoid(log_p.exp(), y) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(
    "gain, sigma", [(1.0, 0.1), (0.1, 0.05), (0.01, 0.1), (1e-3, 0.1), (1e-4, 0.02), (1e-2, 1e-4), (5.0, 20.0)]
)
def test_poisson_gaussian_is_the_whole_sum(gain: float, sigma: float) -> None:
    z = _uniform(40) * 2 + 0.002
    spread = (gain * z + sigma**2).sqrt()
    y = z + spread * torch.linspace(-6, 6, 40, dtype=torch.float64)  # six deviations into both tails
    counts = np.arange(int(float(z.max() + 60 * spread.max()) / gain) + 50)
    expected = special.logsumexp(
        stats.poisson.logpmf(counts, z.numpy()[:, None] / gain)
        + stats.norm.logpdf(y.numpy()[:, None], gain * counts, sigma),
        axis=1,
    )
    parameters = (torch.tensor(value, dtype=torch.float64) for value in (gain, sigma))
    physics = operators.create("denoising", (40,), noise=PoissonGaussianNoise(*parameters))
    log_p = operators.likelihood(physics).log_density(z[None], y[None])[0]
    assert np.allclose(log_p.numpy(), expected, rtol=1e-10, atol=1e-9)


def test_poisson_gaussian_with_a_small_gain_is_gaussian() -> None:
    # Both cumulants of order three and above vanish with the gain; the variance is gain z + sigma^2.
    z, y = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[0.75]], dtype=torch.float64)
    likelihood = _direct(PoissonGaussianNoise(1e-8, 0.1))
    expected = stats.norm.logpdf(0.75, 0.7, math.sqrt(1e-8 * 0.7 + 0.1**2))
    assert float(likelihood.log_density(z, y)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("noise", [PoissonNoise(0.1), PoissonGaussianNoise(0.1, 0.05)], ids=_kind)
def test_negative_rates_are_finite_and_pushed_up_where_counts_were_seen(noise: NoiseModel) -> None:
    likelihood = _direct(noise, 4)
    z = torch.tensor([[-1.0, -1e-3, 0.0, 1e-5]], dtype=torch.float64)
    y = torch.full_like(z, 0.5)
    assert bool(torch.isfinite(likelihood.nll(z, y)).all())
    slope = likelihood.slope(z, y)
    assert bool((slope >= 0).all()) and bool((slope[:, 1:] > 1).all())
    # Nothing counted: no reason to move a rate that is negative already, and no density above one.
    nothing = torch.zeros_like(z)
    assert bool(torch.isfinite(likelihood.slope(z, nothing)).all())
    if isinstance(noise, PoissonNoise):
        assert bool((likelihood.log_density(z, nothing) <= 0).all())


def test_the_continued_logarithm_is_smooth_and_exact_above_its_threshold() -> None:
    likelihood = _direct(PoissonNoise(1.0), 3)
    y = torch.ones(1, 3, dtype=torch.float64)
    z = torch.tensor([[1e-3 - 1e-9, 1e-3, 1e-3 + 1e-9]], dtype=torch.float64)
    values, slopes = likelihood.log_density(z, y)[0], likelihood.slope(z, y)[0]
    assert float(values.max() - values.min()) < 1e-5 and float(slopes.max() - slopes.min()) < 1e-2
    assert float(values[2]) == pytest.approx(stats.poisson.logpmf(1, 1e-3 + 1e-9), abs=1e-9)


@pytest.mark.parametrize("name", ["inpainting", "fourier"])
@pytest.mark.parametrize("noise", [GaussianNoise(0.3), PoissonNoise(0.05)], ids=_kind)
def test_entries_that_were_not_measured_do_not_count(name: str, noise: NoiseModel) -> None:
    mask = torch.zeros(4, 4)
    mask[1, 2] = 1
    physics = operators.create(name, (1, 4, 4), mask=mask, noise=noise)
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    likelihood = operators.likelihood(physics)
    y = physics.A(x).abs() * 1.2
    seen = operators.measured(physics).expand_as(y) == 1
    expected = likelihood.log_density(physics.A(x)[seen][:, None], y[seen][:, None])
    assert torch.allclose(-likelihood.nll(x, y).sum(), expected.sum().float(), rtol=1e-5)
    junk = torch.where(seen, y, torch.full_like(y, 7.0))
    assert torch.equal(likelihood.score(x, junk), likelihood.score(x, y))


def test_the_mean_squared_residual_of_the_nll_is_in_physical_units() -> None:
    # E nll = m (log(2 pi sigma^2) + 1) / 2 over m measured entries; five standard errors sqrt(m / 2).
    physics = operators.create("inpainting", (1, 100, 100), keep=0.3, noise=0.05)
    x = torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(0))
    nll, m = float(operators.likelihood(physics).nll(x, physics(x))), 3000
    assert abs(nll - m * (math.log(2 * math.pi * 0.05**2) + 1) / 2) < 5 * math.sqrt(m / 2)


def test_a_linear_gaussian_score_costs_one_a_and_one_adjoint() -> None:
    physics = operators.create("blur", (1, 8, 8), noise=0.1)
    calls = []
    forward, adjoint = physics.A, physics.A_adjoint
    physics.A = lambda x: calls.append("A") or forward(x)
    physics.A_adjoint = lambda y: calls.append("A_adjoint") or adjoint(y)
    x, y = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    score = operators.likelihood(physics).score(x, y)
    assert calls == ["A", "A_adjoint"]
    assert torch.allclose(score, adjoint(y - forward(x)) / 0.1**2, atol=1e-4)


def test_noise_sigma() -> None:
    assert operators.noise_sigma(operators.create("blur", (1, 8, 8), noise=0.25)) == pytest.approx(0.25)
    sigma = torch.tensor([0.1, 0.2])
    assert torch.equal(operators.noise_sigma(operators.create("denoising", (3,), noise=sigma)), sigma)
    for noise in (0.0, PoissonNoise(0.1), LaplaceNoise(0.1)):
        assert operators.noise_sigma(operators.create("denoising", (3,), noise=noise)) is None


def _with(noise: object, **attributes: object) -> Physics:
    physics = Denoising()
    physics.noise_model = noise
    for name, value in attributes.items():
        setattr(physics, name, value)
    return physics


@pytest.mark.parametrize(
    "physics, error, message",
    [
        (
            operators.create("denoising", (3,)),
            ValueError,
            r"noise above 0, got ZeroNoise \(noise=0\).* no density; give",
        ),
        (_with(ZeroNoise()), ValueError, "noise above 0, got ZeroNoise"),
        (_with(None), ValueError, "physics must have a noise model, got none, so that .* no density; give it some by"),
        (_with(GaussianNoise(0.0)), ValueError, r"sigma of GaussianNoise must be finite and above 0, got \[0.0\]"),
        (_with(GaussianNoise(math.nan)), ValueError, "sigma of GaussianNoise must be finite"),
        (_with(GaussianNoise(torch.full((3, 4, 4), 0.1))), ValueError, "must be one number or one per image"),
        (_with(LaplaceNoise(torch.tensor([0.1, 0.2]))), ValueError, r"b of LaplaceNoise .*\(B, 1, ..., 1\)"),
        (_with(PoissonNoise(-1.0)), ValueError, "gain of PoissonNoise must be"),
        (_with(UniformNoise(0.1)), ValueError, "density is known .*got UniformNoise"),
        (_with(RicianNoise(0.1)), ValueError, "density is known .*got RicianNoise"),
        (_with(GaussianNoise(0.1) * PoissonNoise(0.1)), ValueError, "density is known .*got NoiseModel"),
        (_with(GaussianNoise(0.1), sensor_model=lambda y: y.clamp(0, 1)), ValueError, "no sensor_model after"),
        (None, TypeError, "physics must be a deepinv Physics, got NoneType"),
    ],
)
def test_what_has_no_density_is_refused_with_a_reason(physics: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        operators.likelihood(physics)

"""Exact posteriors on manifolds against closed forms, independent quadrature and each other."""

import math

import pytest
import torch
from deepinv.physics import PoissonNoise
from scipy.special import ive

import operators
from inverse import Posterior
from inverse.exact_manifold import ManifoldPosterior
from priors import GaussianMixture, Manifold, MaximumEntropy, Perturbed
from priors.manifolds import Circle, Ellipse, Embedded, Product, Sphere, Torus, VonMisesFisher

DOUBLE = torch.float64


def identity(size: int, noise) -> operators.Likelihood:
    return operators.create("matrix", (size,), matrix=torch.eye(size), noise=noise)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("uniform", [False, True])
def test_denoising_on_a_sphere_is_von_mises_fisher(n, uniform):
    """y = x + s e turns parameter kappa mu into w = kappa mu + y / s^2 (0 for kappa where the prior is uniform)."""
    density = VonMisesFisher([1.0, 2.0, -1.0, 0.5][: n + 1], 3.0)
    prior, s = Manifold(Sphere(n), density), 0.4
    y = torch.randn(3, n + 1, generator=torch.Generator().manual_seed(n))
    exact = Posterior(MaximumEntropy(prior) if uniform else prior, identity(n + 1, s), y).exact()
    w = y.double() / s**2 + (0 if uniform else density.kappa * density.direction)
    t, nu = w.norm(dim=1, keepdim=True), (n + 1) / 2 - 1
    resultant = torch.from_numpy(ive(nu + 1, t.numpy()) / ive(nu, t.numpy()))
    torch.testing.assert_close(exact.mean().double(), resultant * w / t, rtol=0, atol=1e-6)
    # E[u u^T] = A/t I + (1 - n A/t - A/t) mu mu^T
    second = resultant / t + (1 - (n + 1) * resultant / t) * (w / t) ** 2
    variance = second - (resultant * w / t) ** 2
    torch.testing.assert_close(exact.std().double() ** 2, variance, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "manifold",
    [Ellipse(1.0, 2.0), Sphere(2), Torus(2.0, 0.5), Sphere(3), Embedded(Circle(), (1, 2, 2), seed=1, center=0.5)],
    ids=repr,
)
def test_draws_have_the_moments_of_the_quadrature(manifold):
    """Mean of each coordinate within 5 standard errors: a false alarm has probability below 1e-4 over all of them."""
    prior = Manifold(manifold, None)
    size = math.prod(manifold.image_shape)
    physics = operators.create("matrix", manifold.image_shape, matrix=torch.eye(size)[:1], noise=0.2)
    y = physics.A(manifold.sample(2, seed=1).float())
    exact = Posterior(prior, physics, y).exact()
    draws = exact.sample(10_000, seed=2)
    assert draws.shape == (10_000, 2, *manifold.image_shape)
    assert draws.dtype == y.dtype
    assert float(manifold.distance(draws.double()).max()) < 1e-5
    error = (draws.mean(0) - exact.mean()).abs()
    assert bool((error <= 5 * exact.std() / 100 + 1e-6).all())
    assert torch.allclose(draws.std(0), exact.std(), rtol=0.06, atol=1e-4)
    assert torch.equal(exact.sample(5, seed=3), exact.sample(5, seed=3))


@pytest.mark.parametrize("noise", [0.5, 0.003])
def test_draws_on_a_circle_have_the_posterior_distribution_function(noise):
    """Kolmogorov-Smirnov distance of 20,000 draws; the bound is exceeded with probability 1e-6."""
    prior = Manifold(Circle(), VonMisesFisher([-1.0, 0.0], 4.0))
    physics = operators.create("matrix", (2,), matrix=torch.tensor([[1.0, 0.0]]), noise=noise)
    draws = ManifoldPosterior(prior, physics, torch.tensor([[0.3]])).sample(20_000)[:, 0].double()
    angle = torch.atan2(draws[:, 1], draws[:, 0]).sort().values
    grid = torch.linspace(-math.pi, math.pi, 200_001, dtype=DOUBLE)
    mass = (-4 * grid.cos() - (0.3 - grid.cos()) ** 2 / (2 * noise**2)).exp()
    distribution = mass.cumsum(0) / mass.sum()
    exact = distribution[torch.searchsorted(grid, angle).clamp(max=len(grid) - 1)]
    empirical = torch.arange(1, len(angle) + 1, dtype=DOUBLE) / len(angle)
    bound = math.sqrt(math.log(2 / 1e-6) / 2 / len(angle))
    assert float((exact - empirical).abs().max()) < bound + 1 / len(angle)


@pytest.mark.parametrize("n", [4, 5])
def test_one_coordinate_of_a_sphere_against_one_integral(n):
    """y = <e, x> + noise and a density about e leave the law (1 - c^2)^{n/2-1} exp(kappa c - (y - c)^2 / 2 s^2) of
    c = <e, x>; 20,000 draws, whose bound is exceeded with probability 1e-6."""
    kappa, noise, y = 2.0, 0.8, 0.3
    direction = torch.eye(n + 1)[1]
    physics = operators.create("matrix", (n + 1,), matrix=direction[None], noise=noise)
    prior = Manifold(Sphere(n), VonMisesFisher(direction, kappa))
    exact = ManifoldPosterior(prior, physics, torch.tensor([[y]]), nodes=8)
    grid = torch.linspace(-1, 1, 200_001, dtype=DOUBLE)
    mass = (1 - grid**2) ** (n / 2 - 1) * (kappa * grid - (y - grid) ** 2 / (2 * noise**2)).exp()
    mass = mass / mass.sum()
    mean = float(mass @ grid)
    std = math.sqrt(float(mass @ (grid - mean) ** 2))
    assert float(exact.mean()[0, 1]) == pytest.approx(mean, abs=1e-5)
    assert float(exact.std()[0, 1]) == pytest.approx(std, abs=1e-5)
    assert float(exact.mean()[0].norm()) == pytest.approx(mean, abs=1e-5)
    draws = exact.sample(20_000, seed=1)[:, 0, 1].double().sort().values
    distribution = mass.cumsum(0)[torch.searchsorted(grid, draws).clamp(max=len(grid) - 1)]
    empirical = torch.arange(1, len(draws) + 1, dtype=DOUBLE) / len(draws)
    bound = math.sqrt(math.log(2 / 1e-6) / 2 / len(draws))
    assert float((distribution - empirical).abs().max()) < bound + 1 / len(draws)


def test_flat_likelihood_leaves_the_prior():
    """The mean resultant length of a von Mises-Fisher law on S^4, I_{5/2} / I_{3/2} of kappa (Mardia and Jupp 2000)."""
    density = VonMisesFisher([1.0, 2.0, -1.0, 0.5, 1.5], 3.0)
    exact = ManifoldPosterior(Manifold(Sphere(4), density), identity(5, 1e6), torch.zeros(1, 5))
    expected = float(ive(2.5, 3.0) / ive(1.5, 3.0)) * density.direction
    torch.testing.assert_close(exact.mean()[0].double(), expected, rtol=0, atol=1e-6)


def test_any_likelihood():
    """Poisson counts of a circle around (2, 2), against a sum over 100,000 angles."""
    circle = Embedded(Circle(), 2, seed=0, center=2.0)
    physics = identity(2, PoissonNoise(gain=0.5))
    y = torch.tensor([[1.0, 2.5], [3.5, 2.0]])
    exact = Posterior(Manifold(circle), physics, y).exact()
    angle = torch.arange(100_000, dtype=DOUBLE) * (2 * math.pi / 100_000)
    points = 2 + torch.stack([angle.cos(), angle.sin()], dim=1)
    log_mass = ((y / 0.5).double()[:, None] * points.log() - points / 0.5).sum(-1)
    expected = log_mass.softmax(1) @ points
    torch.testing.assert_close(exact.mean().double(), expected, rtol=0, atol=1e-5)


def test_one_noise_level_per_image():
    prior = Manifold(Torus(2.0, 0.5))
    y = prior.sample(2, 1)
    both = Posterior(prior, identity(3, torch.tensor([0.1, 1.0])), y).exact()
    for i, noise in enumerate((0.1, 1.0)):
        alone = Posterior(prior, identity(3, noise), y[i : i + 1]).exact()
        torch.testing.assert_close(both.mean()[i], alone.mean()[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(both.std()[i], alone.std()[0], rtol=0, atol=1e-6)
    draws = both.sample(4000)
    assert bool(((draws.mean(0) - both.mean()).abs() <= 5 * both.std() / math.sqrt(4000)).all())


def test_nodes_and_weights_are_the_posterior():
    prior = Manifold(Product(Circle(), Circle(0.5)))
    posterior = Posterior(prior, identity(4, 0.3), prior.sample(3, 1))
    exact = posterior.exact()
    weights = exact.log_weights.exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=DOUBLE))
    torch.testing.assert_close((weights @ exact.nodes).float(), exact.mean())


def test_wrapped_priors():
    prior = Manifold(Circle(), VonMisesFisher([-1.0, 0.0], 4.0))
    wrong, physics, y = Perturbed(prior, lambda x, s: x), identity(2, 0.5), torch.tensor([[0.3, 0.5]])
    generic, uniform = (ManifoldPosterior(p, physics, y).mean() for p in (prior, Manifold(Circle())))
    assert float((generic - uniform).norm()) > 0.1
    assert torch.equal(ManifoldPosterior(wrong, physics, y).mean(), generic)
    assert torch.equal(ManifoldPosterior(MaximumEntropy(prior, alpha=0.0), physics, y).mean(), generic)
    geometric = [MaximumEntropy(wrong), MaximumEntropy(prior, method="cancelled")]
    for p in geometric:
        torch.testing.assert_close(ManifoldPosterior(p, physics, y).mean(), uniform)
    torch.testing.assert_close(ManifoldPosterior(prior, physics, y, maximum_entropy=True).mean(), uniform)


def test_refusals_name_the_argument(monkeypatch):
    monkeypatch.setattr("inverse.exact_manifold.MAX_WEIGHTS", 2**16)
    y = torch.zeros(1, 5)
    with pytest.raises(ValueError, match="prior must be on a manifold with a chart of at most 5 .* Sphere"):
        ManifoldPosterior(Manifold(Sphere(6)), identity(7, 0.1), torch.zeros(1, 7))
    with pytest.raises(ValueError, match="physics must leave a posterior wider than the cells of 65536 .* 12 nodes"):
        ManifoldPosterior(Manifold(Sphere(4)), identity(5, 0.1), y)
    mixture = GaussianMixture(torch.zeros(1, 5), torch.ones(1))
    with pytest.raises(TypeError, match="prior must be a Manifold, .* got GaussianMixture"):
        ManifoldPosterior(mixture, identity(5, 0.1), y)
    torus = Manifold(Torus(2.0, 0.5))
    with pytest.raises(ValueError, match="physics must leave a posterior wider than the cells of 65536 .* 256 nodes"):
        ManifoldPosterior(torus, identity(3, 1e-5), torus.sample(1, 1))
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        ManifoldPosterior(torus, identity(3, 0.5), torus.sample(1, 1)).sample(0)

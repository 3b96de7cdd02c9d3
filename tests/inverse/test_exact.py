"""Exact mixture posteriors against dense Bayes by hand, importance sampling and their own draws."""

import math

import pytest
import torch
from deepinv.physics import LaplaceNoise
from torch.distributions import MultivariateNormal

import operators
from inverse import Posterior, exact
from priors import Empirical, GaussianMixture, Prior

K, D, M, NOISE = 3, 5, 3, 0.3


def problem(kind: str, noise: float = NOISE) -> Posterior:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(K, D, generator=generator, dtype=torch.float64)
    root = torch.randn(K, D, D, generator=generator, dtype=torch.float64)
    covariances = {
        "isotropic": torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
        "diagonal": torch.rand(K, D, generator=generator, dtype=torch.float64),
        "full": root @ root.mT / D,
    }[kind]
    matrix = torch.randn(M, D, generator=generator, dtype=torch.float64)
    physics = operators.create("matrix", (D,), matrix=matrix, noise=noise).double()
    y = torch.randn(2, M, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    return Posterior(GaussianMixture(means, covariances, weights), physics, y)


def by_hand(posterior: Posterior, b: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, means and covariances of the posterior's components from the information form, not Woodbury's."""
    prior = posterior.prior
    matrix = posterior.physics.A(torch.eye(D, dtype=torch.float64)).T
    variances = prior.variances.expand(K, D)
    rotations = torch.eye(D, dtype=torch.float64).expand(K, D, D) if prior.rotations is None else prior.rotations
    covariances = rotations @ torch.diag_embed(variances) @ rotations.mT
    precision = torch.linalg.inv(covariances) + matrix.T @ matrix / NOISE**2
    covariance = torch.linalg.inv(precision)
    information = torch.linalg.solve(covariances, prior.means[..., None])[..., 0] + posterior.y[b] @ matrix / NOISE**2
    evidence = MultivariateNormal(prior.means @ matrix.T, matrix @ covariances @ matrix.T + NOISE**2 * torch.eye(M))
    weights = (prior.weights.log() + evidence.log_prob(posterior.y[b])).softmax(0)
    return weights, torch.einsum("kij,kj->ki", covariance, information), covariance


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_moments_are_those_of_bayes_by_hand(kind):
    posterior = problem(kind)
    reference = posterior.exact()
    for b in range(2):
        weights, means, covariances = by_hand(posterior, b)
        mean = weights @ means
        variance = weights @ (covariances.diagonal(dim1=1, dim2=2) + (means - mean) ** 2)
        torch.testing.assert_close(reference.weights[b], weights, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(reference.mean()[b], mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(reference.std()[b], variance.sqrt(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_draws_have_the_posterior_mean_and_covariance(kind):
    posterior, n = problem(kind), 40_000
    x = posterior.exact().sample(n, seed=1)
    assert x.shape == (n, 2, D)
    for b in range(2):
        weights, means, covariances = by_hand(posterior, b)
        mean = weights @ means
        centred = means - mean
        covariance = torch.einsum("k,kij->ij", weights, covariances + torch.einsum("ki,kj->kij", centred, centred))
        products = torch.einsum("ni,nj->nij", x[:, b] - mean, x[:, b] - mean)
        # 30 statistics within 5 standard errors: error probability below 30 * 6e-7
        assert ((x[:, b].mean(0) - mean).abs() < 5 * (covariance.diagonal() / n).sqrt()).all()
        assert ((products.mean(0) - covariance).abs() < 5 * products.std(0) / math.sqrt(n)).all()


def test_tiny_noise_and_far_measurements_stay_finite_in_the_log_domain():
    reference = problem("isotropic", noise=1e-4).exact()
    posterior = problem("isotropic", noise=1e-4)
    far = Posterior(posterior.prior, posterior.physics, posterior.y + 1e3).exact()
    for known in (reference, far):
        assert torch.isfinite(known.mean()).all() and torch.isfinite(known.sample(3)).all()
        torch.testing.assert_close(known.weights.sum(1), torch.ones(2, dtype=torch.float64))
    residual = posterior.physics.A(reference.mean()) - posterior.y
    assert residual.abs().max() < 1e-3


def test_noise_of_each_image_is_its_own():
    posterior = problem("isotropic")
    alone = [problem("isotropic", noise=s).exact().mean()[b] for b, s in enumerate([0.1, 2.0])]
    posterior.physics.noise_model.update_parameters(sigma=torch.tensor([0.1, 2.0], dtype=torch.float64))
    torch.testing.assert_close(posterior.exact().mean(), torch.stack(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["inpainting", "blur"])
def test_operator_of_each_image_is_its_own(name):
    """Each measurement's posterior is that under its own mask or kernel alone, in moments, weights and draws."""
    shape, generator = (1, 4, 4), torch.Generator().manual_seed(0)
    prior = GaussianMixture(torch.rand(3, *shape, generator=generator), torch.tensor([0.1, 0.2, 0.3]))
    own = torch.rand(2, 1, 3, 3, generator=generator)
    masks = (torch.rand(2, *shape, generator=generator) > 0.5).float()
    made = {
        "inpainting": [{"mask": masks[k]} for k in ([0, 1], 0, 1)],
        "blur": [{"kernel": own[k]} for k in ([0, 1], 0, 1)],
    }
    both, *alone = (operators.create(name, shape, noise=0.3, **options) for options in made[name])
    y = both(prior.sample(2, seed=1))
    found = Posterior(prior, both, y).exact()
    parts = [Posterior(prior, physics, y[b : b + 1]).exact() for b, physics in enumerate(alone)]
    torch.testing.assert_close(found.mean(), torch.cat([part.mean() for part in parts]))
    torch.testing.assert_close(found.std(), torch.cat([part.std() for part in parts]))
    torch.testing.assert_close(found.weights, torch.cat([part.weights for part in parts]))
    draws = found.sample(4000, seed=0)
    # five standard errors at each of 32 pixels: an error probability of 2e-5
    assert ((draws.mean(0) - found.mean()).abs() < 5 * found.std() / 4000**0.5).all()
    assert (torch.corrcoef(draws[:, :, 0, 0, 0].T)[0, 1].abs() < 5 / 4000**0.5).item()


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_no_draws_are_refused(n):
    with pytest.raises(ValueError, match=f"n must be a whole number of at least 1, got {n}"):
        problem("isotropic").exact().sample(n)


def test_components_in_blocks_change_nothing(monkeypatch):
    whole = problem("isotropic").exact()
    monkeypatch.setattr(exact, "BLOCK_ENTRIES", 5)
    blocks = problem("isotropic").exact()
    torch.testing.assert_close(whole.weights, blocks.weights)
    torch.testing.assert_close(whole.mean(), blocks.mean())


def test_the_likeliest_image_of_a_data_set_is_the_one_of_the_largest_weight():
    data = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    physics = operators.create("fourier", (1, 6, 6), ratio=0.5, noise=0.1)
    posterior = Posterior(Empirical(data, 1e-4), physics, physics(data[:1]))
    log_likelihood = torch.cat([posterior.log_likelihood(x[None]) for x in data])
    torch.testing.assert_close(posterior.exact().weights[0], log_likelihood.softmax(0), rtol=1e-3, atol=1e-4)


def test_same_seed_same_draws_and_another_seed_others():
    reference = problem("full").exact()
    assert torch.equal(reference.sample(5, seed=3), reference.sample(5, seed=3))
    assert not torch.equal(reference.sample(5, seed=3), reference.sample(5, seed=4))


def test_other_problems_are_refused_with_the_reason():
    prior = GaussianMixture(torch.zeros(1, 1, 4, 4), torch.ones(1))
    image = torch.rand(1, 1, 4, 4)
    laplace = operators.create("denoising", (1, 4, 4), noise=LaplaceNoise(0.1))
    with pytest.raises(ValueError, match="physics must have Gaussian noise"):
        Posterior(prior, laplace, image).exact()
    saturated = operators.create("saturation", (1, 4, 4), noise=0.1)
    with pytest.raises(ValueError, match="physics must be linear"):
        Posterior(prior, saturated, image).exact()

    class Other(Prior):
        image_shape = (1, 4, 4)

    with pytest.raises(TypeError, match="GaussianMixture, Empirical and Manifold priors only, got Other"):
        Posterior(Other(), operators.create("denoising", (1, 4, 4), noise=0.1), image).exact()
    large = GaussianMixture(torch.zeros(1, 1, 100, 100), torch.ones(1))
    with pytest.raises(ValueError, match="at most 8192 pixels"):
        Posterior(large, operators.create("denoising", (1, 100, 100), noise=0.1), torch.zeros(1, 1, 100, 100)).exact()

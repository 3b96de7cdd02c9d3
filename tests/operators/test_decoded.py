"""Measurements through a decoder, for decoders whose Jacobian and posterior are known."""

import math

import pytest
import torch
from deepinv.physics import GaussianNoise
from torch import Tensor, nn

import inverse
import operators
from priors import GaussianMixture

W = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def linear_decoder(z: Tensor) -> Tensor:
    return z @ W.to(z).T


def curved(z: Tensor) -> Tensor:
    return linear_decoder(z).tanh()


def latents(n: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(noise: float = 0.1) -> tuple[Tensor, operators.Likelihood]:
    matrix = torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return matrix, operators.create("matrix", (6,), matrix=matrix, noise=noise)


def test_measures_the_decoded_image_and_its_jacobian():
    matrix, physics = measured()
    through = operators.decoded(physics, curved, (3,))
    z = latents()
    torch.testing.assert_close(through.A(z), (z @ W.T).tanh() @ matrix.T)
    v = torch.randn(4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    slope = 1 - (z @ W.T).tanh() ** 2
    torch.testing.assert_close(through.A_vjp(z, v), ((v @ matrix) * slope) @ W)
    assert not operators.is_linear(through) and through.img_size == (3,)


def test_likelihood_is_that_of_the_decoded_image():
    matrix, physics = measured(0.2)
    through = operators.decoded(physics, curved)
    z, y = latents(), torch.ones(4, 4, dtype=torch.float64)
    residual = y - curved(z) @ matrix.T
    expected = (residual**2).sum(1) / (2 * 0.04) + 2 * math.log(2 * math.pi * 0.04)
    likelihood = operators.likelihood(through)
    torch.testing.assert_close(likelihood.nll(z, y), expected, rtol=1e-6, atol=1e-6)  # noise is kept as float32
    slope = 1 - curved(z) ** 2
    score = ((residual / 0.04) @ matrix * slope) @ W
    torch.testing.assert_close(likelihood.score(z, y), score, rtol=1e-6, atol=1e-6)


def test_size_of_the_jacobian():
    matrix, physics = measured()
    through = operators.decoded(physics, linear_decoder)
    largest = float(torch.linalg.svdvals(matrix @ W)[0])
    # Ten steps from below; in three dimensions with singular values well apart they are enough for 1%.
    assert operators.sqnorm(through.float(), (3,)) == pytest.approx(largest**2, rel=0.01)


def test_attention_in_the_decoder_can_be_differentiated_forward():
    def attending(z: Tensor) -> Tensor:
        token = z.reshape(len(z), 1, 3, 1)
        return nn.functional.scaled_dot_product_attention(token, token, token).reshape(len(z), 3)

    size = operators.sqnorm(operators.decoded(operators.create("denoising", (3,), noise=0.1), attending), (3,))
    assert 0 < size < 10


def test_a_mask_counts_only_what_it_measures():
    mask = torch.tensor([1.0, 0, 1, 1, 0, 1])
    physics = operators.create("inpainting", (6,), mask=mask, noise=0.5)
    through = operators.decoded(physics, linear_decoder)
    assert torch.equal(operators.measured(through), operators.measured(physics))
    z = latents(1000).float()
    noise = through(z) - through.A(z)
    assert not bool(noise[:, mask == 0].any())
    # 4,000 draws: the standard deviation's standard error is 0.5 / sqrt(8000); five of them, wrong once in 1.7 million.
    assert float(noise[:, mask == 1].std()) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(8000))
    y = through(z[:2])
    residual = (y - linear_decoder(z[:2]))[:, mask == 1]
    expected = (residual**2).sum(1) / 0.5 + 2 * math.log(2 * math.pi * 0.25)
    torch.testing.assert_close(operators.likelihood(through).nll(z[:2], y), expected)


def test_its_noise_can_be_replaced_and_the_given_physics_keeps_its_own():
    physics = operators.create("inpainting", (6,), keep=0.5, noise=0.1)
    through = operators.decoded(physics, linear_decoder)
    through.noise_model = GaussianNoise(2.0, rng=torch.Generator().manual_seed(0))
    z = latents(1000).float()
    noise = (through(z) - through.A(z))[:, (operators.measured(through) != 0).flatten()]
    # 3,000 draws; five standard errors.
    assert float(noise.std()) == pytest.approx(2.0, abs=5 * 2 / math.sqrt(6000))
    assert float(operators.likelihood(through).sigma) == 2.0
    assert float(physics.noise_model.sigma) == pytest.approx(0.1)


def test_noise_levels_of_each_image_follow_their_chains():
    _, physics = measured()
    physics.noise_model = GaussianNoise(torch.tensor([0.1, 0.4]))
    through = operators.decoded(physics, linear_decoder)
    chains = operators.per_image(through, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(operators.likelihood(chains).sigma, torch.tensor([0.4, 0.1, 0.4]))
    z = latents(3)
    torch.testing.assert_close(chains.A(z), through.A(z))


def test_langevin_dynamics_has_the_exact_posterior_of_the_latent_variables():
    """A linear decoder leaves the posterior Gaussian: N(C (A W)^T y / s^2, C), C^-1 = I + (A W)^T A W / s^2."""
    matrix, physics = measured(1.0)
    through = operators.decoded(physics, linear_decoder)
    prior = GaussianMixture(torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    y = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64)
    posterior = inverse.Posterior(prior, through, y)
    n = 4000
    drawn = inverse.Langevin(sigma=0.05, step_size=0.3, steps=400).sample(posterior, n, seed=0).x[:, 0]
    seen = matrix @ W
    covariance = torch.linalg.inv(torch.eye(3, dtype=torch.float64) + seen.T @ seen)
    mean = covariance @ seen.T @ y[0]
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (drawn - mean).T, upper=False)
    # Means of n whitened draws have standard error 1/sqrt(n), variances sqrt(2/n): five of them and 5% of step size.
    assert bool((whitened.mean(1).abs() < 5 / math.sqrt(n) + 0.05).all())
    assert bool(((whitened.var(1) - 1).abs() < 5 * math.sqrt(2 / n) + 0.05).all())


def test_diffusion_posterior_sampling_finds_what_was_measured():
    _, physics = measured(0.05)
    through = operators.decoded(physics, lambda z: linear_decoder(0.3 * z).tanh())
    prior = GaussianMixture(torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    y = through.A(latents(2))
    draws = inverse.DPS(steps=100).sample(inverse.Posterior(prior, through, y), 8, seed=0)
    residual = (through.A(draws.x[:, 0]) - y[0]).square().mean().sqrt()
    prior_residual = (through.A(latents(1000, seed=5)) - y[0]).square().mean().sqrt()
    assert residual < 0.2 * prior_residual


def test_refusals_name_the_argument():
    _, physics = measured()
    with pytest.raises(TypeError, match="physics must be a deepinv Physics, got function"):
        operators.decoded(curved, physics)
    with pytest.raises(TypeError, match="decoder must be a function of latent variables, got str"):
        operators.decoded(physics, "vae")
    with pytest.raises(TypeError, match=r"latent_shape must be a tuple \(C, H, W\) or \(d,\), got '3'"):
        operators.decoded(physics, curved, "3")

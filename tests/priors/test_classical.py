"""Classical denoisers as priors: closed forms, scores that are gradients, results of the image alone, what sigma is."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from deepinv.models import TVDenoiser

import inverse
import operators
import priors
from priors import BM3D, Median, TotalVariation, Wavelet, check_score, classical
from priors.tiled import Tiled

MAKERS = {"tv": TotalVariation, "wavelet": Wavelet, "median": Median}
NEEDS_BM3D = pytest.mark.skipif("bm3d" not in classical.available(), reason="needs bm3d, which is not free for all")
EVERY = [*MAKERS, pytest.param("bm3d", marks=[pytest.mark.slow, NEEDS_BM3D])]


def blocks(channels: int = 1, side: int = 16, batch: int = 2) -> torch.Tensor:
    """Images of large flat squares, in [0, 1]."""
    coarse = torch.rand(batch, channels, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return coarse.repeat_interleave(side // 4, 2).repeat_interleave(side // 4, 3)


def noisy(sigma: float, **options: int) -> torch.Tensor:
    clean = blocks(**options)
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=clean.dtype)


def step(left: torch.Tensor, right: torch.Tensor, height: int = 3, width: int = 4) -> torch.Tensor:
    """An image (1, C, height, 2 width) with two values: left and right, each (C,)."""
    halves = [value.double().reshape(1, -1, 1, 1).expand(1, -1, height, width) for value in (left, right)]
    return torch.cat(halves, -1)


@pytest.mark.parametrize("channels", [1, 2])
def test_total_variation_moves_a_step_together(channels):
    """The halves of a step move along it by lambda over their width, until they meet: 1-D total variation."""
    left, right = torch.tensor([0.2, 0.5])[:channels], torch.tensor([0.8, 0.1])[:channels]
    x, sigma = step(left, right), 0.1
    prior = TotalVariation(weight=2.0, exponent=1.0, iterations=500)
    strength = 2.0 * channels ** (1 / 3) * sigma
    shift = strength / 4 * (right - left) / (right - left).norm()
    torch.testing.assert_close(prior.denoise(x, sigma), step(left + shift, right - shift), rtol=0, atol=1e-6)
    middle = (left + right) / 2
    torch.testing.assert_close(prior.denoise(x, 2.0), step(middle, middle), rtol=0, atol=1e-5)


def test_total_variation_is_that_of_deepinv():
    x, strength = noisy(0.1, side=8, batch=1), 0.15
    prior = TotalVariation(weight=1.5, exponent=1.0, iterations=500)
    expected = TVDenoiser(n_it_max=1000, crit=0.0)(x, strength)
    torch.testing.assert_close(prior.denoise(x, 0.1), expected, rtol=0, atol=1e-4)


def test_total_variation_has_converged_to_what_is_stated():
    sigma = 0.1
    rough, exact = (TotalVariation(iterations=n).denoise(noisy(sigma, side=32), sigma) for n in (100, 1000))
    assert (rough - exact).square().mean().sqrt() < 0.004 * sigma


def test_the_envelope_of_total_variation_is_the_minimum():
    prior, x = TotalVariation(iterations=500), noisy(0.1, channels=3)
    strength = prior.strength(x, 0.1)

    def objective(u: torch.Tensor) -> torch.Tensor:
        right, down = u.diff(dim=-1), u.diff(dim=-2)
        squares = torch.zeros_like(u)
        squares[..., :-1] += right**2
        squares[..., :-1, :] += down**2
        variation = squares.sum(1).sqrt().sum((1, 2))
        return (x - u).square().sum((1, 2, 3)) / 2 + strength * variation

    least = prior.envelope(x, strength)
    torch.testing.assert_close(objective(prior.denoise(x, 0.1)), least, rtol=1e-3, atol=0)
    for u in (x, blocks(channels=3), prior.denoise(x, 0.1) + 0.1 * (x - blocks(channels=3))):
        assert (objective(u) > least).all()


@pytest.mark.parametrize("values", [(0.2, 0.6), (0.2, 0.25)])
def test_wavelets_of_two_values(values):
    """On a b b a, the mirrored row, the only details are (b - a) / 2 and its negative, with threshold lambda / 2."""
    a, b = values
    x = torch.tensor([[[[a, b], [a, b]]]], dtype=torch.float64)
    prior, strength = Wavelet(weight=1.0, exponent=1.0, levels=1), 0.1
    shift = min(strength / 2, (b - a) / 2) / 2
    expected = torch.tensor([[[[a + shift, b - shift]] * 2]], dtype=torch.float64)
    torch.testing.assert_close(prior.denoise(x, strength), expected)


def test_thresholds_are_in_proportion_to_the_noise_of_the_details():
    """White noise of deviation 1 has details of deviation 2^-level, and the transform loses nothing."""
    z = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means, stack = z, []
    for level in range(4):
        means, *details = classical._split(means, 2**level)
        stack.append(details)
        for detail in details:
            # Of 256^2 values, each correlated with some 4^(level + 1): a relative error of 5 standard deviations.
            bound = 5 * 2 ** (level + 1) / (256 * math.sqrt(2))
            assert detail.std().item() == pytest.approx(2.0 ** -(level + 1), rel=bound)
    for level in reversed(range(4)):
        means = classical._merged([means, *stack[level]], 2**level)
    torch.testing.assert_close(means, z)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("prior", "tolerance"), [(TotalVariation(iterations=300), 2e-3), (Wavelet(), 1e-9)])
def test_scores_are_gradients_of_the_log_density(prior, tolerance, channels):
    """By autograd of the Moreau envelope, and the envelope by the fundamental theorem along a segment."""
    x, sigma = noisy(0.1, channels=channels, side=8), torch.tensor([0.05, 0.2], dtype=torch.float64)
    assert check_score(prior, x, sigma, "autograd") < tolerance
    nodes, weights = np.polynomial.legendre.leggauss(6)
    there = blocks(channels=channels, side=8)
    slopes = [
        weight / 2 * (prior.score(torch.lerp(there, x, (node + 1) / 2), sigma) * (x - there)).sum((1, 2, 3))
        for node, weight in zip(nodes, weights, strict=True)
    ]
    change = prior.log_prob(x, sigma) - prior.log_prob(there, sigma)
    torch.testing.assert_close(torch.stack(slopes).sum(0), change, rtol=5e-3, atol=0)


def jacobian(prior: priors.Prior, x: torch.Tensor, sigma: float) -> torch.Tensor:
    matrix = torch.autograd.functional.jacobian(lambda x: prior.denoise(x, sigma), x)
    return matrix.reshape(x.numel(), x.numel())


def test_the_jacobian_of_a_proximal_operator_is_symmetric_between_0_and_1():
    x = noisy(0.1, side=8, batch=1)
    matrix = jacobian(Wavelet(), x, 0.1)
    torch.testing.assert_close(matrix, matrix.T)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert eigenvalues[0] > -1e-9 and eigenvalues[-1] < 1 + 1e-9 and eigenvalues[0] < 0.5


def test_products_with_the_jacobian_of_total_variation():
    """Two values that have met move as their mean, and two that have not each for itself."""
    x = torch.tensor([[[[0.2, 0.9]]]], dtype=torch.float64)
    prior = TotalVariation(weight=1.0, exponent=1.0)
    torch.testing.assert_close(jacobian(prior, x, 0.05), torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(jacobian(prior, x, 0.5), torch.full((2, 2), 0.5).double(), rtol=0, atol=1e-6)
    matrix = jacobian(TotalVariation(), noisy(0.05, side=4, batch=1), 0.05)
    assert (matrix - matrix.T).norm() < 0.2 * matrix.norm()


def test_the_score_of_the_median_is_no_gradient():
    matrix = jacobian(Median(), noisy(0.1, side=8, batch=1), 0.1)
    assert (matrix - matrix.T).norm() > 0.5 * matrix.norm()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_results_depend_on_the_image_and_sigma_alone(name, channels):
    """Not on earlier calls, nor on what else is in the batch."""
    prior, x = priors.load(name), noisy(0.1, channels=channels, batch=3).float()
    levels = [0.05, 0.2, 0.05]
    together = prior.denoise(x, torch.tensor(levels))
    prior.denoise(1 - x, 0.3)
    for i, level in enumerate(levels):
        torch.testing.assert_close(together[i : i + 1], prior.denoise(x[i : i + 1], level), rtol=0, atol=1e-6)
    torch.testing.assert_close(prior.denoise(x, torch.tensor(levels).reshape(3, 1, 1, 1)), together, rtol=0, atol=0)
    assert together.dtype == torch.float32 and not torch.equal(together[0], together[2])


@pytest.mark.parametrize("name", EVERY)
def test_sigma_is_the_noise_that_is_taken_off(name):
    """Told the level of the noise, the error is below half of the noise's, and than told a third or three times it."""
    prior, coarse = priors.load(name), blocks(side=4 if name == "median" else 16, batch=1)  # a median knows no edges
    clean = F.interpolate(coarse, (64, 64), mode="bicubic")
    for sigma in (0.05, 0.2):
        x = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=clean.dtype)
        right, low, high = ((prior.denoise(x, s) - clean).square().mean() for s in (sigma, sigma / 3, 3 * sigma))
        assert right < (x - clean).square().mean() / 2
        assert right < low
        assert right < high


def test_the_strengths_are_those_that_are_stated():
    x = torch.zeros(2, 3, 4, 4)
    expected = 1.31 * 3 ** (1 / 3) * torch.tensor([0.1, 0.3]) ** 1.13
    torch.testing.assert_close(TotalVariation().strength(x, torch.tensor([0.1, 0.3])).flatten(), expected)
    assert Wavelet(0.5, 2.0).strength(x[:, :1], 0.1).item() == pytest.approx(0.005)
    assert [Median().window(sigma, 64) for sigma in (0.01, 0.05, 0.1, 0.2, 0.5)] == [3, 5, 7, 9, 15]
    assert Median().window(1.0, 4) == 7


def test_median_of_a_window():
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2, 2] = 1.0
    assert Median().denoise(x, 0.01).abs().max() == 0
    torch.testing.assert_close(Median(weight=0.1).denoise(x, 0.01), x)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (2, 3, 2)])
@pytest.mark.parametrize("name", MAKERS)
def test_any_size_and_number_of_channels(name, shape):
    x = torch.full((2, *shape), 0.3)
    torch.testing.assert_close(priors.load(name).denoise(x, 0.2), x)


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_no_image_is_refused(name):
    prior = priors.load(name)
    for x in (torch.zeros(2, 5), torch.zeros(1, 4, 4)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\) for this prior, got"):
            prior.denoise(x, 0.1)
    with pytest.raises(ValueError, match="sigma must be finite and above 0"):
        prior.denoise(torch.zeros(1, 1, 4, 4), 0.0)


@pytest.mark.parametrize("maker", MAKERS.values())
@pytest.mark.parametrize("options", [{"weight": 0.0}, {"weight": math.inf}, {"exponent": -1.0}, {"weight": True}])
def test_settings_that_are_refused(maker, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a finite number above 0, got"):
        maker(**options)


@pytest.mark.parametrize(("maker", "name"), [(TotalVariation, "iterations"), (Wavelet, "levels")])
def test_counts_that_are_refused(maker, name):
    for value in (0, 2.0, True):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got"):
            maker(**{name: value})


@pytest.fixture
def library(monkeypatch):
    """A bm3d that takes sigma off and remembers how it was called."""
    calls = []

    def denoise(name):
        def run(z, sigma_psd, profile):
            calls.append((name, z.shape, sigma_psd, profile.num_threads))
            return (z - sigma_psd).squeeze()

        return run

    module = SimpleNamespace(BM3DProfile=SimpleNamespace, bm3d=denoise("bm3d"), bm3d_rgb=denoise("bm3d_rgb"))
    monkeypatch.setitem(sys.modules, "bm3d", module)
    return calls


@pytest.mark.parametrize(("channels", "name"), [(1, "bm3d"), (3, "bm3d_rgb"), (4, "bm3d")])
def test_bm3d_is_told_sigma_image_by_image(library, channels, name):
    x = torch.rand(2, channels, 9, 12, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.25, 0.5])
    torch.testing.assert_close(BM3D().denoise(x, sigma), x - sigma.reshape(2, 1, 1, 1))
    assert library == [(name, (9, 12, channels), level, 1) for level in (0.25, 0.5)]
    with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\) with sides of at least 9"):
        BM3D().denoise(torch.zeros(1, 1, 8, 9), 0.1)


def test_bm3d_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ImportError, match=r"BM3D needs the package bm3d, .*: pip install 'scorefold\[bm3d\]'"):
        priors.load("bm3d")


def test_they_have_names():
    assert {"median", "tv", "wavelet"} <= set(priors.available())
    assert ("bm3d" in priors.available()) == ("bm3d" in classical.available())
    assert [type(priors.load(name)) for name in MAKERS] == list(MAKERS.values())
    with pytest.raises(ValueError, match="did you mean 'wavelet'"):
        priors.load("wavelets")


@pytest.fixture
def problem():
    truth = blocks(side=16, batch=1).float()
    physics = operators.create("inpainting", (1, 16, 16), keep=0.5, noise=0.05, seed=0)
    return truth, physics, physics(truth)


@pytest.mark.parametrize("sampler", ["mmps-spectral", "mmps", "dps", "annealed-langevin", "langevin"])
@pytest.mark.parametrize("name", MAKERS)
def test_samplers_take_them(problem, name, sampler):
    """Samples do not depend on how they are divided, and their mean is nearer to the truth than the truth's mean."""
    truth, physics, y = problem
    prior = priors.load(name)
    steps = {"mmps-spectral": 6, "mmps": 6, "dps": 15, "annealed-langevin": 60, "langevin": 60}[sampler]
    if name == "tv":
        prior.iterations = 10
    options = {"sigma": 0.1} if sampler == "langevin" else {}
    posterior = inverse.Posterior(prior, physics, y, truth.shape[1:])
    method = inverse.sampler(sampler, steps=steps, **options)
    samples = method.sample(posterior, n=2, seed=0)
    torch.testing.assert_close(method.sample(posterior, n=2, seed=0, chunk_size=1).x, samples.x, rtol=0, atol=1e-3)
    assert samples.x.isfinite().all()
    if (name, sampler) != ("median", "mmps"):  # moment matching takes sigma^2 times its Jacobian for a covariance
        assert (samples.mean - truth).square().mean() < truth.var()


@pytest.mark.parametrize("sampler", ["mmps", "dps"])
def test_samplers_that_differentiate_refuse_bm3d(problem, library, sampler):
    truth, physics, y = problem
    posterior = inverse.Posterior(BM3D(), physics, y, truth.shape[1:])
    sentence = "prior must have a denoiser that can be differentiated, for .*, got BM3D; use mmps-spectral"
    with pytest.raises(ValueError, match=sentence):
        inverse.sampler(sampler, steps=2).sample(posterior, n=1)
    tiled = inverse.Posterior(Tiled(BM3D()), physics, y, truth.shape[1:])
    with pytest.raises(ValueError, match=sentence):
        inverse.sampler(sampler, steps=2).sample(tiled, n=1)
    samples = inverse.sampler("mmps-spectral", steps=2, scout_steps=2).sample(posterior, n=1)
    assert samples.x.isfinite().all()

import math

import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from scipy.stats import wasserstein_distance

import operators
from inverse import metrics


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_psnr_of_a_constant_error():
    truth = torch.full((2, 1, 4, 4), 0.5)
    x = torch.stack([truth + 0.1, truth - 0.01])
    decibels = torch.tensor([[20.0, 20.0], [40.0, 40.0]])  # -20 log10(error)
    torch.testing.assert_close(metrics.psnr(x, truth), decibels, atol=1e-3, rtol=0)
    assert metrics.psnr(truth, truth).tolist() == [math.inf, math.inf]


def test_ssim_of_equal_and_of_flat_images():
    truth = torch.rand(2, 1, 28, 28, generator=generator())
    assert metrics.ssim(truth, truth).tolist() == pytest.approx([1, 1])
    # of flat images a and b only the luminance term is left: (2ab + c) / (a^2 + b^2 + c), c = 0.01^2
    a, b = torch.full((1, 3, 16, 16), 0.2), torch.full((3, 1, 3, 16, 16), 0.6)
    expected = (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert metrics.ssim(b, a).flatten().tolist() == pytest.approx([expected] * 3, rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 16)])
def test_ssim_needs_images_that_its_window_fits(shape):
    with pytest.raises(ValueError, match="ssim needs truth"):
        metrics.ssim(torch.rand(shape), torch.rand(shape))


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_shapes_must_match(metric):
    with pytest.raises(ValueError, match="x must be"):
        metric(torch.rand(2, 1, 28, 28), torch.rand(1, 1, 28, 28))


def test_the_residual_of_the_truth_is_that_of_the_noise():
    """|noise|^2 / sigma^2 is chi-square of m degrees: its root over sqrt(m) has standard error 1 / sqrt(2m); four."""
    x = torch.rand(2, 1, 32, 32, generator=generator())
    for name, options, m in [
        ("denoising", {}, 1024),
        ("inpainting", {"keep": 0.25}, 256),
        ("fourier", {"ratio": 0.5}, 512),
    ]:
        physics = operators.create(name, (1, 32, 32), noise=0.1, **options)
        ratio = metrics.residual_ratio(x[None], physics(x), physics)
        assert ratio.shape == (1, 2)
        assert (ratio - 1).abs().max() < 4 / math.sqrt(2 * m), name


def test_the_residual_takes_one_noise_level_per_image_and_many_draws():
    physics = operators.create("denoising", (1, 8, 8), noise=torch.tensor([0.1, 0.2]))
    y = torch.zeros(2, 1, 8, 8)
    x = torch.full((3, 2, 1, 8, 8), 0.1)
    torch.testing.assert_close(metrics.residual_ratio(x, y, physics), torch.tensor([[1.0, 0.5]] * 3))
    torch.testing.assert_close(metrics.residual_ratio(x, y, physics, sigma=0.4), torch.full((3, 2), 0.25))


def test_the_residual_of_stacked_and_complex_measurements():
    """Of the truth, in sizes of the noise: the root of a chi-square over m, within five standard errors of 1."""

    class Spectrum(LinearPhysics):
        def A(self, x, **kwargs):
            return torch.fft.fft2(x, norm="ortho")

        def A_adjoint(self, y, **kwargs):
            return torch.fft.ifft2(y, norm="ortho")

    shape = (1, 16, 16)
    spectrum = Spectrum(noise_model=GaussianNoise(0.1, rng=torch.Generator().manual_seed(0)))
    stack = operators.create("denoising", shape, noise=0.3).stack(operators.create("denoising", shape, noise=0.02))
    truth = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    for physics in (spectrum, stack):
        ratio = metrics.residual_ratio(truth[None], physics(truth), physics)
        assert ratio.shape == (1, 2) and not ratio.is_complex()
        assert ((ratio - 1).abs() < 5 / math.sqrt(2 * 512)).all()


def test_the_residual_needs_a_noise_level_and_a_sample_axis():
    x, y = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    silent = operators.create("denoising", (1, 8, 8))
    with pytest.raises(ValueError, match="sigma"):
        metrics.residual_ratio(x[None], y, silent)
    with pytest.raises(ValueError, match="sigma must be above 0"):
        metrics.residual_ratio(x[None], y, silent, sigma=0.0)
    with pytest.raises(ValueError, match="x must be"):
        metrics.residual_ratio(x, y, silent, sigma=0.1)


@pytest.mark.parametrize(
    ("n", "level"), [(16, 0.9), (16, 0.8), (19, 0.9), (33, 0.5), (100, 0.9), (7, 0.3), (2, 1 / 3), (2, 0.9)]
)
def test_exchangeable_draws_have_the_expected_coverage(n, level):
    """The rank of the truth among n exact draws is uniform on 0..n: averaged over the ranks, coverage is exact."""
    draws = torch.arange(n).reshape(n, 1, 1).expand(n, 1, n + 1).double()
    truth = torch.arange(n + 1).double().reshape(1, n + 1) - 0.5
    expected = min(level, (n - 1) / (n + 1))
    assert metrics.coverage(draws, truth, level).item() == pytest.approx(expected, abs=1e-12)
    assert metrics.attainable_level(n, level) == expected


def test_coverage_of_draws_from_a_skewed_law():
    """20,000 independent pixels: the standard error is 0.0021 at most, and 5 of them fail once in two million runs."""
    draws = torch.empty(33, 1, 20_000).exponential_(generator=generator(1))
    truth = torch.empty(1, 20_000).exponential_(generator=generator(2))
    assert metrics.coverage(draws, truth, 0.9).item() == pytest.approx(0.9, abs=5 * 0.0021)


def test_overconfident_draws_do_not_cover():
    draws = 0.1 * torch.randn(33, 1, 20_000, generator=generator(1))
    truth = torch.randn(1, 20_000, generator=generator(2))
    assert metrics.coverage(draws, truth, 0.9).item() < 0.2


def test_coverage_is_exact_for_laws_with_atoms():
    """An exponential law cut at 2 and rounded to eight values, a quarter of which are 0: standard error as above."""
    draws = torch.empty(16, 1, 20_000).exponential_(generator=generator(1)).clamp(max=2)
    truth = torch.empty(1, 20_000).exponential_(generator=generator(2)).clamp(max=2)
    truth = (truth * 4).round() / 4
    covered = metrics.coverage(draws, truth, 0.5, grid=0.25).item()
    assert covered == pytest.approx(0.5, abs=5 * math.sqrt(0.25 / 20_000))


def test_draws_that_all_equal_the_truth_say_nothing_about_calibration():
    """Every rank is equally possible, so the coverage is the expected one."""
    assert metrics.coverage(torch.zeros(19, 1, 4), torch.zeros(1, 4)).item() == pytest.approx(0.9)
    assert metrics.coverage(torch.zeros(16, 1, 4), torch.zeros(1, 4)).item() == pytest.approx(15 / 17)
    near = torch.full((1, 4), 0.001)
    assert metrics.coverage(torch.zeros(19, 1, 4), near).item() == 0
    assert metrics.coverage(torch.zeros(19, 1, 4), near, grid=1 / 255).item() == pytest.approx(0.9)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, float("nan")])
def test_a_level_outside_the_open_unit_interval_is_refused(level):
    with pytest.raises(ValueError, match="level must be"):
        metrics.coverage(torch.zeros(9, 1, 4), torch.zeros(1, 4), level)


def test_coverage_needs_two_draws_and_matching_shapes():
    with pytest.raises(ValueError, match="n must be at least 2"):
        metrics.coverage(torch.zeros(1, 1, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="samples must be"):
        metrics.coverage(torch.zeros(1, 4), torch.zeros(1, 4))


@pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 20), (7, 31)])
def test_one_dimension_agrees_with_scipy(n, m):
    a = torch.randn(n, 1, generator=generator(1), dtype=torch.float64)
    b = torch.randn(m, 1, generator=generator(2), dtype=torch.float64) * 2 + 1
    expected = wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy())
    assert metrics.sliced_wasserstein(a, b, projections=5).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_a_shift_is_its_mean_length_over_the_directions(p):
    """A sample against itself shifted by v: each slice is |<v, u>|, E|u_1| = 2/pi in the plane, E u_1^2 = 1/2.

    The spread of |u_1| is 0.31, of u_1^2 0.35, so 10,000 directions give 5 standard errors of 0.018.
    """
    a = torch.randn(64, 2, generator=generator())
    distance = metrics.sliced_wasserstein(a, a + torch.tensor([3.0, 4.0]), projections=10_000, p=p).item()
    assert distance / 5 == pytest.approx({1: 2 / math.pi, 2: math.sqrt(0.5)}[p], abs=0.018)


def test_unequal_sizes_agree_with_repetition():
    """Two copies of a sample are the same law as one."""
    a = torch.randn(20, 3, 2, generator=generator(1))
    b = torch.randn(15, 3, 2, generator=generator(2))
    once = metrics.sliced_wasserstein(a, b, p=2)
    torch.testing.assert_close(metrics.sliced_wasserstein(torch.cat([a, a]), b, p=2), once)
    assert metrics.sliced_wasserstein(a, a[torch.randperm(20, generator=generator(3))]).item() == pytest.approx(
        0, abs=1e-6
    )


def test_each_measurement_on_its_own():
    a = torch.randn(30, 3, 1, 4, 4, generator=generator(1))
    b = torch.randn(25, 3, 1, 4, 4, generator=generator(2))
    together = metrics.sliced_wasserstein(a, b, per_measurement=True)
    alone = torch.stack([metrics.sliced_wasserstein(a[:, i], b[:, i]) for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_the_seed_decides_the_directions_and_global_randomness_does_not():
    a, b = torch.randn(30, 5, generator=generator(1)), torch.randn(30, 5, generator=generator(2))
    state = torch.get_rng_state()
    first = metrics.sliced_wasserstein(a, b, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert metrics.sliced_wasserstein(a, b, seed=1) == first
    assert metrics.sliced_wasserstein(a, b, seed=2) != first


def test_samples_that_cannot_be_compared_are_refused():
    a = torch.ones(4, 3)
    with pytest.raises(ValueError, match="a and b"):
        metrics.sliced_wasserstein(a, torch.ones(4, 2))
    with pytest.raises(ValueError, match="a and b"):
        metrics.sliced_wasserstein(a[:0], a)
    with pytest.raises(ValueError, match="projections"):
        metrics.sliced_wasserstein(a, a, projections=0)

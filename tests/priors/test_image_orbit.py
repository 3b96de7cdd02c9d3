"""All shifts of a photograph: the torus against its definition, and its smoothed law against plain quadrature."""

import math

import pytest
import torch

import operators
from inverse.exact_manifold import ManifoldPosterior
from priors import Manifold, check_score
from priors.image_orbit import shipped_patch
from priors.manifolds import Embedded, ImageOrbit, InCoordinates, PhaseTorus
from priors.phase_torus import half_plane, sees_every_shift

DOUBLE = torch.float64
ORBIT = ImageOrbit()
# Half a period along the first axis turns the waves of odd k_1 round and leaves the strong ones of k_1 = 2 alone.
TWINS = PhaseTorus(torch.tensor([0.02, 0, 1.0, 0.3, 0, 0, 0, 0.02, 0.0, 0.0, 1.0, 0.5]).to(torch.complex128), 2)


def von_mises(u: torch.Tensor) -> torch.Tensor:
    """Both angles von Mises of concentration 4."""
    return 4 * u.cos().sum(-1)


UNIFORM, PEAKED = Manifold(ORBIT), Manifold(ORBIT, InCoordinates(ORBIT, von_mises))
BOTH = pytest.mark.parametrize("prior", [UNIFORM, PEAKED], ids=["uniform", "von Mises"])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def angles(n: int, seed: int = 0) -> torch.Tensor:
    return 2 * math.pi * torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def noisy(prior: Manifold, n: int, sigma: float, seed: int = 0) -> torch.Tensor:
    x = prior.sample(n, seed, dtype=DOUBLE)
    return x + sigma * normal(*x.shape, seed=seed + 1)


def grid(count: int, low: float = 0.0, high: float = 2 * math.pi) -> torch.Tensor:
    """Midpoints of count^2 cells, (count^2, 2)."""
    side = low + (high - low) * (torch.arange(count, dtype=DOUBLE) + 0.5) / count
    return torch.cartesian_prod(side, side)


def brute_force(torus: PhaseTorus, u: torch.Tensor, log_f: torch.Tensor, x: torch.Tensor, sigma: float):
    """Denoised x (B, d) and the log of the sum of f exp(-|x - t|^2 / 2 sigma^2), node by node."""
    denoised, masses = [], []
    points = torus.point(u)
    for row in x:
        exponent = log_f - (points - row).square().sum(1) / (2 * sigma**2)
        denoised.append(exponent.softmax(0) @ points)
        masses.append(exponent.logsumexp(0))
    return torch.stack(denoised), torch.stack(masses)


def test_a_shift_by_whole_pixels_is_a_roll():
    images = ORBIT.point(torch.tensor([[0.0, 0.0], [2 * math.pi * 3 / 32, -2 * math.pi * 5 / 32]], dtype=DOUBLE))
    torch.testing.assert_close(images[1], images[0].roll((3, -5), (1, 2)), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("shape", "cutoff"), [((16, 16), 3), ((9, 14), 4), ((8, 12), 3)])
def test_the_image_is_the_patch_low_passed_and_shifted_by_its_phases(shape, cutoff):
    """By numpy's convention of the Fourier transform: a shift by s multiplies by exp(-2 pi i k s / n)."""
    patch = torch.rand(*shape, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    orbit = ImageOrbit(patch, cutoff=cutoff, contrast=0.1)
    k1, k2 = (torch.fft.fftfreq(n, 1 / n, dtype=DOUBLE) for n in shape)
    kept = (k1.abs()[:, None] <= cutoff) & (k2.abs() <= cutoff)
    spectrum = torch.fft.fft2(patch) * kept
    u = torch.tensor([0.4, 1.7], dtype=DOUBLE)
    turned = torch.fft.ifft2(spectrum * torch.exp(-1j * (k1[:, None] * u[0] + k2 * u[1]))).real
    turned = (turned - patch.mean()) * 0.1 / (turned - patch.mean()).square().mean().sqrt() + patch.mean()
    torch.testing.assert_close(orbit.point(u)[0], turned, rtol=0, atol=1e-13)


def test_all_points_have_one_distance_from_the_mean_and_the_size_asked_for():
    images = ORBIT.point(angles(200))
    offset = (images - images.mean((1, 2, 3), keepdim=True)).flatten(1).norm(dim=1)
    torch.testing.assert_close(offset, torch.full_like(offset, ORBIT.radius), rtol=1e-13, atol=0)
    assert ORBIT.contrast == pytest.approx(ORBIT.radius / 32)
    assert math.hypot(*ORBIT.periods) / math.sqrt(2) == pytest.approx(10.0)
    assert float(ImageOrbit(contrast=0.2).sample(1).std(correction=0)) == pytest.approx(0.2)
    assert math.hypot(*ImageOrbit(shipped_patch().float()[None], period=3).periods) == pytest.approx(3 * math.sqrt(2))


@pytest.mark.parametrize("axis", [0, 1])
def test_periods_are_the_lengths_of_the_closed_curves(axis):
    """Chords between 4,096 nodes fall short of the arc by a relative (curvature step)^2 / 24, here 1e-6 at most."""
    u = torch.zeros(4097, 2, dtype=DOUBLE)
    u[:, axis] = torch.linspace(0, 2 * math.pi, 4097, dtype=DOUBLE)
    length = ORBIT.point(u).diff(dim=0).flatten(1).norm(dim=1).sum()
    assert float(length) == pytest.approx(ORBIT.periods[axis], rel=2e-6)


def test_volume_tangents_and_curvature_are_those_of_the_chart():
    u = torch.tensor([0.3, 2.0], dtype=DOUBLE)
    torus = ORBIT.manifold
    jacobian = torch.autograd.functional.jacobian(torus.point, u)
    gram = jacobian.T @ jacobian
    torch.testing.assert_close(gram, torus.metric, rtol=0, atol=1e-12)
    assert 4 * math.pi**2 * float(gram.det().sqrt()) == pytest.approx(ORBIT.volume, rel=1e-12)
    assert float(ORBIT.quadrature(8)[1].sum()) == pytest.approx(ORBIT.volume, rel=1e-12)
    v = normal(1, 32, 32)
    basis = jacobian.T @ ORBIT.basis.T
    expected = (torch.linalg.lstsq(basis.T, v.reshape(-1, 1)).solution[:, 0] @ basis).reshape(1, 32, 32)
    torch.testing.assert_close(ORBIT.tangential(ORBIT.point(u), v), expected, rtol=0, atol=1e-12)
    directions = torch.stack([angles(720)[:, 0].cos(), angles(720)[:, 0].sin()], dim=1)
    # Second differences fall short of the second derivatives of waves, by a relative 1e-5 of those of frequency 10.
    second = torus.point(u + 1e-3 * directions) - 2 * torus.point(u) + torus.point(u - 1e-3 * directions)
    normal_curvature = second.norm(dim=1) / 1e-6 / ((directions @ gram) * directions).sum(1)
    # 720 random directions come within 1% of the worst one, and none exceeds the bound.
    assert 0.99 * ORBIT.curvature < float(normal_curvature.max()) <= ORBIT.curvature


def test_speeds_bound_the_chart():
    u, v = angles(500), angles(500, seed=1)
    for torus in (ORBIT.manifold, TWINS):
        squared = (torus.point(u) - torus.point(v)).square().sum(1)
        assert bool((squared <= ((u - v) * torch.tensor(torus.speeds)).square().sum(1) + 1e-12).all())


@pytest.mark.parametrize("size", [0.3, 3.0])
def test_nearest_point_is_found_whatever_the_noise(size):
    """Against all nodes of a fine lattice, which may fall short of the maximum and never exceed it."""
    x = ORBIT.sample(40, seed=1) + size * normal(40, 1, 32, 32)
    p = ORBIT.project(x)
    assert float(ORBIT.tangential(p, x - p).abs().max()) < 1e-11 * max(1.0, size)
    inner = ORBIT.inner(x)
    reached = (inner * ORBIT.inner(p)).sum(1)
    assert bool((reached >= (inner @ ORBIT.manifold.point(grid(300)).T).amax(1) - 1e-12).all())
    torch.testing.assert_close(ORBIT.point(ORBIT.coordinates(p)), p, rtol=0, atol=1e-12)


def test_a_normal_perturbation_projects_back():
    p = ORBIT.sample(20, seed=3)
    v = normal(*p.shape, seed=4)
    v = v - ORBIT.tangential(p, v)
    # Within the reach of the torus: the correlation with the perturbation stays below the own one.
    x = p + 0.02 * v
    torch.testing.assert_close(ORBIT.project(x), p, rtol=0, atol=1e-12)
    assert ORBIT.project(x.float()).dtype == torch.float32
    torch.testing.assert_close(ORBIT.distance(x), 0.02 * v.flatten(1).norm(dim=1), rtol=1e-10, atol=0)


def test_derivatives_pass_through_the_nearest_point():
    x = (ORBIT.manifold.sample(1, seed=5) + 0.1 * normal(1, 120)).requires_grad_()
    assert torch.autograd.gradcheck(ORBIT.manifold.project, (x,), atol=1e-6)


@BOTH
@pytest.mark.parametrize("sigma", [10.0, 1.0, 0.3, 0.1])
def test_denoiser_and_density_agree_with_plain_quadrature(prior, sigma):
    """Spacing 10 / 200 = sigma / 2 at the smallest sigma: the reference is right to rounding."""
    x, u = noisy(prior, 4, sigma), grid(200)
    log_f = (von_mises(u) if prior is PEAKED else torch.zeros(len(u), dtype=DOUBLE)).log_softmax(0)
    inner = ORBIT.inner(x)
    expected, mass = brute_force(ORBIT.manifold, u, log_f, inner, sigma)
    torch.testing.assert_close(prior.denoise(x, sigma), ORBIT.outer(expected), rtol=0, atol=1e-11)
    across = (x - ORBIT.outer(inner)).square().sum((1, 2, 3)) / (2 * sigma**2) + 512 * math.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(prior.log_prob(x, sigma), mass - across, rtol=1e-13, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.02, 1e-3])
def test_small_noise_against_a_local_rule(sigma):
    """81^2 nodes of spacing sigma / 4 in u, at most 0.45 sigma on the torus, about the nearest point."""
    x = noisy(PEAKED, 4, sigma)
    for row in x:
        u = ORBIT.coordinates(row) + grid(81, -10.125 * sigma, 10.125 * sigma)
        expected, _ = brute_force(ORBIT.manifold, u, von_mises(u), ORBIT.inner(row)[None], sigma)
        torch.testing.assert_close(PEAKED.denoise(row[None], sigma), ORBIT.outer(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 0.01, 1e-3])
def test_two_peaks_share_the_denoiser(sigma):
    """Half-way between two points half a period apart, equally near; each by a rule of spacing sigma / 4 in u."""
    prior = Manifold(TWINS)
    ends = torch.tensor([[0.3, 1.0], [0.3 + math.pi, 1.0]], dtype=DOUBLE)
    x = TWINS.point(ends).mean(0, keepdim=True)
    peaks = TWINS.coordinates(x)
    peaks = torch.cat([peaks, peaks + torch.tensor([math.pi, 0.0])])
    width = 12 * sigma
    u = torch.cat([peak + grid(96, -width, width) for peak in peaks]) if sigma < 0.1 else grid(300)
    expected, _ = brute_force(TWINS, u, torch.zeros(len(u), dtype=DOUBLE), x, sigma)
    torch.testing.assert_close(prior.denoise(x, sigma), expected, rtol=0, atol=1e-9)


def test_a_density_of_points_is_the_same_as_one_of_coordinates():
    inside = ORBIT.manifold
    general = Manifold(ORBIT, lambda p: von_mises(inside.coordinates(p)))
    assert float(PEAKED.log_density_on(ORBIT.sample(3)).std()) > 0.1
    for sigma in (1.0, 0.02):
        x = noisy(PEAKED, 3, sigma)
        torch.testing.assert_close(general.denoise(x, sigma), PEAKED.denoise(x, sigma), rtol=0, atol=1e-12)


def test_far_from_a_peaked_density_its_tail_is_not_cut_off():
    """x on the other side of the density's peak, noise so large that the peak still counts."""
    sharp = InCoordinates(ORBIT, lambda u: 25 * u.cos().sum(-1))
    x = ORBIT.point(torch.full((1, 2), math.pi, dtype=DOUBLE))
    u, sigma = grid(300), 0.18
    expected, _ = brute_force(ORBIT.manifold, u, 25 * u.cos().sum(-1), ORBIT.inner(x), sigma)
    torch.testing.assert_close(Manifold(ORBIT, sharp).denoise(x, sigma), ORBIT.outer(expected), rtol=0, atol=1e-10)


@BOTH
@pytest.mark.parametrize("sigma", [2.0, 0.1, 1e-3])
def test_score_is_the_gradient_of_the_density(prior, sigma):
    assert check_score(prior, noisy(prior, 20, sigma), sigma, reference="autograd") < 1e-11


def test_derivatives_pass_through_the_denoiser():
    prior = Manifold(ORBIT.manifold, InCoordinates(ORBIT.manifold, von_mises))
    x = noisy(prior, 1, 0.1)
    v, w = normal(1, 120, seed=5), normal(1, 120, seed=6)
    for sigma in (0.3, 0.05):
        _, forward = torch.func.jvp(lambda a, s=sigma: prior.denoise(a, s), (x,), (v,))
        reverse = torch.func.vjp(lambda a, s=sigma: prior.denoise(a, s), x)[1](w)[0]
        step = 1e-5 * (prior.denoise(x + 1e-5 * v, sigma) - prior.denoise(x - 1e-5 * v, sigma)) / 2e-10
        torch.testing.assert_close(forward, step, rtol=1e-5, atol=1e-6)
        assert float((forward * w).sum()) == pytest.approx(float((reverse * v).sum()), rel=1e-9)


def test_items_do_not_depend_on_their_neighbours():
    levels = (1e-3, 0.05, 0.3, 2.0)
    x = torch.cat([noisy(PEAKED, 3, s, seed=4) for s in levels])
    sigma = torch.tensor(levels, dtype=DOUBLE).repeat_interleave(3)
    together = PEAKED.displacement(x, sigma)
    alone = torch.cat([PEAKED.displacement(x[i : i + 1], float(sigma[i])) for i in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-11)


def test_a_density_may_be_zero_on_a_part():
    """A smooth density with two zeros, at one of which x is: the integrand has a double zero under its peak."""
    u, x = grid(400), ORBIT.point(torch.zeros(1, 2, dtype=DOUBLE))
    prior = Manifold(ORBIT, InCoordinates(ORBIT, lambda v: (1 - v[..., 0].cos()).log()))
    expected, _ = brute_force(ORBIT.manifold, u, (1 - u[:, 0].cos()).log(), ORBIT.inner(x), 0.1)
    torch.testing.assert_close(prior.denoise(x, 0.1), ORBIT.outer(expected), rtol=0, atol=1e-9)
    with_gap = Manifold(
        ORBIT, InCoordinates(ORBIT, lambda v: torch.where(v[..., 0].cos() < 0, 0.0, -math.inf).double())
    )
    assert bool(with_gap.denoise(x, 0.1).isfinite().all())


def test_large_batches_are_evaluated_in_parts():
    x = noisy(PEAKED, 1100, 0.05)
    parts = torch.cat([PEAKED.displacement(p, 0.05) for p in x.split(550)])
    torch.testing.assert_close(PEAKED.displacement(x, 0.05), parts, rtol=0, atol=1e-12)


def test_the_center_sees_the_prior_alone():
    """All points are equally far from the mean image, so that D is the mean of the prior at every noise level."""
    x = torch.full((1, 1, 32, 32), float(ORBIT.center[0]), dtype=DOUBLE)
    u = grid(64)
    expected = ORBIT.outer(von_mises(u).softmax(0) @ ORBIT.manifold.point(u))[None]
    for sigma in (1.0, 1e-3):
        torch.testing.assert_close(PEAKED.denoise(x, sigma), expected, rtol=0, atol=1e-12)


def test_small_noise_limits():
    """Tangential score: grad log p + O(sigma^2); normal: -(x - P x)/sigma^2 + O(1) (Li et al. 2025, Theorem 3.1)."""
    p, errors = PEAKED.sample(5, 1, dtype=DOUBLE), []
    u = ORBIT.coordinates(p)
    frame = torch.stack([torch.autograd.functional.jacobian(ORBIT.manifold.point, v) for v in u])
    gradient = frame @ (torch.linalg.inv(ORBIT.manifold.metric) @ (-4 * u.sin())[..., None])
    expected = (gradient[..., 0] @ ORBIT.basis.T).reshape(p.shape)
    for sigma in (0.04, 0.02, 0.01):
        errors.append(float((ORBIT.tangential(p, PEAKED.score(p, sigma)) - expected).norm()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)
    offset = 1e-3 * normal(*p.shape, seed=2)
    offset = offset - ORBIT.tangential(p, offset)
    score = PEAKED.score(p + offset, 1e-3)
    remainder = score - ORBIT.tangential(p, score) + offset / 1e-6
    assert float(remainder.flatten(1).norm(dim=1).max()) < 2 * ORBIT.curvature


def test_draws_have_the_density():
    """Means of cos u_i, known Bessel ratios, within 5 standard errors: a false alarm has probability below 1e-5."""
    u = ORBIT.coordinates(PEAKED.sample(4000, 3, dtype=DOUBLE))
    bessel = torch.special.i1e(torch.tensor(4.0)) / torch.special.i0e(torch.tensor(4.0))
    deviation = (1 - bessel / 4 - bessel**2).sqrt()
    assert bool(((u.cos().mean(0) - bessel).abs() < 5 * deviation / math.sqrt(len(u))).all())


@pytest.mark.parametrize("name", ["inpainting", "gaussian-blur", "compressed-sensing"])
def test_posterior_agrees_with_plain_quadrature(name):
    physics = operators.create(name, (1, 32, 32), noise=0.3, seed=1)
    y = physics(PEAKED.sample(1, 5))
    posterior = ManifoldPosterior(PEAKED, physics, y)
    u = grid(96)
    images = ORBIT.point(u)
    nll = operators.likelihood(physics).nll(images.to(y.dtype), y.expand(len(u), *y.shape[1:]))
    weights = (von_mises(u) - nll.double()).softmax(0)
    mean = (weights @ images.flatten(1)).reshape(1, 1, 32, 32)
    # Measurements are float32, and so is the misfit of some hundred that is summed over them.
    torch.testing.assert_close(posterior.mean().double(), mean, rtol=0, atol=2e-5)
    draws = posterior.sample(200, seed=2).double()
    assert float(ORBIT.distance(draws).max()) < 1e-4


def test_frequencies_that_see_every_shift_generate_all_integer_pairs():
    assert sees_every_shift([(0, 1), (1, 0)])
    assert sees_every_shift([(2, 1), (1, 1)])
    assert sees_every_shift([(2, 0), (3, 0), (0, 1)])
    assert not sees_every_shift([])
    assert not sees_every_shift([(1, 2), (2, 4)])
    assert not sees_every_shift([(2, 0), (0, 1)])
    assert not sees_every_shift([(1, 1), (1, -1)])
    assert len(half_plane(5)) == 60


STRIPES = torch.rand(1, 32, generator=torch.Generator().manual_seed(0)).expand(32, 32)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ImageOrbit(torch.full((32, 32), 0.3)), ValueError, "patch must change under every shift"),
        (lambda: ImageOrbit(STRIPES), ValueError, "patch must change under every shift"),
        (lambda: ImageOrbit(shipped_patch()[:16].repeat(2, 1)), ValueError, "patch must change under every shift"),
        (lambda: ImageOrbit(torch.eye(32)), ValueError, r"patch must change under every shift, got .*\(32, 32\)"),
        (lambda: ImageOrbit("camera"), TypeError, "patch must be a real tensor, got str"),
        (lambda: ImageOrbit(torch.zeros(3, 8, 8)), ValueError, r"patch must have shape .*, got \(3, 8, 8\)"),
        (lambda: ImageOrbit(torch.full((8, 8), math.nan)), ValueError, "patch must be finite, got 64 pixels"),
        (lambda: ImageOrbit(cutoff=16), ValueError, "cutoff must be an integer from 1 to 15"),
        (lambda: ImageOrbit(cutoff=0), ValueError, "cutoff must be an integer from 1 to 15"),
        (lambda: ImageOrbit(period=-1.0), ValueError, "period must be finite and above 0, got -1"),
        (lambda: ImageOrbit(contrast=0.0), ValueError, "contrast must be finite and above 0, got 0"),
        (lambda: ImageOrbit(period=1.0, contrast=0.1), ValueError, "period must be None where contrast is given"),
        (lambda: PhaseTorus(torch.ones(3), 1), ValueError, "amplitudes must be 4 finite numbers"),
        (lambda: PhaseTorus(torch.tensor([1.0, 0, 0, 0]), 1), ValueError, "amplitudes must belong to frequencies"),
        (lambda: Embedded(TWINS, 30, basis=torch.zeros(30, 24)), ValueError, "basis must have orthonormal columns"),
        (lambda: Embedded(TWINS, 30, basis=torch.eye(30)), ValueError, r"basis must have shape \(30, 24\)"),
        (lambda: Manifold(ORBIT, InCoordinates(ORBIT, lambda u: u)), ValueError, "log_density must map coordinates"),
    ],
)
def test_refusals_name_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_repr_says_what_it_is():
    assert repr(ORBIT).startswith("ImageOrbit(32x32, cutoff=5, radius=")
    assert repr(TWINS).startswith("PhaseTorus(cutoff=2, radius=")

"""Laws on manifolds against independent quadrature, closed forms, autograd and the small-noise expansion."""

import math

import pytest
import torch
from scipy.special import ive

from priors import Manifold, check_score
from priors.base import Prior
from priors.manifolds import (
    Circle,
    Ellipse,
    Embedded,
    Factorised,
    InCoordinates,
    Product,
    Sphere,
    Torus,
    VonMisesFisher,
    VonMisesFisherMixture,
)

DOUBLE = torch.float64
VMF2, VMF3 = VonMisesFisher([1.0, -2.0], 4.0), VonMisesFisher([1.0, 2.0, -1.0], 4.0)


def as_general(density: VonMisesFisher):
    """The same density as a function that no closed form recognises."""
    return lambda points: density(points)


def ripple(points: torch.Tensor) -> torch.Tensor:
    """A smooth density without symmetry."""
    return (2 * points[..., 0]).sin() + points[..., 0] * points[..., 1]


PRIORS = {
    "circle, von Mises": Manifold(Circle(1.3), VMF2),
    "circle, general": Manifold(Circle(1.3), ripple),
    "1-sphere, general": Manifold(Sphere(1), ripple),
    "ellipse, uniform": Manifold(Ellipse(2.0, 1.0)),
    "ellipse, general": Manifold(Ellipse(1.0, 2.0), ripple),
    "2-sphere, von Mises-Fisher": Manifold(Sphere(2, 0.7), VMF3),
    "2-sphere, general": Manifold(Sphere(2, 0.7), ripple),
    "3-sphere, uniform": Manifold(Sphere(3)),
    "3-sphere, general": Manifold(Sphere(3, 0.7), ripple, nodes=24),
    "3-sphere, mixture": Manifold(
        Sphere(3), VonMisesFisherMixture([[1.0, 0.0, 0.0, 1.0], [0.0, -1.0, 1.0, 0.0]], [3.0, 1.0], [1.0, 2.0])
    ),
    "circle and 2-sphere, joint": Manifold(
        Product(Circle(), Sphere(2, 0.7)), lambda p: p[..., 0] * p[..., 3], nodes=20
    ),
    "torus, uniform": Manifold(Torus(2.0, 0.5)),
    "torus, general": Manifold(Torus(2.0, 0.5), ripple),
    "product, factorised": Manifold(Product(Circle(), Ellipse(1.0, 0.5)), Factorised(VMF2, ripple)),
    "product, general": Manifold(Product(Circle(), Circle(0.5)), lambda p: p[..., 0] * p[..., 3]),
    "embedded circle": Manifold(Embedded(Circle(), (1, 2, 3), seed=1, center=0.5), VMF2),
    "embedded torus": Manifold(Embedded(Torus(1.0, 0.3), 6, seed=2), ripple),
}
EACH = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS.keys())


def noisy(prior: Prior, n: int, sigma: float, seed: int = 0) -> torch.Tensor:
    x = prior.sample(n, seed, dtype=DOUBLE)
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=DOUBLE)


def brute_force(points: torch.Tensor, log_mass: torch.Tensor, x: torch.Tensor, sigma: float):
    """Displacements and log p_sigma by summation over a rule with normalised log_mass (K,)."""
    offset = points.flatten(1) - x.flatten(1)[:, None]
    exponent = log_mass - offset.square().sum(-1) / (2 * sigma**2)
    displacement = (exponent.softmax(1)[..., None] * offset).sum(1).reshape(x.shape)
    return displacement, exponent.logsumexp(1) - offset.shape[-1] / 2 * math.log(2 * math.pi * sigma**2)


def rule(prior: Manifold, counts) -> tuple[torch.Tensor, torch.Tensor]:
    nodes, weights = prior.manifold.quadrature(counts)
    log_mass = weights.log() + prior.log_density_on(nodes)
    return nodes, log_mass - log_mass.logsumexp(0)


@EACH
@pytest.mark.parametrize("sigma", [0.3, 4.0])
def test_denoiser_and_density_agree_with_plain_quadrature(prior, sigma):
    counts = {1: 512, 2: 96, 3: 48}[prior.manifold.dim]
    x = noisy(prior, 5, sigma)
    displacement, log_prob = brute_force(*rule(prior, counts), x, sigma)
    torch.testing.assert_close(prior.displacement(x, sigma), displacement, rtol=0, atol=1e-10)
    torch.testing.assert_close(prior.denoise(x, sigma), x + displacement, rtol=0, atol=1e-10)
    torch.testing.assert_close(prior.log_prob(x, sigma), log_prob, rtol=0, atol=1e-9)


@EACH
@pytest.mark.parametrize("sigma", [0.7, 0.03, 1e-3])
def test_score_is_the_gradient_of_the_density(prior, sigma):
    assert check_score(prior, noisy(prior, 20, sigma), sigma, reference="autograd") < 1e-9


@pytest.mark.parametrize("sigma", [1.0, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("case", ["near", "anywhere"])
@pytest.mark.parametrize(
    ("closed", "general"),
    [
        (Manifold(Circle(1.3), VMF2), Manifold(Circle(1.3), as_general(VMF2))),
        (Manifold(Sphere(2, 1.3), VMF3), Manifold(Sphere(2, 1.3), as_general(VMF3))),
        (
            Manifold(Product(Circle(), Circle(0.4)), Factorised(VMF2, None)),
            Manifold(Product(Circle(), Circle(0.4)), lambda p: VMF2(p[..., :2])),
        ),
    ],
    ids=["circle", "2-sphere", "flat torus"],
)
def test_quadrature_agrees_with_closed_forms_down_to_small_noise(closed, general, case, sigma):
    """Also far outside, where the integrand is narrower than sigma, and far inside, where it is wider."""
    x = noisy(closed, 20, sigma if case == "near" else 1.0, seed=3)
    found, expected = general.displacement(x, sigma), closed.displacement(x, sigma)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(general.log_prob(x, sigma), closed.log_prob(x, sigma), rtol=1e-12, atol=1e-7)


@pytest.mark.parametrize("sigma", [2.0, 0.5, 0.1, 0.02, 1e-3])
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_any_density_on_a_sphere_agrees_with_the_closed_form(n, sigma):
    """On, about, inside and outside the sphere and near its centre, where the Gaussian factor is wide at any sigma."""
    density = VonMisesFisher([1.0, -2.0, 0.5, 1.0, -1.0, 2.0][: n + 1], 1.0 if n == 5 else 3.0)
    closed = Manifold(Sphere(n, 1.3), density)
    general = Manifold(Sphere(n, 1.3), as_general(density), nodes={2: 32, 3: 24, 4: 18, 5: 11}[n])
    on = closed.sample(2, 1, dtype=DOUBLE)
    x = torch.cat([on, noisy(closed, 2, sigma), 0.5 * on, 1.5 * on, 1e-6 * on[:1], sigma**2 * on[1:]])
    found, expected = general.displacement(x, sigma), closed.displacement(x, sigma)
    error = (found - expected).norm(dim=1) / expected.norm(dim=1)
    # On the sphere D - x is of order sigma^2, of points that carry 1e-16 of rounding each.
    assert float(error.max()) < 1e-8
    torch.testing.assert_close(general.log_prob(x, sigma), closed.log_prob(x, sigma), rtol=1e-12, atol=1e-9)
    if n < 5:
        assert check_score(general, x, sigma, reference="autograd") < 1e-9


@pytest.mark.parametrize("sigma", [1.0, 0.05, 1e-3])
@pytest.mark.parametrize("factors", [(Circle(), Sphere(2, 0.7)), (Sphere(2), Sphere(2, 0.7))], ids=repr)
def test_joint_density_on_a_product_agrees_with_its_factors(factors, sigma):
    parts = [VonMisesFisher([1.0, -2.0, 0.5][: m.image_shape[0]], 1.5) for m in factors]
    product = Product(*factors)
    closed = Manifold(product, Factorised(*parts))
    general = Manifold(product, lambda p: sum(f(q) for f, q in zip(parts, product.split(p), strict=True)), nodes=14)
    x = torch.cat([noisy(closed, 3, sigma), noisy(closed, 3, 1.0)])
    found, expected = general.displacement(x, sigma), closed.displacement(x, sigma)
    assert float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max()) < 1e-9
    torch.testing.assert_close(general.log_prob(x, sigma), closed.log_prob(x, sigma), rtol=1e-12, atol=1e-9)


@EACH
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_a_state_that_diverged_is_passed_on(prior, value):
    """NaN for it alone where it is not finite; the nearest point where it is far away."""
    x = noisy(prior, 3, 0.3)
    expected = prior.displacement(x, 0.3)
    x[1] = value
    found, log_prob = prior.displacement(x, 0.3), prior.log_prob(x, 0.3)
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-12)
    assert bool(log_prob[[0, 2]].isfinite().all())
    if math.isfinite(value):
        assert float((found[1] + x[1]).norm()) < 1e-12 * value
        torch.testing.assert_close(log_prob[1], -x[1].square().sum() / 2 / 0.3**2, rtol=1e-12, atol=0)
    else:
        assert bool(found[1].isnan().any()) and not math.isfinite(float(log_prob[1]))


@pytest.mark.parametrize(("n", "kappa"), [(1, 3000.0), (2, 60.0), (2, 300.0), (2, 1000.0), (3, 100.0)])
def test_sharp_densities_get_the_nodes_they_need(n, kappa):
    """On the peak, opposite to it, where the density is steep, and in between."""
    density = VonMisesFisher([1.0, -2.0, 0.5, 1.0][: n + 1], kappa)
    closed, general = Manifold(Sphere(n), density), Manifold(Sphere(n), as_general(density))
    side = Sphere(n).project(torch.tensor([[2.0, 1.0, 1.0, -0.5]], dtype=DOUBLE)[:, : n + 1])
    x = torch.cat([density.direction[None], -density.direction[None], side])
    for sigma in (0.3, 0.1, 0.02):
        found, expected = general.displacement(x, sigma), closed.displacement(x, sigma)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(general.log_prob(x, sigma), closed.log_prob(x, sigma), rtol=1e-12, atol=1e-5)


@pytest.mark.parametrize(
    ("manifold", "density"),
    [
        (Circle(), lambda p: torch.where(p[..., 0] > 0.1, 0.0, -math.inf).double()),
        (Torus(2.0, 0.5), lambda p: 4000 * p[..., 2]),
        (Sphere(3), lambda p: 3000 * p[..., 0]),
    ],
    ids=["step", "torus", "3-sphere"],
)
def test_a_density_that_is_not_resolved_is_said_to_be(manifold, density):
    with pytest.warns(UserWarning, match="log_density is not resolved by 16 nodes per coordinate"):
        Manifold(manifold, density, nodes=16)


def test_resolved_densities_keep_their_nodes_without_a_warning(recwarn):
    for n, nodes in ((1, 256), (2, 64), (3, 32), (4, 24)):
        law = Manifold(Sphere(n), lambda p: 3 * p[..., 0] - p[..., 1] ** 2)._law
        assert law.nodes == nodes
    assert not recwarn


@pytest.mark.filterwarnings("ignore:log_density is not resolved")
def test_density_that_is_zero_about_x():
    """x over the bare half of a sphere, so that the mass is at its edge: to the spacing of the nodes, 2 pi / 512."""
    prior = Manifold(Sphere(2), lambda p: torch.where(p[..., 0] > 0, 0.0, -math.inf).to(p.dtype))
    x, sigma = torch.tensor([[-1.0, 0.1, 0.1], [1.0, 0.1, 0.1], [math.nan] * 3], dtype=DOUBLE), 0.05
    found = prior.denoise(x, sigma)
    # Points of the other half have the weight exp(<x, m> / sigma^2). Mean over their height z and angle from (0, 1, 1).
    z = (torch.arange(4000, dtype=DOUBLE) + 0.5)[:, None] / 40_000
    angle = 2 * math.pi * torch.arange(400, dtype=DOUBLE) / 400
    ring = (1 - z**2).sqrt()
    exponent = (-z + 0.1 * math.sqrt(2) * ring * angle.cos()) / sigma**2
    weights = exponent.flatten().softmax(0)
    along = float(weights @ (ring * angle.cos()).flatten()) / math.sqrt(2)
    exact = torch.tensor([float(weights @ z.expand_as(exponent).flatten()), along, along], dtype=DOUBLE)
    torch.testing.assert_close(found[0], exact, rtol=0, atol=2 * math.pi / 512)
    torch.testing.assert_close(found[1:2], Manifold(Sphere(2)).denoise(x[1:2], sigma), rtol=0, atol=1e-9)
    assert bool(found[2].isnan().all())
    y = x[:2].requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(y, sigma).sum(), y)
    torch.testing.assert_close(gradient, prior.score(x[:2].detach(), sigma), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n", "nodes"), [(3, None), (4, 12), (5, 8)])
def test_draws_of_any_density_on_a_sphere_have_its_distribution_function(n, nodes):
    """Kolmogorov-Smirnov distance of <mu, u>, law (1 - c^2)^{n/2-1} exp(kappa c), exceeded with probability 1e-6."""
    density = VonMisesFisher([1.0, -2.0, 0.5, 1.0, -1.0, 2.0][: n + 1], 2.0)
    draws = Manifold(Sphere(n), as_general(density), nodes=nodes).sample(20_000, 1, dtype=DOUBLE)
    cosine = (draws @ density.direction).sort().values
    grid = torch.linspace(-1, 1, 200_001, dtype=DOUBLE)
    mass = (1 - grid**2) ** (n / 2 - 1) * (2.0 * grid).exp()
    exact = (mass.cumsum(0) / mass.sum())[torch.searchsorted(grid, cosine).clamp(max=len(grid) - 1)]
    empirical = torch.arange(1, len(cosine) + 1, dtype=DOUBLE) / len(cosine)
    bound = math.sqrt(math.log(2 / 1e-6) / 2 / len(cosine))
    assert float((exact - empirical).abs().max()) < bound + 1 / len(cosine)


def test_mixture_in_forty_dimensions_smooths_part_by_part():
    parts = [VonMisesFisher(torch.eye(40)[k], kappa) for k, kappa in enumerate((20.0, 60.0))]
    prior = Manifold(Sphere(39), VonMisesFisherMixture(torch.eye(40)[:2], [20.0, 60.0], [1.0, 3.0]))
    sigma = 0.3
    x = noisy(prior, 10, sigma)
    alone = torch.stack([Manifold(Sphere(39), part).log_prob(x, sigma) for part in parts])
    expected = (alone + torch.tensor([[0.25], [0.75]], dtype=DOUBLE).log()).logsumexp(0)
    torch.testing.assert_close(prior.log_prob(x, sigma), expected, rtol=1e-13, atol=0)
    assert check_score(prior, x, sigma, reference="autograd") < 1e-9
    # Means of the two coordinates, w_k A_40(kappa_k), within 5 standard errors of 20,000 draws.
    draws = prior.sample(20_000, 1, dtype=DOUBLE)[:, :2]
    mean = torch.tensor([w * ive(20, t) / ive(19, t) for w, t in ((0.25, 20.0), (0.75, 60.0))], dtype=DOUBLE)
    assert bool(((draws.mean(0) - mean).abs() < 5 * draws.std(0) / math.sqrt(20_000)).all())


def test_center_of_a_circle_sees_the_whole_circle_equally():
    x = torch.zeros(1, 2, dtype=DOUBLE)
    for sigma in (1e-3, 0.1):
        # All points are equally far, so that D is the mean of the density, A_2(kappa) in its direction.
        expected = float(ive(1, 4.0) / ive(0, 4.0)) * VMF2.direction
        for density in (VMF2, as_general(VMF2)):
            found = Manifold(Circle(), density, nodes=128).denoise(x, sigma)[0]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_ellipse_at_small_noise_against_a_local_rule():
    """Trapezoid rule of spacing sigma / 20 over 12 sigma around the nearest point, in its parameter."""
    sigma, prior = 1e-3, PRIORS["ellipse, general"]
    x = noisy(prior, 10, sigma, seed=7)
    center = prior.manifold.coordinates(prior.manifold.project(x))
    steps = torch.linspace(-12, 12, 481, dtype=DOUBLE) * sigma
    nodes, weights = prior.manifold.quadrature(4096)
    normaliser = (weights.log() + prior.log_density_on(nodes)).logsumexp(0)
    for i in range(len(x)):
        u = (center[i] + steps)[:, None]
        points = prior.manifold.point(u)
        mass = prior.manifold.log_element(u) + prior.log_density_on(points) + math.log(sigma / 20) - normaliser
        displacement, log_prob = brute_force(points, mass, x[i : i + 1], sigma)
        torch.testing.assert_close(prior.displacement(x[i : i + 1], sigma), displacement, rtol=0, atol=1e-12)
        torch.testing.assert_close(prior.log_prob(x[i : i + 1], sigma), log_prob, rtol=0, atol=1e-8)


def test_two_nearest_points_share_the_denoiser():
    """On the medial axis of an ellipse the two nearest points are mirror images: D lies on the axis between them."""
    prior, x = PRIORS["ellipse, uniform"], torch.tensor([[0.6, 0.0]], dtype=DOUBLE)
    denoised = prior.denoise(x, 1e-3)
    # cos t = a x / (a^2 - b^2); the bumps are Gaussian up to a relative sigma^2.
    assert float(denoised[0, 0]) == pytest.approx(2 * (2 * 0.6 / 3), abs=1e-4)
    assert abs(float(denoised[0, 1])) < 1e-9


def test_uniform_torus_at_small_noise_against_one_integral():
    """The azimuth integrates to a Bessel function; the tube's angle by a rule of spacing sigma / 20."""
    sigma, major, minor = 1e-3, 2.0, 0.5
    prior = PRIORS["torus, uniform"]
    x = noisy(prior, 10, sigma, seed=2)
    tube = prior.manifold.coordinates(prior.manifold.project(x))[:, 1]
    v = tube[:, None] + torch.linspace(-24, 24, 961, dtype=DOUBLE) * sigma
    ring, height = major + minor * v.cos(), minor * v.sin()
    axis_distance = x[:, :2].norm(dim=1, keepdim=True)
    bessel = torch.from_numpy(ive(0, (ring * axis_distance / sigma**2).numpy()))
    exponent = -((ring - axis_distance) ** 2 + (height - x[:, 2:]) ** 2) / (2 * sigma**2)
    integral = (exponent + (minor * ring * 2 * math.pi * bessel).log()).logsumexp(1) + math.log(sigma / 20)
    expected = integral - math.log(prior.manifold.volume) - 1.5 * math.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(prior.log_prob(x, sigma), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("sigma", [1.0, 0.05, 1e-3])
def test_sphere_of_five_dimensions_against_its_radial_integral(sigma):
    """The angle to w = kappa mu + x / sigma^2 has density sin^4(a) exp(|w| cos a)."""
    density = VonMisesFisher(torch.arange(6.0), 10.0)
    prior = Manifold(Sphere(5), density)
    x = noisy(prior, 5, sigma)
    w = density.kappa * density.direction + x / sigma**2
    t = w.norm(dim=1, keepdim=True)
    angle = torch.linspace(0, 1, 20_001, dtype=DOUBLE)[1:] * (30 / t.sqrt()).clamp(max=math.pi)
    mass = angle.sin() ** 4 * (-2 * t * (angle / 2).sin() ** 2).exp()
    resultant = (mass * angle.cos()).sum(1) / mass.sum(1)
    expected = resultant[:, None] * w / t
    torch.testing.assert_close(prior.denoise(x, sigma), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["circle, von Mises", "circle, general", "2-sphere, general", "ellipse, general"])
def test_small_noise_expansion(name):
    """On M the tangential score tends to grad log p, with an error of order sigma^2 (Li et al. 2025, Theorem 3.1)."""
    prior = PRIORS[name]
    manifold, errors = prior.manifold, []
    p = prior.sample(10, 1, dtype=DOUBLE).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_density_on(p).sum(), p)
    p = p.detach()
    expected = manifold.tangential(p, gradient)
    for sigma in (0.04, 0.02, 0.01):
        tangential = manifold.tangential(p, prior.score(p, sigma))
        errors.append(float((tangential - expected).norm()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.25)


@EACH
def test_score_pulls_back_to_the_manifold_at_rate_one_over_sigma_squared(prior):
    """Normal score -(x - P x)/sigma^2 = O(1/sigma), but for the mean curvature, O(1) (Li et al. 2025, Theorem 3.1)."""
    sigma, manifold = 1e-3, prior.manifold
    p = prior.sample(10, 1, dtype=DOUBLE)
    direction = torch.randn(p.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    offset = sigma * (direction - manifold.tangential(p, direction))
    score = prior.score(p + offset, sigma)
    remainder = score - manifold.tangential(p, score) + offset / sigma**2
    allowed = manifold.dim * manifold.curvature
    assert float(remainder.flatten(1).norm(dim=1).max()) < allowed < 0.01 / sigma


@EACH
@pytest.mark.parametrize("sigma", [0.4, 0.02])
def test_derivatives_pass_through_the_denoiser(prior, sigma):
    x = noisy(prior, 2, sigma).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: prior.denoise(v, sigma), (x,), eps=1e-7, atol=1e-4, rtol=1e-4)


def test_forward_and_reverse_products_agree_under_functional_transforms():
    for name in ("circle, von Mises", "2-sphere, von Mises-Fisher", "ellipse, general"):
        prior = PRIORS[name]
        x = noisy(prior, 4, 0.1)
        v = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
        _, forward = torch.func.jvp(lambda a, prior=prior: prior.denoise(a, 0.1), (x,), (v,))
        reverse = torch.func.vjp(lambda a, prior=prior: prior.denoise(a, 0.1), x)[1](v)[0]
        # The Jacobian of a denoiser is symmetric: it is a posterior covariance over sigma^2.
        torch.testing.assert_close(forward, reverse, rtol=1e-8, atol=1e-10)


@EACH
def test_single_precision_loses_nothing_but_its_own_rounding(prior):
    x = noisy(prior, 20, 1e-3).float()
    score, exact = prior.score(x, 1e-3), prior.score(x.double(), 1e-3)
    assert score.dtype == torch.float32
    assert float((score - exact).norm() / exact.norm()) < 3e-7


@EACH
def test_items_do_not_depend_on_their_neighbours(prior):
    x = torch.cat([noisy(prior, 4, s, seed=4) for s in (1e-3, 0.05, 2.0)])
    sigma = torch.tensor([1e-3, 0.05, 2.0], dtype=DOUBLE).repeat_interleave(4)
    together = prior.displacement(x, sigma)
    alone = torch.cat([prior.displacement(x[i : i + 1], float(sigma[i])) for i in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)
    densities = torch.cat([prior.log_prob(x[i : i + 1], float(sigma[i])) for i in range(len(x))])
    torch.testing.assert_close(prior.log_prob(x, sigma), densities, rtol=1e-13, atol=1e-9)


def test_large_batches_are_evaluated_in_parts():
    prior = PRIORS["torus, general"]
    x = noisy(prior, 1100, 0.3)
    whole = prior.displacement(x, 0.3)
    torch.testing.assert_close(whole, torch.cat([prior.displacement(p, 0.3) for p in x.split(550)]), rtol=0, atol=1e-13)


@EACH
def test_draws_lie_on_the_manifold_with_the_right_density(prior):
    """Means of two functions within 5 standard errors: a false alarm has probability below 1e-4 over all of them."""
    draws = prior.sample(20_000, 3, dtype=DOUBLE)
    assert float(prior.manifold.distance(draws).max()) < 1e-6
    nodes, log_mass = rule(prior, {1: 512, 2: 96, 3: 40}[prior.manifold.dim])
    direction = torch.randn(draws[0].numel(), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    for f in (lambda m: m @ direction, lambda m: (m @ direction) ** 2):
        values, exact = f(draws.flatten(1)), float(log_mass.exp() @ f(nodes.flatten(1)))
        assert abs(float(values.mean()) - exact) < 5 * float(values.std()) / math.sqrt(len(values))
    assert torch.equal(draws[:5], prior.sample(20_000, 3, dtype=DOUBLE)[:5])


@pytest.mark.parametrize(("n", "kappa"), [(1, 0.0), (1, 400.0), (2, 0.3), (5, 20.0), (40, 1e4)])
def test_von_mises_fisher_draws_have_the_mean_resultant(n, kappa):
    """Mean of cos(angle) within 5 standard errors of A_d(kappa), and its variance within 10%."""
    density = VonMisesFisher([1.0] * (n + 1), kappa)
    cosine = Manifold(Sphere(n), density).sample(20_000, 1, dtype=DOUBLE) @ density.direction
    nu = (n + 1) / 2 - 1
    mean = float(ive(nu + 1, kappa) / ive(nu, kappa))
    variance = 1 - mean**2 - (n / kappa * mean if kappa else n / (n + 1))
    assert abs(float(cosine.mean()) - mean) < 5 * math.sqrt(variance / len(cosine))
    assert float(cosine.var()) == pytest.approx(variance, rel=0.1)


def test_von_mises_in_the_parameter_of_an_ellipse():
    ellipse = Ellipse(1.0, 2.0)
    prior = Manifold(ellipse, InCoordinates(ellipse, lambda u: u[..., 0].cos()))
    u = ellipse.coordinates(prior.sample(20_000, 1, dtype=DOUBLE))[:, 0]
    mean = float(ive(1, 1.0) / ive(0, 1.0))
    assert abs(float(u.cos().mean()) - mean) < 5 / math.sqrt(2 * len(u))


def test_radius_is_the_root_mean_square_distance_from_the_mean():
    # Uniform on the unit sphere: 1, whatever the dimension. 4,096 draws move the mean by 1/64.
    for n in (1, 5):
        assert Manifold(Sphere(n, 2.0)).radius((n + 1,)) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Manifold("circle"), TypeError, "manifold must be one of priors.manifolds, got str"),
        (lambda: Manifold(Circle(), 3), TypeError, "log_density must be None or callable on points, got int"),
        (lambda: Manifold(Circle(), VMF3), ValueError, "direction must have 2 entries"),
        (
            lambda: Manifold(Sphere(6), ripple),
            ValueError,
            "log_density on Sphere.* None, VonMisesFisher, VonMisesFisherM",
        ),
        (
            lambda: Manifold(Product(Circle(), Circle(), Sphere(3)), ripple),
            ValueError,
            "log_density on Product.* products of two spheres or circles of at most 5",
        ),
        (lambda: Manifold(Circle(), Factorised(VMF2)), ValueError, "log_density may be Factorised on a Product alone"),
        (lambda: Manifold(Circle(), lambda p: p), ValueError, r"log_density must map points \(\.\.\., 2\)"),
        (lambda: Manifold(Circle(), ripple, nodes=0), ValueError, "nodes must be a positive integer, got 0"),
        (lambda: Manifold(Product(Circle()), Factorised(None, None)), ValueError, "log_density must have 1 parts"),
        (
            lambda: Manifold(Circle(), lambda p: torch.full(p.shape[:-1], math.nan, dtype=p.dtype)),
            ValueError,
            "log_density must be finite somewhere and never NaN",
        ),
        (lambda: Manifold(Circle()).denoise(torch.zeros(3, 3), 0.1), ValueError, r"x must have shape \(B, 2\)"),
        (lambda: Manifold(Circle()).denoise(torch.zeros(3, 2), 0.0), ValueError, "sigma must be finite and above 0"),
        (lambda: Manifold(Circle()).denoise(torch.zeros(3, 2).long(), 0.1), TypeError, "x must be of a real floating"),
        (lambda: Manifold(Circle()).sample(0), ValueError, "n must be at least 1, got 0"),
    ],
)
def test_refusals_name_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()

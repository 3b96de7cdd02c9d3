"""Error fields: their sizes, their symmetries, what they do to a law, and what they refuse."""

import dataclasses
import json
import math

import pytest
import torch
from torch.func import jacrev, vmap

from inverse.robustness.errors import (
    BiasError,
    DensityError,
    GradientError,
    NormalError,
    SolenoidalError,
    TangentialError,
)
from priors import Manifold, check_score
from priors.manifolds import Circle, Ellipse, Embedded, Product, Sphere, Torus, VonMisesFisher

DOUBLE = torch.float64
CIRCLE = Circle(1.3)
ERRORS = {
    "gradient": GradientError(0.7, 0.5, 3, length_scale=0.4),
    "solenoidal": SolenoidalError(0.7, 0.5, 3, length_scale=0.4),
    "bias": BiasError(0.7, 0.5, 3),
    "tangential": TangentialError(0.7, 0.5, 3, manifold=CIRCLE, length_scale=0.4),
    "tangential, given": TangentialError(0.7, 0.5, manifold=CIRCLE, potential=lambda p: p[..., 0] * p[..., 1]),
    "normal": NormalError(0.7, 0.5, 3, manifold=CIRCLE, length_scale=0.4),
    "density": DensityError(0.7, 0.5, manifold=CIRCLE, target=VonMisesFisher([1.0, 1.0], 2.0)),
}
SEEDED = {name: ERRORS[name] for name in ("gradient", "solenoidal", "bias", "tangential", "normal")}
EACH = pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
EACH_SEEDED = pytest.mark.parametrize("error", SEEDED.values(), ids=SEEDED.keys())
WAVES = pytest.mark.parametrize("kind", [GradientError, SolenoidalError])
MANIFOLDS = {
    "circle": CIRCLE,
    "ellipse": Ellipse(1.0, 2.0),
    "torus": Torus(2.0, 0.5),
    "image": Embedded(Product(Circle(), Circle(0.5)), (1, 4, 4), seed=1, center=0.5),
}
EACH_MANIFOLD = pytest.mark.parametrize("manifold", MANIFOLDS.values(), ids=MANIFOLDS.keys())


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def everywhere(n: int, *image_shape: int) -> torch.Tensor:
    """Points spread over 1e5 length scales of 1: to a wave they are uniform over its period."""
    return 1e5 * normal(n, *image_shape)


def squares(field: torch.Tensor) -> torch.Tensor:
    return field.flatten(1).square().sum(1)


def assert_mean(values: torch.Tensor, expected: float) -> None:
    """Mean within 4.5 standard errors, which 7 in a million sound runs would miss."""
    assert abs(float(values.mean()) - expected) < 4.5 * float(values.std()) / math.sqrt(len(values))


def gradient_of(function, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def jacobians(error, x: torch.Tensor) -> torch.Tensor:
    """(B, d, d) of the unit field at vectors x (B, d)."""
    error.unit(x[:1])  # drawn outside of vmap, in which nothing can be drawn
    return vmap(jacrev(lambda point: error.unit(point[None])[0]))(x)


# Sizes


@WAVES
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_fourier_fields_have_mean_square_one_over_space(kind, shape):
    error, x = kind(length_scale=0.7, seed=1), everywhere(20000, *shape)
    assert_mean(squares(error.unit(x)), 1.0)


def test_gradient_in_one_dimension():
    assert_mean(squares(GradientError(features=8).unit(everywhere(20000, 1))), 1.0)


@WAVES
@pytest.mark.parametrize("shape", [(2,), (3, 16, 16)])
def test_bound_on_the_supremum(kind, shape):
    error = kind(seed=2, features=32)
    bound = error.bound(shape)
    assert error.size(everywhere(4000, *shape), 1.0).sup <= bound
    # The trivial bound, a sum of norms whose squares have sum 2, is what it must not exceed.
    assert bound <= math.sqrt(2 * 32) * (1 + 1e-12)


def test_bound_is_sharp_in_high_dimension():
    """For nearly orthogonal waves |u|^2 is at most 2, up to the spectral norm 1 + sqrt(J/d) of a random matrix."""
    assert GradientError(features=4).bound((64, 64)) < math.sqrt(2) * (1 + 4 * math.sqrt(4 / 64**2))


@pytest.mark.parametrize("d", [2, 1024])
def test_length_scale_is_that_of_every_direction(d):
    """One wave at distance r: 2 cos(a) cos(a + t) = cos(t) + cos(2a + t), where the phase a is uniform and t = <w, r>/l
    is standard normal at |r| = l, so that the mean over draws of the wave is exp(-1/2)."""
    x = everywhere(1, d).expand(2, d).clone()
    x[1, 0] += 0.3
    waves = torch.stack([SolenoidalError(length_scale=0.3, features=1, seed=seed).unit(x) for seed in range(1024)])
    assert_mean((waves[:, 0] * waves[:, 1]).sum(-1), math.exp(-0.5))


@EACH
def test_amplitude_and_exponent_are_exact(error):
    x, sigma = normal(5, 2), torch.tensor([0.01, 0.1, 0.5, 1.0, 7.0], dtype=DOUBLE)
    expected = 0.7 * sigma[:, None] ** 0.5 * error.unit(x)
    for level in (sigma, sigma[:, None]):
        torch.testing.assert_close(error(x, level), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(error(x, 0.1)[1], expected[1], rtol=1e-14, atol=0)
    torch.testing.assert_close(error(x, torch.tensor(0.1))[1], expected[1], rtol=1e-7, atol=0)
    torch.testing.assert_close(error.scaled(1.4)(x, sigma), 2 * expected, rtol=1e-14, atol=0)
    assert not error.scaled(0.0)(x, sigma).any()


@EACH
def test_size_is_measured(error):
    x, norms = normal(100, 2), []
    for item in x:
        norms.append(float(error(item[None], 0.04).norm()))
    size = error.size(x, 0.04)
    assert size.sup == pytest.approx(max(norms))
    assert size.rms == pytest.approx(math.sqrt(sum(norm**2 for norm in norms) / 100))


def test_bias_has_unit_norm_and_the_given_direction():
    x = normal(3, 1, 2, 2)
    assert BiasError(2.0, -1.0, 5).size(x, 0.5) == pytest.approx((4.0, 4.0))
    direction = torch.tensor([[[3.0, 0.0], [0.0, -4.0]]])
    expected = torch.tensor([[[0.6, 0.0], [0.0, -0.8]]], dtype=DOUBLE).expand(3, 1, 2, 2)
    torch.testing.assert_close(BiasError(direction=direction)(x, 0.3), expected)
    assert BiasError(direction=direction) == BiasError(direction=direction.tolist())


# Symmetries


@pytest.mark.parametrize("sigma", [0.3, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=DOUBLE)])
@pytest.mark.parametrize("shape", [(3,), (1, 4, 4)])
def test_gradient_error_is_the_gradient_of_its_potential(sigma, shape):
    error, x = GradientError(1.7, -0.5, 1, length_scale=0.6), normal(4, *shape)
    assert error.potential(x, sigma).shape == (4,)
    torch.testing.assert_close(gradient_of(lambda y: error.potential(y, sigma), x), error(x, sigma))


def test_jacobian_of_a_gradient_is_symmetric():
    jacobian = jacobians(GradientError(seed=4, length_scale=0.5), normal(20, 5))
    torch.testing.assert_close(jacobian, jacobian.mT)


def test_solenoidal_field_is_free_of_divergence_and_no_gradient():
    """For one wave J = a v w^T with v orthogonal to w, hence |J - J^T|^2 = 2 |J|^2 at every point."""
    jacobian = jacobians(SolenoidalError(seed=4, length_scale=0.5), normal(20, 5))
    trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, torch.zeros_like(trace), rtol=0, atol=1e-12)
    one = jacobians(SolenoidalError(seed=4, features=1), normal(20, 5))
    torch.testing.assert_close(squares(one - one.mT), 2 * squares(one))


def test_solenoidal_jacobian_is_twice_as_asymmetric_in_mean_over_space():
    jacobian = jacobians(SolenoidalError(seed=4, features=16), everywhere(4000, 3))
    assert_mean(squares(jacobian - jacobian.mT) - 2 * squares(jacobian), 0.0)


# Seeds, dtypes, shapes


@EACH_SEEDED
def test_seed_alone_decides_the_field(error):
    x = normal(4, 2)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = dataclasses.replace(error).unit(x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(dataclasses.replace(error).unit(x), first)
    other = dataclasses.replace(error, seed=4).unit(x)
    assert not torch.allclose(other, first, atol=1e-3)


@EACH
def test_float32_is_the_same_field(error):
    x = normal(50, 2)
    single = error(x.float(), 0.2)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), error(x, 0.2), rtol=1e-4, atol=1e-5)


@EACH
def test_items_do_not_see_each_other(error):
    x, sigma = normal(6, 2), torch.linspace(0.1, 0.6, 6, dtype=DOUBLE)
    torch.testing.assert_close(error(x, sigma)[2:3], error(x[2:3], sigma[2:3]))


@pytest.mark.parametrize("kind", [GradientError, SolenoidalError, BiasError])
def test_images_are_flattened(kind):
    x = normal(2, 3, 4, 5)
    error = kind(seed=1)
    assert error(x, 0.1).shape == x.shape
    if kind is not BiasError:
        torch.testing.assert_close(error(x, 0.1).flatten(1), error(x.flatten(1), 0.1))


@EACH
def test_modes_of_autograd_do_not_matter(error):
    x = normal(3, 2, seed=8).float()
    with torch.inference_mode():
        inference = error(x.clone(), 0.1)
    with torch.no_grad():
        assert torch.equal(error(x, 0.1), inference)
    assert torch.equal(error(x, 0.1), inference)
    # The fields of images that carry a graph carry one too: here that of d/dx sum_i e_i, against differences.
    x = normal(3, 2, seed=8)
    direction = normal(3, 2, seed=9)
    slope = (gradient_of(lambda y: error(y, 0.1).sum() + 0 * y.sum(), x) * direction).sum()
    change = error(x + 1e-6 * direction, 0.1).sum() - error(x - 1e-6 * direction, 0.1).sum()
    torch.testing.assert_close(slope, change / 2e-6, rtol=1e-5, atol=1e-7)


@EACH
def test_fields_first_drawn_in_inference_mode_can_be_differentiated(error):
    x, error = normal(3, 2), dataclasses.replace(error, seed=77)
    with torch.inference_mode():
        error.unit(x)
    sigma = torch.tensor(0.1, dtype=DOUBLE)
    level = sigma.clone().requires_grad_()
    assert bool(gradient_of(lambda y: (error(y, level) + y).square().sum(), x).isfinite().all())
    # e = c sigma^beta u gives de/dsigma = beta e / sigma.
    slope = torch.autograd.grad(error(x, level).sum(), level)[0]
    torch.testing.assert_close(slope, 0.5 * error(x, sigma).sum() / sigma)


# On manifolds


@EACH_MANIFOLD
@pytest.mark.parametrize("kind", [TangentialError, NormalError])
def test_root_mean_square_on_the_manifold_is_one(kind, manifold):
    """Quadrature with other nodes than the normalisation's, so fine that both are exact."""
    points, weights = manifold.quadrature(2000 if manifold.dim == 1 else 90)
    field = kind(manifold=manifold, seed=2, length_scale=1.0).unit(points)
    assert float((squares(field) * weights).sum() / weights.sum()) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("kind", [TangentialError, NormalError])
def test_root_mean_square_without_a_chart(kind):
    """The norm is from 4,096 draws and the check from as many others: a standard error of sqrt(2) that of one."""
    values = squares(kind(manifold=Sphere(6), seed=2).unit(Sphere(6).sample(4096, seed=9)))
    assert abs(float(values.mean()) - 1) < 4.5 * math.sqrt(2) * float(values.std()) / 64


@EACH_MANIFOLD
def test_tangential_and_normal_fields_on_any_point(manifold):
    points = manifold.sample(30, seed=1)
    x = points + 0.1 * normal(*points.shape)
    nearest = manifold.project(x)
    along = TangentialError(manifold=manifold, seed=2)
    across = NormalError(manifold=Manifold(manifold), seed=2)
    torch.testing.assert_close(manifold.tangential(nearest, along(x, 0.1)), along(x, 0.1))
    zero = torch.zeros_like(x)
    torch.testing.assert_close(manifold.tangential(nearest, across(x, 0.1)), zero, rtol=0, atol=1e-12)
    for error in (along, across):
        torch.testing.assert_close(error(nearest, 0.1), error(x, 0.1))


@EACH_MANIFOLD
def test_tangential_field_is_the_gradient_of_its_tilt(manifold):
    """On the manifold, grad (phi o P_M) = grad_M phi, checked by differences along the chart."""
    error, step = TangentialError(1.5, 0.5, 2, manifold=manifold), 1e-5
    u = 0.3 + 2 * torch.rand(20, manifold.dim, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    shift = step * normal(20, manifold.dim)
    ahead, behind = manifold.point(u + shift), manifold.point(u - shift)
    change = error.tilt(ahead, 0.2) - error.tilt(behind, 0.2)
    expected = ((ahead - behind) * error(manifold.point(u), 0.2)).flatten(1).sum(1)
    torch.testing.assert_close(change, expected, rtol=1e-6, atol=1e-13)


def test_given_potential_on_the_circle():
    """e = d/d theta cos(2 theta + 1) / R along the circle of radius R, at any distance from it."""
    angle = torch.linspace(0, 6, 25, dtype=DOUBLE)
    unit = torch.stack([angle.cos(), angle.sin()], dim=-1)
    tangent = torch.stack([-angle.sin(), angle.cos()], dim=-1)
    error = TangentialError(3.0, manifold=CIRCLE, potential=lambda p: (2 * torch.atan2(p[..., 1], p[..., 0]) + 1).cos())
    expected = -3.0 * 2 * (2 * angle + 1).sin()[:, None] / 1.3 * tangent
    torch.testing.assert_close(error(1.5 * unit, 0.1), expected)
    torch.testing.assert_close(error.tilt(1.5 * unit, 0.1), 3.0 * (2 * angle + 1).cos())


def test_functions_of_an_embedded_manifold_are_given_its_inner_points():
    manifold = Embedded(Circle(), (1, 3, 3), seed=2, center=0.5)
    u = torch.linspace(0, 6, 9, dtype=DOUBLE)[:, None]
    inner = TangentialError(manifold=Circle(), potential=lambda p: p[..., 0] * p[..., 1])
    outer = TangentialError(manifold=manifold, potential=lambda p: p[..., 0] * p[..., 1])
    pushed = manifold.outer(inner(Circle().point(u), 0.1)) - 0.5
    torch.testing.assert_close(outer(manifold.point(u), 0.1), pushed)


def test_constant_functions_have_no_error():
    x = normal(3, 2)
    assert not TangentialError(manifold=CIRCLE, potential=lambda p: p.new_ones(p.shape[:-1]))(x, 0.1).any()
    assert not DensityError(manifold=CIRCLE)(x, 0.1).any()


# Densities


def test_density_error_between_two_von_mises_laws():
    """grad_M of kappa' cos(theta - mu') - kappa cos(theta - mu), in closed form."""
    angle = torch.linspace(0, 6, 25, dtype=DOUBLE)
    x = 0.8 * torch.stack([angle.cos(), angle.sin()], dim=-1)
    tangent = torch.stack([-angle.sin(), angle.cos()], dim=-1)
    before, after = VonMisesFisher([1.0, 0.0], 4.0), VonMisesFisher([0.0, 1.0], 1.5)
    slope = (-1.5 * (angle - math.pi / 2).sin() + 4.0 * angle.sin()) / 1.3
    for error in (
        DensityError(manifold=CIRCLE, log_density=before, target=after),
        DensityError(manifold=Manifold(CIRCLE, before), target=after),
        DensityError(manifold=CIRCLE, log_density=Manifold(CIRCLE, before), target=Manifold(CIRCLE, after)),
    ):
        torch.testing.assert_close(error(x, 0.1), slope[:, None] * tangent)
        torch.testing.assert_close(error.tilt(x, 0.1), 1.5 * angle.sin() - 4.0 * angle.cos())


def test_density_error_makes_the_score_of_the_target():
    """Near M the scores of two laws differ by the density term and o(1) (Theorem 3.1): here by an order of sigma."""
    manifold = Ellipse(1.0, 1.5)
    before, after = Manifold(manifold, lambda p: 2 * p[..., 0]), Manifold(manifold, lambda p: (3 * p[..., 1]).sin())
    wrong = DensityError(manifold=before, target=after).perturb(before)
    points, noise = manifold.sample(50, seed=3), normal(50, 2)
    coarse, fine = (
        float((wrong.score(points + s * noise, s) - after.score(points + s * noise, s)).abs().max())
        for s in (0.03, 0.003)
    )
    assert fine < coarse / 5 < 0.2


def test_density_error_on_images_equals_that_of_the_inner_manifold():
    manifold = Embedded(Circle(), (1, 4, 4), seed=1, center=0.5)
    density = VonMisesFisher([1.0, -1.0], 3.0)
    angle = torch.linspace(0, 6, 9, dtype=DOUBLE)[:, None]
    outer = DensityError(manifold=manifold, target=density)(manifold.point(angle), 0.1)
    inner = DensityError(manifold=Circle(), target=density)(Circle().point(angle), 0.1)
    torch.testing.assert_close(manifold.inner(outer + 0.5), inner)
    torch.testing.assert_close(outer.flatten(1).norm(dim=1), inner.norm(dim=1))


# As a part of a sweep


@EACH
def test_perturbs_a_prior_consistently(error):
    prior = Manifold(CIRCLE, VonMisesFisher([1.0, 0.0], 4.0))
    x = prior.sample(20, seed=0, dtype=DOUBLE) + 0.1 * normal(20, 2)
    wrong = error.perturb(prior)
    torch.testing.assert_close(wrong.score(x, 0.1), prior.score(x, 0.1) + error(x, 0.1))
    assert check_score(wrong, x, 0.1, reference="tweedie") < 1e-10


@EACH
def test_hashable_and_describable(error):
    assert len({error, error.scaled(0.7), error.scaled(0.8)}) == 2
    described = error.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["error"] == type(error).__name__
    assert (described["amplitude"], described["exponent"], described["seed"]) == (0.7, 0.5, error.seed)


def test_descriptions_name_manifolds_and_functions():
    prior = Manifold(CIRCLE, VonMisesFisher([1.0, 0.0], 4.0))
    described = DensityError(manifold=prior, target=everywhere).describe()
    assert described["manifold"] == "Manifold(Circle(radius=1.3), VonMisesFisher)"
    assert (described["log_density"], described["target"]) == (None, "everywhere")
    one, two = (BiasError(direction=normal(1, 4, 4, seed=seed)).describe()["direction"] for seed in (0, 1))
    assert one.startswith("1x4x4 sha256:") and one != two


# Refusals


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: GradientError(-1.0), ValueError, "amplitude must be a finite number of at least 0, got -1.0"),
        (lambda: GradientError(exponent=math.inf), ValueError, "exponent must be a finite number, got inf"),
        (lambda: BiasError(seed=0.5), ValueError, "seed must be a whole number, got 0.5"),
        (lambda: GradientError(length_scale=0.0), ValueError, "length_scale must be finite and above 0, got 0.0"),
        (lambda: GradientError(features=0), ValueError, "features must be a whole number of at least 1, got 0"),
        (lambda: BiasError(direction=torch.zeros(2)), ValueError, "direction must be a finite vector or image that is"),
        (lambda: TangentialError(), TypeError, "manifold must be one of priors.manifolds or a priors.Manifold, got N"),
        (lambda: NormalError(manifold=3), TypeError, "manifold must be one of priors.manifolds or a priors.Manifold"),
        (lambda: TangentialError(manifold=CIRCLE, potential=1.0), TypeError, "potential must be None or callable on"),
        (lambda: DensityError(manifold=CIRCLE, target=1.0), TypeError, "target must be None, callable on points or a"),
        (
            lambda: DensityError(manifold=CIRCLE, target=Manifold(Sphere(2))),
            ValueError,
            r"target must be on the manifold of the error, Circle\(radius=1.3\), got Sphere\(n=2, radius=1\)",
        ),
        (
            lambda: DensityError(manifold=Manifold(CIRCLE), log_density=normal),
            ValueError,
            "log_density must be None where manifold is a prior with its own",
        ),
    ],
)
def test_options_are_refused_where_they_enter(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()


@pytest.mark.parametrize(
    ("field", "x", "error", "sentence"),
    [
        (SolenoidalError(), normal(3, 1), ValueError, r"x must have at least 2 entries per item .*, got \(3, 1\)"),
        (GradientError(), normal(3), ValueError, r"x must have shape \(B, \*image_shape\), got \(3,\)"),
        (GradientError(), torch.ones(3, 2, dtype=int), TypeError, "x must be of a real floating-point dtype, got torc"),
        (
            BiasError(direction=[1.0, 0.0]),
            normal(3, 3),
            ValueError,
            r"direction must have the shape .*\(3,\), got \(2,",
        ),
        (NormalError(manifold=CIRCLE), normal(3, 3), ValueError, r"x must have shape \(B, 2\) for an error on Circle"),
        (
            TangentialError(manifold=CIRCLE, potential=lambda p: p),
            normal(3, 2),
            ValueError,
            r"potential must map points \(..., 2\) to a tensor \(...\), got \(3, 2\)",
        ),
        (
            DensityError(manifold=CIRCLE, target=lambda p: 1.0),
            normal(3, 2),
            ValueError,
            r"target must map points \(..., 2\) to a tensor \(...\), got float",
        ),
    ],
)
def test_images_are_refused_where_they_enter(field, x, error, sentence):
    with pytest.raises(error, match=sentence):
        field(x, 0.1)

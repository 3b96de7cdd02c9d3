"""Geometry of the manifolds: nearest points, tangent spaces, volumes, charts, uniform draws."""

import math

import pytest
import torch

from priors.manifolds import (
    Circle,
    Ellipse,
    Embedded,
    InCoordinates,
    Product,
    Sphere,
    Submanifold,
    Torus,
    VonMisesFisher,
    VonMisesFisherMixture,
)

MANIFOLDS = [
    Circle(1.3),
    Ellipse(2.0, 1.0),
    Ellipse(1.0, 2.0),
    Sphere(2, 0.7),
    Sphere(3, 2.0),
    Sphere(4, 1.3),
    Sphere(5, 0.7),
    Sphere(6),
    Torus(2.0, 0.5),
    Product(Circle(), Circle(0.4)),
    Product(Sphere(2), Circle()),
    Embedded(Torus(2.0, 0.5), (1, 3, 4), seed=3, center=0.5),
]
CHARTED = pytest.mark.parametrize("manifold", MANIFOLDS, ids=repr)


class WithoutChart(Submanifold):
    dim, image_shape = 2, (3,)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tangents(manifold, u: torch.Tensor) -> torch.Tensor:
    """Derivatives of the chart at u (dim,), (dim, *image_shape)."""
    return torch.autograd.functional.jacobian(manifold.point, u).movedim(-1, 0)


@pytest.mark.parametrize("manifold", [*MANIFOLDS, Sphere(7)], ids=repr)
def test_nearest_point_leaves_a_normal_residual_and_is_nearer_than_any_draw(manifold):
    draws = manifold.sample(500, seed=1)
    x = draws[:40] + 0.2 * normal(40, *manifold.image_shape)
    p = manifold.project(x)
    assert torch.allclose(manifold.project(p), p, atol=1e-10)
    assert manifold.tangential(p, x - p).abs().max() < 1e-10
    to_draws = torch.cdist(x.flatten(1), draws.flatten(1)).amin(1)
    assert bool((manifold.distance(x) <= to_draws + 1e-12).all())


def test_nearest_point_of_an_ellipse_inside_on_the_axes():
    # On the long axis inside the centre of curvature, x < (a^2 - b^2)/a, the nearest point has cos t = a x/(a^2 - b^2).
    x = torch.tensor([[0.6, 0.0], [0.0, 0.0], [1.9, 0.0], [0.0, -0.3]], dtype=torch.float64)
    expected = [2 * (2 * 0.6 / 3), 0.0, 2.0, 0.0]
    p = Ellipse(2.0, 1.0).project(x)
    torch.testing.assert_close(p[:, 0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7)
    torch.testing.assert_close((p[:, 0] / 2) ** 2 + p[:, 1] ** 2, torch.ones(4, dtype=torch.float64))


@CHARTED
def test_tangential_is_the_projection_onto_the_derivatives_of_the_chart(manifold):
    u = torch.full((manifold.dim,), 0.4, dtype=torch.float64)
    basis = tangents(manifold, u).flatten(1)
    v = normal(*manifold.image_shape)
    expected = torch.linalg.lstsq(basis.T, v.reshape(-1, 1)).solution[:, 0] @ basis
    found = manifold.tangential(manifold.point(u), v).flatten()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@CHARTED
def test_volume_element_is_the_gram_determinant_and_integrates_to_the_volume(manifold):
    for value in (0.2, 0.7):
        u = torch.full((manifold.dim,), value, dtype=torch.float64)
        basis = tangents(manifold, u).flatten(1)
        assert float(manifold.log_element(u)) == pytest.approx(0.5 * float(torch.logdet(basis @ basis.T)), abs=1e-12)
    _, weights = manifold.quadrature({1: 128, 2: 128, 3: 32}.get(manifold.dim, 7))
    assert float(weights.sum()) == pytest.approx(manifold.volume, rel=1e-12)


@CHARTED
def test_coordinates_invert_the_chart(manifold):
    p = manifold.sample(50, seed=2)
    assert torch.allclose(manifold.point(manifold.coordinates(p)), p, atol=1e-10)


@pytest.mark.parametrize("manifold", [m for m in MANIFOLDS if all(axis.periodic for axis in m.axes)], ids=repr)
def test_speeds_bound_the_chart(manifold):
    u = 2 * math.pi * torch.rand(2, 500, manifold.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squared = (manifold.point(u[0]) - manifold.point(u[1])).flatten(1).square().sum(1)
    bound = ((u[0] - u[1]) * torch.tensor(manifold.speeds)).square().sum(1)
    assert bool((squared <= bound + 1e-12).all())


@CHARTED
def test_uniform_draws_agree_with_quadrature(manifold):
    """Means of two functions within 5 standard errors: a false alarm has probability below 1e-5 over all of them."""
    draws = manifold.sample(20_000, seed=5).flatten(1)
    nodes, weights = manifold.quadrature({1: 64, 2: 64, 3: 24}.get(manifold.dim, 7))
    nodes, weights = nodes.flatten(1), weights / weights.sum()
    direction = normal(draws.shape[1], seed=9)
    for f in (lambda m: m @ direction, lambda m: (m @ direction) ** 2):
        exact, values = float(weights @ f(nodes)), f(draws)
        assert abs(float(values.mean()) - exact) < 5 * float(values.std()) / math.sqrt(len(values))


def test_spheres_have_their_known_volumes():
    known = {1: 2 * math.pi, 2: 4 * math.pi, 3: 2 * math.pi**2, 5: math.pi**3}
    for n, volume in known.items():
        assert Sphere(n, 2.0).volume == pytest.approx(volume * 2**n, rel=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_quadrature_on_spheres_is_exact_for_polynomials(n):
    """E[x_i^2 x_j^2] = r^4 (1 + 2 [i = j]) / ((n + 1) (n + 3)), and odd moments are 0."""
    points, weights = Sphere(n, 1.3).quadrature(7)
    weights = weights / weights.sum()
    squares = points.square()
    expected = 1.3**4 / ((n + 1) * (n + 3)) * (torch.ones(n + 1, n + 1) + 2 * torch.eye(n + 1)).double()
    torch.testing.assert_close(squares.T @ (weights[:, None] * squares), expected, rtol=1e-12, atol=0)
    odd = squares.T @ (weights[:, None] * points)
    torch.testing.assert_close(odd, torch.zeros_like(odd), rtol=0, atol=1e-13)


def test_mixture_of_von_mises_fisher_densities_is_normalised():
    """With respect to the uniform law; heights of 40 nodes leave nothing of exp(10 h)."""
    mixture = VonMisesFisherMixture([[0.0, 0.0, 2.0], [1.0, 1.0, 0.0]], [10.0, 0.0], [3.0, 1.0])
    nodes, weights = Sphere(2, 1.7).quadrature(40)
    assert float(weights @ mixture(nodes).exp() / weights.sum()) == pytest.approx(1, rel=1e-12)
    # E <p, e_3> = (3/4) A_3(10), A_3(t) = coth t - 1/t
    mean = float((weights * mixture(nodes).exp()) @ nodes[:, 2] / weights.sum()) / 1.7
    assert mean == pytest.approx(0.75 * (1 / math.tanh(10) - 0.1), rel=1e-12)


def test_embedding_is_isometric():
    torus = Torus(2.0, 0.5)
    inside, embedded = torus.sample(100, seed=1), Embedded(torus, 50, seed=4, center=0.5)
    points = embedded.outer(inside)
    torch.testing.assert_close(torch.cdist(points, points), torch.cdist(inside, inside), rtol=0, atol=1e-6)
    torch.testing.assert_close(embedded.inner(points), inside)


def test_gradient_of_the_nearest_point_is_the_implicit_one():
    x = torch.tensor([[1.5, 0.7], [-0.5, 1.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Ellipse(2.0, 1.0).project, (x,))


def test_density_in_coordinates_is_divided_by_the_element():
    ellipse = Ellipse(1.0, 2.0)
    nodes, weights = ellipse.quadrature(256)
    density = InCoordinates(ellipse, lambda u: u[..., 0].cos())(nodes).exp()
    # The integral over arc length is that of exp(cos t) dt, 2 pi I_0(1).
    expected = 2 * math.pi * float(torch.special.i0(torch.tensor(1.0, dtype=torch.float64)))
    assert float(weights @ density) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Circle(0.0), "radius must be finite and above 0, got 0.0"),
        (lambda: Ellipse(1.0, math.nan), "b must be finite and above 0, got nan"),
        (lambda: Sphere(0), "n must be an integer of at least 1, got 0"),
        (lambda: Torus(1.0, 2.0), "minor must be below major"),
        (lambda: Product(), "factors must be one or more manifolds of vectors"),
        (lambda: Embedded(Sphere(2), 2), "image_shape must hold at least 3 entries"),
        (lambda: VonMisesFisher([0.0, 0.0], 1.0), "direction must be a finite vector that is not zero"),
        (lambda: VonMisesFisher([1.0, 0.0], -1.0), "kappa must be finite and at least 0, got -1"),
        (lambda: WithoutChart().quadrature(8), "quadrature needs a manifold with a chart"),
        (lambda: VonMisesFisherMixture([1.0, 0.0], 1.0), r"directions must have shape \(K, d\) with K at least 1"),
        (
            lambda: VonMisesFisherMixture([[1.0, 0.0]], [1.0, 2.0]),
            "kappas must hold one number for each of 1 directions",
        ),
        (lambda: VonMisesFisherMixture([[1.0, 0.0]], 1.0, [-1.0]), "weights must be finite and at least 0, not all 0"),
        (lambda: VonMisesFisherMixture([[1.0, 0.0]], -1.0), "kappa must be finite and at least 0, got -1"),
        (lambda: Circle().quadrature([3, 4]), "counts must be one positive number or 1 of them"),
        (lambda: Circle().sample(0), "n must be at least 1, got 0"),
        (lambda: InCoordinates(WithoutChart(), lambda u: u[..., 0]), "manifold must have a chart"),
    ],
)
def test_refusals_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()

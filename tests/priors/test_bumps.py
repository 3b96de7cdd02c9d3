"""Rules about the nearest point: exact moments, when they are chosen, and the same law as from the whole lattice."""

import math

import pytest
import torch

from priors import Manifold
from priors.bumps import RADII, disc, gauss_hermite
from priors.manifolds import Circle, Ellipse, Embedded, InCoordinates, Product, Sphere, Torus

DOUBLE = torch.float64
ELLIPSE, TORUS = Ellipse(1.0, 2.0), Torus(2.0, 1.0)
PRIORS = {
    "ellipse, uniform": Manifold(ELLIPSE),
    "ellipse, of points": Manifold(ELLIPSE, lambda p: (2 * p[..., 0]).sin() + p[..., 1]),
    "ellipse, of coordinates": Manifold(ELLIPSE, InCoordinates(ELLIPSE, lambda u: u[..., 0].cos()), nodes=64),
    "torus, of coordinates": Manifold(TORUS, InCoordinates(TORUS, lambda u: 2 * u.cos().sum(-1)), nodes=32),
    "product": Manifold(Product(Circle(), Ellipse(1.0, 0.8)), lambda p: p[..., 0] * p[..., 3], nodes=32),
}
EACH = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS.keys())


def about(prior: Manifold, n: int, away: float, seed: int = 0) -> torch.Tensor:
    """Points at distances of about `away` from the manifold."""
    x = prior.sample(n, seed, dtype=DOUBLE)
    return x + away * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=DOUBLE)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("radius", [None, *RADII])
def test_rules_integrate_polynomials_under_a_gaussian(dim, radius):
    """Of the normal law, E xi^4 = 3 in each coordinate, E xi_1^2 xi_2^2 = 1; its tail beyond 7.8 weighs 1e-13 r^4."""
    rule = gauss_hermite(dim) if radius is None else disc(dim, radius)
    weights = (rule.log_weights - rule.xi.square().sum(1) / 2).exp() / (2 * math.pi) ** (dim / 2)
    assert float(weights.sum()) == pytest.approx(1, abs=2e-11)
    fourth = (weights[:, None] * rule.xi**4).sum(0)
    torch.testing.assert_close(fourth, torch.full_like(fourth, 3.0), rtol=0, atol=1e-8)
    if dim == 2:
        assert float(weights @ rule.xi.square().prod(1)) == pytest.approx(1, abs=1e-8)


@EACH
@pytest.mark.parametrize(("sigma", "away"), [(0.05, 0.05), (0.02, 0.15), (4e-3, 0.1), (1e-3, 1e-3), (1e-4, 0.1)])
def test_the_law_is_that_of_the_whole_lattice(prior, sigma, away):
    """Against the lattice, found by halving cells without any of this. Exponents are away^2 / sigma^2, rounded."""
    law, x = prior._law, about(prior, 30, away)
    found = prior.displacement(x, sigma), prior.log_prob(x, sigma)
    rules = law.bumps.choose(x, torch.full((30, 1), sigma, dtype=DOUBLE)).rule
    assert float((rules >= 0).double().mean()) > 0.6
    kept, law.bumps = law.bumps, None
    try:
        expected = prior.displacement(x, sigma), prior.log_prob(x, sigma)
    finally:
        law.bumps = kept
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=2e-11)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-9 + 1e-14 * (away / sigma) ** 2)


def test_smaller_noise_needs_fewer_nodes():
    prior = PRIORS["torus, of coordinates"]
    x, rules = about(prior, 20, 0.05), []
    for sigma in (0.05, 0.01, 1e-3, 1e-5):
        rules.append(prior._law.bumps.choose(x, torch.full((20, 1), sigma, dtype=DOUBLE)).rule)
    assert int(rules[0].min()) >= 1 and int(rules[1].max()) == 1
    assert all(int(rule.abs().max()) == 0 for rule in rules[2:])


@pytest.mark.parametrize("x", [[0.0, 0.6], [0.0, 0.0], [0.0, 1.49]])
def test_none_is_chosen_where_another_point_may_be_as_near(x):
    """Two points are equally near between the centres of curvature (0, +-1.5), and nearly so next to them."""
    law = PRIORS["ellipse, uniform"]._law
    chosen = law.bumps.choose(torch.tensor([x], dtype=DOUBLE), torch.full((1, 1), 1e-3, dtype=DOUBLE))
    assert chosen.rule.tolist() == [-1]


def test_none_is_chosen_for_a_density_with_a_zero():
    """The tail's bound is by the density's slope, which is infinite there."""
    prior = Manifold(ELLIPSE, InCoordinates(ELLIPSE, lambda u: (1 - u[..., 0].cos()).log()))
    assert prior._law.bumps.slope == math.inf
    x = about(prior, 5, 1e-3)
    chosen = prior._law.bumps.choose(x, torch.full((5, 1), 1e-3, dtype=DOUBLE))
    assert chosen.rule.tolist() == [-1] * 5
    assert bool(prior.displacement(x, 1e-3).isfinite().all())


@pytest.mark.parametrize(
    ("manifold", "counts"),
    [
        (Circle(0.7), 128),
        (Sphere(2, 1.5), 24),
        (Ellipse(1.0, 2.0), 256),
        (Torus(2.0, 0.5), 32),
        (Torus(2.0, 1.5), 32),
        (Product(Circle(2.0), Ellipse(1.0, 0.5)), 32),
        (Embedded(Torus(1.0, 0.3), 5), 32),
    ],
    ids=repr,
)
def test_reach_is_federer_s_infimum(manifold, counts):
    """inf over pairs of |b - a|^2 / (2 dist(b - a, T_a M)), Federer 1959, Theorem 4.18; pairs of nodes come near it."""
    a = manifold.quadrature(counts)[0]
    some = a[:: max(1, len(a) // 128)]
    chord = a[:, None] - some[None]
    across = chord - manifold.tangential(some.expand_as(chord), chord)
    size = torch.linalg.vector_norm(across, dim=-1)
    least = float((chord.square().sum(-1) / (2 * size))[size > 1e-9].min())
    assert manifold.reach * (1 - 1e-9) <= least <= 1.03 * manifold.reach

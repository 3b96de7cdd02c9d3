"""Equal things have one digest in every process; things that give other results have another."""

import pytest
import torch

import operators
from inverse.robustness.fingerprint import fingerprint
from priors import GaussianMixture, MaximumEntropy
from priors.manifolds import Ellipse, Embedded, ImageOrbit, Sphere

SHAPE = (1, 16, 16)


def scaling(factor):
    return operators.from_functions(lambda x: factor * x, lambda x: factor * x, SHAPE, noise=0.1)


def mixture(variance):
    return GaussianMixture(torch.zeros(1, 3), torch.tensor([variance]))


@pytest.mark.parametrize(
    "make",
    [
        lambda k: operators.create("inpainting", SHAPE, keep=0.5, noise=0.1, seed=k),
        lambda k: operators.create("inpainting", SHAPE, keep=0.5, noise=0.1 * k, seed=0),
        lambda k: operators.create("gaussian-blur", SHAPE, width=k, noise=0.1),
        lambda k: operators.create("compressed-sensing", SHAPE, ratio=0.5, noise=0.1, seed=k),
        lambda k: operators.create("super-resolution", SHAPE, factor=2 * k, noise=0.1),
        lambda k: operators.create("fourier", SHAPE, ratio=0.5, noise=0.1, seed=k),
        lambda k: operators.create("tomography", SHAPE, angles=8 * k, noise=0.1),
        lambda k: operators.create("phase-retrieval", SHAPE, ratio=2.0, noise=0.1, seed=k),
        lambda k: operators.create("saturation", SHAPE, level=0.3 * k, noise=0.1),
        scaling,
        mixture,
        lambda k: MaximumEntropy(mixture(1.0), alpha=k / 2),
        lambda k: Ellipse(1.0, k + 1.0),
        lambda k: Embedded(Sphere(2), 5, seed=k),
        lambda k: ImageOrbit(contrast=0.05 * k),
        lambda k: torch.view_as_complex(torch.full((3, 2), float(k))).conj(),
    ],
)
def test_what_differs_in_one_option_differs(make):
    assert fingerprint(make(1)) == fingerprint(make(1)) != fingerprint(make(2))


def test_what_was_computed_on_the_way_does_not_count():
    prior = MaximumEntropy(mixture(1.0), method="cancelled")
    before = fingerprint(prior)
    prior.score(torch.zeros(2, 3), 0.1)
    assert fingerprint(prior) == before

"""Small problems whose posterior is known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import operators
from inverse import Posterior
from priors import GaussianMixture

SHAPE = (1, 8, 8)


@pytest.fixture
def gaussian_problem() -> Callable[..., Posterior]:
    """A correlated Gaussian prior of mean 0.5 on 8x8 images, seen through an operator with Gaussian noise."""

    def make(operator: str = "inpainting", batch: int = 16, noise: float = 0.1, **options: object) -> Posterior:
        grid = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
        covariance = 0.04 * torch.exp(-torch.cdist(grid, grid) / 2)
        prior = GaussianMixture(torch.full((1, *SHAPE), 0.5), covariance[None])
        physics = operators.create(operator, SHAPE, noise=noise, seed=0, **options)
        return Posterior(prior, physics, physics(prior.sample(batch, seed=1)))

    return make


@pytest.fixture
def bimodal_problem() -> Callable[..., Posterior]:
    """Two clusters in the plane of which one coordinate is seen, with noise that leaves both alive."""

    def make(batch: int = 1, noise: float = 1.0) -> Posterior:
        means = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
        prior = GaussianMixture(means, torch.tensor([0.05, 0.05]), torch.tensor([0.3, 0.7]))
        physics = operators.create("matrix", (2,), matrix=torch.tensor([[1.0, 0.0]]), noise=noise)
        return Posterior(prior, physics, torch.full((batch, 1), 0.1))

    return make

import pytest
import torch

import operators
from inverse import Langevin
from inverse.robustness import BiasError, GradientError, Problem
from priors import GaussianMixture, MaximumEntropy


@pytest.fixture
def grid():
    """The arguments of a small sweep: 2 priors x 2 errors x 3 amplitudes x 1 noise level x 2 seeds."""
    prior = GaussianMixture(torch.zeros(1, 3), torch.tensor([0.2]))
    physics = operators.create("matrix", (3,), matrix=torch.eye(2, 3), noise=0.3)
    return {
        "problems": {"vector": Problem(physics, torch.tensor([[0.5, -0.2]]), torch.tensor([[0.4, -0.1, 0.2]]))},
        "priors": {"generic": prior, "geometric": MaximumEntropy(prior)},
        "samplers": Langevin(steps=40, anneal_steps=10),
        "errors": {"bias": BiasError(), "gradient": GradientError(length_scale=0.5)},
        "amplitudes": [0.1, 1.0, 10.0],
        "sigmas": [0.1],
        "seeds": [0, 1],
        "n": 16,
    }

"""What a sweep was run with, in words."""

import deepinv
import pytest
import torch
from torch import nn

import operators
import priors
from inverse.robustness import Problem, settings
from priors import Manifold, MaximumEntropy, manifolds


def problem(physics, shape=(2,)):
    return Problem(physics, physics(torch.zeros(3, *shape)))


def test_an_operator_is_told_as_it_was_asked_for():
    physics = operators.create("matrix", (2,), matrix=torch.tensor([[1.0, 0.5]]), noise=0.5, seed=7)
    told = settings.of_problem(problem(physics), 0)
    assert len(told.pop("sha256")) == 12 and told == {
        "operator": "matrix(matrix=[[1, 0.5]], seed=7)",
        "noise": "GaussianNoise(sigma=0.5)",
        "image": "2",
        "measurements": "3 of shape 1",
        "truth": "not known",
    }
    physics = operators.create("box-inpainting", (1, 8, 8), size=4, noise=deepinv.physics.PoissonNoise(0.1))
    told = settings.of_problem(Problem(physics, torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)), 0)
    assert told["operator"] == "box-inpainting(size=4, seed=0)" and told["noise"].startswith("PoissonNoise(gain=0.1")
    assert (told["image"], told["truth"]) == ("1 x 8 x 8", "known")


def test_an_operator_of_anyone_is_told_by_its_class_and_arguments():
    mask = torch.tensor([1.0, 0.0])
    physics = deepinv.physics.Inpainting((2,), mask=mask, noise_model=deepinv.physics.GaussianNoise(0.25))
    told = settings.of_problem(problem(physics), 0)
    assert told["operator"] == "Inpainting(mask=[[1, 0]])"
    assert told["noise"] == "GaussianNoise(sigma=0.25)"


def test_a_problem_of_the_seed_is_told_for_one_of_them():
    def made(seed):
        return problem(operators.create("denoising", (2,), noise=0.1 * seed))

    told = settings.of_problem(made, 3)
    assert told["noise"] == "GaussianNoise(sigma=0.3)" and told["made"] == "for each seed, here 3"

    def broken(seed):
        raise OSError("no such picture")

    told = settings.of_problem(broken, 3)
    assert told["made"] == "for each seed, not for 3: OSError: no such picture" and "noise" not in told


def test_a_prior_is_told_with_what_it_is_made_of():
    prior = Manifold(manifolds.Circle(), manifolds.VonMisesFisher([-1.0, 0.0], kappa=4))
    law = "Manifold(manifold=Circle(radius=1), log_density=VonMisesFisher(direction=[-1, 0], kappa=4))"
    assert settings.of_prior(prior)["prior"] == law
    assert settings.of_prior(MaximumEntropy(prior, alpha=1.5))["prior"] == (
        f"MaximumEntropy(alpha=1.5, method=tempered, sigma_ref=1, prior={law})"
    )
    assert settings.of_prior(MaximumEntropy(prior, method="cancelled", pairs=3, seed=5))["prior"] == (
        f"MaximumEntropy(method=cancelled, pairs=3, seed=5, prior={law})"
    )


def test_networks_that_differ_are_told_apart():
    first, second = (priors.Denoiser(nn.Linear(2, 2), (2,)) for _ in range(2))
    told, other = settings.of_prior(first), settings.of_prior(second)
    assert "Linear with 6 weights, sha256 " in told["prior"] and told["prior"] != other["prior"]
    assert told["sha256"] != other["sha256"]
    assert "name=fashion-28" in settings.of_prior(priors.load("fashion-28"))["prior"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.1, "0.1"), (1e-5, "1e-05"), (2, "2"), (True, "True"), (None, "None"), ("a", "a"),
        (torch.tensor(0.25), "0.25"), (torch.tensor([1, 2]), "[1, 2]"), ((1, 2.5), "(1, 2.5)"), ({"a": 1}, "a=1"),
        (abs, "abs"), (torch.float32, "torch.float32"),
    ],
)  # fmt: skip
def test_values_in_words(value, told):
    assert settings.words(value) == told


def test_large_tensors_and_objects_in_circles_are_told_shortly():
    told = settings.words(torch.zeros(30, 40))
    assert told.startswith("30 x 40 sha256 ") and told != settings.words(torch.ones(30, 40))

    class Ring:
        def __init__(self, ring):
            self.ring = ring

    ring = Ring(None)
    ring.ring = ring
    assert settings.words(ring).startswith("Ring(ring=Ring(") and len(settings.words(ring)) < 200

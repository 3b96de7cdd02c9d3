import math

import pytest
import torch

from inverse import unconditional
from priors import GaussianMixture
from priors.base import Prior


def gaussian(mean=0.3, std=0.5):
    return GaussianMixture(torch.full((1, 3), mean), torch.tensor([std**2]), torch.ones(1))


def flow(noise, mean, std, top=80.0, bottom=0.002):
    """The probability flow of N(mean, std^2) in closed form: x - mean grows like sqrt(std^2 + sigma^2)."""
    x = mean + (top * noise - mean) * math.sqrt((std**2 + bottom**2) / (std**2 + top**2))
    return mean + (x - mean) * std**2 / (std**2 + bottom**2)


def test_a_gaussian_is_reached_along_its_flow_with_second_order():
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(7))
    errors = []
    for steps in (20, 40, 80):
        x = unconditional.sample(gaussian(), 50, seed=7, steps=steps)
        errors.append((x - flow(noise, 0.3, 0.5)).abs().max().item())
    assert errors[2] < 0.01  # of values that spread by 0.5
    assert errors[0] / errors[1] > 3  # halving the step of a second-order method divides the error by four
    assert errors[1] / errors[2] > 3


def test_chunks_do_not_change_the_images():
    whole = unconditional.sample(gaussian(), 10, seed=1, steps=5)
    torch.testing.assert_close(unconditional.sample(gaussian(), 10, seed=1, steps=5, chunk_size=3), whole)
    assert not torch.allclose(unconditional.sample(gaussian(), 10, seed=2, steps=5), whole)


def test_global_randomness_is_left_alone():
    state = torch.get_rng_state()
    unconditional.sample(gaussian(), 2, steps=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_each_level_but_the_last_takes_two_denoiser_calls():
    class Counting(Prior):
        image_shape, calls = (3,), 0

        def denoise(self, x, sigma):
            self.calls += 1
            return 0 * x

    prior = Counting()
    assert unconditional.sample(prior, 4, steps=6).abs().max() == 0
    assert prior.calls == 11


@pytest.mark.parametrize(("argument", "value"), [("n", 0), ("steps", 1), ("chunk_size", 0)])
def test_counts_that_are_too_small_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be at least"):
        unconditional.sample(gaussian(), **{"n": 1, argument: value})


def test_a_prior_of_any_shape_needs_one():
    class AnyShape(Prior):
        def denoise(self, x, sigma):
            return 0 * x

    with pytest.raises(ValueError, match="image_shape is needed"):
        unconditional.sample(AnyShape(), 1)
    assert unconditional.sample(AnyShape(), 2, image_shape=(1, 4, 4), steps=2).shape == (2, 1, 4, 4)

"""One call: what it says of images too large for the prior, and of measurements in other units than the prior's."""

from __future__ import annotations

import math
import re
import warnings

import deepinv
import pytest
import torch

import inverse
import operators
from inverse import Posterior
from priors import Preconditioned, Tiled, inference, load

SHAPE, COLOUR = (1, 12, 12), (3, 12, 12)
MATRIX = torch.randn(30, 144, generator=torch.Generator().manual_seed(0))
CASES = {
    **{name: (name, SHAPE, {}) for name in operators.available()},
    "demosaicing": ("demosaicing", COLOUR, {}),
    "matrix": ("matrix", SHAPE, {"matrix": MATRIX}),
    "large matrix": ("matrix", SHAPE, {"matrix": 1000 * MATRIX}),
    "small matrix": ("matrix", SHAPE, {"matrix": MATRIX / 1000}),
    # a direction that outweighs all others, which no image has
    "steep matrix": ("matrix", SHAPE, {"matrix": MATRIX - MATRIX.mean(1, True) + torch.eye(30, 144) * 100}),
    "one pixel": ("inpainting", SHAPE, {"mask": torch.eye(144)[0].reshape(12, 12)}),
    "colour blur": ("motion-blur", COLOUR, {}),
}
LINEAR = [
    case
    for case, (name, shape, options) in CASES.items()
    if operators.is_linear(operators.create(name, shape, **options))
]


class NoSampler:
    """Whatever happens before the first step."""

    def sample(self, posterior: Posterior, n: int, **options: object) -> Posterior:
        return posterior


@pytest.fixture
def prior() -> Preconditioned:
    """Of images of any size in [0, 1], with a network that is never asked."""
    return Preconditioned(torch.nn.Identity(), 0.5, 0.25, None, about={"value_range": "[0, 1]"})


def images(shape: tuple[int, ...]) -> torch.Tensor:
    """In [0, 1] from end to end: white, grey, black, one white pixel, black and white at random, all greys."""
    rng = torch.Generator().manual_seed(0)
    point = torch.zeros(shape)
    point[..., 0, 0] = 1
    drawn = torch.rand(shape, generator=rng)
    return torch.stack([torch.ones(shape), torch.full(shape, 0.5), torch.zeros(shape), point, drawn.round(), drawn])


def told(y: torch.Tensor, physics: deepinv.physics.Physics, prior: torch.nn.Module) -> list[str]:
    """The warnings of `reconstruct`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inverse.reconstruct(y, physics, prior, NoSampler())
    return [str(warning.message) for warning in caught if "root mean square" in str(warning.message)]


def test_nearly_all_operators_are_linear():
    assert {CASES[case][0] for case in LINEAR} == set(operators.available()) - {"phase-retrieval", "saturation"}


@pytest.mark.parametrize("noise", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("case", LINEAR)
def test_no_image_in_the_unit_interval_is_told(case, noise, prior):
    # the bound is a theorem but for the noise, which exceeds its own with a probability of at most 2e-8 an image
    name, shape, options = CASES[case]
    physics = operators.create(name, shape, noise=noise, **options)
    assert told(physics(images(shape)), physics, prior) == []


@pytest.mark.parametrize("case", [case for case in LINEAR if case != "small matrix"])
def test_bytes_are_told_whatever_the_operator(case, prior):
    name, shape, options = CASES[case]
    physics = operators.create(name, shape, noise=0.5, **options)
    (sentence,) = told(physics(255 * images(shape)[-1:]), physics, prior)
    assert "the prior knows images in [0, 1]: if theirs are in 0..255, divide y and the noise level by 255" in sentence


def test_the_bound_is_the_root_mean_square_where_every_pixel_is_seen(prior):
    physics = operators.create("denoising", COLOUR, noise=1e-3)
    x = 40 * images(COLOUR)[[1]]
    # less what the noise may have added, 1e-3 (1 + 6 / 432^1/2), of which nothing is seen in three digits
    assert "at least 20," in told(physics(x), physics, prior)[0]


def test_the_worst_of_a_batch_is_told_with_its_own_noise_level(prior):
    x = torch.full((2, *SHAPE), 0.5)
    x[1] *= 100
    physics = operators.create("denoising", SHAPE, noise=torch.tensor([0.05, 0.1]))
    # 50 less 0.1 (1 + 6 / 12), give or take 0.1 / 12 for the mean of the noise
    assert re.search(r"at least 49\.[89],", told(physics(x), physics, prior)[0])
    loud = operators.create("denoising", SHAPE, noise=torch.tensor([0.05, 100.0]))
    assert told(physics(x), loud, prior) == []


def test_pixels_outside_of_the_mask_count_for_nothing(prior):
    mask = (torch.arange(144).reshape(12, 12) % 12 == 0).float()
    physics = operators.create("inpainting", SHAPE, noise=0.05, mask=mask)
    y = physics(images(SHAPE))
    assert told(y + 1000 * (1 - mask), physics, prior) == []


def test_who_knows_no_range_is_told_nothing(prior):
    physics = operators.create("denoising", SHAPE, noise=0.05)
    y = physics(255 * images(SHAPE))
    assert told(y, physics, Preconditioned(torch.nn.Identity(), 128.0, 60.0, None)) == []
    assert told(y, physics, load("tv")) == []
    assert len(told(y, physics, Tiled(prior))) == 1
    assert len(told(y, physics, inference.prepare(prior, "plain"))) == 1
    physics.noise_model = deepinv.physics.PoissonNoise(1.0)
    assert told(y.abs(), physics, prior) == []


def test_the_shipped_priors_know_theirs_and_the_caller_is_named():
    physics = operators.create("denoising", (1, 28, 28), noise=0.05)
    y = physics(255 * torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    for name in ("fashion-28", "fashion-28-conditional", "photo"):
        # of uniform values in 0..255 it is 255 / 3^1/2 = 147; its relative standard error is 1.6%
        with pytest.warns(UserWarning, match="root mean square is at least 1[45]") as caught:
            inverse.reconstruct(y, physics, name, NoSampler())
        assert caught[0].filename == __file__


@pytest.mark.parametrize("known", [True, False])
def test_photographs_without_a_prior_are_sent_to_photo(known):
    shape = (3, 40, 50)
    noise = deepinv.physics.GaussianNoise(0.05)
    foreign = deepinv.physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular", noise_model=noise)
    physics = operators.create("motion-blur", shape, noise=0.05) if known else foreign
    y = physics(torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)))
    sentence = r'; fashion-28 is for \(1, 28, 28\) alone, prior="photo" for grey or colour images of any size$'
    with pytest.raises(ValueError, match=sentence):
        inverse.reconstruct(y, physics)
    assert inverse.reconstruct(y, physics, "photo", NoSampler()).image_shape == shape


def test_other_mistakes_are_told_as_they_were():
    physics = operators.create("denoising", (1, 28, 28), noise=0.05)
    with pytest.raises(ValueError) as caught:
        inverse.reconstruct(torch.full((1, 1, 28, 28), math.nan), physics)
    assert "photo" not in str(caught.value)
    vectors = operators.create("denoising", (7,), noise=0.05)
    with pytest.raises(ValueError, match=r"physics has \(7,\) and prior has \(1, 28, 28\)$"):
        inverse.reconstruct(torch.zeros(1, 7), vectors)


@pytest.mark.parametrize(
    ("y", "sampler", "message"),
    [
        ([1.0, 2.0], "mmps", "y must be a torch tensor .*, got list"),
        (torch.zeros(1, 1, 28, 28), 3, r"sampler must be one of .* or a Sampler such as MMPS\(\), got int"),
        (torch.zeros(1, 1, 28, 28), inverse.MMPS, "sampler must be .*, got the class MMPS"),
    ],
)
def test_other_kinds_of_arguments_are_refused(y, sampler, message):
    physics = operators.create("denoising", (1, 28, 28), noise=0.1)
    with pytest.raises(TypeError, match=message):
        inverse.reconstruct(y, physics, sampler=sampler)


def test_parts_of_a_stack_are_reconstructed_together():
    """A list of measurements, by a prior's name; and the same samples as from the real vectors it is laid out as."""
    physics = operators.create("gaussian-blur", (1, 28, 28), noise=0.1).stack(
        operators.create("inpainting", (1, 28, 28), keep=0.3, noise=0.2)
    )
    y = physics(torch.full((1, 1, 28, 28), 0.3))
    sampler = inverse.DPS(steps=2)
    found = inverse.reconstruct(y, physics, "fashion-28", sampler, n=2)
    again = sampler.sample(Posterior(load("fashion-28"), operators.flattened(physics, (1, 28, 28)), found.y), 2)
    assert torch.equal(found.x, again.x)
    assert found.info["physics"] == "CircularBlur + Inpainting"


def test_the_caller_may_be_in_inference_mode():
    """Which would keep moment matching from differentiating the denoiser."""
    physics = operators.create("denoising", (1, 28, 28), noise=0.1)
    sampler = inverse.MMPS(steps=2, iterations=1)
    with torch.inference_mode():
        y = physics(torch.full((1, 1, 28, 28), 0.3))
        found = inverse.reconstruct(y, physics, "fashion-28", sampler, n=2)
    assert not found.x.is_inference()
    assert torch.equal(found.x, inverse.reconstruct(y.clone(), physics, "fashion-28", sampler, n=2).x)


@pytest.mark.parametrize("seed", ["a", 1.5, None, -1, 2**63])
def test_other_seeds_are_refused(seed):
    physics = operators.create("denoising", (1, 28, 28), noise=0.1)
    with pytest.raises(ValueError, match="seed must be"):
        inverse.reconstruct(physics(torch.zeros(1, 1, 28, 28)), physics, n=1, seed=seed)

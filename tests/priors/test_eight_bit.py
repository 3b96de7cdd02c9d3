"""Networks in 8 bits: what is rounded, when, and that nothing but the image itself and its noise decides how."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from inverse.robustness import WeightNoise
from priors import Tiled, inference, store
from priors.eight_bit import EightBitConvolution, dead_leaves, replaced


@pytest.fixture(scope="module")
def processor():
    """Of a kind that can do it."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if not (able.get("avx512_vnni") or able.get("avx_vnni")):
        pytest.skip("the processor lacks instructions for 8 bits (VNNI)")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def photo(processor):
    return store.load("photo"), inference.prepare("photo", "int8")


@pytest.fixture
def convolution(processor):
    """Settled on inputs from -1 to 2 at one level, and from -10 to 20 at the next."""
    convolution = EightBitConvolution(nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False))
    for size in (1.0, 10.0):
        convolution(size * torch.tensor([-1.0, 2.0]).expand(16, 8, 2).unsqueeze(0))
    convolution.settle(2)
    return convolution


@pytest.mark.parametrize(("place", "size"), [(0.0, 1.0), (0.5, 10**0.5), (1.0, 10.0)])
def test_a_convolution_is_that_of_rounded_inputs_and_weights(convolution, place, size):
    convolution.at(place)
    step = 1.1 * 3 * size / 255
    x = size * normal(1, 16, 9, 7).clamp(-1, 2)
    layer = convolution.layer
    weight_step = layer.weight.abs().amax((1, 2, 3), keepdim=True) / 127
    rounded = nn.functional.conv2d(
        (x / step + 85).round() * step - 85 * step, (layer.weight / weight_step).round() * weight_step, layer.bias, 1, 1
    )
    # One value in many lies between two steps and goes to the other one in float32.
    assert ((convolution(x) - rounded).abs() < 1e-4 * size).float().mean() > 0.95
    assert (convolution(x) - layer(x)).square().mean() < 9 * 16 * step**2 * layer.weight.square().mean()


def test_what_is_out_of_range_is_cut_off(convolution):
    convolution.at(0.0)
    far, near = (torch.full((1, 16, 5, 5), value) for value in (1e6, 2.2))
    torch.testing.assert_close(convolution(far), convolution(near))


def test_derivatives_are_those_of_the_layer_both_ways(convolution):
    convolution.at(0.0)
    x, tangent = normal(2, 16, 6, 6), normal(2, 16, 6, 6, seed=1)
    _, expected = torch.func.jvp(convolution.layer, (x,), (tangent,))
    _, found = torch.func.jvp(convolution, (x,), (tangent,))
    torch.testing.assert_close(found, expected)
    _, product = torch.func.vjp(convolution, x)
    torch.testing.assert_close(product(tangent)[0], torch.func.vjp(convolution.layer, x)[1](tangent)[0])


def test_the_least_noise_is_left_as_it_was(photo):
    plain, rounded = photo
    x = dead_leaves((3, 32, 32))
    assert torch.equal(rounded.denoise(x, 0.04), inference.prepare(plain, "channels-last").denoise(x, 0.04))
    assert not torch.equal(rounded.denoise(x, 0.05), plain.denoise(x, 0.05))


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_rounding_hardly_adds_to_the_error(photo, sigma, channels):
    truth = dead_leaves((channels, 96, 96), seed=1)
    noisy = truth + sigma * normal(*truth.shape)
    plain, rounded = ((prior.denoise(noisy, sigma) - truth).square().mean() for prior in photo)
    assert 10 * abs(torch.log10(rounded / plain)) < 0.1


def test_an_image_does_not_depend_on_those_beside_it(photo):
    _, rounded = photo
    dim = 0.5 + 0.1 * normal(1, 3, 32, 32)
    beside = torch.cat([dim, 100 * normal(1, 3, 32, 32)])
    torch.testing.assert_close(rounded.denoise(beside, 0.1)[:1], rounded.denoise(dim, 0.1), rtol=0, atol=1e-3)


def test_noise_levels_in_a_batch_are_kept_apart(photo):
    _, rounded = photo
    sigmas = (1.0, 0.01, 0.2, 1.0)
    x = 0.5 + normal(4, 1, 24, 24)
    expected = [rounded.denoise(x[i : i + 1], sigma) for i, sigma in enumerate(sigmas)]
    torch.testing.assert_close(rounded.denoise(x, torch.tensor(sigmas)), torch.cat(expected), rtol=0, atol=1e-3)


def test_tiles_are_rounded_as_the_whole_but_where_a_value_lies_between_two_steps(photo):
    _, rounded = photo
    x = dead_leaves((1, 192, 160)) + 0.1 * normal(1, 1, 192, 160)
    tiled = Tiled(rounded, side=128, overlap=48)
    torch.testing.assert_close(tiled.denoise(x, 0.1), rounded.denoise(x, 0.1), rtol=0, atol=1e-2)
    assert tiled.inference == "int8"


def test_a_network_with_classes_is_told_them(processor):
    plain = store.load("fashion-28-conditional")
    x = 0.4 + 0.3 * normal(2, 1, 28, 28)
    found = inference.prepare(plain, "int8").given(torch.tensor([1, 7])).denoise(x, 0.5)
    torch.testing.assert_close(found, plain.given(torch.tensor([1, 7])).denoise(x, 0.5), rtol=0, atol=0.05)


def test_dead_leaves_are_images_the_same_every_time():
    image = dead_leaves((3, 20, 30))
    assert image.shape == (1, 3, 20, 30) and 0 <= image.min() < 0.2 and 0.8 < image.max() <= 1
    assert torch.equal(image, dead_leaves((3, 20, 30)))


def test_weights_that_are_rounded_already_are_neither_changed_nor_saved(photo, tmp_path):
    with pytest.raises(ValueError, match="prior must be in float32 for WeightNoise, .* got one in int8"):
        WeightNoise(0.1).perturb(Tiled(photo[1]))
    with pytest.raises(ValueError, match=r"prior must have a UNet to be saved, got EightBit \(in int8\)"):
        store.save(photo[1], tmp_path / "photo.safetensors")
    assert not any(tmp_path.iterdir())


def test_threads_do_not_see_the_noise_level_of_each_other(photo):
    x = 0.5 + normal(1, 3, 24, 24)
    expected = {sigma: photo[1].denoise(x, sigma) for sigma in (0.05, 2.0)}
    with ThreadPoolExecutor(2) as pool:
        runs = [(sigma, pool.submit(photo[1].denoise, x, sigma)) for sigma in 10 * [*expected]]
    for sigma, run in runs:
        torch.testing.assert_close(run.result(), expected[sigma], rtol=0, atol=1e-3)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda prior: pickle.loads(pickle.dumps(prior))])
def test_a_copy_says_the_same(photo, copied):
    x = 0.5 + normal(1, 1, 24, 24)
    assert torch.equal(copied(photo[1]).denoise(x, 0.2), photo[1].denoise(x, 0.2))


def test_weights_that_have_changed_are_rounded_again(convolution):
    convolution.at(0.0)
    x = normal(1, 16, 6, 6)
    before = convolution(x)
    convolution.layer.weight.mul_(2)
    torch.testing.assert_close(
        convolution(x) - convolution.layer.bias[:, None, None], 2 * (before - convolution.layer.bias[:, None, None])
    )


def test_weights_are_learned_in_float32(convolution):
    convolution.at(0.0)
    convolution.layer.requires_grad_(True)
    convolution(normal(1, 16, 6, 6)).sum().backward()
    assert convolution.layer.weight.grad is not None


@pytest.mark.parametrize(
    "options",
    [{"padding_mode": "reflect"}, {"padding": "same"}, {"dilation": 2}, {"groups": 2}, {"stride": 2}, {"padding": 0}],
)
def test_other_convolutions_stay_in_float32(options):
    layers = nn.Sequential(nn.Conv2d(16, 16, 3, **{"padding": 1, **options}), nn.Conv2d(16, 16, 3, padding=1))
    assert replaced(layers) == [layers[1]] and type(layers[0]) is nn.Conv2d


def test_a_prior_that_is_prepared_is_prepared_once(photo):
    plain, rounded = photo
    assert inference.prepare(rounded) is rounded and inference.prepare(rounded, "int8") is rounded
    with pytest.raises(ValueError, match="as priors.load gives it to be run in plain, got one prepared in int8"):
        inference.prepare(rounded, "plain")
    assert inference.prepare("fashion-28-conditional", "int8").given(1).inference == "int8"
    assert inference.prepare(copy.deepcopy(plain).double()).inference is None
    with pytest.raises(ValueError, match="inference int8 needs a prior in float32"):
        inference.prepare(copy.deepcopy(plain).double(), "int8")
    with pytest.raises(ValueError, match="x must be on the processor for a prior in int8, got one on meta"):
        rounded.network(torch.zeros(1, 3, 8, 8, device="meta"), torch.zeros(1))

"""Errors as they happen in practice: what they change, by how much, and what they leave alone."""

import json
import math

import pytest
import torch
from torch import Tensor, nn

import priors
from inverse.robustness.base import inject
from inverse.robustness.practical import EarlyStopped, FewData, Mixed, Quantised, WeightNoise
from priors import Denoiser, Empirical, GaussianMixture, MaximumEntropy, store, training
from priors.preconditioned import Preconditioned

NETWORK = {"channels": (4, 8), "encoder_blocks": (1,), "decoder_blocks": (1,), "middle_blocks": 1, "features": 8}
SHAPE = (1, 8, 8)
WEIGHT_ERRORS = [WeightNoise(0.3), Quantised(), Quantised(format="bf16")]


def learned(seed: int = 0) -> Preconditioned:
    """A small network with random weights; some of a new one are zero, which would hide the others."""
    design = {"network": NETWORK, "mean": 0.3, "std": 0.35, "image_shape": SHAPE, "sigma_range": (0.01, 10.0)}
    prior = store.build(design, seed).requires_grad_(False).eval().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    for weight in prior.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) / max(1, weight[0].numel()) ** 0.5)
    return prior


def data(n: int = 20) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def points(n: int = 3) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(2))


def weights(prior: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in prior.named_parameters()}


@pytest.mark.parametrize("error", [*WEIGHT_ERRORS, EarlyStopped(early=learned(1)), FewData(images=3)])
def test_amplitude_zero_leaves_the_prior_as_it_is(error):
    prior = Empirical(data(), 0.1) if isinstance(error, FewData) else learned()
    same = error.scaled(0.0).perturb(prior)
    assert torch.equal(same.denoise(points(), 0.2), prior.denoise(points(), 0.2))
    assert same.evaluations == prior.evaluations
    assert not torch.equal(error.perturb(prior).denoise(points(), 0.2), prior.denoise(points(), 0.2))


@pytest.mark.parametrize("error", WEIGHT_ERRORS)
def test_weights_move_in_proportion_to_the_amplitude(error):
    prior = learned()
    before, once, thrice = (weights(p) for p in (prior, error.perturb(prior), error.scaled(3 * 0.3).perturb(prior)))
    factor = 3 * 0.3 / error.amplitude
    for name, weight in before.items():
        torch.testing.assert_close(thrice[name] - weight, factor * (once[name] - weight), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("training_mode", [False, True])
@pytest.mark.parametrize("error", WEIGHT_ERRORS)
def test_the_given_network_its_modes_and_the_random_state_are_untouched(error, training_mode):
    prior = Denoiser(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))).train(training_mode)
    prior.denoiser[0].bias.requires_grad_(False)
    before, state = {name: value.clone() for name, value in prior.state_dict().items()}, torch.get_rng_state()
    wrong = error.perturb(prior)
    wrong.denoiser(points())  # in training mode this moves the running statistics, of the copy alone
    with torch.no_grad():
        for weight in wrong.parameters():
            weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in wrong.modules()] == [m.training for m in prior.modules()]
    flags = [[weight.requires_grad for weight in p.parameters()] for p in (wrong, prior)]
    assert flags[0] == flags[1] and set(flags[0]) == {True, False}


def test_memory_format_is_kept_and_data_of_priors_are_shared():
    prior = Mixed(learned(), Empirical(data(), 0.1), 0.5)
    wrong = WeightNoise(0.1).perturb(prior)
    assert wrong.prior.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert wrong.other.offsets.data_ptr() == prior.other.offsets.data_ptr()
    assert wrong.prior.network.conv_in.weight.data_ptr() != prior.prior.network.conv_in.weight.data_ptr()


def test_shared_weights_stay_shared():
    layer = nn.Linear(64, 64)
    wrong = WeightNoise(0.1).perturb(Denoiser(nn.Sequential(layer, nn.ReLU(), layer), (64,)))
    assert wrong.denoiser[0] is wrong.denoiser[2] and wrong.denoiser[0] is not layer


def test_noise_has_the_size_of_the_amplitude_relative_to_each_tensor():
    network = nn.Linear(300, 300)
    with torch.no_grad():
        network.weight.mul_(7.0)
        network.bias.zero_()
    wrong = WeightNoise(0.02).perturb(Denoiser(network, (300,))).denoiser
    change = (wrong.weight - network.weight).square().mean().sqrt() / network.weight.square().mean().sqrt()
    # The rms of n standard normals has standard error 1 / sqrt(2 n); five of them, wrong once in 1.7 million.
    assert abs(change.item() / 0.02 - 1) < 5 / math.sqrt(2 * network.weight.numel())
    assert not wrong.bias.any()


def test_noise_is_a_function_of_seed_and_name():
    first, same, other = (weights(WeightNoise(0.1, seed).perturb(learned())) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["network.conv_in.weight"], other["network.conv_in.weight"])

    layers = {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}
    both = WeightNoise(0.1).perturb(Denoiser(nn.ModuleDict(layers))).denoiser
    alone = WeightNoise(0.1).perturb(Denoiser(nn.ModuleDict({"b": layers["b"]}))).denoiser
    assert torch.equal(both["b"].weight, alone["b"].weight)
    changes = [(both[name].weight - layers[name].weight) / layers[name].weight.square().mean().sqrt() for name in "ab"]
    assert not torch.allclose(*changes)


def test_int8_weights_are_integers_in_units_of_a_step_and_at_most_half_a_step_off():
    prior = learned()
    with torch.no_grad():
        prior.network.conv_in.weight[1] = 0.0  # a channel of zeros has no step
    rounded = weights(Quantised().perturb(prior))
    for name, weight in weights(prior).items():
        if weight.ndim < 2:
            assert torch.equal(rounded[name], weight)
            continue
        step = weight.flatten(1).abs().amax(1).reshape(-1, *[1] * (weight.ndim - 1)) / 127
        # Two roundings of single precision, relative to the largest weight, on top.
        slack = 127 * step * 2**-22
        assert ((rounded[name] - weight).abs() <= step / 2 + slack).all()
        codes = rounded[name] / step.clamp_min(1e-30)
        assert ((codes - codes.round()).abs() < 1e-4).all() and (codes.round().abs() <= 127).all()


def test_bf16_weights_keep_eight_significant_bits():
    prior = learned()
    rounded = weights(Quantised(format="bf16").perturb(prior))
    for name, weight in weights(prior).items():
        assert torch.equal(rounded[name], weight.bfloat16().float())
        assert ((rounded[name] - weight).abs() <= 2**-8 * weight.abs()).all()


def test_mixed_displacement_is_linear_in_the_amplitude():
    prior, other = (GaussianMixture(torch.zeros(1, *SHAPE), torch.tensor([variance])) for variance in (0.1, 0.3))
    x, levels = points(), torch.tensor([0.1, 0.5, 2.0])
    for amplitude in (0.0, 0.25, 1.0, 3.0):
        mixed = Mixed(prior, other, amplitude)
        expected = prior.displacement(x, levels)
        expected = expected + amplitude * (other.displacement(x, levels) - expected)
        torch.testing.assert_close(mixed.displacement(x, levels), expected)
        torch.testing.assert_close(mixed.denoise(x, levels), x + expected)
        torch.testing.assert_close(mixed.score(x, 0.5), prior.score(x, 0.5).lerp(other.score(x, 0.5), amplitude))
        assert mixed.evaluations == (1 if amplitude in (0.0, 1.0) else 2)
    assert (mixed.image_shape, mixed.sigma_range) == (SHAPE, prior.sigma_range)
    assert mixed.stiffness(0.1) == prior.stiffness(0.1) and mixed.radius(SHAPE) == prior.radius(SHAPE)
    assert torch.equal(mixed.sample(2, 3), prior.sample(2, 3))


def test_mixed_calls_each_denoiser_as_often_as_it_says():
    calls = []

    class Counted(GaussianMixture):
        def displacement(self, x, sigma):
            calls.append(self)
            return super().displacement(x, sigma)

    parts = [Counted(torch.zeros(1, 2), torch.ones(1)) for _ in range(2)]
    for amplitude in (0.0, 0.5, 1.0, 2.0):
        mixed = Mixed(*parts, amplitude)
        calls.clear()
        mixed.evaluate(torch.ones(1, 2), 0.5)
        assert len(calls) == mixed.evaluations


def test_few_data_is_the_empirical_prior_of_a_part_of_the_images():
    images = data()
    few = FewData(images=5, data=images, bandwidth=0.2, seed=3).perturb(learned())
    kept = few.other.means
    # Each of them is one of the images, to the rounding of the mean that is taken off and added again.
    nearest, index = torch.cdist(kept.flatten(1), images.flatten(1)).min(1)
    assert len(set(index.tolist())) == 5 and nearest.max() < 1e-5
    torch.testing.assert_close(few.denoise(points(), 0.3), Empirical(images[index], 0.2).denoise(points(), 0.3))
    more = FewData(images=9, data=images, bandwidth=0.2, seed=3).perturb(learned()).other.means
    assert torch.cdist(kept.flatten(1), more.flatten(1)).min(1).values.max() < 1e-5
    other = FewData(images=5, data=images, bandwidth=0.2, seed=4).perturb(learned()).other.means
    assert torch.cdist(kept.flatten(1), other.flatten(1)).min(1).values.max() > 0.1


def test_few_data_takes_what_it_is_not_given_from_an_empirical_prior():
    prior = Empirical(data(), 0.1)
    everything = FewData(0.7, images=20).perturb(prior)
    assert everything.other.bandwidth == 0.1
    torch.testing.assert_close(everything.denoise(points(), 0.3), prior.denoise(points(), 0.3), rtol=1e-4, atol=1e-5)


def test_two_few_data_errors_are_equal_if_identical():
    error = FewData(images=3, data=data())
    assert error == error and error != FewData(images=3, data=data()) and len({error, error}) == 1


def test_early_stopped_reads_weights_checkpoints_and_runs(tmp_path):
    schedule = training.Schedule(images=16, batch=8, warm_up=16)
    run = training.fit(data(), data(4), tmp_path / "run", schedule, network=NETWORK, progress=False)
    with run.averaged() as prior:
        store.save(prior, tmp_path / "early.safetensors")
        expected = prior.denoise(points(), 0.2).detach()
    checkpoint = tmp_path / "run" / training.CHECKPOINT
    for early in (tmp_path / "early.safetensors", str(checkpoint), tmp_path / "run"):
        wrong = EarlyStopped(1.0, early).perturb(learned())
        torch.testing.assert_close(wrong.denoise(points(), 0.2), expected)
        assert not wrong.other.training and not any(weight.requires_grad for weight in wrong.other.parameters())
    assert EarlyStopped(early="fashion-28").early.image_shape == (1, 28, 28)


def test_early_stopped_lies_between_the_two_priors():
    prior, early, x = learned(), learned(1), points()
    half = EarlyStopped(0.5, early).perturb(prior)
    assert half.other is early and half.prior is prior
    torch.testing.assert_close(half.denoise(x, 0.2), (prior.denoise(x, 0.2) + early.denoise(x, 0.2)) / 2)


@pytest.mark.parametrize("error", [*WEIGHT_ERRORS, EarlyStopped(0.5, learned(1))])
def test_the_error_goes_inside_a_maximum_entropy_prior(error):
    prior, x = learned(), points()
    wrong = inject(error, MaximumEntropy(prior, alpha=1.0))
    torch.testing.assert_close(wrong.score(x, 0.1), 0.1 * error.perturb(prior).score(x, 0.1))


@pytest.mark.parametrize(
    "error", [*WEIGHT_ERRORS, FewData(0.5, images=2, data=data(), bandwidth=0.1), EarlyStopped(2.0, learned(1))]
)
def test_description_is_plain_json_and_follows_the_options(error):
    description = error.describe()
    assert json.loads(json.dumps(description)) == description
    assert description["error"] == type(error).__name__ and description["amplitude"] == error.amplitude
    assert error.scaled(9.0).describe() == {**description, "amplitude": 9.0}


def test_description_tells_contents_apart():
    datasets = [FewData(images=2, data=images).describe()["data"] for images in (data(), data().flip(0))]
    assert datasets[0]["shape"] == [20, *SHAPE] and datasets[0]["sha256"] != datasets[1]["sha256"]
    early = [EarlyStopped(early=learned(seed)).describe()["early"] for seed in (1, 1, 2)]
    assert early[0] == early[1] != early[2] and early[0]["prior"] == "Preconditioned"


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (lambda: WeightNoise(-1.0), ValueError, "amplitude must be a finite number of at least 0, got -1.0"),
        (lambda: WeightNoise(0.1, 0.5), ValueError, "seed must be a whole number, got 0.5"),
        (lambda: WeightNoise(0.1).perturb(3), TypeError, "prior must be a Prior, got int"),
        (
            lambda: WeightNoise(0.1).perturb(Empirical(data(), 0.1)),
            ValueError,
            "prior must have a network's weights for WeightNoise, got Empirical without any",
        ),
        (lambda: Quantised(format="int4"), ValueError, "format must be one of int8, bf16, got 'int4'"),
        (lambda: FewData(images=0), ValueError, "images must be a whole number of at least 1, got 0"),
        (
            lambda: FewData(images=21, data=data()),
            ValueError,
            "images must be at most the 20 images of the data, got 21",
        ),
        (
            lambda: FewData(images=21).perturb(Empirical(data(), 0.1)),
            ValueError,
            "images must be at most the 20 images of the data, got 21",
        ),
        (
            lambda: FewData(data=data().byte()),
            TypeError,
            r"data must be a floating-point tensor \(N, \*image_shape\), got torch.uint8 of shape \(20, 1, 8, 8\)",
        ),
        (lambda: FewData(bandwidth=-0.1), ValueError, "bandwidth must be finite and at least 0, got -0.1"),
        (
            lambda: FewData(images=2, data=data()).perturb(learned()),
            ValueError,
            "data and bandwidth must be given unless the prior is Empirical, got a Preconditioned",
        ),
        (
            lambda: FewData(images=2, data=data().flatten(1), bandwidth=0.1).perturb(learned()),
            ValueError,
            r"data must have shape \(N, 1, 8, 8\), got \(20, 64\)",
        ),
        (lambda: EarlyStopped(), TypeError, "early must be a Prior, or a name or path to load one, got NoneType"),
        (lambda: EarlyStopped(early="fashion-82"), ValueError, "did you mean 'fashion-28'"),
        (lambda: EarlyStopped(early="no/such.safetensors"), FileNotFoundError, "there is no file"),
        (
            lambda: EarlyStopped(early=Empirical(data().flatten(1), 0.1)).perturb(learned()),
            ValueError,
            r"other must be of image shape \(1, 8, 8\) as prior is, got \(64,\)",
        ),
        (
            lambda: EarlyStopped(early=learned(1)).perturb(MaximumEntropy(learned())),
            TypeError,
            "prior must have the score of its denoiser to be mixed, got a MaximumEntropy prior",
        ),
        (lambda: Mixed(learned(), 3, 0.5), TypeError, "other must be a Prior, got int"),
        (lambda: Mixed(learned(), learned(), math.nan), ValueError, "amplitude must be a finite number"),
    ],
)
def test_refusals_name_the_argument_and_what_is_needed(make, kind, sentence):
    with pytest.raises(kind, match=sentence):
        make()


def test_shipped_prior_loses_little_to_eight_bits():
    prior, x = priors.load("fashion-28"), torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        clean, *wrong = (
            p.denoise(x, 0.2) for p in (prior, Quantised().perturb(prior), WeightNoise(0.3).perturb(prior))
        )
    # Rounding to half a step of 127 is small beside noise of a third of the weights.
    assert 0 < (wrong[0] - clean).norm() < (wrong[1] - clean).norm() / 5

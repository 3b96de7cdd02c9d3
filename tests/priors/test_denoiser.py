"""Denoisers of deepinv as priors: weights from a file for each of them, and every kind of file that is refused."""

import math
import re
from pathlib import Path

import deepinv
import pytest
import safetensors.torch
import torch
from deepinv import models
from safetensors.torch import load_file, save_file, save_model

from priors import Denoiser, denoiser

BLOCKS = {"dim": 4, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1, "heads": (1, 1, 1, 1)}
UNET = {"img_resolution": 16, "model_channels": 32, "channel_mult": (1,), "num_blocks": 1, "attn_resolutions": ()}
GREY = {"in_channels": 1, "out_channels": 1}
# As small as the arguments allow; PromptIR and DiffUNet allow nothing below 100 MB.
ARCHITECTURES = {
    "ADMUNet": {**UNET, **GREY},
    "AutoEncoder": {"dim_input": 256, "dim_mid": 8, "dim_hid": 4},
    "DRUNet": {**GREY, "nc": (4, 4, 4, 4), "nb": 1},
    "DScCP": {"depth": 2, "n_channels_per_layer": 4},
    "DnCNN": {**GREY, "depth": 3, "nf": 4},
    "EPLLDenoiser": {"n_components": 3, "patch_size": 4},
    "FFDNet": {"n_conv_layers": 3, "nf": 4},
    "GSDRUNet": {**GREY, "nc": (4, 4, 4, 4), "nb": 1},
    "MPRNet": {**GREY, "n_feat": 4, "scale_unetfeats": 2, "scale_orsnetfeats": 2, "num_cab": 1},
    "NCSNpp": {**UNET, **GREY},
    "Restormer": {**GREY, **BLOCKS},
    "SCUNet": {"in_nc": 1, "config": (1,) * 7, "input_resolution": 64},
    "SwinIR": {"in_chans": 1, "img_size": 16, "depths": (1,), "embed_dim": 6, "num_heads": (2,), "window_size": 4},
    "UNet": {**GREY, "scales": 2, "channels_per_scale": [4, 8]},
}
DNCNN = ARCHITECTURES["DnCNN"]


def images(channels: int = 1) -> torch.Tensor:
    return torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))


def network(name: str = "DnCNN", seed: int = 1) -> torch.nn.Module:
    """With weights drawn from the seed, not those of a new one."""
    built = denoiser.build(name, ARCHITECTURES[name]).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in built.parameters():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=random))
    return built


@pytest.fixture
def file(tmp_path) -> Path:
    save_model(network(), tmp_path / "dncnn.safetensors")
    return tmp_path / "dncnn.safetensors"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_from_a_file(name, tmp_path):
    path, built = tmp_path / "weights.safetensors", network(name)
    save_model(built, path)
    x, sigma = images(3 if name == "DScCP" else 1), torch.tensor([0.05, 0.2])
    random = torch.get_rng_state()
    prior = Denoiser.from_file(path, name, x.shape[1:], (0.01, 0.5), **ARCHITECTURES[name])
    assert torch.equal(torch.get_rng_state(), random)
    assert (prior.image_shape, prior.sigma_range) == (x.shape[1:], (0.01, 0.5))
    assert not prior.training and not any(weight.requires_grad for weight in prior.parameters())
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)  # DScCP draws random numbers
        expected = (
            built(x, sigma=sigma.reshape(2, 1, 1, 1)) if name == "MPRNet" else built(x, sigma.reshape(2, 1, 1, 1))
        )
        assert not torch.equal(expected, x)
        torch.manual_seed(0)
        torch.testing.assert_close(prior.denoise(x, sigma), expected)


def test_every_denoiser_with_weights_of_its_own_is_covered():
    made_of_others = {"AnscombeDenoiser", "ComplexDenoiserWrapper", "EDMPrecond", "EquivariantDenoiser", "MMSE"}
    made_of_others |= {"DiffusersDenoiserWrapper", "Poisson2Sparse", "ScoreModelWrapper", "MinusOneOneDenoiserWrapper"}
    without_weights = {"BM3D", "BilateralFilter", "MedianFilter", "TGVDenoiser", "TVDenoiser", "TVL1Denoiser"}
    without_weights |= {"WaveletDenoiser", "WaveletDictDenoiser"}
    large = {"DiffUNet", "PromptIR"}
    assert set(denoiser.names()) - made_of_others - without_weights - large - {"RAM"} == set(ARCHITECTURES)


def test_weights_for_a_denoiser_that_is_built(file, tmp_path):
    prior = Denoiser.from_file(file, network(seed=2))
    torch.testing.assert_close(prior.denoise(images(), 0.1), network()(images(), 0.1))
    mirrored = models.EquivariantDenoiser(network(), random=False)
    save_model(mirrored, tmp_path / "mirrored.safetensors")
    other = models.EquivariantDenoiser(network(seed=2), random=False)
    prior = Denoiser.from_file(tmp_path / "mirrored.safetensors", other)
    torch.testing.assert_close(prior.denoise(images(), 0.1), mirrored(images(), 0.1))


def test_reconstructors_are_given_sigma_by_name():
    class Halving(models.Reconstructor):
        def forward(self, y, physics=None, sigma=None):
            assert physics is None
            return y - sigma

    x, sigma = images(), torch.tensor([0.1, 0.2])
    torch.testing.assert_close(Denoiser(Halving()).displacement(x, sigma), (-sigma).reshape(2, 1, 1, 1).expand_as(x))


def test_the_way_to_convert_a_pickle_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(network().state_dict(), "old.pth")
    with pytest.raises(ValueError, match="got a pickle, which is never loaded; where you trust its source") as refusal:
        Denoiser.from_file("old.pth", "DnCNN", **DNCNN)
    command = re.search(r"convert it once by (.*)$", str(refusal.value))[1]
    exec(command, {"safetensors": safetensors, "deepinv": deepinv})
    prior = Denoiser.from_file("old.safetensors", "DnCNN", **DNCNN)
    torch.testing.assert_close(prior.denoise(images(), 0.1), network()(images(), 0.1))


class Explosive:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(("name", "zipped"), [("a.pt", True), ("a.pth", False), ("a.ckpt", True)])
def test_pickles_are_never_loaded(tmp_path, name, zipped):
    trace = tmp_path / "exploded"
    torch.save({"weights": Explosive(trace)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="must be a safetensors file with the weights of DnCNN, got a pickle"):
        Denoiser.from_file(tmp_path / name, "DnCNN", **DNCNN)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 4}, r"lacks 2 of 8 tensors, such as 'conv_list.1."),
        ({"depth": 2}, r"and does not: 2 of its tensors are of another network, such as 'conv_list.0."),
        ({"nf": 5}, r"5 have another shape, such as '.*' with \(4,\) in place of \(5,\)|5 have another shape"),
    ],
)
def test_weights_of_another_architecture(file, options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        Denoiser.from_file(file, "DnCNN", **{**DNCNN, **options})
    assert str(refusal.value).startswith(f"{file} must hold the weights of this DnCNN") and "\n" not in str(
        refusal.value
    )


def test_files_that_are_refused(file, tmp_path):
    with pytest.raises(FileNotFoundError, match="path must be a file with the weights of DnCNN, and there is no file"):
        Denoiser.from_file(tmp_path / "none.safetensors", "DnCNN", **DNCNN)
    tensors = load_file(file)
    save_file({**tensors, "in_conv.bias": torch.full((4,), math.nan)}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="must hold finite weights"):
        Denoiser.from_file(tmp_path / "nan.safetensors", "DnCNN", **DNCNN)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is truncated or of another kind"):
        Denoiser.from_file(file, "DnCNN", **DNCNN)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("DRUnet", {}, "denoiser must be the name of a denoiser of deepinv, got 'DRUnet'; did you mean 'DRUNet'"),
        ("DEAL", {}, "denoiser must be the name of a denoiser of deepinv, got 'DEAL'"),
        ("DnCNN", {"channels": 1}, "options of DnCNN must be of in_channels, .*, got channels"),
        ("DnCNN", {"pretrained": "download"}, "options of DnCNN must be of .*, got pretrained"),
        (models.MedianFilter(), {"kernel_size": 3}, "options must be left out with a denoiser that is built, got kern"),
    ],
)
def test_denoisers_that_are_refused(file, name, options, message):
    with pytest.raises(ValueError, match=message):
        Denoiser.from_file(file, name, **options)


def test_the_gradient_step_denoiser_can_be_differentiated():
    """It detaches its result by itself, so that its Jacobian would seem to be 1; that of a gradient is symmetric."""
    built = network("GSDRUNet")
    prior = Denoiser(models.EquivariantDenoiser(built, random=False))
    x = images().requires_grad_()
    for wrapped in (Denoiser(built), prior):
        v, w = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(0))
        along = [torch.autograd.grad(wrapped.denoise(x, 0.1), x, each)[0] for each in (v, w)]
        assert (along[0] - v).norm() > 1e-3 * v.norm()
        torch.testing.assert_close((along[0] * w).sum(), (along[1] * v).sum(), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        y = images()
        assert not prior.denoise(y, 0.1).requires_grad and not y.requires_grad


def test_derivatives_that_a_denoiser_does_not_have():
    class Detached(torch.nn.Module):
        def forward(self, x, sigma):
            return x.detach() / 2

    prior, x = Denoiser(Detached()), images().requires_grad_()
    with pytest.raises(
        ValueError, match="prior must have a denoiser that can be differentiated, .*, got Detached; use"
    ):
        prior.score(x, 0.1)
    torch.testing.assert_close(prior.denoise(images(), 0.1), images() / 2)


def test_total_variation_of_deepinv_forgets_its_last_result():
    """It goes on from there otherwise, and the score would depend on the calls before."""
    prior = Denoiser(models.TVDenoiser(n_it_max=20))
    first = prior.denoise(images(), 0.1)
    prior.denoise(images().flip(-1), 0.3)
    torch.testing.assert_close(prior.denoise(images(), 0.1), first, rtol=0, atol=0)
    torch.testing.assert_close(first, models.TVDenoiser(n_it_max=20)(images(), 0.1), rtol=0, atol=0)


class Rescaling(torch.nn.Module):
    """A network that changes the sigma it is given in place."""

    def forward(self, x, sigma):
        return x * sigma.mul_(2)


def test_a_network_that_changes_its_sigma_changes_no_later_call():
    prior, x = Denoiser(Rescaling()), torch.ones(1, 1, 2, 2)
    for _ in range(3):
        torch.testing.assert_close(prior.denoise(x, 0.125), 0.25 * x)

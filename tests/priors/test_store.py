"""Weights files: the round trip, the shipped prior, and every kind of file that is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import priors
from priors import classical, store

DESIGN = {
    "network": {"channels": [4, 8], "encoder_blocks": [1], "decoder_blocks": [1], "middle_blocks": 1, "features": 16},
    "mean": 0.25,
    "std": 0.5,
    "image_shape": [1, 8, 8],
    "sigma_range": [0.01, 10.0],
}


def small_prior():
    prior = store.build(DESIGN, seed=1)
    random = torch.Generator().manual_seed(2)
    for parameter in prior.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
    return prior


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.safetensors"
    store.save(small_prior(), path, {"licence": "BSD-3-Clause"})
    return path


def rewritten(path: Path, header: dict[str, str] | None = None, **tensors: torch.Tensor | None) -> Path:
    """The same file with another header or other tensors; None takes one out."""
    with store.safe_open(path, framework="pt") as old:
        header = {**old.metadata(), **(header or {})}
    changed = {name: value for name, value in (load_file(path) | tensors).items() if value is not None}
    save_file(changed, path, metadata=header)
    return path


def test_round_trip(file):
    prior, again = small_prior(), priors.load(file)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.denoise(x, 0.3), prior.denoise(x, 0.3))
    assert (again.mean, again.std, again.image_shape, again.sigma_range) == (0.25, 0.5, (1, 8, 8), (0.01, 10.0))
    assert again.about == {"licence": "BSD-3-Clause", "value_range": "[0, 1]"}
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_any_image_size_round_trips(tmp_path):
    store.save(store.build({**DESIGN, "image_shape": None}), tmp_path / "any.safetensors")
    assert priors.load(tmp_path / "any.safetensors").image_shape is None


def test_loading_is_silent_and_leaves_random_state_alone(file, capfd):
    before = torch.get_rng_state()
    priors.load(file)
    priors.load("fashion-28")
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_shipped_prior():
    assert {"fashion-28", "fashion-28-conditional"} <= set(store.learned())
    assert priors.available() == sorted([*store.learned(), *classical.available()])
    prior = priors.load("fashion-28")
    assert prior.image_shape == (1, 28, 28)
    assert prior.sigma_range == (0.002, 80.0)
    assert {"name", "licence", "data", "seed", "value_range"} <= set(prior.about)
    folder = Path(store.__file__).parent / "weights"
    assert (folder / "fashion-28.safetensors").stat().st_size <= 8_000_000
    assert (folder / "fashion-28.md").read_text().startswith("# fashion-28")


def test_shipped_conditional_prior():
    prior, plain = priors.load("fashion-28-conditional"), priors.load("fashion-28")
    assert prior.image_shape == plain.image_shape
    folder = Path(store.__file__).parent / "weights"
    assert (folder / "fashion-28-conditional.safetensors").stat().st_size <= 3_000_000
    assert (folder / "fashion-28-conditional.md").read_text().startswith("# fashion-28-conditional")
    # 0 ankle boot, 1 pullover, 2 trouser: at sigma = 5 the label says more than the noisy image.
    images = demo_images()
    noisy = images + 5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))

    def error(labels):
        given = prior if labels is None else prior.given(torch.tensor(labels))
        return (given.denoise(noisy, 5.0) - images).square().mean().item()

    assert error([9, 2, 1]) < 0.8 * min(error(None), error([1, 9, 2]), error([2, 1, 9]))
    torch.testing.assert_close(prior.given(10).denoise(noisy, 5.0), prior.denoise(noisy, 5.0))
    with pytest.raises(ValueError, match="labels need a network with classes"):
        plain.given(3)


def demo_images():
    folder = Path(priors.__file__).parents[1] / "inverse" / "demo_images"
    images = [np.asarray(Image.open(path), dtype=np.float32) / 255 for path in sorted(folder.glob("*.png"))]
    return torch.from_numpy(np.stack(images))[:, None]


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2, 0.5])
def test_shipped_prior_denoises_images_it_has_not_seen(sigma):
    clean = demo_images()
    prior = priors.load("fashion-28")
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    error = (prior.denoise(clean + sigma * noise, sigma) - clean).square().mean().item()
    # The best denoiser that knows mean and variance of the pixels alone has this error on such images.
    linear = sigma**2 * prior.std**2 / (sigma**2 + prior.std**2)
    assert error < linear / 2


def test_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match="prior must be one of .*, got 'fashion28'; did you mean 'fashion-28'"):
        priors.load("fashion28")


@pytest.mark.parametrize("name", ["missing.safetensors", "folder/fashion-28"])
def test_missing_file(name):
    with pytest.raises(
        FileNotFoundError, match="prior must be a name of priors.available.. or a weights file, and there is no file"
    ):
        priors.load(name)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match="is truncated or of another kind"):
        priors.load(file)


def test_foreign_bytes(tmp_path):
    path = tmp_path / "picture.safetensors"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match="is truncated or of another kind"):
        priors.load(path)


class Explosive:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_never_loaded(tmp_path, zipped):
    path, trace = tmp_path / "weights.pt", tmp_path / "exploded"
    torch.save({"weights": Explosive(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="got a pickle, which is never loaded"):
        priors.load(path)
    assert not trace.exists()


def test_somebody_elses_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="in the format 'scorefold prior 1', got a file without one"):
        priors.load(path)


def test_another_version(file):
    with pytest.raises(ValueError, match="in the format 'scorefold prior 1', got 'scorefold prior 2'"):
        priors.load(rewritten(file, {"format": "scorefold prior 2"}))


@pytest.mark.parametrize(
    "change",
    [
        {"design": "{"},
        {"design": "[]"},
        {"design": json.dumps({**DESIGN, "network": {"widths": [4]}})},
        {"design": json.dumps({**DESIGN, "network": {**DESIGN["network"], "channels": [4, 16]}})},
        {"design": json.dumps({**DESIGN, "std": "wide"})},
        {"design": json.dumps({key: value for key, value in DESIGN.items() if key != "mean"})},
    ],
)
def test_header_that_does_not_fit(file, change):
    with pytest.raises(ValueError, match="must hold the weights its header describes, and does not") as refusal:
        priors.load(rewritten(file, change))
    assert "\n" not in str(refusal.value)


def test_missing_and_surplus_tensors(file):
    original = file.read_bytes()
    for change in ({"conv_in.bias": None}, {"surplus": torch.zeros(1)}, {"conv_in.bias": torch.zeros(5)}):
        file.write_bytes(original)
        with pytest.raises(ValueError, match="must hold the weights its header describes"):
            priors.load(rewritten(file, **change))


def test_weights_that_are_not_finite(file):
    with pytest.raises(ValueError, match="must hold finite weights"):
        priors.load(rewritten(file, **{"conv_in.bias": torch.tensor([0.0, math.nan, 0.0, 0.0])}))


def test_a_save_that_fails_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(store, "save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        store.save(small_prior(), file)
    assert file.read_bytes() == before

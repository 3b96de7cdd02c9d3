import numpy as np
import pytest
import torch
from PIL import Image

import priors
from priors import photographs, training

NETWORK = {"channels": (4, 8), "encoder_blocks": (1,), "decoder_blocks": (1,), "middle_blocks": 1, "features": 8}


@pytest.fixture
def folder(tmp_path):
    """Small pictures in the places of the photographs."""
    random = np.random.default_rng(0)
    for name, place in photographs.PHOTOGRAPHS.items():
        path = tmp_path / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 36, 3), np.uint8)).save(path, quality=95)
    return tmp_path


def test_split_by_photograph(folder):
    train, held_out = photographs.files("train", folder), photographs.files("held-out", folder)
    assert len(train) == 19 and len(held_out) == 3
    assert not set(train) & set(held_out)
    with pytest.raises(ValueError, match="split must be"):
        photographs.files("test", folder)


def test_missing_photographs_name_the_packages(folder, capsys):
    photographs.files("train", folder)[3].unlink()
    with pytest.raises(FileNotFoundError, match=r"FreshFlower\.jpg.*mate-backgrounds and plasma-workspace-wallpapers"):
        photographs.files("train", folder)
    options = ["--photographs", "--out", str(folder / "run"), "--images", "8", "--data", str(folder)]
    assert training.main(options) == 2
    assert "mate-backgrounds" in capsys.readouterr().err


def test_design_is_of_the_size_it_is_meant_to_be():
    network = training.store.build(
        {
            "network": {"in_channels": [1, 3], **photographs.NETWORK},
            "mean": 0.5,
            "std": 0.25,
            "image_shape": None,
            "sigma_range": [0.002, 80.0],
        }
    ).network
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert 2e6 <= weights <= 5e6  # at most 20 MB in a file


def test_command_trains_the_prior_of_photographs_and_goes_on(folder, monkeypatch, capsys):
    monkeypatch.setattr(photographs, "SIZE", 6)
    monkeypatch.setattr(photographs, "NETWORK", {**NETWORK, "attention": False, "local": True})
    options = ["--photographs", "--out", str(folder / "run"), "--data", str(folder), "--batch", "4"]
    assert training.main([*options, "--images", "8"]) == 0
    assert training.main([*options, "--images", "24"]) == 0
    prior = priors.load(folder / "run" / "photo.safetensors")
    assert prior.image_shape is None and prior.about["images_seen"] == "24"
    assert prior.about["name"] == "photo" and "19 photographs" in prior.about["data"]
    for shape in ((2, 3, 11, 7), (1, 1, 20, 9)):
        assert prior.denoise(torch.rand(shape, generator=torch.Generator().manual_seed(0)), 0.1).shape == shape
    log = (folder / "run" / "log.jsonl").read_text()
    assert '"held_out"' in log and '"held_out_grey"' in log

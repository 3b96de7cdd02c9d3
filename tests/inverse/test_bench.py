"""`inverse bench`: one line for every combination, written as it goes."""

import csv
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

import operators
from inverse import DPS, Posterior, metrics
from inverse.command import main
from priors import Preconditioned, store
from priors.unet import UNet


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with two pictures and the weights of a small prior that has learned nothing."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(generator.integers(0, 256, (28, 28), np.uint8)).save(name)
    torch.manual_seed(0)
    network = UNet(channels=(4, 4), encoder_blocks=(0,), decoder_blocks=(0,), middle_blocks=1, features=8)
    store.save(Preconditioned(network, 0.5, 0.3, (1, 28, 28), (0.002, 80.0), {}), "small.safetensors")
    return tmp_path


COMMAND = ("bench", "a.png", "b.png", "--prior", "small.safetensors", "--n", "4", "--seed", "3", "--out", "out")
DPS_TWICE = ("--sampler", "dps:steps=3", "--sampler", "dps:steps=4")
BLUR = ("--operator", "gaussian-blur:width=2")


def test_each_line_is_what_the_library_gives(work):
    assert main([*COMMAND, *BLUR, *DPS_TWICE]) == 0
    lines = list(csv.DictReader(open("out/table.csv")))
    assert [line["sampler"] for line in lines] == ["dps:steps=3", "dps:steps=4"]
    truth = torch.stack([torch.from_numpy(np.array(Image.open(f"{k}.png"))) for k in "ab"])[:, None] / 255
    physics = operators.create("gaussian-blur", (1, 28, 28), noise=0.05, seed=3, width=2)
    posterior = Posterior(store.load("small.safetensors"), physics, physics(truth))
    for line, steps in zip(lines, (3, 4), strict=True):
        psnr = metrics.psnr(DPS(steps=steps).sample(posterior, 4, seed=3).mean, truth)
        assert float(line["PSNR"]) == pytest.approx(psnr.mean().item(), abs=1e-4)
        assert float(line["+-"]) == pytest.approx(psnr.std().item() / 2**0.5, abs=1e-4)
        assert line["measurement"] == "gaussian-blur:width=2" and int(line["NFE"]) == steps


def test_it_goes_on_where_it_was(work, capsys):
    assert main([*COMMAND, *BLUR, *DPS_TWICE[:2]]) == 0
    (first,) = (file for file in os.scandir("out/cells"))
    written, table = first.stat().st_mtime_ns, open("out/table.md").read()
    assert main([*COMMAND, *BLUR, *DPS_TWICE]) == 0
    assert os.stat(first.path).st_mtime_ns == written and len(os.listdir("out/cells")) == 2
    assert table.splitlines()[2].split("|")[4] in open("out/table.md").read()
    changed = [*COMMAND, *BLUR, *DPS_TWICE, "--noise", "0.1"]
    assert main(changed) == 0 and len(os.listdir("out/cells")) == 4
    assert json.loads(open("out/run.json").read())["noise"] == 0.1


def test_what_does_not_go_together_is_left_out_and_told(work, capsys):
    assert main([*COMMAND, "--operator", "saturation", *BLUR, "--sampler", "mmps:steps=2,iterations=1"]) == 0
    told = capsys.readouterr()
    assert "left out: physics must be linear for mmps" in told.err
    assert told.out.count("small.safetensors") == 1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--operator", "saturation", "--sampler", "mmps"), "no combination of --operator, --prior and --sampler goes"),
        (("--prior", "fashion"), "did you mean 'fashion-28'?"),
        (("--sampler", "mmps:steps"), "must be KEY=VALUE, got 'steps'"),
        (("--operator", "gaussian-blurr"), "did you mean"),
        (("--sampler", "mmmps"), "did you mean 'mmps'?"),
        (("--noise", "0"), "must be a finite number above 0"),
    ],
)
def test_refusals(work, capsys, more, sentence):
    try:
        code = main([*COMMAND, *more])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert sentence in capsys.readouterr().err
    assert not os.path.exists("out/table.md")

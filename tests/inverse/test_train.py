"""`inverse train FOLDER` from a folder of pictures to a prior with a card, on tiny networks."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import priors
from inverse import train
from inverse.command import main
from priors import photographs, training

NETWORK = {"channels": (4, 8), "encoder_blocks": (1,), "decoder_blocks": (1,), "middle_blocks": 1, "features": 8}
LOCAL = {**NETWORK, "attention": False, "local": True}


def write_pictures(folder, n=6, size=(40, 36), channels=3):
    """Smooth pictures, of different sizes where size is that of the first."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(n):
        small = random.integers(0, 256, (5, 5, channels), np.uint8)
        picture = Image.fromarray(small.squeeze()).resize((size[1] + index % 3, size[0]), Image.Resampling.BICUBIC)
        picture.save(folder / f"picture-{index}.png")
    (folder / "notes.txt").write_text("no picture")
    Image.fromarray(np.zeros((5, 40), np.uint8)).save(folder / "strip.png")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder to work in, crops of 64 replaced by the smallest, and a network of the same kind but tiny."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(photographs, "NETWORK", LOCAL)
    monkeypatch.setattr(train, "MEASURED", 32)
    monkeypatch.setattr(train, "REFERENCE", 64)
    return tmp_path


def command(*more):
    return main(["train", "pictures", "--size", "8", "--batch", "4", "--threads", "1", *more])


def test_a_folder_becomes_a_prior_with_a_card(work, capsys):
    write_pictures(work / "pictures")
    assert command("--images", "40") == 0
    said = capsys.readouterr()
    assert said.out == "the weights are in prior.safetensors, their card is prior.md\n"
    assert "skipped strip.png: 40 x 5 pixels: too small" in said.err and "skipped notes.txt" in said.err
    prior = priors.load("prior.safetensors")
    assert prior.image_shape is None and prior.about["images_seen"] == "40"
    assert "5 colour images of the folder pictures" in prior.about["data"]
    for shape in ((1, 1, 12, 9), (2, 3, 9, 20)):
        assert prior.denoise(torch.rand(shape), 0.1).shape == shape
    assert Image.open("prior.png").size == (8 * 68, 4 * 68)
    assert (work / "prior.run" / "look-0000010.png").exists()
    log = json.loads((work / "prior.run" / "log.jsonl").read_text().splitlines()[-1])
    card = (work / "prior.md").read_text()
    assert "It has learned too little to tell" in card or "generalis" in card
    for word in ("grey or colour, of any size", "`strip.png`: 40 x 5 pixels", "40 images (10 steps)", "`picture-"):
        assert word in card
    # One line for each noise level in both tables, and the errors are those of the weights that were written.
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) ± [\d.]+ \|", card, re.MULTILINE)
    assert [float(sigma) for sigma, _ in rows] == list(train.generalisation.SIGMAS)
    measured = {sigma: float(error) / 1e3 for sigma, error in rows}
    for sigma in ("0.1", "0.2"):
        # 32 crops here and there, of the same one picture: of the same size, no more.
        assert measured[sigma] == pytest.approx(log["held_out"][sigma], rel=0.5)


def test_interrupted_it_goes_on_and_ends_the_same(work, monkeypatch, capsys):
    write_pictures(work / "pictures")
    assert command("--images", "40", "--out", "whole.safetensors") == 0
    advance, calls = training.advance, []

    def interrupted(run, *rest):
        calls.append(run.step)
        if len(calls) == 4:
            training.signal.raise_signal(training.signal.SIGINT)
        return advance(run, *rest)

    monkeypatch.setattr(training, "advance", interrupted)
    assert command("--images", "40", "--out", "parts.safetensors") == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert not (work / "parts.safetensors").exists() and not (work / "parts.md").exists()
    assert command("--images", "40", "--out", "parts.safetensors") == 0
    assert calls == list(range(10))
    whole, parts = priors.load("whole.safetensors"), priors.load("parts.safetensors")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    # Other pictures are another run.
    write_pictures(work / "pictures", n=7)
    assert command("--images", "60", "--out", "parts.safetensors") == 2
    assert "a new folder for a run with images" in capsys.readouterr().err


def test_small_images_of_one_size_are_learned_whole(work):
    random = np.random.default_rng(0)
    np.save(work / "digits.npy", random.integers(0, 256, (40, 10, 12), np.uint8))
    (work / "pictures").mkdir()
    (work / "digits.npy").rename(work / "pictures" / "digits.npy")
    run = train.train("pictures", "digits.safetensors", images=16, batch=8, network=NETWORK, progress=False)
    assert run.step == 2
    prior = priors.load("digits.safetensors")
    assert prior.image_shape == (1, 10, 12)
    assert "36 grey images 12 x 10 of the folder pictures, learned whole; 4 more" in (work / "digits.md").read_text()


def test_held_out_images_are_not_trained_on(work):
    write_pictures(work / "pictures", n=12)
    material = train.folder_material("pictures", 8)
    assert len(material.names) == 1
    assert len(material.data.images) > 11  # at several scales
    held_out = torch.from_numpy(np.array(Image.open(f"pictures/{material.names[0]}"))).movedim(-1, 0)
    assert not any(torch.equal(image, held_out) for image in material.data.images)


def test_grey_and_crop_size_follow_the_images(work):
    write_pictures(work / "pictures", size=(30, 44))
    assert train.folder_material("pictures").data.size == 24  # a multiple of 8 that most pictures have
    grey = train.folder_material("pictures", grey=True)
    assert grey.data.channels == (1,) and list(grey.logged) == ["held_out"]
    assert train.folder_material("pictures").data.channels == (1, 3)
    assert any("grey images too" in sentence for sentence in train.folder_material("pictures").sentences)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere", "--images", "8"], "FOLDER must be a folder with images, got nowhere"),
        (["empty", "--images", "8"], "FOLDER must hold images, got empty with 0 files"),
        (["pictures", "--images", "8", "--size", "39"], "at least 2 images of 39 pixels a side"),
        (["pictures", "--images", "8", "--size", "4"], "size must be from 8 to 512 pixels, got 4"),
        (["pictures", "--images", "8", "--out", "prior"], "--out must be a file ending in .safetensors"),
        (["pictures", "--images", "8", "--out", "no/prior.safetensors"], "--out must be in a folder that exists"),
        (["pictures", "--images", "8", "--out", "taken.safetensors"], "--out must be new"),
        (["pictures", "--photo"], "give no FOLDER"),
        (["pictures", "--data", "x"], "--data is for the shipped priors"),
        (["--grey", "--images", "8"], "--size and --grey need a FOLDER"),
        ([], "one of --minutes and --images is needed"),
        (["--photo", "--images", "8", "--data", "nowhere"], "mate-backgrounds and plasma-workspace-wallpapers"),
    ],
)
def test_refused_in_one_sentence(work, capsys, argv, message):
    write_pictures(work / "pictures", n=3, size=(38, 36))
    (work / "empty").mkdir()
    (work / "taken.safetensors").write_text("")
    before = sorted(work.rglob("*"))
    assert main(["train", *argv]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert sorted(work.rglob("*")) == before


def test_photographs_by_the_same_command(work, monkeypatch, capsys):
    random = np.random.default_rng(0)
    for name, place in photographs.PHOTOGRAPHS.items():
        path = work / "share" / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (50, 60, 3), np.uint8)).save(path)
    monkeypatch.setattr(photographs, "SIZE", 8)
    options = ["--data", "share", "--images", "16", "--batch", "4"]
    assert main(["train", "--photo", *options]) == 0
    assert "photo.md" in capsys.readouterr().out
    card = (work / "photo.md").read_text()
    assert "19 photographs of the Debian packages" in card and "`EveningGlow`" in card
    assert priors.load("photo.safetensors").image_shape is None


def test_the_prior_reconstructs_pictures_of_any_size(work, capsys):
    write_pictures(work / "pictures")
    assert command("--images", "8") == 0
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (18, 23, 3), np.uint8)).save("photo.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (21, 16), np.uint8)).save("grey.png")
    for file, shape in (("photo.png", (3, 18, 23)), ("grey.png", (1, 21, 16))):
        options = [
            "--operator",
            "motion-blur",
            "--prior",
            "prior.safetensors",
            "--sampler-option",
            "steps=3",
            "--n",
            "2",
        ]
        assert main(["reconstruct", file, *options]) == 0
        assert np.load("reconstruction/mean.npy").shape == (1, *shape)
    capsys.readouterr()
    draw = ["sample", "--prior", "prior.safetensors", "--n", "2", "--steps", "2"]
    assert main(draw) == 2
    assert "--size is needed for prior.safetensors" in capsys.readouterr().err
    assert main([*draw, "--size", "12"]) == 0
    assert np.load("sample/samples.npy").shape == (2, 3, 12, 12)
    assert main(["sample", "--n", "1", "--size", "12"]) == 2
    assert "--size must be left out for fashion-28" in capsys.readouterr().err

"""The command as it is typed: what it writes, what it prints, what it refuses.

Its prior is a learned one whose network still is at its start, where its output is zero: exactly the independent
Gaussian of mean 0.5 and standard deviation 0.25.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import inverse
import operators
import priors
from inverse.command import listing, main
from priors import store

MEAN, STD = 0.5, 0.25
FAST = ["--sampler-option", "steps=3", "--n", "4"]


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    design = {
        "network": {
            "channels": [4, 4],
            "encoder_blocks": [0],
            "decoder_blocks": [0],
            "middle_blocks": 1,
            "features": 8,
        },
        "mean": MEAN,
        "std": STD,
        "image_shape": [1, 28, 28],
        "sigma_range": [0.002, 80.0],
    }
    path = tmp_path_factory.mktemp("weights") / "gaussian.safetensors"
    store.save(store.build(design), path)
    return str(path)


@pytest.fixture(scope="session")
def any_size(tmp_path_factory):
    """The weights of a prior for images of any size, grey and colour."""
    design = {
        "network": {
            "in_channels": [1, 3],
            "channels": [4, 4],
            "encoder_blocks": [0],
            "decoder_blocks": [0],
            "middle_blocks": 1,
            "features": 8,
            "attention": False,
            "local": True,
        },
        "mean": MEAN,
        "std": STD,
        "image_shape": None,
        "sigma_range": [0.002, 80.0],
    }
    path = tmp_path_factory.mktemp("weights") / "any-size.safetensors"
    store.save(store.build(design), path)
    return str(path)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder to work in, with one picture, shoe.png."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(values).save(tmp_path / "shoe.png")
    return tmp_path


@pytest.fixture
def refused(work, capsys):
    """Run a command that must be refused: code 2, one line on stderr, nothing on stdout, nothing written."""

    def check(*argv):
        before = sorted(os.walk("."))
        capsys.readouterr()  # what earlier commands of the same test have said
        try:
            code = main(list(argv))
        except SystemExit as exit:  # argparse leaves this way
            code = exit.code
        said = capsys.readouterr()
        assert code == 2, said.err
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.startswith("inverse")
        assert sorted(os.walk(".")) == before
        return said.err

    return check


def reconstruct(weights, *more):
    return ["reconstruct", "shoe.png", "--prior", weights, *FAST, *more]


def test_reconstruct_writes_all_it_promises(work, weights, capsys):
    assert main(reconstruct(weights, "--operator", "box-inpainting", "--option", "size=8", "--out", "a/b")) == 0
    assert sorted(os.listdir("a/b")) == [
        "figure.png",
        "mean.npy",
        "measurement.npy",
        "run.json",
        "samples.safetensors",
        "shoe-mean.png",
        "std.npy",
        "table.csv",
        "table.md",
    ]
    assert sorted(os.listdir(".")) == ["a", "shoe.png"]
    record = json.loads((work / "a/b/run.json").read_text())
    assert record["operator"] == "box-inpainting"
    assert record["options"] == {"size": 8}
    assert record["hyper"]["steps"] == 3
    samples = inverse.Samples.load("a/b/samples.safetensors")
    assert samples.x.shape == (4, 1, 1, 28, 28)
    np.testing.assert_array_equal(np.load("a/b/mean.npy"), samples.mean.numpy())
    row = next(csv.DictReader((work / "a/b/table.csv").open()))
    assert float(row["PSNR"]) == inverse.metrics.psnr(samples.mean, truth()).item()
    assert (work / "a/b/table.md").read_text() in capsys.readouterr().out


def truth():
    return torch.from_numpy(np.array(Image.open("shoe.png"))).float()[None, None] / 255


def test_reconstruct_draws_from_the_posterior(work, weights):
    """Denoising with noise 0.25 of N(0.5, 0.25^2): mean (y + 0.5)/2, variance 0.25^2/2, 32 draws.

    Standard error of a pixel's mean 0.031, and 784 pixels: five of them fail once in two thousand runs. Standard error
    of the variance pooled over pixels 0.9%; 5% leaves some to discretisation.
    """
    command = ["reconstruct", "shoe.png", "--prior", weights, "--operator", "denoising", "--noise", "0.25", "--n", "32"]
    assert main([*command, "--out", "out"]) == 0
    y = np.load("out/measurement.npy")
    np.testing.assert_allclose(np.load("out/mean.npy"), (y + 0.5) / 2, atol=5 * 0.031)
    assert (np.load("out/std.npy") ** 2).mean() == pytest.approx(0.25**2 / 2, rel=0.05)


def test_a_measurement_gives_the_samples_that_its_image_gave(work, weights, capsys):
    problem = ["--operator", "compressed-sensing", "--option", "ratio=0.3", "--noise", "0.1", "--seed", "5"]
    assert main(reconstruct(weights, *problem, "--out", "one")) == 0
    again = ["reconstruct", "one/measurement.npy", "--measured", "--prior", weights, *FAST, *problem, "--out", "two"]
    assert main(again) == 0
    one, two = (inverse.Samples.load(f"{name}/samples.safetensors") for name in ("one", "two"))
    assert torch.equal(one.x, two.x)
    assert not (work / "two/table.md").exists()  # no truth is known
    assert "PSNR" not in capsys.readouterr().out.split("two")[-1]


def test_the_seed_decides_noise_and_samples(work, weights):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(reconstruct(weights, "--operator", "denoising", "--seed", seed, "--out", out)) == 0
    a, b, c = (inverse.Samples.load(f"{name}/samples.safetensors") for name in "abc")
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.y, b.y)
    assert not torch.equal(a.y, c.y)


def test_arrays_are_options_and_changes_to_images_are_told(work, weights, capsys):
    Image.new("RGB", (60, 40), "red").save("photo.jpg")
    mask = np.zeros((28, 28), np.float32)
    mask[:, ::2] = 1
    np.save("mask.npy", mask)
    command = ["reconstruct", "photo.jpg", "shoe.png", "--operator", "inpainting", "--option", "mask=mask.npy"]
    assert main([*command, "--prior", weights, *FAST, "--out", "out"]) == 0
    said = capsys.readouterr().err
    assert "photo.jpg: made grey, cropped from 60 x 40 to its centre 40 x 40, resampled from 40 x 40 to 28 x 28" in said
    y = np.load("out/measurement.npy")
    assert (y[:, :, :, 1::2] == 0).all()
    assert (y[:, :, :, ::2] != 0).all()
    assert json.loads((work / "out/run.json").read_text())["options"]["mask"] == "array of shape (28, 28)"


def test_a_prior_of_any_size_takes_the_image_as_it_is(work, any_size):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 52, 3), np.uint8)).save("photo.png")
    problem = ["--prior", any_size, "--operator", "denoising", "--noise", "0.25", "--out"]
    assert main(["reconstruct", "photo.png", *problem, "out"]) == 0
    samples = inverse.Samples.load("out/samples.safetensors")
    assert samples.x.shape == (8, 1, 3, 40, 52)
    assert samples.sampler == "mmps-spectral"
    # The posterior mean of N(0.5, 0.25^2) is (y + 0.5) / 2, its standard deviation 0.177: five times that over sqrt 8.
    np.testing.assert_allclose(np.load("out/mean.npy"), (np.load("out/measurement.npy") + 0.5) / 2, atol=5 * 0.0625)
    measured = ["reconstruct", "out/measurement.npy", "--measured", "--shape", "3,40,52", *problem, "again"]
    assert main(measured) == 0
    assert torch.equal(inverse.Samples.load("again/samples.safetensors").x, samples.x)


def test_a_kernel_of_numpys_own_precision_will_do(work, any_size):
    np.save("y.npy", np.full((1, 3, 40, 52), 0.5, np.float32))
    np.save("kernel.npy", np.full((3, 3), 1 / 9))
    blur = ["--operator", "blur", "--option", "kernel=kernel.npy", "--n", "1", "--sampler-option", "steps=2"]
    command = ["reconstruct", "y.npy", "--measured", "--shape", "3,40,52", "--prior", any_size, *blur]
    assert main([*command, "--out", "out"]) == 0


def test_a_measurement_of_bytes_is_noticed(work, weights, capsys):
    for name, scale in (("unit", 1), ("bytes", 255)):
        np.save(f"{name}.npy", np.full((1, 1, 28, 28), 0.5 * scale, np.float32))
        problem = ["--measured", "--operator", "denoising", "--prior", weights, *FAST, "--out", name]
        assert main(["reconstruct", f"{name}.npy", *problem]) == 0
        said = capsys.readouterr().err
        assert ("bytes.npy has values up to 127.5, and images are taken to be in [0, 1]" in said) == (name == "bytes")


def test_what_a_measurement_of_any_size_needs(work, any_size, weights, refused):
    np.save("y.npy", np.zeros((1, 3, 40, 52), np.float32))
    needed = "--shape C,H,W is needed with --measured and photo"
    assert needed in refused("reconstruct", "y.npy", "--measured", "--operator", "denoising")
    command = ["reconstruct", "y.npy", "--measured", "--operator", "denoising", "--prior"]
    assert "--shape C,H,W is needed with --measured" in refused(*command, any_size)
    assert "--shape must be that of" in refused(*command, weights, "--shape", "3,40,52")
    assert "must be C,H,W such as 3,256,256, got '40x52'" in refused(*command, any_size, "--shape", "40x52")


@pytest.mark.parametrize(("side", "name"), [(32, "fashion-28"), (33, "photo")])
def test_the_prior_suits_the_size_of_the_images(work, weights, side, name, monkeypatch, capsys):
    Image.fromarray(np.zeros((side, 20), np.uint8)).save("image.png")
    asked = []
    monkeypatch.setattr("priors.load", lambda name: asked.append(name) or store.load(weights))
    assert main(["reconstruct", "image.png", "--operator", "denoising", *FAST, "--out", "out"]) == 0
    assert asked == [name]
    assert ("digits need --prior digits-28" in capsys.readouterr().err) == (name == "fashion-28")


def test_small_images_of_different_sizes_are_brought_to_the_prior(work):
    for side in (20, 28):
        Image.fromarray(np.zeros((side, side), np.uint8)).save(f"{side}.png")
    assert main(["reconstruct", "20.png", "28.png", "--operator", "denoising", *FAST, "--out", "out"]) == 0
    assert np.load("out/mean.npy").shape == (2, 1, 28, 28)


def test_what_a_file_is_not_is_told_without_a_prior_too(work, refused):
    np.save("y.npy", np.full((1, 1, 40, 40), 3.0))
    assert "(for measurements pass --measured)" in refused("reconstruct", "y.npy", "--operator", "denoising")
    measured = ["reconstruct", "shoe.png", "--measured", "--operator", "denoising"]
    assert "--measured needs one .npy file of measurements, got shoe.png" in refused(*measured)


def test_antithetic_samples_are_told_as_such(work, weights, refused):
    antithetic = reconstruct(weights, "--operator", "denoising", "--antithetic")
    assert main([*antithetic, "--n", "4", "--out", "out"]) == 0
    with open("out/run.json") as file:
        assert json.load(file)["info"]["antithetic"]
    with open("out/table.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["coverage 90%"]) >= 0 and row["expected"] in ("", "nan")
    assert "n must be even and at least 4 for antithetic samples, got 3" in refused(*antithetic, "--n", "3")


def test_a_network_runs_plain_as_well(work, weights):
    for mode in ("plain", "channels-last"):
        assert main(reconstruct(weights, "--operator", "denoising", "--inference", mode, "--out", mode)) == 0
    plain, other = (np.load(f"{mode}/mean.npy") for mode in ("plain", "channels-last"))
    np.testing.assert_allclose(plain, other, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "option", "mode"), [(40, [], "int8"), (648, [], "channels-last"), (40, ["plain"], "plain")]
)
def test_images_in_tiles_are_not_rounded(work, width, option, mode):
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if mode == "int8" and not (able.get("avx512_vnni") or able.get("avx_vnni")):
        pytest.skip("the processor lacks instructions for 8 bits (VNNI)")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, width), np.uint8)).save("wide.png")
    short = ["--n", "1", "--sampler-option", "steps=2", "--sampler-option", "scout_steps=1"]
    run = ["reconstruct", "wide.png", "--operator", "denoising", "--prior", "photo", *short, "--out", "out"]
    assert main([*run, *(["--inference", *option] if option else [])]) == 0
    with open("out/run.json") as file:
        found = json.load(file)["info"]["inference"]
    # Without the instructions the prior is left as it was loaded, which is channels-last.
    assert found in ((mode, None) if mode == "channels-last" else (mode,))


def test_one_sample_is_enough(work, weights):
    assert main(reconstruct(weights, "--operator", "denoising", "--n", "1", "--out", "out")) == 0
    assert not (work / "out/std.npy").exists()
    assert (work / "out/figure.png").exists()
    table = (work / "out/table.md").read_text()
    assert " - |" in table and "nan" not in table


def test_demo_writes_all_it_promises(work, weights, capsys):
    assert main(["demo", "--prior", weights, *FAST, "--out", "demo"]) == 0
    kinds = ["box-inpainting", "compressed-sensing", "gaussian-blur"]
    samples = [f"samples-{kind}.safetensors" for kind in kinds]
    assert sorted(os.listdir("demo")) == ["figure.png", "run.json", *samples, "table.csv", "table.md"]
    saved = [inverse.Samples.load(work / "demo" / name) for name in samples]
    assert {tuple(each.x.shape) for each in saved} == {(4, 3, 1, 28, 28)}
    rows = list(csv.DictReader((work / "demo/table.csv").open()))
    assert sorted(row["measurement"] for row in rows) == kinds
    assert {row["NFE"] for row in rows} == {str(each.nfe) for each in saved}
    said = capsys.readouterr()
    assert said.out.startswith((work / "demo/table.md").read_text())
    assert "100%" in said.err  # of the progress bar


def test_sample_draws_from_the_prior(work, weights, capsys):
    assert main(["sample", "--prior", weights, "--n", "20", "--out", "out"]) == 0
    x = np.load("out/samples.npy")
    assert x.shape == (20, 1, 28, 28)
    # 15,680 independent pixels: standard errors 0.002 and 0.0014, and the flow ends within 2% of its std
    assert x.mean() == pytest.approx(MEAN, abs=5 * 0.002)
    assert x.std() == pytest.approx(STD, abs=5 * 0.0014 + 0.02 * STD)
    assert sorted(os.listdir("out")) == ["figure.png", "run.json", "samples.npy"]


def test_list_names_everything_there_is(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in [*operators.available(), *priors.available(), *inverse.samplers()]:
        assert f"\n  {name} " in said


def test_the_list_tells_the_options_that_operators_take():
    """Every `option=` in a line is one: an unknown one is refused by its name, whatever its value."""
    assert sorted(listing.OPERATORS) == operators.available()
    for name, line in listing.OPERATORS.items():
        for word in line.replace("(", " ").replace(")", " ").replace(",", " ").split():
            if "=" in word:
                with pytest.raises((TypeError, ValueError)) as refusal:
                    operators.create(name, (1, 8, 8), **{word.partition("=")[0]: object()})
                assert "options of" not in str(refusal.value)


def test_an_earlier_run_is_replaced_whole_but_nothing_else_is(work, weights, refused):
    assert main(["sample", "--prior", weights, "--n", "2", "--out", "out"]) == 0
    assert main(reconstruct(weights, "--operator", "denoising", "--out", "out")) == 0
    assert not (work / "out/samples.npy").exists()
    (work / "out/notes.txt").write_text("mine")
    assert "with notes.txt in it" in refused(*reconstruct(weights, "--operator", "denoising", "--out", "out"))
    (work / "empty").mkdir()
    assert main(["sample", "--prior", weights, "--n", "2", "--out", "empty"]) == 0
    assert "must be a folder" in refused("sample", "--prior", weights, "--out", "shoe.png")


def test_a_folder_that_cannot_be_written_is_refused(work, weights, refused):
    assert "--out must be a folder that can be written" in refused(
        "sample", "--prior", weights, "--out", "shoe.png/out"
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--operator", "gausian-blur"], "operator must be one of"),
        (["--operator", "gausian-blur"], "did you mean 'gaussian-blur'"),
        (["--operator", "gaussian-blur", "--option", "width=wide"], "width must be a number, got 'wide'"),
        (["--operator", "denoising", "--sampler", "mmp"], "did you mean 'mmps'"),
        (["--operator", "denoising", "--sampler-option", "stepz=3"], "did you mean 'steps'"),
        (["--operator", "denoising", "--option", "width=3"], "width"),
        (["--operator", "gaussian-blur", "--option", "width"], "KEY=VALUE"),
        (["--operator", "inpainting", "--option", "mask=none.npy"], "no such file"),
        (["--operator", "denoising", "--noise", "0"], "finite number above 0"),
        (["--operator", "denoising", "--noise", "-1"], "--noise"),
        (["--operator", "denoising", "--noise", "nan"], "finite number above 0"),
        (["--operator", "denoising", "--n", "0"], "whole number of at least 1"),
        (["--operator", "denoising", "--n", "2.5"], "whole number of at least 1"),
        (["--operator", "denoising", "--device", "abacus"], "--device must be a device of this machine"),
        (["--operator", "denoising", "--prior", "none.safetensors"], "prior must be a name of"),
        (["--operator", "denoising", "--prior", "fashion28"], "prior must be one of"),
        (["--operator", "denoising", "--prior", "shoe.png"], "shoe.png"),
        (["--operator", "denoising", "--measured"], "one .npy file"),
        (["--operator", "phase-retrieval", "--sampler", "mmps"], "linear"),
        ([], "--operator"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(refused, weights, argv, said):
    assert said in refused(*reconstruct(weights, *argv))


def test_files_that_are_no_images_are_refused(work, weights, refused):
    (work / "text.png").write_text("not a picture")
    rest = ["--operator", "denoising", "--prior", weights]
    assert "text.png is not an image" in refused("reconstruct", "text.png", *rest)
    assert "no such file" in refused("reconstruct", "nowhere.png", *rest)


def test_measurements_taken_for_images_are_refused_with_the_way_out(work, weights, refused):
    np.save("y.npy", np.random.default_rng(0).normal(size=(2, 1, 28, 28)))
    said = refused("reconstruct", "y.npy", "--operator", "denoising", "--prior", weights)
    assert "y.npy must hold images with values in [0, 1]" in said
    assert said.endswith("(for measurements pass --measured)\n")
    np.save("bytes.npy", np.zeros((28, 28), np.int64))
    assert "--measured" not in refused("reconstruct", "bytes.npy", "--operator", "denoising", "--prior", weights)


def test_options_are_checked_before_the_images_are_touched(work, weights, refused):
    Image.new("RGB", (60, 40), "red").save("photo.jpg")
    rest = ["--operator", "gaussian-blur", "--option", "widht=2", "--prior", weights]
    assert "options of gaussian-blur" in refused("reconstruct", "photo.jpg", *rest)  # and no word on the photograph


def test_a_measurement_of_another_shape_is_refused(work, weights, refused):
    np.save("y.npy", np.zeros((2, 1, 14, 14)))
    rest = ["--measured", "--operator", "denoising", "--prior", weights]
    assert "y must have shape" in refused("reconstruct", "y.npy", *rest)
    np.save("nan.npy", np.full((1, 1, 28, 28), np.nan))
    assert "finite" in refused("reconstruct", "nan.npy", *rest)


def test_an_unknown_command_is_refused_with_the_nearest(refused):
    assert "did you mean demo?" in refused("dmeo")
    assert "did you mean reconstruct?" in refused("reconstuct", "a.png")


def test_help_of_every_command_has_examples_that_parse(capsys):
    from inverse.command.main import parser

    for command in ([], ["demo"], ["reconstruct"], ["sample"], ["train"], ["list"]):
        with pytest.raises(SystemExit) as exit:
            main([*command, "--help"])
        assert exit.value.code == 0
        said = capsys.readouterr().out
        examples = [
            line.split()[1:] for line in said.split("examples:")[1].splitlines() if line.startswith("  inverse ")
        ]
        assert examples
        for argv in examples:
            if "mask=mask.npy" not in argv and "matrix=A.npy" not in argv:  # files that are read while parsing
                assert parser().parse_args(argv).run


def test_a_failure_has_its_own_code_and_leaves_nothing(work, weights, capsys, monkeypatch):
    def fail(*_, **__):
        raise inverse.InvalidStateError("a chain is\nno longer finite")

    monkeypatch.setattr("inverse.driver.Sampler.sample", fail)
    assert main(reconstruct(weights, "--operator", "denoising", "--out", "out")) == 1
    assert capsys.readouterr().err == "inverse: a chain is no longer finite\n"
    assert os.listdir(".") == ["shoe.png"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_in_mid_run_leaves_nothing(work, weights, sent, code):
    command = [
        "reconstruct",
        "shoe.png",
        "--operator",
        "denoising",
        "--prior",
        weights,
        "--sampler-option",
        "steps=1000000",
    ]
    program = "import sys; from inverse.command import main; sys.exit(main(sys.argv[1:]))"
    running = subprocess.Popen(
        [sys.executable, "-c", program, *command, "--out", "out"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell that runs the tests in the background has told them to ignore it, and a child would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        seen = ""
        deadline = time.monotonic() + 60
        while "step/s" not in seen and running.poll() is None and time.monotonic() < deadline:  # the progress bar moves
            seen += running.stderr.read(1)
        running.send_signal(sent)
        _, rest = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == code, seen + rest
    assert rest.rstrip().endswith("inverse: interrupted") == (sent == signal.SIGINT)
    assert os.listdir(".") == ["shoe.png"]


def test_train_goes_where_it_is_told(work, monkeypatch, capsys):
    from priors import training

    asked = {}

    def train(**options):
        asked.update(options)
        return type("Run", (), {"stopped": options["images"] == 64})()

    monkeypatch.setattr(training, "train", train)
    assert main(["train", "--images", "128", "--out", "run", "--seed", "4", "--batch", "32"]) == 0
    assert asked["images"] == 128
    assert asked["minutes"] is None
    assert (asked["out"], asked["seed"], asked["batch"]) == ("run", 4, 32)
    assert main(["train", "--images", "64", "--out", "run"]) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_train_without_its_data_is_refused(refused):
    assert "Fashion-MNIST" in refused("train", "--images", "1", "--data", "nowhere", "--out", "run")

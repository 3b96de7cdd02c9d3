"""The Stable Diffusion example, on the tiny pipeline that it makes, and what it refuses before anything heavy."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from inverse.predictor_corrector import PredictorCorrector
from priors import Diffusers

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "examples" / "stable_diffusion.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("stable_diffusion_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(example, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["stable_diffusion.py", *map(str, arguments)])
    with torch.random.fork_rng(devices=[]):
        example.main()


@pytest.fixture(scope="module")
def out(example, tmp_path_factory) -> Path:
    """The results of the tiny run."""
    folder = tmp_path_factory.mktemp("example") / "out"
    with pytest.MonkeyPatch.context() as patch:
        run(example, patch, "--tiny", "--out", folder)
    return folder


def test_tiny_run_makes_every_image_and_a_table(out):
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [(row["corrector_steps"], row["alpha"]) for row in rows] == 2 * [(0, 0.0), (2, 0.0), (2, 1.0)]
    assert len(list(out.glob("images/*/*/*.png"))) == len(rows) * 4
    assert all(-100 <= row["P"] <= 100 and -100 <= row["I"] <= 100 for row in rows)
    assert not list(out.rglob(".*"))  # nothing under a temporary name is left


def test_a_second_run_draws_only_what_is_missing_and_the_same(example, out, monkeypatch):
    images = sorted(out.glob("images/*/*/*.png"))
    before = {image: (image.read_bytes(), image.stat().st_mtime_ns) for image in images}
    images[0].unlink()
    run(example, monkeypatch, "--tiny", "--out", out)
    assert {image: image.read_bytes() for image in images} == {image: kept for image, (kept, _) in before.items()}
    again = [image for image in images if image.stat().st_mtime_ns != before[image][1]]
    assert again == images[:2]  # its batch


def test_a_folder_of_another_run_is_refused(example, out, monkeypatch):
    claim = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(claim | {"guidance": "9.0"}))
    with pytest.raises(SystemExit, match="--out must be a new folder for --guidance 1.5: .* was made with 9.0"):
        run(example, monkeypatch, "--tiny", "--out", out)
    (out / "run.json").write_text(json.dumps(claim))


def test_cost_is_that_of_the_sampler(example, out, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stable_diffusion.py", "somewhere"])
    args = example.arguments()
    assert len(example.settings(args)) == 3 * 26 and args.images == 512
    prior = Diffusers(out / "tiny" / "pipeline", "a car")
    for corrector_steps, alpha in ((0, 0.0), (5, 0.0), (5, 1.0)):
        sampler = PredictorCorrector(steps=30, corrector_steps=corrector_steps, alpha=alpha)
        setting = example.Setting("a car", corrector_steps, alpha)
        assert example.calls(args, setting) == sampler.evaluations(prior)


def test_check_stops_before_anything_heavy(example, out, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(example, "draw", lambda args: pytest.fail("drew"))
    run(
        example,
        monkeypatch,
        out / "tiny" / "pipeline",
        "--check",
        "--out",
        tmp_path / "new",
        "--images",
        2,
        "--batch",
        1,
    )
    text = capsys.readouterr().out
    assert "78 settings of 2 images" in text and "memory of this machine" in text and not (tmp_path / "new").exists()
    with pytest.raises(SystemExit):
        run(example, monkeypatch, tmp_path, "--check", "--out", tmp_path / "new")
    assert "lacks model_index.json" in capsys.readouterr().err
    monkeypatch.setitem(example.NEEDED, "diffusers", "99.0")
    with pytest.raises(SystemExit):
        run(example, monkeypatch, out / "tiny" / "pipeline")
    assert "problem: diffusers must be at least 99.0, got " in capsys.readouterr().err
    monkeypatch.setitem(example.NEEDED, "no-such-package", "1.0")
    assert "no-such-package must be at least 1.0, and is not installed" in "\n".join(example.check_versions())


def test_memory_and_disk_are_checked(example, out, monkeypatch, capsys):
    monkeypatch.setattr(example, "available_memory", lambda: 1e9)
    with pytest.raises(SystemExit):
        run(example, monkeypatch, out / "tiny" / "pipeline", "--check", "--batch", 64)
    message = "--batch must fit the memory of this machine: about 192.0 GB are needed, 1.0 GB are free"
    assert message in capsys.readouterr().err

"""The experiment on predictor-corrector sampling: its measures, its bookkeeping, and the whole of it in quick mode."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "examples" / "paper" / "guidance.py"


@pytest.fixture(scope="module")
def guidance():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import guidance

        return guidance
    finally:
        sys.path.remove(str(SCRIPT.parent))


def test_frechet_distance_of_gaussians_in_closed_form(guidance):
    # Commuting covariances: |difference of means|^2 + the sum of (difference of standard deviations)^2.
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = points - points.mean(0)
    white = points @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(points.T))).T
    first, second = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 2.0, 0.5]).double()
    assert guidance.frechet(white * first, white * second + 0.5) == pytest.approx(3 * 0.25 + 1 + 0 + 6.25)
    assert guidance.frechet(points, points) == pytest.approx(0, abs=1e-9)


def settings(guidance, tmp_path, **changed):
    weights = {"fashion-28": {"seed": "0"}, "fashion-28-conditional": {"seed": "0"}}
    given = {"quick": False, "corrector_steps": (5, 30), "seeds": range(2), "steps": 3, "n": 20, "weights": weights}
    (tmp_path / "cells").mkdir(exist_ok=True)
    return argparse.Namespace(**{**given, "out": tmp_path, **changed})


def test_settings_of_a_column_have_equal_denoiser_calls(guidance, tmp_path):
    cells = list(guidance.cells(settings(guidance, tmp_path)))
    assert len(cells) == 2 * 2 * (len(guidance.UNCONDITIONAL) + len(guidance.GUIDED))
    for k in (5, 30):
        for guided in (False, True):
            counts = {guidance.calls(cell) for cell in cells if cell["k"] == k and cell["guided"] == guided}
            assert counts == {20 * (1 + guided) * 3 * (1 + k)}


def test_a_cell_is_drawn_once_and_a_broken_one_again(guidance, tmp_path):
    args = settings(guidance, tmp_path)
    paths = {guidance.path_of(cell, args) for cell in guidance.cells(args)}
    assert len(paths) == len(list(guidance.cells(args)))
    path = paths.pop()
    assert guidance.load(path) is None
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    guidance.save(images, path)
    assert (guidance.load(path) - images).abs().max() <= 0.5 / 255 + 1e-6
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:-1])
    assert guidance.load(path) is None
    # Other weights of the conditional network change the guided cells alone.
    other = settings(guidance, tmp_path, weights={**args.weights, "fashion-28-conditional": {"seed": "1"}})
    for cell in guidance.cells(args):
        assert (guidance.path_of(cell, args) == guidance.path_of(cell, other)) == (not cell["guided"])


def test_measures_of_images_that_the_judge_knows(guidance):
    # Features: the pixels; classes: the largest of them.
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity())
    images = torch.eye(10).reshape(10, 1, 1, 10)
    see = guidance.Judge(model, images.repeat(3, 1, 1, 1))
    one_each = see(images, guided=False)
    assert one_each["entropy"] == pytest.approx(math.log(10))
    assert one_each["nearest"] == pytest.approx(0, abs=1e-6)
    assert one_each["distance"] == pytest.approx(math.sqrt(2))
    wrong = see(images.roll(1, 0).repeat(2, 1, 1, 1), guided=True)
    assert wrong["accuracy"] == 0 and wrong["distance"] == pytest.approx(0, abs=1e-6)
    assert see(images[:1].repeat(4, 1, 1, 1), guided=False)["entropy"] == pytest.approx(0)


def test_roughness_of_a_chequered_image(guidance):
    chequered = (torch.arange(6).reshape(1, 1, 6, 1) + torch.arange(6)).remainder(2).float()
    assert guidance.roughness(0.5 * chequered) == 0.25
    assert guidance.roughness(torch.ones(2, 1, 6, 6)) == 0


def test_floor_has_the_classes_of_the_draws(guidance):
    labels = torch.randint(0, 10, (400,), generator=torch.Generator().manual_seed(0))
    images = labels.reshape(-1, 1, 1, 1).float() + torch.linspace(0, 0.5, 400).reshape(-1, 1, 1, 1)
    chosen = guidance.floor(True, (images, labels), 30, seed=1).flatten()
    assert torch.equal(chosen.floor().long(), torch.arange(30) % 10)
    assert len(chosen.unique()) == 30
    assert not torch.equal(chosen, guidance.floor(True, (images, labels), 30, seed=2).flatten())


@pytest.mark.slow
def test_quick_mode_goes_on_where_it_was(tmp_path):
    command = [sys.executable, str(SCRIPT), "--quick", "--out", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    result = json.loads((tmp_path / "guidance.json").read_text())
    assert result["state"]["cells"] == result["state"]["of"] == 3 * 9
    rows = {(row["guided"], row["name"]): row["seeds"] for row in result["rows"]}
    # Plain correction keeps the clothes, the tempered one blurs the network's idea of them: see docs/results.md.
    for plain, tempered in zip(rows[False, "alpha = 0"], rows[False, "alpha = 1"], strict=True):
        assert plain["nearest"] < tempered["nearest"]
    times = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.returncode == 0
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()} == times

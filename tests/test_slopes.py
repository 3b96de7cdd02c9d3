"""The slopes of the paper's examples: what is computed by hand in the script, its bars, and its quick mode."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from priors import Manifold
from priors.manifolds import Embedded, ImageOrbit, Sphere, Torus

PAPER = Path(__file__).parents[1] / "examples" / "paper"


@pytest.fixture(scope="module")
def slopes():
    sys.path.insert(0, str(PAPER))
    try:
        yield importlib.import_module("slopes")
    finally:
        sys.path.remove(str(PAPER))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_divergence_of_a_linear_function_s_gradient_on_a_sphere(slopes, n):
    """<a, p> on the unit sphere is an eigenfunction of the Laplacian, of eigenvalue -n."""
    sphere = Embedded(Sphere(n), n + 3, seed=1)
    points = sphere.sample(20, seed=0)
    a = sphere.outer(torch.arange(n + 1.0, dtype=torch.float64))
    found = slopes.divergence(lambda p: sphere.tangential(p, a.expand_as(p)), sphere, points)
    torch.testing.assert_close(found, -n * points @ a, rtol=0, atol=1e-6)


def test_divergence_on_a_curved_torus(slopes):
    """Of the unit field along the tube's angle v: the logarithmic derivative of the ring's radius 2 + cos v, by v."""
    torus = Torus(2.0, 1.0)
    points = torus.sample(20, seed=0)

    def field(p):
        azimuth, v = torus.coordinates(p).unbind(-1)
        return torch.stack([-v.sin() * azimuth.cos(), -v.sin() * azimuth.sin(), v.cos()], dim=-1)

    v = torus.coordinates(points)[:, 1]
    expected = -v.sin() / (2 + v.cos())
    torch.testing.assert_close(slopes.divergence(field, torus, points), expected, rtol=0, atol=1e-6)


def test_the_slope_in_thick_clouds_about_a_product_of_circles(slopes):
    """Of radius r: each bends by 1/r, so a cloud of thickness t raises it by 1 + (1 + sigma^alpha / 2) t^2 / r^2."""
    angle = 2 * math.pi * torch.arange(8) / 8
    orbit = ImageOrbit(angle.cos()[:, None] + angle.cos(), cutoff=1)
    radius, (thin, thick) = orbit.radius / 2**0.5, (0.1, 0.4)
    for method, alpha in (("generic", 0.0), ("tempered 1", 1.0)):
        low, high = (math.log(1 + (1 + t ** (2 * alpha) / 2) * t**2 / radius**2) for t in (thin, thick))
        found = slopes.thickened_slope(Manifold(orbit), method, (thin, thick))
        assert found == pytest.approx((1 - alpha / 2) * (high - low) / math.log(thick / thin) - alpha, abs=1e-9)


def test_the_cancelled_score_leaves_half_the_square_and_the_divergence(slopes):
    """On the circle log p_data = -4 cos(t): its gradient is 4 sin(t) along the circle, with divergence 4 cos(t)."""
    prior = slopes.PRIORS["circle"]()
    points = prior.manifold.sample(30, seed=0)
    t = prior.manifold.coordinates(points)[:, 0]
    constant, _, square = slopes.cancelled_potentials(prior, points)
    torch.testing.assert_close(constant, 8 * t.sin() ** 2 + 2 * t.cos(), rtol=0, atol=1e-6)
    size = slopes.TangentialError(manifold=prior).unit(points).square().sum(1)
    torch.testing.assert_close(square, size / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", ["generic", "tempered 0.5", "tempered 1.5", "cancelled"])
def test_slopes_by_quadrature(slopes, method):
    found = slopes.quadrature_slope(slopes.PRIORS["sphere S2"](), method)
    assert found == pytest.approx(-slopes.METHODS[method], abs=0.05)


def test_all_priors_are_on_manifolds(slopes):
    assert all(isinstance(make(), Manifold) for make in slopes.PRIORS.values())


@pytest.mark.parametrize(
    ("low", "high", "quick", "missed"), [(-1.1, -0.9, False, 0), (-1.2, -0.9, False, 1), (-1.2, -0.9, True, 0)]
)
def test_a_slope_whose_interval_leaves_the_bar_is_missed(slopes, tmp_path, capsys, low, high, quick, missed):
    row = {"manifold": "circle", "method": "tempered 1", "expected": -1.0, "quadrature": -1.0, "floor": [0.05]}
    row |= {"slope": -1.0, "low": low, "high": high, "quadrature_there": -1.0}
    assert slopes.finish([row], tmp_path, quick) == missed
    assert ("MISSED" in capsys.readouterr().out) == bool(missed)
    assert json.loads((tmp_path / "slopes.json").read_text())["results"] == [row]
    assert {file.name for file in tmp_path.iterdir()} == {"slopes.json", "slopes.png"}


def test_results_that_are_there_are_kept(slopes, tmp_path):
    rows = [{"manifold": "circle", "method": "generic", "expected": 0.0, "quadrature": 0.0}]
    assert slopes.read(tmp_path) == {}
    slopes.write(rows, tmp_path)
    assert list(slopes.read(tmp_path).values()) == rows


def test_a_slope_by_sampling_is_resumed_and_has_its_floor(slopes, tmp_path, monkeypatch):
    monkeypatch.setattr(slopes, "SHORT", slopes.Size(n=8, seeds=2, least=8, time=0.5, thicknesses=(0.2, 0.3)))
    args = argparse.Namespace(quick=True, out=tmp_path, first_seed=1, workers=1)
    row = slopes.sampled_slope("circle", "tempered 1", args)
    cells = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert json.dumps(row) == json.dumps(slopes.sampled_slope("circle", "tempered 1", args))
    assert cells == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")} and len(cells) == 16
    assert row["sigmas"] == pytest.approx([0.04, 0.09]) and len(row["floor"]) == 2 and row["n"] == 8


def test_an_unknown_manifold_is_refused(slopes, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["slopes.py", "--only", "klein"])
    with pytest.raises(SystemExit):
        slopes.main()
    assert "--only must name some of circle, ellipse (1, 2)" in capsys.readouterr().err


@pytest.mark.slow
def test_quick_mode_meets_its_bars(tmp_path):
    run = subprocess.run(
        [sys.executable, str(PAPER / "slopes.py"), "--quick", "--out", str(tmp_path / "results")],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "MISSED" not in run.stdout

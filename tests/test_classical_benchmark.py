"""The benchmark of classical denoisers: what it fits and measures where the answer is known."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from priors import Denoiser, classical, photographs


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("classical_denoisers")


def test_a_power_law_is_found(benchmark):
    sigmas = [0.01, 0.1, 0.5]
    assert benchmark.line(sigmas, [1.3 * sigma**1.2 for sigma in sigmas]) == pytest.approx((1.3, 1.2), rel=1e-4)


def test_the_best_strength_is_found(benchmark):
    """Of black images (1 - c) x is nearest at c = 1."""

    class Shrinking(torch.nn.Module):
        def __init__(self, c: float) -> None:
            super().__init__()
            self.c = c

        def forward(self, x, sigma):
            return (1 - self.c) * x

    found = benchmark.best_strength(lambda c: Denoiser(Shrinking(c)), torch.zeros(1, 1, 8, 8), 0.2, seed=0)
    assert found == pytest.approx(0.2, rel=0.05)


def test_quick_run_on_pictures_of_our_own(benchmark, monkeypatch, tmp_path):
    ramp = np.linspace(0, 255, 160, dtype=np.uint8)
    for name in photographs.HELD_OUT:
        path = tmp_path / photographs.PHOTOGRAPHS[name].format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([np.add.outer(ramp // 2, ramp // 2)] * 3, axis=-1)).save(path)
    monkeypatch.setattr(classical, "available", lambda: ["median", "tv", "wavelet"])
    out = tmp_path / "result.json"
    arguments = ["--quick", "--threads", "1", "--data", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["classical_denoisers.py", *arguments])
    assert benchmark.main() == 0
    result = json.loads(out.read_text())
    assert [(row["channels"], row["sigma"]) for row in result["psnr"]] == [
        (channels, sigma) for channels in (1, 3) for sigma in (0.05, 0.1, 0.2)
    ]
    assert all(result["bars"].values()) and len(result["bars"]) == 3
    for row in result["psnr"]:
        # 4 crops of 64^2 values: 5 standard deviations of their mean square are 5 sqrt(2) / 128 of it, 0.24 dB.
        assert row["noisy"][0] == pytest.approx(-20 * math.log10(row["sigma"]), abs=0.25)
        assert "bm3d" not in row

"""The examples of the paper, in quick mode: do they find what the theory says?"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_theorems(tmp_path):
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "paper" / "theorems.py"), "--quick", "--out", str(tmp_path / "results")],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "MISSED" not in run.stdout
    assert {file.name for file in (tmp_path / "results").iterdir()} == {"cells", "theorems.json", "theorems.png"}


@pytest.mark.slow
def test_usefulness(tmp_path):
    """Without a network: where the skew is one of weights alone, tempering at all levels undoes a part of it."""
    out = tmp_path / "results"
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "paper" / "usefulness.py"), "--quick", "--threads", "1", "--out", str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert {path.name for path in out.iterdir()} == {"cells", "usefulness.json", "exact.png"}
    (rows,) = (part["rows"] for part in json.loads((out / "usefulness.json").read_text()).values() if "rows" in part)

    def mean(name: str, key: str) -> float:
        return sum(rows[name][key]) / len(rows[name][key])

    # Exact laws: the skew moves the posterior, by weights less than by the number of images, and both beyond chance.
    floor = mean("balanced, exact, again", "tv")
    assert floor < mean("weights, exact", "tv") < mean("images, exact", "tv")
    # The uniform law on the images is the balanced prior where the skew is one of weights, p_data where it is not.
    generic, geometric = "annealed", "annealed, tempered 1 at all levels"
    assert mean(f"weights, {geometric}", "dominant") < 0.5 * mean(f"weights, {generic}", "dominant")
    assert mean(f"images, {geometric}", "dominant") > 0.5 * mean(f"images, {generic}", "dominant")


def test_scores_of_class_frequencies():
    """Frequencies over the shares of the skewed prior are the balanced posterior; the Brier score is unbiased."""
    spec = importlib.util.spec_from_file_location("usefulness", EXAMPLES / "paper" / "usefulness.py")
    usefulness = importlib.util.module_from_spec(spec)
    sys.modules["usefulness"] = usefulness
    spec.loader.exec_module(usefulness)
    generator = torch.Generator().manual_seed(0)
    balanced = torch.rand(5, 10, generator=generator, dtype=torch.float64)
    balanced = balanced / balanced.sum(1, keepdim=True)
    shares = torch.full((10,), 0.01, dtype=torch.float64)
    shares[usefulness.DOMINANT] = 0.91
    skewed = shares * balanced
    assert torch.allclose(usefulness.reweighted(skewed / skewed.sum(1, keepdim=True)), balanced)

    n, trials, p = 4, 20_000, balanced[:1]
    draws = torch.multinomial(p[0], n * trials, replacement=True, generator=generator).view(trials, n)
    frequency = torch.nn.functional.one_hot(draws, 10).double().mean(1)
    label = torch.tensor([3])
    scores = usefulness.scores(frequency, p, label.expand(trials), n)
    expected = (p[0] - torch.nn.functional.one_hot(label[0], 10)).square().sum()
    error = scores["brier"].std() / trials**0.5
    assert abs(scores["brier"].mean() - expected) < 4 * error  # fails by chance once in 16,000
    assert torch.allclose(usefulness.scores(p, p, label, n)["tv"], torch.zeros(1, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image_posterior", "mixing"])
def test_image_posterior_and_mixing(name, tmp_path):
    out = tmp_path / "results"
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "paper" / f"{name}.py"), "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "MISSED" not in run.stdout
    assert {path.name for path in out.iterdir()} == {"cells", f"{name}.json", f"{name.replace('_', '-')}.png"}


@pytest.mark.slow
def test_retuned(tmp_path):
    """Tuned again, a sampler is no worse but for the chance of the trials, and breaks all the same."""
    out = tmp_path / "results"
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "paper" / "retuned.py"), "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert {path.name for path in out.iterdir()} == {"cells", "retuned.json"}
    results = json.loads((out / "retuned.json").read_text())["results"]
    assert {(part["method"], part["prior"]) for part in results} == {
        (sampler, prior) for sampler in ("langevin", "annealed-langevin") for prior in ("generic", "tempered")
    }
    for part in results:
        floor = np.mean(part["floor"])
        for row in part["rows"]:
            once, each = np.mean(row["tuned once"]), np.mean(row["retuned"])
            assert each < once + floor
        first, last = part["rows"][0], part["rows"][-1]
        assert np.mean(first["retuned"]) < 2 * floor and np.mean(last["retuned"]) > 5 * floor
    # At this size, 1, the tempered posterior still holds (Li et al. 2025, Theorem 6.1), and the generic one does not.
    at_one = {(part["method"], part["prior"]): np.mean(part["rows"][1]["retuned"]) for part in results}
    for sampler in ("langevin", "annealed-langevin"):
        assert at_one[sampler, "tempered"] < at_one[sampler, "generic"]


def test_autocorrelation_times_of_a_diffusion_on_the_circle(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "paper"))
    from mixing import Drift, autocorrelation_times, law

    # Without a density cos and sin are eigenfunctions of the Laplacian, with eigenvalue 1: both times are 2.
    assert autocorrelation_times(law(Drift(None, 0.0), 0.1)) == pytest.approx([2.0, 2.0], rel=1e-4)
    # Of two wells the slower time is that of the jumps between them, 1 over their rate (Kramers 1940): with the
    # density exp(-A cos 2u) the rate of leaving a well, to both sides, is 2 (4A / 2 pi) exp(-2A), right to some 1/A.
    a = 0.01**-0.5
    masses = law(Drift(0.0, 1.0), 0.01) * np.exp(4 * np.cos(np.arange(720) * 2 * math.pi / 720))
    cos, sin = autocorrelation_times(masses / masses.sum())
    rate = 2 * 4 * a / (2 * math.pi) * math.exp(-2 * a)
    assert sin == pytest.approx(2 / (2 * rate), rel=0.1) and cos < 1

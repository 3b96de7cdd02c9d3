"""The benchmarks that guard what the README claims, in quick mode: do they meet their bars?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "gaussian_posterior.py --quick",
        "circle_posterior.py --quick",
        "mixture_posterior.py --quick --only mmps dps --noise 0.05",
    ],
)
def test_bars_are_met(command, tmp_path):
    script, *options = command.split()
    result = tmp_path / "result.json"
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options, "--threads", "1", "--out", str(result)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "MISSED" not in run.stdout and result.exists()

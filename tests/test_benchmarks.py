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


def test_a_cell_is_measured_once_for_its_settings(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from common import cell

    calls = []

    def compute():
        calls.append(1)
        return {"value": len(calls)}

    found = [cell(tmp_path, "a / b", compute, n=n)["value"] for n in (1, 2, 1)]
    assert found == [1, 2, 1] and len(calls) == 2
    with pytest.raises(KeyboardInterrupt):
        cell(tmp_path, "broken", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert len(list(tmp_path.iterdir())) == 2

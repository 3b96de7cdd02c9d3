"""The examples of the paper, in quick mode: do they find what the theory says?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert {file.name for file in (tmp_path / "results").iterdir()} == {"theorems.json", "theorems.png"}

"""The gallery: each script runs offline, in time, and makes the figures that its page shows."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GALLERY = sorted((Path(__file__).parents[1] / "examples" / "gallery").glob("*.py"))
SECONDS = 120  # of one core's time, whatever else the machine does


def test_there_is_something_to_run():
    assert len(GALLERY) >= 7


@pytest.mark.parametrize("script", GALLERY, ids=lambda path: path.stem)
def test_a_script_has_a_title_and_cells(script):
    text = script.read_text()
    assert re.match(r'"""\n.+\n=+\n\n', text)
    assert text.count("\n# %%\n# ") >= 3


@pytest.mark.slow
@pytest.mark.parametrize("script", GALLERY, ids=lambda path: path.stem)
def test_a_script_runs_and_makes_its_figures(script, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS
    named = set(re.findall(r"[\w]+\.png", script.read_text()))
    assert script.stem in {Path(name).stem for name in named}
    assert named == {path.name for path in tmp_path.glob("*.png")}
    for name in named:
        picture = np.asarray(Image.open(tmp_path / name).convert("L"), dtype=float)
        assert picture.shape[1] >= 700, name
        assert picture.std() > 10, name

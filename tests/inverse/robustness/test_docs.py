"""The programs of docs/robustness.md run as they are written there, from top to bottom."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "robustness.md"


def test_the_page_is_one_script_that_runs(tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)))
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Sweep of 48 cells, none of them failed" in run.stdout
    assert all(column in run.stdout for column in ("critical", "slope", "fitted"))
    assert (tmp_path / "report.html").is_file() and len(list((tmp_path / "results" / "rows").iterdir())) == 48

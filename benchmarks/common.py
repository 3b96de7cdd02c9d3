"""What every benchmark shares: its arguments, the machine it ran on, a printed table results written atomically."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import deepinv
import torch

from inverse.files import replacing


def arguments(description: str, name: str) -> argparse.ArgumentParser:
    """--out, --quick, --seeds, --threads: the arguments that all benchmarks take."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results") / f"{name}.json", help="result file")
    parser.add_argument("--quick", action="store_true", help="fewer seeds and draws; error bars are wider")
    parser.add_argument(
        "--first-seed", type=int, default=1000, help="reported seeds start here; tuning used those below"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    return parser


def machine() -> dict[str, str | int]:
    """The machine and the versions that numbers came from."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "deepinv": deepinv.__version__,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()


def mean_and_error(values: Sequence[float] | torch.Tensor) -> tuple[float, float]:
    """Mean and its standard error; the error of a single value is nan."""
    values = torch.as_tensor(values, dtype=torch.float64).flatten()
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), error


def show(values: Sequence[float] | torch.Tensor, digits: int = 3) -> str:
    """'mean +- standard error'."""
    mean, error = mean_and_error(values)
    return f"{mean:.{digits}f} +- {error:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "| " + " | ".join(str(cell).ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def cell(folder: Path, name: str, compute: Callable[[], dict], **settings: object) -> dict:
    """A measurement: read from the folder where it was made before with the same settings, else made and written."""
    settings |= {"name": name}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"{re.sub('[^a-z0-9.-]+', '-', name.lower())}-{digest}.json"
    if not path.exists():
        start = time.perf_counter()
        result = settings | compute()
        seconds = time.perf_counter() - start
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(result | {"seconds": seconds}) + "\n")
        print(f"{name}: {seconds:.0f} s", file=sys.stderr)
    return json.loads(path.read_text())


def write(path: Path, result: dict) -> None:
    """The result as JSON, with the machine, under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
    print(f"\n{json.dumps(machine())}\nwritten to {path}")


def report(bars: dict[str, bool]) -> int:
    """Print which bars were met; the exit status, 1 where one was missed."""
    for bar, met in bars.items():
        print(f"{'met   ' if met else 'MISSED'}  {bar}")
    return 0 if all(bars.values()) else 1

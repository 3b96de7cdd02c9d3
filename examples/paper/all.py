# %% [markdown]
# # All experiments of this folder
#
#     python examples/paper/all.py --quick    # under ten minutes on two cores
#     python examples/paper/all.py            # hours; interrupted, the same command goes on where it was
#
# Each script is a process of its own, one thread each, as many at a time as there are cores; what it prints is in
# `--out/NAME.log`, what it finds in the folder `--out/NAME`.

# %%
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

# Those that take the longest first, so that at the end no core is idle for long.
SCRIPTS = ("figures", "learned", "image_posterior", "guidance", "usefulness", "theorems", "retuned", "slopes", "mixing")


# %%
def run(name: str, args: argparse.Namespace) -> tuple[str, int, float]:
    """Exit status and seconds of one script."""
    command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), "--out", str(args.out / name)]
    start = time.perf_counter()
    with (args.out / f"{name}.log").open("w") as log:
        status = subprocess.run(
            command + ["--quick"] * args.quick,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
            check=False,
        ).returncode
    return name, status, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description="All experiments on the paper's claims.")
    parser.add_argument("--quick", action="store_true", help="the quick mode of each")
    parser.add_argument("--out", type=Path, default=Path("results/paper"))
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="scripts at a time")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    start, missed = time.perf_counter(), 0
    with ThreadPoolExecutor(args.workers) as pool:
        for done in as_completed([pool.submit(run, name, args) for name in SCRIPTS]):
            name, status, seconds = done.result()
            missed += status != 0
            print(
                f"{name:16s} {seconds:6.0f} s   {'all bars met' if status == 0 else 'see ' + name + '.log'}", flush=True
            )
    print(f"in all {(time.perf_counter() - start) / 60:.1f} minutes")
    return min(missed, 1)


if __name__ == "__main__":
    raise SystemExit(main())

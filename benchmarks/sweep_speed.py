"""How long the sweep of examples/circle.yaml takes with one and with two worker processes, a thread each.

2 priors x 6 amplitudes x 4 noise levels x 3 seeds with 2,000 chains each: under 5 minutes with two workers, which do at
least 1.7 times the cells of one, the start of the processes included. The tables of both must be identical.

    python benchmarks/sweep_speed.py
    python benchmarks/sweep_speed.py --quick    # one seed
"""

from __future__ import annotations

import time
from pathlib import Path

from common import arguments, report, table, write

from inverse.robustness import config, sweep

CONFIG = Path(__file__).parents[1] / "examples" / "circle.yaml"


def main() -> int:
    args = arguments(__doc__, "sweep_speed").parse_args()
    grid = config.read(CONFIG) | ({"seeds": [args.first_seed]} if args.quick else {})
    seconds, tables = {}, {}
    for workers in (1, 2):
        start = time.perf_counter()
        tables[workers] = sweep(**grid, workers=workers, progress=True).table.drop(columns="seconds")
        seconds[workers] = time.perf_counter() - start
    cells, ratio = len(tables[1]), seconds[1] / seconds[2]
    print(
        table(
            ["workers", "seconds", "cells a second"], [[w, f"{s:.0f}", f"{cells / s:.2f}"] for w, s in seconds.items()]
        )
    )
    met = {
        "under 5 minutes with two workers": seconds[2] < 300,
        f"two workers do {ratio:.2f} times the cells of one, at least 1.7": ratio >= 1.7,
        "the same results from one and from two": tables[1].equals(tables[2]),
    }
    write(args.out, {"seconds": seconds, "cells": cells, "bars": met})
    return report(met)


if __name__ == "__main__":
    raise SystemExit(main())

"""`inverse sweep`"""

from __future__ import annotations

import argparse

from inverse.command import arguments

HELP = "how wrong may the score be before the reconstruction breaks?"
DESCRIPTION = """\
Runs every cell of a grid of problems, priors, samplers, score errors, amplitudes, noise levels and seeds, and writes
a report: at which amplitude the posterior has moved by more than a part of its spread, for each prior.

The grid is a YAML file; every object is given by its name and its options:

  problems:    {circle: {operator: matrix, options: {matrix: [[1.0, 0.0]]}, noise: 0.5, y: [[0.3]]}}
               (or images: [shoe.png] instead of y)
  priors:      {generic: {manifold: Circle, von_mises_fisher: {direction: [-1, 0], kappa: 4}},
               maximum-entropy: {of: generic, alpha: 1}}      (or {load: fashion-28})
  samplers:    {langevin: {name: langevin, time: 5}}
  errors:      {gradient: {name: GradientError, length_scale: 1}}
  amplitudes:  [0.1, 0.5, 2, 10]
  sigmas:      [0.05, 0.1]
  seeds:       3
  n:           500

Tuned samplers and the other errors: docs/robustness.md.

Interrupted or killed, the same command goes on where it was; a second run computes nothing. Writes to the folder: a
row for each cell (rows/*.parquet), report.html, report-curves.png, report-map.png, breakdown.csv, rate.csv."""
EXAMPLES = """\
examples:
  inverse sweep circle.yaml --out circle --workers 2
  inverse sweep circle.yaml --out circle --cluster tcp://scheduler:8786"""


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("sweep", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("config", metavar="CONFIG.yaml", help="the grid")
    parser.add_argument("--out", metavar="DIR", default="sweep", help="folder of the results (default: %(default)s)")
    parser.add_argument(
        "--workers", metavar="N", type=arguments.count, default=1, help="processes, a thread each (default: 1)"
    )
    parser.add_argument("--cluster", metavar="ADDRESS", help="of the scheduler of a running Dask cluster")
    parser.add_argument(
        "--threshold",
        metavar="T",
        type=arguments.positive,
        default=0.1,
        help="part of its spread by which a broken posterior has moved (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from inverse.robustness import config, sweep

    grid = config.read(args.config)
    result = sweep(**grid, out=args.out, workers=args.workers, cluster=args.cluster, progress=True)
    failed = int((result.table["status"] == "failed").sum())
    if failed == len(result):
        raise RuntimeError(f"all {failed} cells failed, the first with: {result.table['message'].iloc[0]}")
    result.breakdown(args.threshold).to_csv(f"{args.out}/breakdown.csv", index=False)
    result.rate(args.threshold).to_csv(f"{args.out}/rate.csv", index=False)
    page = result.report(f"{args.out}/report.html", args.threshold)
    print("\n".join(result.verdicts(args.threshold)))
    print(result.rate(args.threshold).to_string(index=False))
    print(f"{len(result)} cells, {failed} of them failed; the report is {page}")

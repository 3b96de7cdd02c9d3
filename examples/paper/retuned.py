# %% [markdown]
# # Does it help to tune a sampler again for a wrong score?
#
# A sampler that is tuned on the prior without error and then breaks may break of its settings: with other ones it
# might have borne the error. Here Langevin dynamics and its annealed version are tuned twice, once on the score
# without error, as a user would, and again for each amplitude of an error, as nobody can who does not know the truth:
# among all combinations of the values below, by the distance to the exact posterior, on seeds that are not reported.
# The second column is thus a bound on what tuning can recover, but for the chance of the trials.
#
#     python examples/paper/retuned.py --quick    # the circle, 3 seeds
#     python examples/paper/retuned.py            # circle and sphere, 6 seeds; goes on where it was
#
# Every seed has its own two truths, drawn from p_data, and their measurements: one coordinate with noise 0.5. All
# distances are those to the exact posterior (sliced Wasserstein, over its spread), of p_data for the generic prior, of
# the uniform law for the tempered one.

# %%
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd
import torch

import operators
from inverse import AnnealedLangevin, Langevin
from inverse.robustness import Problem, Sweep, TangentialError, Tuned, sweep
from inverse.robustness.results import told
from priors import Manifold, MaximumEntropy
from priors.manifolds import Circle, Sphere, VonMisesFisher

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from common import show, table, write

PRIORS = {
    "circle": Manifold(Circle(), VonMisesFisher([-1.0, 0.0], 4.0)),
    "sphere S2": Manifold(Sphere(2), VonMisesFisher([-1.0, 0.0, 0.0], 4.0)),
}
SIGMA, NOISE, MEASUREMENTS = 0.07, 0.5, 2
# The error is c sigma^-1, so that it does not outgrow the score at the large levels that the samplers start from.
EXPONENT = -1.0
# Of the error's size at SIGMA; the amplitude c is this times SIGMA.
SIZES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SAMPLERS = {
    # A short run does not reach the law of a wrong score, nor that of a right one.
    "langevin": (Langevin(anneal_steps=100), {"time": (0.1, 0.5, 2.0), "step_size": (0.5, 1.0)}),
    "annealed-langevin": (AnnealedLangevin(steps=300), {"smoothing": (0.03, 0.1, 0.3), "step_size": (0.5, 1.0)}),
}
ONCE, EACH = "tuned once", "retuned"
TRIALS = (0, 1, 2)
THRESHOLD, COLUMN = 0.3, "exact_distance"


# %%
class Measured:
    """The problem of a seed: truths drawn from p_data, and one coordinate of each with noise."""

    def __init__(self, prior: Manifold) -> None:
        self.prior = prior

    def __call__(self, seed: int) -> Problem:
        d = self.prior.image_shape[0]
        physics = operators.create("matrix", (d,), matrix=torch.eye(1, d), noise=NOISE)
        truth = self.prior.sample(MEASUREMENTS, seed=seed).float()
        noise = torch.randn(MEASUREMENTS, 1, generator=torch.Generator().manual_seed(seed))
        return Problem(physics, physics.A(truth) + NOISE * noise, truth)


def tuned() -> dict[str, Tuned]:
    """Each sampler under both names, "sampler, column"."""
    return {
        f"{name}, {column}": Tuned(sampler, options, each_error=column == EACH, seeds=TRIALS)
        for name, (sampler, options) in SAMPLERS.items()
        for column in (ONCE, EACH)
    }


def run(name: str, args: argparse.Namespace) -> Sweep:
    prior = PRIORS[name]
    result = sweep(
        {name: Measured(prior)},
        {"generic": prior, "tempered": MaximumEntropy(prior, alpha=1.0)},
        tuned(),
        {"tangential": TangentialError(manifold=prior, exponent=EXPONENT)},
        [size * SIGMA**-EXPONENT for size in args.sizes],
        [SIGMA],
        seeds=args.seeds,
        n=args.n,
        out=args.out / "cells" / name.replace(" ", "-"),
        progress=True,
    )
    if (failed := result.table[result.table["status"] != "ok"]).size:
        raise SystemExit(f"{len(failed)} cells have failed, the first one: {failed['message'].iloc[0]}")
    return result


# %% [markdown]
# ## What came out
#
# Both columns share problems, seeds and random numbers, so that their difference is taken pair by pair.


# %%
def columns(cells: pd.DataFrame) -> pd.DataFrame:
    """Distances of the seeds, with one row for each amplitude and a list of values for each of both columns."""
    return cells.sort_values("seed").groupby(["amplitude", "column"])[COLUMN].agg(list).unstack("column")


def compared(result: Sweep) -> list[dict]:
    """For each problem, prior and sampler: both curves, their difference, settings and critical amplitudes."""
    critical = result.breakdown(THRESHOLD, COLUMN)
    found = []
    for frame in (critical, result.table):
        frame[["method", "column"]] = [name.split(", ") for name in frame["sampler"]]
    curve = ["problem", "method", "prior"]
    for names, cells in result.table.groupby(curve):
        own = critical[(critical[curve] == list(names)).all(axis=1)].set_index("column")
        distances = columns(cells)
        rows = [
            {
                "size": amplitude * SIGMA**EXPONENT,
                **{column: values[column] for column in (ONCE, EACH)},
                "recovered": [a - b for a, b in zip(values[ONCE], values[EACH], strict=True)],
                "chosen": {
                    column: json.loads(cells[(cells.column == column) & (cells.amplitude == amplitude)].hyper.iloc[0])
                    for column in (ONCE, EACH)
                },
            }
            for amplitude, values in distances.iterrows()
        ]
        ends = ["low", "critical", "high"]
        scaled = {c: [float(own.loc[c, end] * SIGMA**EXPONENT) for end in ends] for c in (ONCE, EACH)}
        found.append({**dict(zip(curve, names, strict=True)), "floor": cells["exact_floor"].tolist(), "rows": rows,
                      "critical": scaled})  # fmt: skip
    return found


def tables(found: list[dict]) -> None:
    for name in sorted({part["problem"] for part in found}):
        print(f"\n## {name}: distance to the exact posterior, {ONCE} / {EACH}\n")
        here = [part for part in found if part["problem"] == name]
        header = ["sampler", "prior", "floor", *(f"size {row['size']:g}" for row in here[0]["rows"])]
        body = []
        for part in here:
            cells = [" / ".join(show(row[column], 2) for column in (ONCE, EACH)) for row in part["rows"]]
            body.append([part["method"], part["prior"], show(part["floor"], 2), *cells])
        print(table(header, body))
    print(
        f"\n## Size of the error at sigma = {SIGMA:g} that moves the posterior {THRESHOLD:g} of its spread away (95%)\n"
    )
    body = [
        [
            *(part[key] for key in ("problem", "method", "prior")),
            *(ends(part["critical"][column]) for column in (ONCE, EACH)),
            most(part["rows"]),
        ]
        for part in found
    ]
    print(table(["problem", "sampler", "prior", ONCE, EACH, "largest gain in distance"], body))


def ends(critical: list[float]) -> str:
    low, value, high = critical
    return f"{told(value)} ({told(low)} to {told(high)})"


def gain(row: dict) -> float:
    return sum(row["recovered"]) / len(row["recovered"])


def most(rows: list[dict]) -> str:
    """Where retuning has brought the posterior nearest to the exact one, what it gained of what, and with what."""
    best = max(rows, key=gain)
    chosen = [best["chosen"][column] for column in (ONCE, EACH)]
    changed = [
        key for key in ("time", "smoothing", "step_size") if key in chosen[0] and chosen[0][key] != chosen[1][key]
    ]
    settings = ", ".join(f"{key} {chosen[0][key]:.3g} to {chosen[1][key]:.3g}" for key in changed)
    return f"{show(best['recovered'], 2)} of {show(best[ONCE], 2)} at {best['size']:g} ({settings or 'same setting'})"


# %%
def main() -> int:
    parser = argparse.ArgumentParser(description="Samplers tuned once, and again for each error of the score.")
    parser.add_argument("--quick", action="store_true", help="the circle, 3 seeds, fewer chains")
    parser.add_argument("--out", type=Path, default=Path("results/retuned"))
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.seeds = list(range(args.first_seed, args.first_seed + (3 if args.quick else 6)))
    args.n, args.sizes = (100, SIZES[::2]) if args.quick else (200, SIZES)
    found = [part for name in (("circle",) if args.quick else PRIORS) for part in compared(run(name, args))]
    tables(found)
    print(f"\nMean +- standard error, seeds {args.seeds[0]} to {args.seeds[-1]}, {args.n} chains for each of "
          f"{MEASUREMENTS} measurements; tuned on seeds {', '.join(map(str, TRIALS))}.")  # fmt: skip
    settings = {"seeds": args.seeds, "trials": TRIALS, "n": args.n, "sigma": SIGMA, "threshold": THRESHOLD}
    settings |= {"options": {name: options for name, (_, options) in SAMPLERS.items()}, "exponent": EXPONENT}
    write(args.out / "retuned.json", {"settings": settings, "results": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

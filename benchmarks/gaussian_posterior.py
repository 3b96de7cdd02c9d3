"""Gaussian prior N(0.5, 0.2^2) on 32x32 images, half of the pixels seen: are the draws those of the posterior?

Noise 0.1, 48 chains per seed. Columns: slope of the draws on the exact posterior mean over the observed pixels;
variance around the exact mean over the exact variance, observed and unobserved pixels. All should be 1; exact draws
show the floor.

    python benchmarks/gaussian_posterior.py            # 5 seeds
    python benchmarks/gaussian_posterior.py --quick    # 2 seeds
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import peers
import torch
from common import arguments, report, show, table, write
from torch import Tensor

import inverse
import operators
from inverse import Posterior
from priors import GaussianMixture

SHAPE, CHAINS, NOISE = (1, 32, 32), 48, 0.1
COLUMNS = ("slope, observed", "variance ratio, observed", "variance ratio, unobserved")
OURS = inverse.samplers()


def problem(seed: int) -> Posterior:
    prior = GaussianMixture(torch.full((1, *SHAPE), 0.5), torch.tensor([0.04]))
    physics = operators.create("inpainting", SHAPE, keep=0.5, noise=NOISE, seed=seed)
    return Posterior(prior, physics, physics(prior.sample(CHAINS, seed=seed)))


def statistics(x: Tensor, posterior: Posterior) -> list[float]:
    """Slope, and variance ratios of observed and unobserved pixels, of draws (1, B, 1, 32, 32)."""
    exact = posterior.exact()
    mean, std = exact.mean(), exact.std()
    seen = operators.measured(posterior.physics).expand_as(mean) > 0
    target, draws = mean[seen], x[0][seen]
    slope = torch.cov(torch.stack([target, draws]))[0, 1] / target.var()
    ratio = (x[0] - mean) ** 2 / std**2
    return [float(slope), float(ratio[seen].mean()), float(ratio[~seen].mean())]


def methods() -> dict[str, Callable[[Posterior, int], Tensor]]:
    ours = {f"scorefold {name}": lambda p, s, name=name: inverse.sampler(name).sample(p, 1, seed=s).x for name in OURS}
    return {
        "exact draws": lambda p, s: p.exact().sample(1, seed=s),
        **ours,
        "deepinv DPS, 1000": lambda p, s: peers.dps(p, 1, s),
        "deepinv DPS annealed, 1000": lambda p, s: peers.dps(p, 1, s, guidance="annealed"),
        "deepinv annealed Langevin guidance, 1000": lambda p, s: peers.ald(p, 1, s),
        "deepinv DiffPIR, 100": lambda p, s: peers.diffpir(p, 1, s),
        "deepinv DDRM, 100": lambda p, s: peers.ddrm(p, 1, s),
    }


def bars(means: dict[str, Tensor]) -> dict[str, bool]:
    """The project's bars: three samplers exact to within 3% and 7%, DPS with defaults follows the data."""
    met = {}
    for name in ("mmps", "annealed-langevin", "langevin"):
        slope, seen, unseen = means[f"scorefold {name}"].tolist()
        met[f"{name}: slope in [0.97, 1.03]"] = 0.97 <= slope <= 1.03
        met[f"{name}: variance ratios in [0.93, 1.07]"] = all(0.93 <= v <= 1.07 for v in (seen, unseen))
    met["dps: slope at least 0.9"] = float(means["scorefold dps"][0]) >= 0.9
    return met


def main() -> int:
    parser = arguments(__doc__, "gaussian_posterior")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    seeds = range(args.first_seed, args.first_seed + (2 if args.quick else 5))
    results: dict[str, list[list[float]]] = {name: [] for name in methods()}
    for seed in seeds:
        posterior = problem(seed)
        for name, draw in methods().items():
            results[name].append(statistics(draw(posterior, seed), posterior))
            print(f"seed {seed}, {name}: {[round(v, 3) for v in results[name][-1]]}", file=sys.stderr)
    stacked = {name: torch.tensor(rows) for name, rows in results.items()}
    print(table(["sampler", *COLUMNS], [[name, *(show(v[:, i]) for i in range(3))] for name, v in stacked.items()]))
    met = bars({name: rows.mean(0) for name, rows in stacked.items()})
    write(args.out, {"seeds": list(seeds), "columns": COLUMNS, "results": results, "bars": met})
    return report(met)


if __name__ == "__main__":
    raise SystemExit(main())

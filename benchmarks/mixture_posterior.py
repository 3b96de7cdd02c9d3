"""Mixture of 2,000 Fashion-MNIST images with bandwidth 0.1: distance of the draws to those of the exact posterior.

Truths are drawn from the mixture. For each operator and noise level the table gives the sliced Wasserstein distance
(mean over 100 slices of W1) between a sampler's draws and exact draws, over the floor: that of exact draws against
other exact draws. At noise 0.05 one component is left; at 0.5 one to a few, at 1.5 several. deepinv's samplers run with
their defaults and the same exact denoiser; ours with their defaults; the calls of each are printed.

    python benchmarks/mixture_posterior.py            # 2 seeds x 4 images, 100 draws
    python benchmarks/mixture_posterior.py --quick    # 1 seed x 3 images, 64 draws
    python benchmarks/mixture_posterior.py --quick --only mmps --noise 0.05
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import peers
import torch
from common import arguments, report, show, table, write
from torch import Tensor

import inverse
import operators
from inverse import Posterior
from inverse.metrics import sliced_wasserstein
from priors import Empirical
from priors.fashion_mnist import read

SHAPE, COMPONENTS, BANDWIDTH = (1, 28, 28), 2000, 0.1
OPERATORS = {"blur": {}, "inpainting": {"keep": 0.5}, "compressed-sensing": {"ratio": 0.1}}
NOISES = (0.05, 0.5, 1.5)
# DDRM needs the singular values of the physics; DPS and DiffPIR take any linear one.
PEERS = {
    "deepinv dps": (peers.dps, 1000),
    "deepinv annealed-langevin": (peers.ald, 1000),
    "deepinv diffpir": (peers.diffpir, 100),
    "deepinv ddrm": (peers.ddrm, 100),
}


def problem(prior: Empirical, operator: str, noise: float, seed: int, images: int) -> Posterior:
    physics = operators.create(operator, SHAPE, noise=noise, seed=seed, **OPERATORS[operator])
    return Posterior(prior, physics, physics(prior.sample(images, seed=seed)))


def methods(only: list[str] | None) -> dict[str, Callable[[Posterior, int, int], tuple[Tensor, int]]]:
    """Name to draws (n, B, ...) and denoiser calls per chain."""

    def ours(name: str) -> Callable[[Posterior, int, int], tuple[Tensor, int]]:
        def draw(posterior: Posterior, n: int, seed: int) -> tuple[Tensor, int]:
            samples = inverse.sampler(name).sample(posterior, n, seed=seed)
            return samples.x, samples.nfe

        return draw

    def theirs(draw: peers.Sampler, calls: int) -> Callable[[Posterior, int, int], tuple[Tensor, int]]:
        return lambda posterior, n, seed: (draw(posterior, n, seed), calls)

    known = {**{n: ours(n) for n in inverse.samplers()}, **{n: theirs(*peer) for n, peer in PEERS.items()}}
    return {name: draw for name, draw in known.items() if only is None or name in only}


def compare(posterior: Posterior, n: int, seed: int, only: list[str] | None, results: dict[str, dict]) -> None:
    """Add the distances of one batch of problems, one a measurement, to the results."""
    exact = posterior.exact()
    reference = exact.sample(n, seed=seed)
    add(results, "floor", sliced_wasserstein(exact.sample(n, seed=seed + 1), reference, per_measurement=True), 0, 0.0)
    add(results, "components alive", 1 / exact.weights.square().sum(1), 0, 0.0)
    for name, draw in methods(only).items():
        start = time.perf_counter()
        x, calls = draw(posterior, n, seed)
        add(results, name, sliced_wasserstein(x, reference, per_measurement=True), calls, time.perf_counter() - start)
        print(f"  {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def add(results: dict[str, dict], name: str, values: Tensor, calls: int, seconds: float) -> None:
    entry = results.setdefault(name, {"values": [], "calls": calls, "seconds": 0.0})
    entry["values"] += values.tolist()
    entry["seconds"] += seconds


def rows(results: dict[str, dict]) -> list[list[str]]:
    floor = torch.tensor(results["floor"]["values"]).mean()
    out = []
    for name, entry in results.items():
        values = torch.tensor(entry["values"])
        ratio = "" if name == "components alive" else show(values / floor, 2)
        out.append(
            [
                name,
                show(values, 4),
                ratio,
                str(entry["calls"] or ""),
                f"{entry['seconds']:.0f}" if entry["calls"] else "",
            ]
        )
    return out


def bars(everything: dict[str, dict]) -> dict[str, bool]:
    """MMPS within 1.3 floors at noise 0.05; no sampler of ours worse than its namesake."""
    met = {}
    for key, results in everything.items():
        mean = {name: float(torch.tensor(entry["values"]).mean()) for name, entry in results.items()}
        if "mmps" in mean and key.endswith(f"noise {NOISES[0]}"):
            met[f"{key}: mmps within 1.3 floors"] = mean["mmps"] <= 1.3 * mean["floor"]
        for name in ("dps", "annealed-langevin"):
            if {name, f"deepinv {name}"} <= set(mean):
                met[f"{key}: {name} no worse than deepinv's"] = mean[name] <= mean[f"deepinv {name}"]
    return met


def main() -> int:
    parser = arguments(__doc__, "mixture_posterior")
    parser.add_argument("--only", nargs="+", choices=list(methods(None)), help="samplers to run (default: all)")
    parser.add_argument("--noise", nargs="+", type=float, choices=NOISES, default=NOISES, help="noise levels to run")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    seeds, images, n = (1, 3, 64) if args.quick else (2, 4, 100)
    prior = Empirical(read("train")[0][:COMPONENTS].float() / 255, BANDWIDTH)
    everything: dict[str, dict] = {}
    for noise in args.noise:
        for operator in OPERATORS:
            key = f"{operator}, noise {noise}"
            print(key, file=sys.stderr)
            for seed in range(args.first_seed, args.first_seed + seeds):
                compare(
                    problem(prior, operator, noise, seed, images), n, seed, args.only, everything.setdefault(key, {})
                )
            print(
                f"\n{key}\n" + table(["draws", "distance", "over floor", "calls", "seconds"], rows(everything[key])),
                flush=True,
            )
    met = bars(everything)
    write(
        args.out,
        {
            "first_seed": args.first_seed,
            "seeds": seeds,
            "images": images,
            "draws": n,
            "results": everything,
            "bars": met,
        },
    )
    return report(met)


if __name__ == "__main__":
    raise SystemExit(main())

"""What a sampler costs besides its denoiser: time per step over the time of the denoiser calls alone.

A small DRUNet (nc = 16 to 128, nb = 1, random weights) on 3x64x64 images, batch 1 and 8, inpainting and blur; DPS
(calls are forward and backward) and annealed Langevin (forward). deepinv's DPS and its diffusion with annealed Langevin
guidance run beside ours in the same rounds. With an analytic denoiser, m + (x - m) v / (v + sigma^2), time per step of
deepinv over ours. Every round times all of them; errors are over rounds.

    python benchmarks/overhead.py            # 5 rounds
    python benchmarks/overhead.py --quick    # 3 rounds
"""

from __future__ import annotations

import time
from collections.abc import Callable

import deepinv
import peers
import torch
from common import arguments, mean_and_error, report, show, table, write
from torch import Tensor

import inverse
import operators
from inverse import Posterior
from priors import Denoiser, Prior

SHAPE, NOISE, STEPS = (3, 64, 64), 0.1, 50
OPERATORS = {"inpainting": {"keep": 0.5}, "blur": {}}
BATCHES = (1, 8)
SAMPLERS = {"dps": True, "annealed-langevin": False}  # name: whether its calls need the backward pass


def drunet() -> Prior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = deepinv.models.DRUNet(3, 3, nc=[16, 32, 64, 128], nb=1, pretrained=None)
    return Denoiser(network.eval().requires_grad_(False), SHAPE)


class Analytic(torch.nn.Module):
    """The denoiser of N(0.5, 0.2^2): next to nothing to compute, so that the sampler's own time shows."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return 0.5 + (x - 0.5) * (0.04 / (0.04 + sigma**2))


def analytic() -> Prior:
    return Denoiser(Analytic(), SHAPE)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def calls_alone(prior: Prior, x: Tensor, calls: int, backward: bool) -> None:
    """The denoiser calls of a run and nothing else."""
    for _ in range(calls):
        with torch.set_grad_enabled(backward):
            point = x.detach().requires_grad_(backward)
            denoised = prior.denoise(point, 0.1)
        if backward:
            torch.autograd.grad(denoised, point, x)


def ours(name: str, posterior: Posterior, batch: int) -> Callable[[], object]:
    sampler = inverse.sampler(name, steps=STEPS, sigma_max=1.0)
    return lambda: sampler.sample(posterior, batch, chunk_size=batch)


def theirs(name: str, posterior: Posterior, batch: int) -> Callable[[], object]:
    """deepinv's sampler of the same guidance and the same number of calls."""
    if name == "dps":
        return lambda: peers.dps(posterior, batch, 0, steps=STEPS + 1)  # its last step calls no denoiser
    return lambda: peers.ald(posterior, batch, 0, steps=STEPS)


def measure(prior: Prior, rounds: int) -> list[dict]:
    """Seconds of ours, theirs and of the calls alone, for every sampler, operator and batch."""
    results = []
    for name, backward in SAMPLERS.items():
        for operator, options in OPERATORS.items():
            for batch in BATCHES:
                physics = operators.create(operator, SHAPE, noise=NOISE, seed=0, **options)
                posterior = Posterior(prior, physics, physics(torch.rand(1, *SHAPE)))
                x = torch.rand(batch, *SHAPE)
                calls = STEPS + (not backward)  # annealed Langevin denoises its last state
                runs = {
                    "ours": ours(name, posterior, batch),
                    "theirs": theirs(name, posterior, batch),
                    "calls": lambda x=x, calls=calls, backward=backward: calls_alone(prior, x, calls, backward),
                }
                for run in runs.values():
                    run()
                times = {key: [] for key in runs}
                for _ in range(rounds):
                    for key, run in runs.items():
                        times[key].append(seconds(run))
                results.append({"sampler": name, "operator": operator, "batch": batch, **times})
    return results


def ratios(result: dict, over: str, of: str) -> Tensor:
    return torch.tensor(result[of]) / torch.tensor(result[over])


def main() -> int:
    args = arguments(__doc__, "overhead").parse_args()
    torch.set_num_threads(args.threads)
    rounds = 3 if args.quick else 5
    network, closed = measure(drunet(), rounds), measure(analytic(), rounds)
    header = ["sampler", "operator", "batch", "ours / calls", "deepinv / calls", "analytic: deepinv / ours"]
    lines, met = [], {}
    for net, exact in zip(network, closed, strict=True):
        overhead, speedup = ratios(net, "calls", "ours"), ratios(exact, "ours", "theirs")
        case = [net["sampler"], net["operator"], str(net["batch"])]
        lines.append([*case, show(overhead), show(ratios(net, "calls", "theirs")), show(speedup, 1)])
        met[f"{' '.join(case)}: at most 1.05 times the calls"] = float(overhead.median()) <= 1.05
        met[f"{' '.join(case)}: analytic, at least 2 times faster than deepinv"] = mean_and_error(speedup)[0] >= 2
    print(table(header, lines))
    write(args.out, {"rounds": rounds, "steps": STEPS, "network": network, "analytic": closed, "bars": met})
    return report(met)


if __name__ == "__main__":
    raise SystemExit(main())

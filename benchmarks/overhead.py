"""What a sampler costs besides its denoiser: time of a run over the time spent inside the network in the same run.

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
from unittest import mock

import deepinv
import peers
import torch
from common import arguments, mean_and_error, report, show, table, write
from torch import Tensor

import inverse
import operators
from inverse import Posterior
from priors import Denoiser, Prior

SHAPE, NOISE = (3, 64, 64), 0.1
STEPS = 200  # what DPS takes by default
OPERATORS = {"inpainting": {"keep": 0.5}, "blur": {}}
BATCHES = (1, 8)
AUTOGRAD_GRAD = torch.autograd.grad
SAMPLERS = ("dps", "annealed-langevin")


class Timed(torch.nn.Module):
    """A network that lists the seconds spent in its calls, `backward` those of torch.autograd.grad through it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        # A list: a module takes 5 us to assign a number, in which a sampler has no part.
        self.network, self.spent = network, []

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        start = time.perf_counter()
        out = self.network(x, sigma)
        self.spent.append(time.perf_counter() - start)
        return out

    def backward(self, *args: object, **kwargs: object) -> tuple[Tensor, ...]:
        start = time.perf_counter()
        gradients = AUTOGRAD_GRAD(*args, **kwargs)
        self.spent.append(time.perf_counter() - start)
        return gradients


def drunet() -> Prior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = deepinv.models.DRUNet(3, 3, nc=[16, 32, 64, 128], nb=1, pretrained=None)
    return Denoiser(Timed(network.eval().requires_grad_(False)), SHAPE)


class Analytic(torch.nn.Module):
    """The denoiser of N(0.5, 0.2^2): next to nothing to compute, so that the sampler's own time shows."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return 0.5 + (x - 0.5) * (0.04 / (0.04 + sigma**2))


def analytic() -> Prior:
    return Denoiser(Timed(Analytic()), SHAPE)


def seconds(run: Callable[[], object], network: Timed) -> tuple[float, float]:
    """Seconds of a run, and those of them that were spent in the network."""
    with mock.patch("torch.autograd.grad", network.backward):
        network.spent.clear()
        start = time.perf_counter()
        run()
        return time.perf_counter() - start, sum(network.spent)


def ours(name: str, posterior: Posterior, batch: int) -> Callable[[], object]:
    sampler = inverse.sampler(name, steps=STEPS, sigma_max=1.0)
    return lambda: sampler.sample(posterior, batch, chunk_size=batch)


def theirs(name: str, posterior: Posterior, batch: int) -> Callable[[], object]:
    """deepinv's sampler of the same guidance and the same number of calls."""
    if name == "dps":
        return lambda: peers.dps(posterior, batch, 0, steps=STEPS + 1)  # its last step calls no denoiser
    return lambda: peers.ald(posterior, batch, 0, steps=STEPS)


def measure(prior: Denoiser, rounds: int) -> list[dict]:
    """Seconds of ours and theirs, whole and in the network, for every sampler, operator and batch."""
    results = []
    for name in SAMPLERS:
        for operator, options in OPERATORS.items():
            for batch in BATCHES:
                physics = operators.create(operator, SHAPE, noise=NOISE, seed=0, **options)
                posterior = Posterior(prior, physics, physics(torch.rand(1, *SHAPE)))
                runs = {"ours": ours(name, posterior, batch), "theirs": theirs(name, posterior, batch)}
                for run in runs.values():
                    run()
                times = {key: [] for key in runs}
                for _ in range(rounds):
                    for key, run in runs.items():
                        times[key].append(seconds(run, prior.denoiser))
                results.append({"sampler": name, "operator": operator, "batch": batch, **times})
    return results


def over_calls(times: list[tuple[float, float]]) -> Tensor:
    return torch.tensor([whole / network for whole, network in times])


def over_ours(result: dict) -> Tensor:
    return torch.tensor([theirs[0] / ours[0] for theirs, ours in zip(result["theirs"], result["ours"], strict=True)])


def main() -> int:
    args = arguments(__doc__, "overhead").parse_args()
    torch.set_num_threads(args.threads)
    rounds = 3 if args.quick else 5
    network, closed = measure(drunet(), rounds), measure(analytic(), rounds)
    header = ["sampler", "operator", "batch", "ours / calls", "deepinv / calls", "analytic: deepinv / ours"]
    lines, met = [], {}
    for net, exact in zip(network, closed, strict=True):
        overhead, speedup = over_calls(net["ours"]), over_ours(exact)
        case = [net["sampler"], net["operator"], str(net["batch"])]
        lines.append([*case, show(overhead), show(over_calls(net["theirs"])), show(speedup, 1)])
        met[f"{' '.join(case)}: at most 1.05 times the calls"] = mean_and_error(overhead)[0] <= 1.05
        met[f"{' '.join(case)}: analytic, at least 2 times faster than deepinv"] = mean_and_error(speedup)[0] >= 2
    print(table(header, lines))
    write(args.out, {"rounds": rounds, "steps": STEPS, "network": network, "analytic": closed, "bars": met})
    return report(met)


if __name__ == "__main__":
    raise SystemExit(main())

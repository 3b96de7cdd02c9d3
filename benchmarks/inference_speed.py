"""The prior `photo` as it is run by default, beside its network in plain float32, in bfloat16 and compiled.

Seconds of a denoiser call on one colour image of 256 x 256 pixels, without derivatives, as the default sampler calls
it; every round times all modes one after the other, errors are over rounds. PSNR of five test images of scikit-image at
noise 25 of 255, as a difference to plain. Bar: the shipped settings are 1.5 times as fast and within 0.05 dB.

    python benchmarks/inference_speed.py            # 10 rounds, and the compiled network: a minute to compile
    python benchmarks/inference_speed.py --quick    # 5 rounds, without it
"""

from __future__ import annotations

import sys
import time

import torch
from common import arguments, mean_and_error, report, show, table, write
from photo_denoising import IMAGES, photograph

import priors
from inverse.metrics import psnr
from priors import Prior, inference

SIDE, SIGMA, CALLS = 256, 25 / 255, 3
FASTER, WITHIN = 1.5, 0.05


@torch.no_grad()
def seconds(prior: Prior, x: torch.Tensor) -> float:
    """The fastest of some calls."""
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        prior.denoise(x, SIGMA)
        taken.append(time.perf_counter() - start)
    return min(taken)


@torch.no_grad()
def quality(prior: Prior) -> float:
    """Mean PSNR over the test images, the same noise for every mode."""
    values = []
    for name in IMAGES:
        truth = photograph(name, SIDE)
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
        values.append(psnr(prior.denoise(truth + SIGMA * noise, SIGMA).clamp(0, 1), truth).item())
    return sum(values) / len(values)


def main() -> int:
    parser = arguments(__doc__, "inference_speed")
    parser.add_argument("--prior", default="photo", help="name or weights file of the prior (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loaded = priors.load(args.prior)
    shipped = inference.prepare(loaded).inference or "channels-last"
    others = {"auto"} | ({"compiled"} if args.quick else set()) | ({"int8"} - {shipped})
    modes = [mode for mode in inference.MODES if mode not in others]
    prepared = {mode: inference.prepare(loaded, mode) for mode in modes}
    x = photograph("coffee", SIDE)
    for prior in prepared.values():
        seconds(prior, x)
    rounds = [{mode: seconds(prior, x) for mode, prior in prepared.items()} for _ in range(5 if args.quick else 10)]
    decibels = {mode: quality(prior) for mode, prior in prepared.items()}

    rows, faster = [], {}
    for mode in modes:
        faster[mode] = [one["plain"] / one[mode] for one in rounds]
        spent, change = [one[mode] for one in rounds], decibels[mode] - decibels["plain"]
        rows.append([mode, show(spent), show(faster[mode], 2), f"{change:+.4f}"])
    print("\n" + table(["inference", "seconds a call", "times as fast as plain", "PSNR, change in dB"], rows))
    ratio, error = mean_and_error(faster[shipped])
    change = abs(decibels[shipped] - decibels["plain"])
    bars = {
        f"{shipped}: {ratio:.2f} +- {error:.2f} times as fast as plain, at least {FASTER}": ratio >= FASTER,
        f"{shipped}: PSNR changes by {change:.4f} dB, at most {WITHIN}": change <= WITHIN,
    }
    write(args.out, {"prior": loaded.about, "side": SIDE, "seconds": rounds, "psnr": decibels, "bars": bars})
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())

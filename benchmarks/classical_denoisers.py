"""Total variation, wavelets, BM3D and the median as denoisers of photographs: how good, and how strong they have to be.

Crops of the photographs of `priors.photographs`, in grey and in colour, with white noise.

1. Peak signal-to-noise ratio on crops of the three held-out photographs, which nothing was tuned on, beside that of the
   noisy crop; BM3D where its package is installed. Crops of one photograph are no independent draws: the standard
   errors are those over crops, and there are three photographs.
2. --tune: the strength lambda (of the median: the window) with the least mean squared error on crops of the training
   photographs, at each noise level, and the power of sigma through them, which `priors.classical` has as its default.

    python benchmarks/classical_denoisers.py               # 16 crops of 64 x 64, grey and in colour: 4 minutes, of BM3D
    python benchmarks/classical_denoisers.py --quick       # 4 crops
    python benchmarks/classical_denoisers.py --tune        # 8 crops
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
from common import arguments, mean_and_error, report, table, write
from scipy.optimize import minimize_scalar
from torch import Tensor
from tqdm import tqdm

from priors import Median, Prior, TotalVariation, Wavelet, classical, load, photographs

SIGMAS = (0.05, 0.1, 0.2)
TUNING_SIGMAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CHANNELS = (1, 3)
HALF_WINDOWS = range(1, 9)
# What each has to gain over the noisy crop, dB, at every level: about one less than it was measured to.
LEAST_GAIN = {"tv": 4.0, "wavelet": 3.0, "bm3d": 6.0, "median": 0.0}


def noisy(clean: Tensor, sigma: float, seed: int) -> Tensor:
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


def psnr(denoised: Tensor, clean: Tensor) -> Tensor:
    """Of each crop, dB, not cut to [0, 1]."""
    return -10 * (denoised - clean).square().mean((1, 2, 3)).log10()


@torch.no_grad()
def measured(priors: dict[str, Prior], crops: dict[int, Tensor], seed: int) -> list[dict]:
    """A row for each number of channels and noise level, with every denoiser's mean and standard error."""
    rows: list[dict] = []
    bar = tqdm(total=len(crops) * len(SIGMAS) * len(priors), desc="denoising", unit="call")
    for channels, clean in crops.items():
        for sigma in SIGMAS:
            x = noisy(clean, sigma, seed)
            row: dict = {"channels": channels, "sigma": sigma, "noisy": mean_and_error(psnr(x, clean))}
            for name, prior in priors.items():
                row[name] = mean_and_error(psnr(prior.denoise(x, sigma), clean))
                bar.update()
            rows.append(row)
    return rows


@torch.no_grad()
def error(prior: Prior, clean: Tensor, sigma: float, seed: int) -> float:
    """Mean squared error per pixel."""
    return float((prior.denoise(noisy(clean, sigma, seed), sigma) - clean).square().mean())


def best_strength(make: Callable[[float], Prior], clean: Tensor, sigma: float, seed: int) -> float:
    """lambda with the least error, within some per cent. make: of lambda / (channels^(1/3) sigma)."""
    found = minimize_scalar(
        lambda log: error(make(math.exp(log)), clean, sigma, seed),
        bounds=(math.log(0.2), math.log(8)),
        method="bounded",
        options={"xatol": 0.03},
    )
    return math.exp(found.x) * sigma


def line(sigmas: list[float], values: list[float]) -> tuple[float, float]:
    """weight and exponent of the power law weight sigma^exponent, by least squares in the logarithms."""
    x, y = torch.tensor(sigmas).log(), torch.tensor(values).log()
    exponent = ((x - x.mean()) * y).sum() / (x - x.mean()).square().sum()
    return float((y.mean() - exponent * x.mean()).exp()), float(exponent)


def tune(crops: dict[int, Tensor], seed: int) -> None:
    """Print the best strengths and the power laws through them."""
    makers: dict[str, Callable[[float], Prior]] = {
        "tv": lambda c: TotalVariation(c, exponent=1.0, iterations=50),
        "wavelet": lambda c: Wavelet(c, exponent=1.0),
    }
    for name, make in makers.items():
        sigmas, strengths, rows = [], [], []
        for channels, clean in crops.items():
            for sigma in tqdm(TUNING_SIGMAS, desc=f"{name}, {channels} channels", unit="level"):
                strengths.append(best_strength(make, clean, sigma, seed))
                sigmas.append(sigma)
                rows.append([str(channels), f"{sigma:g}", f"{strengths[-1]:.4f}"])
        print("\n" + table(["channels", "sigma", f"{name}: best lambda / channels^(1/3)"], rows))
        print("lambda = {:.2f} channels^(1/3) sigma^{:.2f}".format(*line(sigmas, strengths)), flush=True)
    tune_median(crops, seed)


def tune_median(crops: dict[int, Tensor], seed: int) -> None:
    """Print the best windows and the power law whose windows have the least mean log error."""
    errors = {
        (channels, sigma, half): error(Median(half, exponent=1e-9), clean, sigma, seed)
        for channels, clean in crops.items()
        for sigma in tqdm(TUNING_SIGMAS, desc=f"median, {channels} channels", unit="level")
        for half in HALF_WINDOWS
    }
    rows = []
    for channels in crops:
        for sigma in TUNING_SIGMAS:
            best = min(HALF_WINDOWS, key=lambda half: errors[channels, sigma, half])
            rows.append([str(channels), f"{sigma:g}", str(1 + 2 * best)])
    print("\n" + table(["channels", "sigma", "median: best window"], rows))

    def loss(law: tuple[float, float]) -> float:
        halves = {sigma: min(max(round(law[0] * sigma ** law[1]), 1), HALF_WINDOWS[-1]) for sigma in TUNING_SIGMAS}
        return sum(math.log(errors[channels, sigma, halves[sigma]]) for channels in crops for sigma in TUNING_SIGMAS)

    laws = [(weight / 2, exponent / 20) for weight in range(2, 41) for exponent in range(2, 31)]
    print("window = 1 + 2 round({:.1f} sigma^{:.2f})".format(*min(laws, key=loss)))


def main() -> int:
    parser = arguments(__doc__, "classical_denoisers")
    parser.add_argument("--data", default=photographs.FOLDER, help="folder with the photographs")
    parser.add_argument("--tune", action="store_true", help="print the best strengths instead, on training photographs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shown = photographs.crops("train" if options.tune else "held-out", options.data)
    count = 4 if options.quick else 8 if options.tune else 16
    seed = 0 if options.tune else options.first_seed
    crops = {channels: shown.of(channels, count, seed) for channels in CHANNELS}
    if options.tune:
        tune(crops, seed)
        return 0

    priors = {name: load(name) for name in ("tv", "wavelet", "bm3d", "median") if name in classical.available()}
    rows = measured(priors, crops, seed)
    names = ["noisy", *priors]
    cells = [
        [str(row["channels"]), f"{row['sigma']:g}", *("{:.2f} +- {:.2f}".format(*row[name]) for name in names)]
        for row in rows
    ]
    print("\nPSNR, dB\n" + table(["channels", "sigma", *names], cells))
    bars = {
        f"{name} gains {LEAST_GAIN[name]:g} dB or more at every level": all(
            row[name][0] - row["noisy"][0] >= LEAST_GAIN[name] for row in rows
        )
        for name in priors
    }
    write(options.out, {"seed": seed, "crops": count, "size": photographs.SIZE, "psnr": rows, "bars": bars})
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())

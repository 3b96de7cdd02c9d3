"""Restoring photographs: posterior samples with the prior `photo`, beside DiffPIR and classical methods.

Motion blur, Gaussian blur, inpainting (half the pixels), super-resolution by 2 and compressed sensing (a quarter),
each with noise 0.05, on six test images of scikit-image that the prior has not seen. Ours is the default of
`inverse reconstruct`: 8 samples, their mean, and the share of pixels whose truth lies in their central interval; beside
it the mean of 8 antithetic samples.

Peers, all from deepinv: DiffPIR (Zhu et al. 2023) with the same denoiser and as many calls as one of our chains takes,
once, and as the mean of 8 runs; total variation and wavelet regularisation (100 iterations of proximal gradients). They
get, for each kind of measurement, the hyper-parameters of the grids below that are best on these very images; ours are
not tuned at all here. A second table has our gain over each of DiffPIR's settings. Wavelets need a package more,
`pip install ptwt`, and are left out without it.

    python benchmarks/photo_restoration.py                # the central 256 x 256 pixels
    python benchmarks/photo_restoration.py --side 128     # a quarter of the time
    python benchmarks/photo_restoration.py --quick        # 64 x 64, three images
    python benchmarks/photo_restoration.py --prior photo.safetensors
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import product

import deepinv
import torch
from common import arguments, mean_and_error, report, show, table, write
from deepinv.physics import Physics
from photo_denoising import photograph
from torch import Tensor
from tqdm import tqdm

import operators
import priors
from inverse.metrics import attainable_level, coverage, psnr
from inverse.reconstruct import reconstruct

IMAGES = ("astronaut", "camera", "chelsea", "coffee", "brick", "rocket")
OPERATORS: dict[str, dict[str, float]] = {
    "motion-blur": {},
    "gaussian-blur": {},
    "inpainting": {"keep": 0.5},
    "super-resolution": {"factor": 2},
    "compressed-sensing": {"ratio": 0.25},
}
NOISE, SAMPLES, LEVEL = 0.05, 8, 0.9
DIFFPIR = {f"zeta {z:g}, lambda {weight:g}": (z, weight) for z, weight in product((0.3, 1.0), (3.0, 7.0, 15.0))}
WEIGHTS = {"total variation": (0.005, 0.015, 0.05, 0.15), "wavelets": (0.02, 0.06, 0.2, 0.6)}
ITERATIONS = 100
OURS, PAIRS, ONE, MEAN = "ours", "antithetic", "one sample", f"mean of {SAMPLES} DiffPIR"
WITHOUT = "ptwt is not installed, so wavelets are left out: pip install ptwt"
Method = Callable[[Tensor, Physics], Tensor]


def diffpir(prior: priors.Prior, calls: int, zeta: float, weight: float, seed: int) -> Method:
    model = deepinv.sampling.DiffPIR(prior, deepinv.optim.data_fidelity.L2(), max_iter=calls, zeta=zeta, lambda_=weight)

    def run(y: Tensor, physics: Physics) -> Tensor:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return model(y, physics, seed=seed)

    return run


def regularised(prior: deepinv.optim.Prior, weight: float) -> Method:
    """Proximal gradients for |A x - y|^2 / 2 + weight R(x)."""

    def run(y: Tensor, physics: Physics) -> Tensor:
        step = 1 / max(operators.sqnorm(physics, tuple(physics.A_adjoint(y).shape[1:])), 1e-6)
        x = physics.A_adjoint(y)
        with torch.no_grad():
            for _ in range(ITERATIONS):
                x = prior.prox(x - step * physics.A_adjoint(physics.A(x) - y), gamma=step * weight)
        return x

    return run


def classical() -> Iterator[tuple[str, str, Method]]:
    """Name, setting and method, for every weight; wavelets where the package that they need is installed."""
    for weight in WEIGHTS["total variation"]:
        yield "total variation", f"weight {weight:g}", regularised(deepinv.optim.TVPrior(n_it_max=20), weight)
    for weight in WEIGHTS["wavelets"] if find_spec("ptwt") else ():
        yield "wavelets", f"weight {weight:g}", regularised(deepinv.optim.WaveletPrior(level=3, wv="db4"), weight)


def decibels(x: Tensor, truth: Tensor) -> float:
    return float(psnr(x.clamp(0, 1), truth))


def problem(truth: Tensor, operator: str, seed: int) -> tuple[Tensor, Physics]:
    """The measurement of an image and its physics, the same for the same seed."""
    physics = operators.create(operator, tuple(truth.shape[1:]), noise=NOISE, seed=seed, **OPERATORS[operator])
    with torch.no_grad():
        return physics(truth), physics


def restored(truth: Tensor, operator: str, prior: priors.Prior, seed: int) -> dict:
    """Ours on one image, and the PSNR of every peer with each of its settings."""
    y, physics = problem(truth, operator, seed)
    samples, pairs = (reconstruct(y, physics, prior, n=SAMPLES, seed=seed, antithetic=how) for how in (False, True))
    peers: dict[str, dict[str, float]] = {"DiffPIR": {}}
    for setting, (zeta, weight) in DIFFPIR.items():
        method = diffpir(prior, samples.nfe, zeta, weight, seed + 1)
        peers["DiffPIR"][setting] = decibels(method(y, physics), truth)
    for name, setting, method in classical():
        peers.setdefault(name, {})[setting] = decibels(method(y, physics), truth)
    return {
        OURS: decibels(samples.mean, truth),
        PAIRS: decibels(pairs.mean, truth),
        ONE: decibels(samples.x[0], truth),
        "coverage": float(coverage(samples, truth, LEVEL)),
        "nfe": samples.nfe,
        "peers": peers,
    }


def mean_of_diffpir(truth: Tensor, row: Mapping, prior: priors.Prior, seed: int, setting: str) -> float:
    """PSNR of the mean of as many runs as ours has samples: the same number of calls in all."""
    y, physics = problem(truth, row["operator"], seed)
    zeta, weight = DIFFPIR[setting]
    runs = [diffpir(prior, row["nfe"], zeta, weight, seed + run)(y, physics) for run in range(1, SAMPLES + 1)]
    return decibels(torch.stack(runs).mean(0), truth)


def best(rows: Sequence[Mapping], peer: str) -> tuple[str, list[float]]:
    """The hyper-parameters of a peer that are best on these images together, and its PSNR on each."""
    settings = rows[0]["peers"][peer]
    chosen = max(settings, key=lambda setting: sum(row["peers"][peer][setting] for row in rows))
    return chosen, [row["peers"][peer][chosen] for row in rows]


def gains(rows: Sequence[Mapping], peer: str) -> dict[str, tuple[float, float]]:
    """By how many dB ours is above a peer, for each of its settings: mean and standard error over images."""
    settings = rows[0]["peers"][peer]
    return {setting: mean_and_error([row[OURS] - row["peers"][peer][setting] for row in rows]) for setting in settings}


def gains_table(over_diffpir: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    lines = [
        [name, *(f"{gain:+.2f} +- {error:.2f}" for gain, error in of.values())] for name, of in over_diffpir.items()
    ]
    return table(["ours - DiffPIR (dB) with", *DIFFPIR], lines)


def main() -> int:
    parser = arguments(__doc__, "photo_restoration")
    parser.add_argument("--prior", default="photo", help="name or weights file of the prior (default: %(default)s)")
    parser.add_argument("--side", type=int, default=256, help="pixels of the central square (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    prior, side = priors.load(args.prior), 64 if args.quick else args.side
    images = IMAGES[:3] if args.quick else IMAGES
    if find_spec("ptwt") is None:
        print(WITHOUT)
    rows = []
    for operator, name in tqdm(list(product(OPERATORS, images)), desc="restoring", unit="image"):
        row = restored(photograph(name, side), operator, prior, args.first_seed)
        rows.append({"operator": operator, "image": name, **row})

    lines, bars, chosen, over_diffpir = [], {}, {}, {}
    for operator in OPERATORS:
        of = [row for row in rows if row["operator"] == operator]
        over_diffpir[operator] = gains(of, "DiffPIR")
        found = {}
        for peer in of[0]["peers"]:
            chosen[f"{operator}, {peer}"], found[peer] = best(of, peer)
        setting = chosen[f"{operator}, DiffPIR"]
        found[MEAN] = [
            mean_of_diffpir(photograph(row["image"], side), row, prior, args.first_seed, setting) for row in of
        ]
        line = [operator, *(show([row[how] for row in of], 2) for how in (OURS, PAIRS, ONE))]
        for peer, values in found.items():
            for how in (OURS, PAIRS):
                gain, error = mean_and_error([row[how] - value for row, value in zip(of, values, strict=True)])
                bars[f"{operator}, {how}: {gain:+.2f} +- {error:.2f} dB from {peer}, at least 0"] = gain >= 0
                if how == OURS:
                    line.append(f"{mean_and_error(values)[0]:.2f} ({gain:+.2f} +- {error:.2f})")
        lines.append([*line, f"{100 * mean_and_error([row['coverage'] for row in of])[0]:.0f}%"])
    header = ["measurement", "ours (dB)", PAIRS, ONE, *(f"{peer} (ours - it)" for peer in found)]
    expected = 100 * attainable_level(SAMPLES, LEVEL)
    print("\n" + table([*header, f"coverage ({expected:.0f}% for exact samples)"], lines))
    print(f"errors are over the {len(images)} images; {SAMPLES} samples, {rows[0]['nfe']} calls a chain")
    print("\n" + gains_table(over_diffpir))
    settings = {"noise": NOISE, "side": side, "first_seed": args.first_seed, "chosen": chosen}
    results = {"gains over DiffPIR": over_diffpir, "rows": rows, "bars": bars}
    write(args.out, {"prior": getattr(prior, "about", {}), **settings, **results})
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())

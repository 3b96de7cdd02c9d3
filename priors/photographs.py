"""The photographs that the prior `photo` is trained on, and its design.

They come with two Debian packages, mate-backgrounds and plasma-workspace-wallpapers (GPL-2+ and Creative Commons, per
file in their copyright files); painterly and abstract pictures in them are left out. They are split by photograph: no
part of a held-out one is trained on. Reading them needs Pillow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .crops import Crops

FOLDER = Path("/usr/share")
NATURE, WALLPAPER = "backgrounds/mate/nature/{}.jpg", "wallpapers/{}/contents/images/2560x1600.jpg"
PHOTOGRAPHS = {
    "Aqua": NATURE,
    "Blinds": NATURE,
    "Dune": NATURE,
    "FreshFlower": NATURE,
    "Garden": NATURE,
    "GreenMeadow": NATURE,
    "LadyBird": NATURE,
    "RainDrops": NATURE,
    "Storm": NATURE,
    "TwoWings": NATURE,
    "Wood": NATURE,
    "YellowFlower": NATURE,
    "BytheWater": WALLPAPER,
    "ColdRipple": WALLPAPER,
    "ColorfulCups": WALLPAPER,
    "EveningGlow": WALLPAPER,
    "FallenLeaf": WALLPAPER,
    "Grey": WALLPAPER,
    "Kite": WALLPAPER,
    "OneStandsOut": WALLPAPER,
    "Path": WALLPAPER,
    "summer_1am": WALLPAPER,
}
HELD_OUT = ("Garden", "EveningGlow", "OneStandsOut")
ABOUT = (
    f"{len(PHOTOGRAPHS) - len(HELD_OUT)} photographs of the Debian packages mate-backgrounds and "
    "plasma-workspace-wallpapers (GPL-2+ and Creative Commons licences, per file)"
)

# At their own scale they are blurred by the lens and by JPEG: half of it is the sharpest that is shown.
SCALES = (1 / 2, 1 / 3, 1 / 4, 1 / 6)
SIZE = 64
HELD_OUT_CROPS = 64

# Most of the work is done at full and at half resolution, where noise is told from detail.
NETWORK = {
    "channels": (32, 64, 96, 160),
    "encoder_blocks": (1, 3, 2),
    "middle_blocks": 2,
    "decoder_blocks": (1, 3, 2),
    "attention": False,
    "local": True,
}
SCHEDULE = {"batch": 4, "learning_rate": 1e-3, "warm_up": 4000, "warm_up_share": 0.05, "sigma_spread": 1.5}
# Photographs are restored more often than drawn from nothing: fewer high noise levels.
PHOTO_SCHEDULE = SCHEDULE | {"sigma_median": 0.1, "sigma_spread": 1.2, "uniform": 0.1}


def crops(split: str, folder: str | Path = FOLDER) -> Crops:
    """Crops of the photographs of "train" or "held-out". folder: see `files`."""
    return Crops([read(path) for path in files(split, folder)], SIZE, SCALES)


def held_out_crops(crops: Crops, count: int = HELD_OUT_CROPS) -> dict[str, Tensor]:
    """count crops of each number of channels, under their names in a log: the larger number first, as `held_out`."""
    most = max(crops.channels)
    return {
        "held_out" if channels == most else "held_out_grey": crops.of(channels, count, seed=0)
        for channels in sorted(crops.channels, reverse=True)
    }


def files(split: str, folder: str | Path = FOLDER) -> list[Path]:
    """The photographs of "train" or "held-out".

    folder: that holds backgrounds/mate/nature and wallpapers, as the packages install them.
    Raises FileNotFoundError, with the way to get them, where one lacks.
    """
    if split not in ("train", "held-out"):
        raise ValueError(f"split must be 'train' or 'held-out', got {split!r}")
    chosen = [
        Path(folder) / place.format(name)
        for name, place in PHOTOGRAPHS.items()
        if (name in HELD_OUT) == (split == "held-out")
    ]
    missing = [path for path in chosen if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"the photographs are not at {missing[0]}: install the Debian packages mate-backgrounds and "
            "plasma-workspace-wallpapers, or name the folder that holds their folders backgrounds and wallpapers"
        )
    return chosen


def read(path: Path) -> Tensor:
    """A photograph, (3, H, W) uint8."""
    from PIL import Image  # a training on other data does without

    with Image.open(path) as file:
        values = np.array(file.convert("RGB"))
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()

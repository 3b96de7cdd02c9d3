"""`inverse list`"""

from __future__ import annotations

import argparse
import inspect

import inverse
import operators
import priors
from priors import classical

HELP = "operators, priors and samplers, one line each"
EXAMPLES = """\
examples:
  inverse list"""

OPERATORS = {
    "blur": "convolution with a kernel (kernel=FILE.npy, padding=circular)",
    "box-inpainting": "a square hole at the centre (size=PIXELS)",
    "compressed-sensing": "random projections (ratio=0.25 of the number of pixels)",
    "demosaicing": "one colour per pixel in the Bayer pattern; colour images",
    "denoising": "the image itself, with noise",
    "fourier": "some lines of the Fourier transform (ratio= or mask=FILE.npy)",
    "gaussian-blur": "Gaussian blur (width=1 pixels, padding=circular)",
    "inpainting": "some of the pixels (keep=SHARE or mask=FILE.npy)",
    "matrix": "your own matrix (matrix=FILE.npy, of shape (m, pixels))",
    "motion-blur": "blur along a line (length=7 pixels, angle=45 degrees)",
    "phase-retrieval": "intensities of coded diffraction, not linear (ratio=4)",
    "saturation": "values above a level are lost, not linear (level=0.8)",
    "super-resolution": "low-pass filter and decimation (factor=2, filter=bicubic)",
    "tomography": "line integrals; square images (angles=60)",
}


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("list", help=HELP, description="Lists " + HELP + ".", epilog=EXAMPLES)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    print("operators (inverse reconstruct --operator NAME, settings by --option)")
    for name in operators.available():
        print(f"  {name:20}{OPERATORS[name]}")
    print("\npriors (--prior NAME, or a weights file)")
    for name in priors.available():
        prior = priors.load(name)
        shape = " x ".join(map(str, prior.image_shape or ("of any size",)))
        kind = summary(type(prior)) if name in classical.BY_NAME else "learned"
        print(f"  {name:24}{kind}; images {shape} in [0, 1]")
    print("\nsamplers (--sampler NAME, settings by --sampler-option)")
    for name in inverse.samplers():
        print(f"  {name:20}{summary(type(inverse.sampler(name)))}")


def summary(kind: type) -> str:
    """First paragraph of a class's documentation, in one line."""
    text = inspect.getdoc(kind) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")

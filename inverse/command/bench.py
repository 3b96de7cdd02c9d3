"""`inverse bench`"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import sys
from itertools import product
from pathlib import Path

import torch

import inverse
import operators
import priors
from inverse import demo, images, metrics, report
from inverse.command import arguments
from inverse.driver import InvalidStateError
from inverse.files import replacing
from inverse.posterior import Posterior
from priors import inference

HELP = "priors and samplers side by side on the same images and measurements"
DESCRIPTION = """\
Measures every image by every operator, and reconstructs it with every prior and every sampler: one line of a table for
each combination, with the same images, noise and seed. What does not go together is told, and left out.

Prints a table: PSNR (dB) of the posterior mean with its standard error over the images, SSIM, residual of the samples
over sigma sqrt(m), share of pixels whose truth lies in the central 90% interval and what exact samples would show,
denoiser calls per sample (NFE), seconds.

Writes to the folder: table.md, table.csv, run.json and a file in cells/ for each combination, as soon as it is done:
interrupted, the same command goes on where it was."""
EXAMPLES = """\
examples:
  inverse bench
  inverse bench *.png --prior fashion-28 --prior mine.safetensors --sampler mmps:steps=50 --sampler dps
  inverse bench photo.jpg --prior photo --prior tv --sampler mmps-spectral --operator motion-blur:length=9 --n 4"""


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("bench", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="*", help="images (default: three shipped ones, of clothes)")
    several = {"action": "append", "default": []}
    operator = "NAME[:KEY=VALUE,...], as often as wanted (default: those of inverse demo)"
    parser.add_argument("--operator", metavar="SPEC", type=specification, help=operator, **several)
    prior = "name or weights file, as often as wanted (default: fashion-28)"
    parser.add_argument("--prior", metavar="NAME", help=prior, **several)
    sampler = "NAME[:KEY=VALUE,...], as often as wanted (default: the one that reconstruct takes)"
    parser.add_argument("--sampler", metavar="SPEC", type=specification, help=sampler, **several)
    parser.add_argument(
        "--noise",
        metavar="S",
        type=arguments.positive,
        default=demo.NOISE,
        help="standard deviation of the noise in units of the measurement (default: %(default)s)",
    )
    parser.add_argument(
        "--n", metavar="N", type=arguments.count, default=16, help="samples per measurement (default: %(default)s)"
    )
    arguments.add_inference(parser)
    arguments.add_machine(parser)
    parser.add_argument("--out", metavar="DIR", default="bench", help="folder for the results (default: %(default)s)")
    parser.set_defaults(run=run)


def specification(text: str) -> tuple[str, dict[str, object]]:
    """NAME[:KEY=VALUE,...] as a name and options."""
    name, _, rest = text.partition(":")
    return name, dict(arguments.key_value(pair) for pair in rest.split(",") if pair)


def run(args: argparse.Namespace) -> None:
    device = arguments.device(args)
    out = Path(args.out)
    if not args.out or (out.exists() and not out.is_dir()):
        raise ValueError(f"--out must be a folder, got {args.out!r}")
    for name, options in args.sampler:
        inverse.sampler(name, **options)
    for name, _ in args.operator:
        if name not in operators.available():
            operators.create(name, ())  # which says what is known
    names = args.prior or ["fashion-28"]
    loaded = {name: prepared(name, args.inference, device) for name in names}
    measurements = args.operator or list(demo.MEASUREMENTS.items())
    grid = list(product(measurements, names, args.sampler or [None]))
    (out / "cells").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (measurement, name, sampler) in enumerate(grid, 1):
        print(f"{number} of {len(grid)}: {described(measurement)}, {name}, {described(sampler)}", file=sys.stderr)
        try:
            found = cell(out, measurement, name, loaded[name], sampler, args)
        except KeyboardInterrupt:
            print(f"\n{number - 1} of {len(grid)} are done; the same command goes on from there", file=sys.stderr)
            raise
        if "refused" in found:
            print(f"left out: {found['refused']}", file=sys.stderr)
        else:
            lines.append(found)
    record = {"command": "bench", "files": args.files, "noise": args.noise, "n": args.n, "seed": args.seed}
    files = {"run.json": json.dumps(record | {"version": version()}, indent=2) + "\n"}
    if not lines:
        raise ValueError("no combination of --operator, --prior and --sampler goes together; each was told why")
    files |= {"table.md": report.markdown(lines), "table.csv": report.comma_separated(lines)}
    for file, text in files.items():
        with replacing(out / file) as temporary:
            temporary.write_text(text)
    print(report.markdown(lines), end="")
    print(f"\nthe table is in {args.out}")


def prepared(name: str, mode: str, device: torch.device) -> priors.Prior:
    """A prior on its device, run as --inference says where it is a network."""
    prior = priors.load(name).to(device)
    return inference.prepare(prior, mode) if isinstance(prior, priors.Preconditioned) else prior


def described(spec: tuple[str, dict[str, object]] | None) -> str:
    if spec is None:
        return "default"
    name, options = spec
    told = arguments.described(list(options.items()))
    return ":".join([name, *([",".join(f"{key}={value}" for key, value in told.items())] if told else [])])


def version() -> str:
    return importlib.metadata.version("scorefold")


def cell(
    out: Path,
    measurement: tuple[str, dict[str, object]],
    name: str,
    prior: priors.Prior,
    sampler: tuple[str, dict[str, object]] | None,
    args: argparse.Namespace,
) -> dict[str, str | float]:
    """A line of the table, or why there is none; read where it has been written already."""
    truth = images.load(args.files, prior.image_shape).x if args.files else demo.truth(prior.image_shape)
    key = hashlib.sha256(truth.numpy().tobytes())
    for options in (measurement[1], {} if sampler is None else sampler[1]):
        for value in options.values():
            key.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    weights = hashlib.sha256(b"".join(t.cpu().numpy().tobytes() for t in prior.state_dict().values())).hexdigest()
    settings = [described(measurement), name, weights, described(sampler), args.noise, args.n, args.seed]
    key.update(json.dumps([*settings, getattr(prior, "inference", None), version()]).encode())
    file = out / "cells" / f"{key.hexdigest()[:16]}.json"
    if file.exists():
        print("done before", file=sys.stderr)
        return json.loads(file.read_text())
    line = {"measurement": described(measurement), "prior": name, "sampler": described(sampler)}
    try:
        line |= scores(measurement, prior, sampler, truth, args)
    except (ValueError, TypeError, InvalidStateError) as error:
        line = {"refused": " ".join(str(error).split())}
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(line, indent=1) + "\n")
    return line


def scores(
    measurement: tuple[str, dict[str, object]],
    prior: priors.Prior,
    sampler: tuple[str, dict[str, object]] | None,
    truth: torch.Tensor,
    args: argparse.Namespace,
) -> dict[str, str | float]:
    """What a table says of one combination."""
    operator, options = measurement
    physics = operators.create(operator, tuple(truth.shape[1:]), noise=args.noise, seed=args.seed, **options)
    with torch.no_grad():
        y = physics(truth)
    device = torch.device(args.device)
    truth, physics = truth.to(device), physics.to(device)
    posterior = Posterior(prior, physics, y.to(device))
    chosen = (inverse.registry.default(posterior), {}) if sampler is None else sampler
    samples = inverse.sampler(chosen[0], **chosen[1]).sample(posterior, args.n, seed=args.seed, progress=True)
    psnr = metrics.psnr(samples.mean, truth)
    line = report.scores(operator, samples, physics, truth)
    line.pop("measurement")
    error = float(psnr.std() / len(psnr) ** 0.5) if len(psnr) > 1 else float("nan")
    return {"sampler": described(chosen), "PSNR": line.pop("PSNR"), "+-": error} | line

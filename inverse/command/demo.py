"""`inverse demo`"""

from __future__ import annotations

import argparse

from inverse import demo, figures, report
from inverse.command import arguments, output

HELP = "reconstruct three shipped images from three kinds of measurement"
DESCRIPTION = f"""\
Takes the first three test images of Fashion-MNIST, which no training has seen, measures each through a 12 x 12 hole,
a blur and 10% random projections, with noise {demo.NOISE}, and draws posterior samples of every one.

Prints a table: PSNR (dB) and SSIM of the posterior mean; residual of the samples over sigma sqrt(m), 1 where they
explain the measurement as the truth does; the share of pixels whose truth lies in the central 90% interval of
the samples, and what exact posterior samples would show (- for a single sample); denoiser calls per sample (NFE);
seconds.
To be quick, mmps runs with {", ".join(f"{key}={value}" for key, value in demo.QUICK["mmps"])} unless options are given.
Writes to the folder: figure.png, table.md, table.csv, samples-*.safetensors (for inverse.Samples.load), run.json."""
EXAMPLES = """\
examples:
  inverse demo
  inverse demo --out demo-dps --sampler dps --n 32
  inverse demo --sampler-option steps=100"""


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("demo", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    arguments.add_out(parser, "demo")
    arguments.add_problem(parser)
    arguments.add_inference(parser)
    arguments.add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    with output.folder(args.out) as out:
        args.sampler_option = args.sampler_option or demo.QUICK.get(args.sampler, [])
        sampler = arguments.sampler(args)
        prior = arguments.prior(args)
        truth = demo.truth(prior.image_shape).to(args.device)
        lines, rows, settings = [], [], {}
        for name, physics, samples in demo.run(truth, prior, sampler, args.n, args.seed, progress=True):
            lines.append(report.scores(name, samples, physics, truth))
            rows += figures.rows(samples, truth, name)
            samples.save(out / f"samples-{name}.safetensors")
            settings[name] = {
                "options": demo.MEASUREMENTS[name],
                "hyper": dict(samples.hyper),
                "info": dict(samples.info),
            }
        figures.write(rows, out / "figure.png")
        (out / "table.md").write_text(report.markdown(lines))
        (out / "table.csv").write_text(report.comma_separated(lines))
        out.record = {"command": "demo", "prior": args.prior, "sampler": args.sampler, "n": args.n, "seed": args.seed}
        out.record |= {"noise": demo.NOISE, "measurements": settings}
    print(report.markdown(lines), end="")
    print(f"\nfigure, table and samples are in {args.out}")

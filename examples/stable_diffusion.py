# %% [markdown]
# # Stable Diffusion with a tempered corrector
#
# The predictor-corrector sampler of Li et al. 2025 (arXiv 2509.24912, Sec. 7.2 and Tables 1-4) on a latent diffusion
# pipeline, with classifier-free guidance of which only the unconditional term is tempered: DDPM alone, with the plain
# corrector (alpha = 0) and with the tempered one, 512 images each for three prompts. With a CLIP model the tables' two
# columns come out: P, similarity of the images to their prompt, higher is better; I, of the images to each other, lower
# is more diverse; both times 100, with 95% intervals over images.
#
#     python examples/stable_diffusion.py --tiny                             # a tiny pipeline made here, in a minute
#     python examples/stable_diffusion.py FOLDER --check                     # versions, files, memory, disk, cost
#     python examples/stable_diffusion.py FOLDER --clip CLIP --device cuda   # full size; goes on where it was
#
# FOLDER is a pipeline on the disk, or a name on the hub, with safetensors. Once, online:
#
#     pip install 'scorefold[hub]'
#     hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --local-dir sd15 --include model_index.json \
#         'scheduler/*' 'tokenizer/*' '*/config.json' text_encoder/model.safetensors \
#         unet/diffusion_pytorch_model.safetensors vae/diffusion_pytorch_model.safetensors
#     hf download openai/clip-vit-large-patch14 --local-dir clip --include '*.json' '*.txt' model.safetensors
#
# The full run is 40 million evaluations of the network, days of a large GPU, and has not been made for this project:
# no result of it is claimed anywhere. Every file appears whole or not at all; a run that was interrupted or killed
# loses at most one batch of images, and the same command goes on.

# %%
from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import math
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

PROMPTS = ("Creative furniture", "An innovative car design", "A creative architecture")
ALPHAS = (0.0, 0.1, 0.5, 1.0, 1.5)
CORRECTOR_STEPS = (5, 10, 15, 20, 30)
NEEDED = {"torch": "2.2", "diffusers": "0.42", "transformers": "5.0", "safetensors": "0.4"}
IMAGE_BYTES = 600_000  # of a PNG of 512 x 512
# Of float16 weights and activations, beside the weights themselves, for each image of a batch of 512 x 512.
BYTES_PER_IMAGE = 1.5e9


class Setting(NamedTuple):
    """One row of the tables: corrector_steps = 0 is DDPM alone."""

    prompt: str
    corrector_steps: int
    alpha: float

    @property
    def name(self) -> str:
        kind = "ddpm" if not self.corrector_steps else f"corrector-{self.corrector_steps}-alpha-{self.alpha:g}"
        return f"{re.sub('[^a-z]+', '-', self.prompt.lower())}/{kind}"


def write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def settings(args: argparse.Namespace) -> list[Setting]:
    """All rows, those of one prompt together."""
    each = [(0, 0.0), *itertools.product(args.corrector_steps, args.alpha)]
    return [Setting(prompt, *row) for prompt in args.prompt for row in each]


# %% [markdown]
# ## Before anything heavy
#
# Versions are looked at first, in the packages' metadata, then the files, by their names and sizes, then memory and
# disk. No weight is read.


# %%
def check_versions() -> list[str]:
    problems = []
    for package, least in NEEDED.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{package} must be at least {least}, and is not installed: pip install 'scorefold[hub]'")
            continue
        print(f"{package} {version}")
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < tuple(map(int, least.split("."))):
            problems.append(f"{package} must be at least {least}, got {version}: pip install -U 'scorefold[hub]'")
    return problems


def check_files(args: argparse.Namespace) -> tuple[list[str], float]:
    """Problems, and bytes of float32 weights of the network, its text encoder and its decoder."""
    from priors.diffusers import UNUSED, check_folder

    problems, weights = [], 0.0
    folder = Path(args.pipeline)
    if not folder.exists():
        print(f"{args.pipeline}: no folder here, so it is taken for a name on the hub; its files cannot be checked")
        return problems, 4.3e9
    try:
        check_folder(folder)
    except ValueError as error:
        problems.append(str(error))
    else:
        files = [f for f in folder.glob("*/*.safetensors") if f.parent.name not in UNUSED and "fp16" not in f.name]
        weights = float(sum(file.stat().st_size for file in files))
        print(f"{folder}: {len(files)} files of weights, {weights / 1e9:.2f} GB")
    if args.clip is None:
        print("no --clip: images are made, similarities are not")
    elif Path(args.clip).exists() and not any(Path(args.clip).glob("*.safetensors")):
        problems.append(f"--clip must be a folder with safetensors and a configuration, got {args.clip} without")
    return problems, weights


def available_memory() -> float:
    """Bytes that a program can have; infinite where the system does not say."""
    try:
        (line,) = re.findall(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        return 1024.0 * int(line)
    except (OSError, ValueError):
        return math.inf


def check_memory(args: argparse.Namespace, weights: float) -> list[str]:
    """Problems with memory and disk; torch is imported for a GPU alone."""
    half = args.dtype != "float32"
    need = weights * (0.5 if half else 1.0) + args.batch * BYTES_PER_IMAGE * (1 if half else 2) * args.scale
    problems = []
    if args.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            return [
                f"--device must be one that torch can use, got {args.device} on a machine without a GPU that it sees"
            ]
        free, where = float(torch.cuda.mem_get_info(args.device)[0]), "the GPU"
    else:
        free, where = available_memory(), "this machine"
    print(f"memory of {where}: {free / 1e9:.1f} GB free, about {need / 1e9:.1f} GB needed for a batch of {args.batch}")
    if free < need:
        problems.append(
            f"--batch must fit the memory of {where}: about {need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are "
            "free; lower --batch, or use --dtype float16"
        )
    images = len(settings(args)) * args.images
    existing = next(parent for parent in [args.out.resolve(), *args.out.resolve().parents] if parent.exists())
    space = shutil.disk_usage(existing).free
    print(f"{args.out}: {space / 1e9:.0f} GB free, about {images * IMAGE_BYTES * args.scale / 1e9:.1f} GB needed")
    if space < images * IMAGE_BYTES * args.scale:
        problems.append(
            f"--out must have room for {images} images, {images * IMAGE_BYTES / 1e9:.0f} GB, got {existing}"
        )
    return problems


def calls(args: argparse.Namespace, setting: Setting) -> int:
    """Evaluations of the network for one image, two for each guided call."""
    tempered = setting.alpha > 0 and setting.corrector_steps > 0
    projection = setting.corrector_steps if tempered else 1
    return 2 * args.steps * (1 + setting.corrector_steps) + projection


def check(args: argparse.Namespace) -> bool:
    """Whether a run can start; prints what it found, and every problem in one sentence."""
    problems = check_versions()
    weights = 0.0
    if not problems:
        found, weights = check_files(args)
        problems += found
    if not problems:
        problems += check_memory(args, weights)
        total = sum(calls(args, setting) for setting in settings(args)) * args.images
        print(f"{len(settings(args))} settings of {args.images} images: {total:,} evaluations of the network")
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return not problems


# %% [markdown]
# ## A tiny pipeline
#
# The same classes with random weights and a vocabulary of letters: the same code runs, and what it draws means nothing.


# %%
def tiny(folder: Path) -> tuple[Path, Path]:
    """Folders of a tiny StableDiffusionPipeline and of a tiny CLIP, made where they are not there."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTextModel, CLIPTokenizer

    if (folder / "clip").is_dir():
        return folder / "pipeline", folder / "clip"
    making = folder / f".making.{os.getpid()}"
    making.mkdir(parents=True)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (making / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (making / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(making / "vocab.json"), str(making / "merges.txt"), model_max_length=32)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    clip = CLIPConfig(
        text_config={**small, **ends, "vocab_size": len(words), "max_position_embeddings": 32},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    blocks = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 8}
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            **blocks,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        text_encoder=CLIPTextModel(clip.text_config),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            **blocks,
            in_channels=4,
            out_channels=4,
            cross_attention_dim=16,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        scheduler=DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(making / "pipeline")
    CLIPModel(clip).save_pretrained(making / "clip")
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(making / "clip")
    for part in ("pipeline", "clip"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (making / part).rename(folder / part)
    shutil.rmtree(making)
    return folder / "pipeline", folder / "clip"


# %% [markdown]
# ## Images
#
# A batch of images is the unit of work: its seed is the number of its first image, so that it can be drawn again alone.


# %%
def claim(args: argparse.Namespace) -> None:
    """Write what determines an image into the folder; ValueError where images of another run are in it."""
    names = ("pipeline", "batch", "steps", "guidance", "seed", "device", "dtype")
    own = {name: str(getattr(args, name)) for name in names}
    path = args.out / "run.json"
    if path.exists():
        for name, value in json.loads(path.read_text()).items():
            if own[name] != value:
                raise ValueError(
                    f"--out must be a new folder for --{name} {own[name]}: {args.out} was made with {value}"
                )
    args.out.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(own) + "\n")


def draw(args: argparse.Namespace) -> None:
    """Every image of every setting that is not there yet."""
    import torch
    from diffusers import DiffusionPipeline
    from PIL import Image
    from tqdm import tqdm

    from inverse.predictor_corrector import PredictorCorrector
    from priors import Diffusers
    from priors.diffusers import load

    missing = [
        (setting, first)
        for setting in settings(args)
        for first in range(0, args.images, args.batch)
        if not all(image.exists() for image in files(args, setting)[first : first + args.batch])
    ]
    if not missing:
        return
    pipeline: DiffusionPipeline = load(args.pipeline, getattr(torch, args.dtype)).to(args.device)
    priors: dict[str, Diffusers] = {}
    total = sum(calls(args, setting) * args.batch for setting, _ in missing)
    with tqdm(total=total, unit="call", unit_scale=True, desc="images") as bar:
        for setting, first in missing:
            if setting.prompt not in priors:
                priors[setting.prompt] = Diffusers(pipeline, setting.prompt, guidance=args.guidance).to(args.device)
            prior = priors[setting.prompt]
            sampler = PredictorCorrector(
                steps=args.steps, corrector_steps=setting.corrector_steps, alpha=setting.alpha, predictor="ddpm"
            )
            paths = files(args, setting)[first : first + args.batch]
            bar.set_description(setting.name)
            latents = sampler.sample_prior(prior, len(paths), args.seed + first, chunk_size=1024, device=args.device)
            for path, latent in zip(paths, latents, strict=True):  # one at a time: the decoder takes more than the rest
                with torch.no_grad():
                    image = prior.decode(latent[None])[0].clamp(0, 1)
                values = (255 * image.permute(1, 2, 0)).round().byte().cpu().numpy()
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".{path.name}.{os.getpid()}")
                Image.fromarray(values).save(temporary, format="png")
                temporary.replace(path)
            bar.update(calls(args, setting) * args.batch)


def files(args: argparse.Namespace, setting: Setting) -> list[Path]:
    return [args.out / "images" / setting.name / f"{i:05d}.png" for i in range(args.seed, args.seed + args.images)]


# %% [markdown]
# ## Similarities


# %%
class Similarity:
    """Cosines, times 100, of a CLIP model's features of images and texts."""

    def __init__(self, folder: str, device: str) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.model = CLIPModel.from_pretrained(folder, use_safetensors=True).to(device).eval()
        self.processor, self.device = CLIPProcessor.from_pretrained(folder), device

    def __call__(self, paths: list[Path], prompt: str) -> dict[str, Any]:
        import torch
        from PIL import Image

        features = []
        for start in range(0, len(paths), 32):
            images = [Image.open(path) for path in paths[start : start + 32]]
            inputs = self.processor(text=[prompt], images=images, return_tensors="pt", padding=True).to(self.device)
            with torch.no_grad():
                output = self.model(**inputs)
            text = torch.nn.functional.normalize(output.text_embeds.double(), dim=1)
            features.append(torch.nn.functional.normalize(output.image_embeds.double(), dim=1))
        images, n = torch.cat(features), len(paths)
        to_text = 100 * (images @ text.T)[:, 0]
        cosines = 100 * images @ images.T
        to_others = (cosines.sum(1) - cosines.diagonal()) / (n - 1)
        # The mean over pairs is a U-statistic of order two: its variance is about 4 that of the images' own means / n.
        return {
            "P": float(to_text.mean()),
            "P_interval": 1.96 * float(to_text.std()) / math.sqrt(n),
            "I": float(to_others.mean()),
            "I_interval": 1.96 * 2 * float(to_others.std()) / math.sqrt(n),
        }


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each setting, with similarities where there is a CLIP model; printed as a table."""
    similarity = None if args.clip is None else Similarity(str(args.clip), args.device)
    rows = []
    for prompt in args.prompt:
        print(f"\n## {prompt}: {args.images} images, {args.steps} steps, guidance {args.guidance:g}\n")
        print("| sampler | corrector steps | alpha | NFE | P (higher) | I (lower) |")
        print("| --- | --- | --- | --- | --- | --- |")
        for setting in [setting for setting in settings(args) if setting.prompt == prompt]:
            row = setting._asdict() | {"nfe": calls(args, setting)}
            shown = ["", ""]
            if similarity is not None:
                row |= similarity(files(args, setting), prompt)
                shown = [f"{row[name]:.2f} ± {row[f'{name}_interval']:.2f}" for name in ("P", "I")]
            name = "DDPM" if not setting.corrector_steps else "tempered" if setting.alpha else "plain"
            print(f"| {name} | {setting.corrector_steps} | {setting.alpha:g} | {row['nfe']} | {' | '.join(shown)} |")
            rows.append(row)
    return rows


# %%
def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Stable Diffusion with a tempered corrector (Li et al. 2025, Tables 1-4)"
    )
    parser.add_argument("pipeline", nargs="?", help="folder or name of a Stable Diffusion pipeline with safetensors")
    parser.add_argument("--clip", help="folder or name of a CLIP model with safetensors, for the similarities")
    parser.add_argument("--check", action="store_true", help="look whether a run can start, and stop")
    parser.add_argument("--tiny", action="store_true", help="a tiny pipeline with random weights, and few images")
    parser.add_argument("--out", type=Path, default=Path("stable-diffusion"), help="folder for images and results.json")
    parser.add_argument("--prompt", action="append", help="instead of the paper's three; may be repeated")
    parser.add_argument("--images", type=int, default=512, help="of each setting (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="images at once (%(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="predictor steps (%(default)s)")
    parser.add_argument("--corrector-steps", type=int, nargs="+", default=list(CORRECTOR_STEPS))
    parser.add_argument("--alpha", type=float, nargs="+", default=list(ALPHAS))
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--seed", type=int, default=1000, help="number of the first image (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cuda for anything of full size (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="of the weights")
    args = parser.parse_args()
    if args.tiny:
        args.images, args.batch, args.steps, args.corrector_steps, args.alpha = 4, 2, 4, [2], [0.0, 1.0]
        args.prompt, args.dtype, args.guidance = list(PROMPTS[:2]), "float32", 1.5
    elif args.pipeline is None:
        parser.error("pipeline is needed, or --tiny")
    for name, least in (("images", 2), ("batch", 1), ("steps", 1), ("seed", 0)):
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(args, name)}")
    args.scale = 1e-3 if args.tiny else 1.0  # of an image of 16 x 16 in one of 512 x 512
    args.prompt = args.prompt or list(PROMPTS)
    args.dtype = args.dtype or ("float16" if args.device.startswith("cuda") else "float32")
    return args


def main() -> None:
    args = arguments()
    if args.tiny and not check_versions():
        args.pipeline, args.clip = tiny(args.out / "tiny")
    if not check(args):
        sys.exit(1)
    if args.check:
        return
    start = time.perf_counter()
    try:
        claim(args)
    except ValueError as error:
        sys.exit(f"error: {error}")
    draw(args)
    rows = measure(args)
    given = {name: value for name, value in vars(args).items() if name not in ("out", "check", "scale")}
    if args.tiny:
        given |= {"pipeline": "tiny, random weights", "clip": "tiny, random weights"}
    record = {
        "settings": given,
        "versions": {package: importlib.metadata.version(package) for package in NEEDED},
        "rows": rows,
        "seconds of this sitting": time.perf_counter() - start,
    }
    write(args.out / "results.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Pipelines of the diffusers library as priors, with their noise schedules as noise levels.

A pipeline is a network that was trained with one of diffusers' schedulers, for images or for the latent variables of an
autoencoder, with or without a text that it is told. What the network predicts and how its steps are noise levels is
said in `priors.parametrised`; here it is read from the pipeline's own configuration.

Weights are safetensors; nothing is ever unpickled. diffusers is imported where a pipeline is loaded.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .base import Sigma
from .parametrised import VE, VP, Parametrised, Schedule

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

INDEX = "model_index.json"
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
# Not needed for sampling: the checker of Stable Diffusion's images would be a gigabyte of weights.
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
SAFE = ("*.safetensors",)
CONVERSION = (
    "which is never loaded; where you trust its source, convert it once by "
    "DiffusionPipeline.from_pretrained(OLD, use_safetensors=False).save_pretrained(NEW)"
)


class Diffusers(Parametrised):
    """The prior of a diffusers pipeline, for images in [0, 1] or, where it has an autoencoder, for latent variables.

    pipeline: a folder that `save_pretrained` wrote, a name on the hub, or a pipeline that is loaded already; any with a
    UNet and a scheduler of betas or ScoreSdeVeScheduler: DDPM, DDIM, latent diffusion, Stable Diffusion 1, 2 and XL.
    prompt: what the image shall show, for networks that take text; None for the prior without a text.
    negative_prompt: the text of the unconditional term (None: that of no text).
    guidance: w of classifier-free guidance, D_none + w (D_prompt - D_none) (Ho and Salimans 2022), where there is a
    prompt. image_shape: (C, H, W) of what the network denoises, so of the latent variables where there are any; None
    for the size that it was trained on. dtype: of the weights, where they are loaded here.

    sigma is in units of what the network denoises: images in [0, 1], latent variables of variance 1. Latent variables
    become images by `decode`, and a measurement of images one of them by `operators.decoded(physics, prior.decode)`.

    Raises ValueError, in one sentence, for a folder that lacks a part, weights that are a pickle, a scheduler without a
    noise level, and a prompt for a network that takes none; ImportError, with the extra, where diffusers is missing.
    """

    autoencoder: Any

    def __init__(
        self,
        pipeline: str | Path | DiffusionPipeline,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        guidance: float = 7.5,
        image_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        loaded: Any = load(pipeline, dtype) if isinstance(pipeline, str | Path) else pipeline
        parts = _parts(loaded)
        unet, autoencoder = parts["unet"], parts.get("vae") or parts.get("vqvae")
        if isinstance(guidance, bool) or not math.isfinite(guidance):
            raise ValueError(f"guidance must be a finite number, got {guidance}")
        prediction, schedule = noise_schedule(parts["scheduler"], unet)
        latent = autoencoder is not None
        super().__init__(
            _Network(unet),
            prediction,
            schedule,
            data_range=(0.0, 1.0) if latent or isinstance(schedule, VE) else (-1.0, 1.0),
            image_shape=image_shape or _image_shape(unet),
            std=1.0 if latent else 0.25,
        )
        _check_channels(loaded, self.image_shape, autoencoder)
        self.autoencoder = autoencoder
        if latent and self.autoencoder.dtype == torch.float16 and self.autoencoder.config.get("force_upcast", False):
            self.autoencoder.float()  # its activations leave the range of float16
        self.conditions, self.prompted = _texts(loaded, prompt, negative_prompt, self.image_shape or ())
        self.prompt, self.guidance = prompt, 0.0 if self.prompted is None else float(guidance)
        self.evaluations = 1 if self.prompted is None else 2
        # Weights that ask for no gradients: differentiating through the prior costs no more than it must.
        self.requires_grad_(False).eval()

    @property
    def unconditional(self) -> Diffusers:
        """The same prior without its prompt, its weights shared."""
        prior = copy.copy(self)
        prior.prompt, prior.prompted, prior.guidance, prior.evaluations = None, None, 0.0, 1
        return prior

    def terms(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """D_none(x, sigma) and D_prompt(x, sigma), each like x (B, *image_shape), in one call of the network."""
        without, under = self._displacements(x, sigma)
        return x + without, x + under

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) - x, with guidance where there is a prompt. x: (B, *image_shape); sigma as in `denoise`."""
        without, under = self._displacements(x, sigma)
        return torch.lerp(without, under, self.guidance) if self.prompted is not None else without

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) of latent variables z (B, *image_shape), differentiable, in [0, 1] but not cut to it.

        Where the network denoises images, they are returned as they are.
        """
        if self.autoencoder is None:
            return z
        scale, mean = self._latent_scale(z)
        latent = (z / scale + mean).to(next(self.autoencoder.parameters()).dtype)
        return self.autoencoder.decode(latent).sample.to(z.dtype) / 2 + 0.5

    def encode(self, x: Tensor) -> Tensor:
        """Latent variables of images x (B, C, H, W) in [0, 1]: the mean of the encoder's law of them."""
        if self.autoencoder is None:
            return x
        scale, mean = self._latent_scale(x)
        code = self.autoencoder.encode((2 * x - 1).to(next(self.autoencoder.parameters()).dtype))
        latent = code.latent_dist.mean if hasattr(code, "latent_dist") else code.latents
        return (latent.to(x.dtype) - mean) * scale

    def _displacements(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """D - x without and with the prompt; the same where there is none."""
        level = self._level(x, sigma)
        if self.prompted is None:
            displacement = self._displaced(x, level, self.conditions)
            return displacement, displacement
        both = _stacked(self.conditions, self.prompted, x)
        without, under = self._displaced(
            torch.cat([x, x]), torch.cat([level, level]) if level.ndim else level, both
        ).chunk(2)
        return without, under

    def _latent_scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """What the autoencoder's latent variables are multiplied by, and their mean, each (1, C or 1, 1, 1)."""
        config = self.autoencoder.config
        mean = like.new_tensor(config.get("latents_mean") or 0.0).reshape(1, -1, 1, 1)
        std = like.new_tensor(config.get("latents_std") or 1.0).reshape(1, -1, 1, 1)
        return config.scaling_factor / std, mean


class _Network(nn.Module):
    """A UNet of diffusers called as network(u, time, **conditions) -> tensor, in whatever precision its weights are."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, u: Tensor, time: Tensor, **conditions: Any) -> Tensor:
        dtype = next(self.unet.parameters()).dtype
        output = self.unet(u.to(dtype), time, return_dict=False, **_cast(conditions, dtype))[0]
        return output.to(u.dtype)


def load(pipeline: str | Path, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """The pipeline in a folder, or of that name on the hub, safetensors only, without what sampling does not need.

    Raises ValueError, in one sentence, where the folder lacks a part or holds a pickle, or the name cannot be had.
    """
    source = Path(pipeline)
    if source.exists():
        check_folder(source)
    elif len(source.parts) > 2 or source.is_absolute() or str(pipeline).startswith((".", "~")):
        raise FileNotFoundError(f"pipeline must be a folder or a name on the hub, and there is no {str(pipeline)!r}")
    kind = _pipeline_class()
    try:
        index = kind.load_config(str(pipeline))
        options: dict[str, Any] = {name: None for name in UNUSED if name in index}
        if "requires_safety_checker" in index:
            options["requires_safety_checker"] = False
        return kind.from_pretrained(
            str(pipeline), use_safetensors=True, dtype=dtype, low_cpu_mem_usage=False, **options
        )
    except Exception as error:  # every part has a loader of its own, with exceptions of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        if "safetensors" in reason and not source.exists():
            raise ValueError(f"pipeline {str(pipeline)!r} must hold safetensors, got a pickle, {CONVERSION}") from error
        needed = "a folder" if source.exists() else "a folder or a name on the hub"
        raise ValueError(
            f"pipeline must be {needed} whose parts can be had, got {str(pipeline)!r}: {reason}"
        ) from error


def check_folder(folder: Path) -> None:
    """Raise ValueError, in one sentence, unless the folder holds every part that its index lists, as safetensors."""
    if folder.is_file():
        kind = f"a pickle, {CONVERSION}" if any(folder.match(p) for p in PICKLES) else "a single file"
        raise ValueError(f"pipeline must be a folder that save_pretrained wrote, got {folder}, {kind}")
    index = folder / INDEX
    if not index.is_file():
        raise ValueError(f"pipeline must be a folder that save_pretrained wrote, and {folder} lacks {INDEX}")
    try:
        listed = json.loads(index.read_text())
        parts = {name: value[1] for name, value in listed.items() if isinstance(value, list) and value[1] is not None}
    except (ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"pipeline must have an index that can be read, and {index} is none: {error}") from None
    for name, kind in parts.items():
        if name not in UNUSED:
            _check_part(folder / name, kind)


def _check_part(part: Path, kind: str) -> None:
    if not part.is_dir() or not any(part.iterdir()):
        raise ValueError(f"pipeline must have every part of its index, and {part.parent} lacks {part.name} ({kind})")
    # Tokenizers and schedulers have settings of other names, and no weights.
    if kind.endswith(("Scheduler", "Tokenizer", "TokenizerFast", "Processor")):
        return
    if not (part / "config.json").is_file():
        raise ValueError(f"pipeline must have every part of its index, and {part} ({kind}) lacks config.json")
    if any(any(part.glob(pattern)) for pattern in SAFE):
        return
    pickles = sorted(file.name for pattern in PICKLES for file in part.glob(pattern))
    if pickles:
        raise ValueError(f"pipeline must hold safetensors, got {part / pickles[0]}, a pickle, {CONVERSION}")
    raise ValueError(f"pipeline must have every part of its index, and {part} ({kind}) lacks its .safetensors weights")


def noise_schedule(scheduler: Any, unet: Any) -> tuple[str, Schedule]:
    """What the network predicts, and its schedule, from the scheduler that it was trained with.

    Raises ValueError for a scheduler without betas, such as those of flow matching, or an unknown prediction.
    """
    config, name = scheduler.config, type(scheduler).__name__
    if name == "ScoreSdeVeScheduler":
        return "score", VE(config.sigma_min, config.sigma_max)
    prediction = PREDICTIONS.get(config.get("prediction_type", "epsilon"))
    betas = getattr(scheduler, "betas", None)
    if betas is None or prediction is None:
        came = f"{name} with prediction_type {config.get('prediction_type')!r}"
        raise ValueError(f"pipeline must have a scheduler of betas that predicts {', '.join(PREDICTIONS)}, got {came}")
    return prediction, VP(betas, whole=unet.config.get("time_embedding_type") == "learned")


def _pipeline_class() -> Any:
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise ImportError("Diffusers needs diffusers and transformers: pip install 'scorefold[hub]'") from error
    return DiffusionPipeline


def _parts(pipeline: Any) -> Mapping[str, Any]:
    if not isinstance(pipeline, _pipeline_class()):
        raise TypeError(f"pipeline must be a folder, a name or a diffusers pipeline, got {type(pipeline).__name__}")
    parts = {name: part for name, part in pipeline.components.items() if part is not None}
    for needed in ("unet", "scheduler"):
        if needed not in parts:
            name = type(pipeline).__name__
            raise ValueError(f"pipeline must have a {needed}, got {name} with {', '.join(sorted(parts)) or 'nothing'}")
    return parts


def _image_shape(unet: Any) -> tuple[int, ...] | None:
    size, channels = unet.config.sample_size, unet.config.in_channels
    if size is None:
        return None
    return (channels, size, size) if isinstance(size, int) else (channels, *size)


def _check_channels(pipeline: Any, image_shape: tuple[int, ...] | None, autoencoder: Any) -> None:
    """ValueError for networks that are given more than what they denoise, such as a mask."""
    unet = pipeline.unet.config
    denoised = unet.in_channels if autoencoder is None else autoencoder.config.latent_channels
    if unet.in_channels != denoised or unet.out_channels not in (denoised, 2 * denoised):
        raise ValueError(
            f"pipeline must have a UNet that is given what it denoises alone, {denoised} channels, "
            f"got {type(pipeline).__name__} with {unet.in_channels}"
        )
    if image_shape is not None and (len(image_shape) != 3 or image_shape[0] != denoised):
        raise ValueError(f"image_shape must be ({denoised}, H, W) for this pipeline, got {image_shape}")


def _texts(
    pipeline: Any, prompt: str | None, negative_prompt: str | None, image_shape: tuple[int, ...]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Conditions of the network for the negative prompt and for the prompt, None where there is none."""
    reads = getattr(pipeline, "tokenizer", None) is not None
    for name, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{name} must be one text, got {type(text).__name__}")
        if text is not None and not reads:
            raise ValueError(f"{name} must be None for {type(pipeline).__name__}, which takes no text, got {text!r}")
    if not reads:
        return {}, None
    with torch.no_grad():
        encoded = pipeline.encode_prompt(
            prompt=prompt or "",
            device=pipeline.text_encoder.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negative_prompt,
        )
    under, without = ({"encoder_hidden_states": states} for states in encoded[:2])
    if len(encoded) == 4:  # Stable Diffusion XL: the pooled texts, and the size of the image and of its crop
        side = [size * pipeline.vae_scale_factor for size in image_shape[1:]]
        for conditions, pooled in zip((under, without), encoded[2:], strict=True):
            sizes = pooled.new_tensor([[*side, 0, 0, *side]])
            conditions["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    return without, None if prompt is None else under


def _stacked(first: Mapping[str, Any], second: Mapping[str, Any], x: Tensor) -> dict[str, Any]:
    """The conditions of the images x, and after them those of as many more."""

    def both(a: Any, b: Any) -> Any:
        if isinstance(a, Mapping):
            return _stacked(a, b, x)
        return torch.cat([value.to(x.device).expand(len(x), *value.shape[1:]) for value in (a, b)])

    return {name: both(first[name], second[name]) for name in first}


def _cast(conditions: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {
        name: _cast(value, dtype) if isinstance(value, Mapping) else value.to(dtype)
        for name, value in conditions.items()
    }

"""Pipelines of diffusers as priors: against exact denoisers, and against the library's own samplers.

The pipelines are built here with the library's own classes, tiny and with random weights: nothing is downloaded.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import operators
from inverse import DPS, Posterior
from inverse.predictor_corrector import PredictorCorrector
from inverse.robustness.fingerprint import fingerprint
from inverse.unconditional import sample
from priors import Diffusers, GaussianMixture
from priors import diffusers as diffusers_module
from priors.guided import Guided
from priors.parametrised import VP

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
UNET = {"sample_size": 8, "block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}
PIXELS = UNET | {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownBlock2D",) * 2,
    "up_block_types": ("UpBlock2D",) * 2,
}

VAE = {
    "latent_channels": 4,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "sample_size": 16,
}


def seeded(build, seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Letters alone, none merged: a vocabulary for any English text."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def stable_diffusion(folder: Path, scheduler=None) -> StableDiffusionPipeline:
    words = tokenizer(folder)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    unet = UNET | blocks | {"cross_attention_dim": 16, "attention_head_dim": 4}
    return StableDiffusionPipeline(
        vae=seeded(lambda: AutoencoderKL(**VAE)),
        text_encoder=seeded(lambda: CLIPTextModel(text)),
        tokenizer=words,
        unet=seeded(lambda: UNet2DConditionModel(in_channels=4, out_channels=4, **unet)),
        scheduler=scheduler or PNDMScheduler(skip_prk_steps=True, steps_offset=1, **SCALED),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module")
def latent(tmp_path_factory) -> StableDiffusionPipeline:
    return stable_diffusion(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, latent) -> Path:
    """A pixel pipeline and a latent one, saved."""
    root = tmp_path_factory.mktemp("pipelines")
    latent.save_pretrained(root / "latent")
    DDPMPipeline(seeded(lambda: UNet2DModel(**PIXELS)), DDPMScheduler()).save_pretrained(root / "pixels")
    return root


def fields(shape: tuple[int, ...], n: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


# Exact denoisers: images are N(0.3, 0.2^2) per pixel, so N(-0.4, 0.4^2) for the network.


class Perfect(UNet2DModel):
    """What a perfect UNet would predict at a step of the schedule, or between two of them."""

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        abar = torch.cumprod(1 - self.scheduler.betas.double(), 0)
        log_s = ((1 - abar) / abar).log() / 2
        i = timestep.floor().long().clamp(max=len(abar) - 2)
        s = torch.lerp(log_s[i], log_s[i + 1], timestep.double() - i).exp().reshape(-1, 1, 1, 1)
        a = 1 / (1 + s**2).sqrt()
        b, total = s * a, a**2 * 0.16 + (s * a) ** 2
        x0 = -0.4 + a * 0.16 / total * (sample + 0.4 * a)
        noise = b / total * (sample + 0.4 * a)
        kind = self.scheduler.config.prediction_type
        return ({"epsilon": noise, "sample": x0, "v_prediction": a * noise - b * x0}[kind].to(sample.dtype),)


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler, PNDMScheduler])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_perfect_unet_is_the_exact_denoiser(prediction, schedule, scheduler):
    pipeline = DDPMPipeline(Perfect(**PIXELS), scheduler(beta_schedule=schedule, prediction_type=prediction))
    pipeline.unet.scheduler = pipeline.scheduler
    prior = Diffusers(pipeline)
    exact = GaussianMixture(torch.full((1, 3, 8, 8), 0.3).double(), torch.tensor([0.04]).double())
    abar = torch.cumprod(1 - pipeline.scheduler.betas.double(), 0)
    steps = ((1 - abar) / abar).sqrt() / 2
    for sigma in (float(steps[0]), 0.1, float(steps[400]), 1.0, float(steps[900])):
        x = 0.3 + math.hypot(0.2, sigma) * fields((3, 8, 8)).double()
        # The network works in single precision on values of size 1, the displacement is of size sigma at least.
        torch.testing.assert_close(
            prior.displacement(x, sigma), exact.displacement(x, sigma), rtol=1e-4, atol=1e-5 * max(sigma, 0.1)
        )


def test_network_with_learned_variances_keeps_its_first_half():
    class Six(Perfect):
        def forward(self, sample, timestep, class_labels=None, return_dict=True):
            mean = super().forward(sample, timestep)[0]
            return (torch.cat([mean, torch.full_like(mean, 7.0)], dim=1),)

    scheduler = DDPMScheduler(variance_type="learned_range")
    pipeline = DDPMPipeline(Six(**PIXELS | {"out_channels": 6}), scheduler)
    pipeline.unet.scheduler = scheduler
    exact = GaussianMixture(torch.full((1, 3, 8, 8), 0.3), torch.tensor([0.04]))
    x = fields((3, 8, 8))
    torch.testing.assert_close(Diffusers(pipeline).denoise(x, 0.5), exact.denoise(x, 0.5), rtol=1e-4, atol=1e-5)


class PerfectWithText(UNet2DConditionModel):
    """What a perfect UNet would predict where latent variables are N(m, 1), with m read from the text's embedding."""

    def forward(self, sample, timestep, encoder_hidden_states, return_dict=True):
        abar = torch.cumprod(1 - self.scheduler.betas, 0)
        log_s = ((1 - abar) / abar).log() / 2
        i = timestep.floor().long().clamp(max=len(abar) - 2)
        s = torch.lerp(log_s[i], log_s[i + 1], timestep - i).exp().reshape(-1, 1, 1, 1)
        a = 1 / (1 + s**2).sqrt()
        return (s * a * (sample - a * mean_of(encoder_hidden_states)),)


def mean_of(embedding: Tensor) -> Tensor:
    return embedding[:, 4, 0].reshape(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def perfect(latent) -> StableDiffusionPipeline:
    unet = PerfectWithText.from_config(latent.unet.config).eval()
    unet.scheduler = latent.scheduler
    return StableDiffusionPipeline(**latent.components | {"unet": unet}, requires_safety_checker=False)


@pytest.mark.parametrize("sigma", [0.03, 0.5, 4.0])
def test_perfect_network_with_text_has_exact_terms(perfect, sigma):
    prior = Diffusers(perfect, "a car", negative_prompt="a dog", guidance=3.0)
    means = []
    for text in ("a dog", "a car"):
        states = perfect.encode_prompt(text, "cpu", 1, False)[0].detach()
        means.append(float(mean_of(states)))
    assert abs(means[0] - means[1]) > 0.1
    x = 2 * fields((4, 8, 8))
    for mean, term in zip(means, prior.terms(x, sigma), strict=True):
        exact = GaussianMixture(torch.full((1, 4, 8, 8), mean), torch.ones(1))
        torch.testing.assert_close(term, exact.denoise(x, sigma), rtol=1e-4, atol=1e-4)
    # Guidance moves the mean of Gaussians of one variance, and nothing else.
    guided = GaussianMixture(torch.full((1, 4, 8, 8), means[0] + 3 * (means[1] - means[0])), torch.ones(1))
    torch.testing.assert_close(prior.denoise(x, sigma), guided.denoise(x, sigma), rtol=1e-4, atol=1e-4)


# The library's own classes and conversions as the reference.


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_real_unet_at_the_steps_of_its_scheduler(prediction):
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False)
    unet = seeded(lambda: UNet2DModel(**PIXELS))
    prior = Diffusers(DDIMPipeline(unet, scheduler))
    scheduler.set_timesteps(1000)
    for step in (3, 400, 998):
        abar = scheduler.alphas_cumprod[step]
        u = fields((3, 8, 8))
        with torch.no_grad():
            expected = scheduler.step(unet(u, step).sample, step, u).pred_original_sample / 2 + 0.5
        x = (u / abar.sqrt() + 1) / 2
        sigma = float(((1 - abar) / abar).sqrt()) / 2
        tolerance = 2e-4 * max(1.0, sigma)  # of the products of 1,000 factors in the scheduler's single precision
        torch.testing.assert_close(prior.denoise(x, sigma), expected, rtol=1e-3, atol=tolerance)


def test_network_that_looks_its_steps_up_is_told_whole_ones():
    unet = seeded(lambda: UNet2DModel(time_embedding_type="learned", num_train_timesteps=1000, **PIXELS))
    prior, x = Diffusers(DDPMPipeline(unet, DDPMScheduler())), fields((3, 8, 8))
    u = (2 * x - 1) / math.sqrt(1 + 0.6**2)
    step = int((prior.schedule.log_sigmas - math.log(0.6)).abs().argmin())
    with torch.no_grad():
        expected = x - 0.3 * unet(u, torch.tensor([step])).sample
    torch.testing.assert_close(prior.denoise(x, 0.3), expected, rtol=1e-4, atol=1e-5)


def test_variance_exploding_unet_is_a_score_on_the_unit_range():
    from diffusers import ScoreSdeVeScheduler
    from diffusers.pipelines.deprecated.score_sde_ve.pipeline_score_sde_ve import ScoreSdeVePipeline

    unet = seeded(lambda: UNet2DModel(time_embedding_type="fourier", **PIXELS))
    prior = Diffusers(ScoreSdeVePipeline(unet, ScoreSdeVeScheduler(sigma_max=50.0)))
    x = fields((3, 8, 8))
    with torch.no_grad():
        expected = x + 0.25 * unet(x, torch.tensor([0.5])).sample
    torch.testing.assert_close(prior.denoise(x, 0.5), expected)
    assert prior.sigma_range == (0.01, 50.0)


def test_guided_sampling_is_that_of_the_pipeline(latent):
    """DDIM in variance exploding form with the prior's denoiser, next to StableDiffusionPipeline's own."""
    pipeline = StableDiffusionPipeline(
        **latent.components
        | {"scheduler": DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **SCALED)},
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    start = fields((4, 8, 8), n=1)
    prior = Diffusers(pipeline, "a car", negative_prompt="a dog", guidance=3.0)
    options = {"negative_prompt": "a dog", "guidance_scale": 3.0, "num_inference_steps": 10, "latents": start}
    expected = pipeline("a car", output_type="latent", **options).images
    abar = pipeline.scheduler.alphas_cumprod
    steps = [*pipeline.scheduler.timesteps.tolist(), 0]
    levels = [float(((1 - abar[t]) / abar[t]).sqrt()) for t in steps]
    x = start / abar[steps[0]].sqrt()
    for sigma, following in pairwise(levels):
        x = x + (1 - following / sigma) * prior.displacement(x, sigma)
    z = x * abar[0].sqrt()
    torch.testing.assert_close(z, expected, rtol=1e-3, atol=1e-3)
    images = pipeline("a car", output_type="pt", **options).images
    with torch.no_grad():
        torch.testing.assert_close(prior.decode(expected).clamp(0, 1), images, rtol=1e-3, atol=1e-3)


def test_terms_are_the_prior_without_and_with_its_prompt(latent):
    prior, x = Diffusers(latent, "a car", guidance=4.0), fields((4, 8, 8), n=3)
    sigma = torch.tensor([0.1, 1.0, 5.0])
    without, under = prior.terms(x, sigma)
    plain, alone = Diffusers(latent), Diffusers(latent, "a car", guidance=1.0)
    torch.testing.assert_close(without, plain.denoise(x, sigma), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(under, alone.denoise(x, sigma), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prior.denoise(x, sigma), without + 4 * (under - without), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prior.unconditional.denoise(x, sigma), without, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(without, under, atol=1e-4)
    assert (prior.guidance, prior.evaluations, plain.guidance, plain.evaluations) == (4.0, 2, 0.0, 1)
    assert prior.unconditional.guidance == 0 and prior.guidance == 4.0
    assert all(torch.equal(*pair) for pair in zip(plain.terms(x, 1.0), (plain.denoise(x, 1.0),) * 2, strict=True))


def test_latent_variables_are_scaled_as_the_pipeline_does(latent):
    prior, x = Diffusers(latent), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = latent.vae.encode(2 * x - 1).latent_dist.mean * 0.18215
        torch.testing.assert_close(prior.encode(x), expected)
        torch.testing.assert_close(prior.decode(expected), latent.vae.decode(expected / 0.18215).sample / 2 + 0.5)
    assert prior.image_shape == (4, 8, 8) and prior.radius((4, 8, 8)) == 16.0
    # Some autoencoders know their latent variables' mean and deviation: z * std / scaling + mean is decoded.
    mean, std = [0.1, -0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    vae = AutoencoderKL(latents_mean=mean, latents_std=std, **VAE)
    other = Diffusers(StableDiffusionPipeline(**latent.components | {"vae": vae}, requires_safety_checker=False))
    z = expected * torch.tensor(std).reshape(1, 4, 1, 1) / 0.18215 + torch.tensor(mean).reshape(1, 4, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(other.decode(expected), vae.decode(z).sample / 2 + 0.5)
        torch.testing.assert_close(other.decode(other.encode(x)), vae(2 * x - 1).sample / 2 + 0.5, rtol=1e-4, atol=1e-5)
    # The scaled-linear schedule of Stable Diffusion, as is well known: 0.0292 to 14.6.
    assert prior.sigma_range == pytest.approx((0.0292, 14.6146), rel=2e-3)


def test_latent_diffusion_without_text():
    from diffusers import LDMPipeline, VQModel

    options = {"latent_channels": 3, "norm_num_groups": 4, "block_out_channels": (8, 8)}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    codebook = seeded(lambda: VQModel(**options | blocks))
    prior = Diffusers(LDMPipeline(codebook, seeded(lambda: UNet2DModel(**PIXELS)), DDIMScheduler(clip_sample=False)))
    z, x = fields((3, 8, 8)), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior.decode(z), codebook.decode(z / 0.18215).sample / 2 + 0.5)
    torch.testing.assert_close(prior.encode(x), codebook.encode(2 * x - 1).latents * 0.18215)
    # Latent variables are on no range that would have to be changed: D = x - sigma times the network's output.
    with torch.no_grad():
        expected = z - 0.5 * prior.network.unet(z / math.sqrt(1.25), prior.schedule.time(torch.tensor([0.5]))).sample
    torch.testing.assert_close(prior.denoise(z, 0.5), expected)


def test_images_of_a_pixel_pipeline_are_their_own_latent_variables(folders):
    prior, x = Diffusers(folders / "pixels"), fields((3, 8, 8))
    assert prior.decode(x) is x and prior.encode(x) is x


def test_xl_is_told_its_pooled_texts_and_sizes(latent):
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModelWithProjection

    config = latent.text_encoder.config
    config.projection_dim = 8
    unet = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 8 + 6 * 4,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    pipeline = StableDiffusionXLPipeline(
        vae=latent.vae,
        text_encoder=latent.text_encoder,
        text_encoder_2=seeded(lambda: CLIPTextModelWithProjection(config)),
        tokenizer=latent.tokenizer,
        tokenizer_2=latent.tokenizer,
        unet=seeded(lambda: UNet2DConditionModel(in_channels=4, out_channels=4, **UNET | unet)),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **SCALED),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    start = fields((4, 8, 8), n=1)
    # One step from the first level to the last is the denoised image but for what is left of the noise.
    expected = pipeline("a car", output_type="latent", guidance_scale=5.0, num_inference_steps=1, latents=start).images
    prior = Diffusers(pipeline, "a car", guidance=5.0)
    abar = pipeline.scheduler.alphas_cumprod
    t = int(pipeline.scheduler.timesteps[0])
    sigma, last = (float(((1 - a) / a).sqrt()) for a in (abar[t], abar[0]))
    x = start / abar[t].sqrt()
    z = abar[0].sqrt() * (x + (1 - last / sigma) * prior.displacement(x, sigma))
    torch.testing.assert_close(z, expected, rtol=1e-3, atol=1e-3)


# From folders, and as parts of an inverse problem.


def test_a_saved_pipeline_is_the_same_prior(folders, latent):
    x = fields((4, 8, 8))
    here, there = Diffusers(latent, "a car"), Diffusers(str(folders / "latent"), "a car")
    torch.testing.assert_close(there.denoise(x, 1.0), here.denoise(x, 1.0), rtol=1e-5, atol=1e-6)
    assert not any(weight.requires_grad for weight in there.parameters())


def test_half_precision_weights_serve_single_precision_images(folders):
    x = fields((4, 8, 8))
    whole, half = (Diffusers(folders / "latent", "a car", dtype=d) for d in (torch.float32, torch.bfloat16))
    assert next(half.parameters()).dtype == torch.bfloat16
    # bfloat16 has 8 bits: a few hundredths of what the guidance of 7.5 amplifies.
    assert half.denoise(x, 1.0).dtype == torch.float32
    error = (half.denoise(x, 1.0) - whole.denoise(x, 1.0)).norm() / whole.displacement(x, 1.0).norm()
    assert error < 0.1 and half.decode(x).dtype == torch.float32
    # Decoders whose activations are too large for float16 say so, as Stable Diffusion's does.
    small = Diffusers(folders / "latent", dtype=torch.float16)
    assert (small.network.unet.dtype, small.autoencoder.dtype) == (torch.float16, torch.float32)


def test_sweeps_tell_priors_with_other_texts_and_schedules_apart(latent):
    prior = Diffusers(latent, "a car")
    assert fingerprint(prior) == fingerprint(Diffusers(latent, "a car"))
    assert fingerprint(prior) != fingerprint(Diffusers(latent, "a dog"))
    assert fingerprint(prior) != fingerprint(Diffusers(latent, "a car", guidance=2.0))
    assert fingerprint(VP.linear(100, 1e-4, 0.02)) != fingerprint(VP.scaled_linear(100, 1e-4, 0.02))


def test_another_size_than_it_was_trained_for(latent):
    prior = Diffusers(latent, "a car", image_shape=(4, 4, 12))
    assert prior.denoise(fields((4, 4, 12)), 1.0).shape == (2, 4, 4, 12)


def test_posterior_of_latent_variables_with_the_decoder_in_the_physics(perfect):
    prior = Diffusers(perfect, "a car", guidance=2.0)
    physics = operators.decoded(operators.create("inpainting", (3, 16, 16), keep=0.5, noise=0.02), prior.decode)
    y = physics(fields((4, 8, 8), n=1))
    posterior = Posterior(prior, physics, y)
    samples = DPS(steps=25).sample(posterior, 2, seed=0)
    mask = operators.measured(physics)

    def residual(z: Tensor) -> float:
        return float(((physics.A(z) - y) * mask).square().mean().sqrt())

    # Draws without the measurement are further from it.
    assert residual(samples.x[:, 0]) < 0.5 * residual(fields((4, 8, 8), n=64, seed=1))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_predictor_corrector_draws_as_from_the_exact_prior(perfect, alpha):
    """Same seed, same draws as from two Gaussians with guidance, of which the unconditional one alone is tempered."""
    prior = Diffusers(perfect, "a car", negative_prompt="a dog", guidance=2.0)
    states = [perfect.encode_prompt(text, "cpu", 1, False)[0].detach() for text in ("a dog", "a car")]
    none, car = (GaussianMixture(mean_of(e).expand(1, 4, 8, 8), torch.ones(1)) for e in states)
    sampler = PredictorCorrector(
        steps=6, corrector_steps=4, alpha=alpha, sigma_max=14.0, sigma_min=0.1, sigma_ref=1.0, projection_steps=3
    )
    drawn, exact = (sampler.sample_prior(p, 4, seed=0) for p in (prior, Guided(none, car, guidance=2.0)))
    torch.testing.assert_close(drawn, exact, rtol=1e-3, atol=1e-3)


def test_a_pixel_pipeline_is_sampled_like_any_prior(folders):
    images = sample(Diffusers(folders / "pixels"), 2, steps=5)
    assert images.shape == (2, 3, 8, 8) and bool(images.isfinite().all())


def test_the_python_of_the_documentation_runs(monkeypatch, folders):
    """docs/networks.md with tiny pipelines in place of the real ones, and few steps."""
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    # test_denoiser.py has those with weights of one's own.
    programs = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from_file" not in code]
    assert len(programs) == 4
    load = diffusers_module.load
    given = {"ddpm-celebahq-256": folders / "pixels", "sd15": folders / "latent"}
    monkeypatch.setattr(diffusers_module, "load", lambda name, dtype: load(given[name], dtype))
    names = {"network": lambda u, time: torch.zeros_like(u), "x": torch.rand(2, 3, 32, 32)}
    names["image"] = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for program in programs:
        quick = program.replace("steps=100", "steps=3").replace("steps=30", "steps=2")
        exec(compile(quick.replace("corrector_steps=10", "corrector_steps=2"), "networks.md", "exec"), names)
    assert names["images"].shape == (4, 3, 16, 16) and names["denoised"].shape == (2, 3, 32, 32)


# What cannot be used.


def broken(folders: Path, tmp_path: Path, kind: str = "latent") -> Path:
    return Path(shutil.copytree(folders / kind, tmp_path / "broken"))


def test_a_folder_that_lacks_a_part(folders, tmp_path):
    folder = broken(folders, tmp_path)
    shutil.rmtree(folder / "vae")
    with pytest.raises(ValueError, match=r"pipeline must have every part of its index, and .*broken lacks vae \(Auto"):
        Diffusers(folder)


def test_a_part_that_lacks_its_weights_or_its_configuration(folders, tmp_path):
    folder = broken(folders, tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"unet \(UNet2DConditionModel\) lacks its .safetensors weights$"):
        Diffusers(folder)
    (folder / "unet" / "config.json").rename(folder / "unet" / "other.json")
    with pytest.raises(ValueError, match=r"unet \(UNet2DConditionModel\) lacks config.json$"):
        Diffusers(folder)


def test_weights_that_are_a_pickle_are_never_read(folders, tmp_path):
    folder = broken(folders, tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    bomb = folder / "unet" / "diffusion_pytorch_model.bin"
    bomb.write_bytes(b"\x80\x04cos\nsystem\n(S'touch burnt'\ntR.")
    way = (
        r"which is never loaded; .* convert it once by DiffusionPipeline.from_pretrained\(OLD, use_safetensors=False\)"
    )
    with pytest.raises(ValueError, match=rf"must hold safetensors, got .*model.bin, a pickle, {way}"):
        Diffusers(folder)
    with pytest.raises(ValueError, match=f"must be a folder that save_pretrained wrote, got .*, a pickle, {way}"):
        Diffusers(bomb)


def test_a_folder_that_is_no_pipeline(tmp_path, folders):
    with pytest.raises(ValueError, match="must be a folder that save_pretrained wrote, and .* lacks model_index.json"):
        Diffusers(tmp_path)
    with pytest.raises(FileNotFoundError, match="must be a folder or a name on the hub, and there is no './none'"):
        Diffusers("./none")
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(ValueError, match="pipeline must have an index that can be read"):
        Diffusers(tmp_path)
    folder = broken(folders, tmp_path, "pixels")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="pipeline must be a folder whose parts can be had, got"):
        Diffusers(folder)
    with pytest.raises(TypeError, match="pipeline must be a folder, a name or a diffusers pipeline, got int"):
        Diffusers(3)


def test_prompts_are_for_networks_that_take_text(folders, latent):
    with pytest.raises(ValueError, match="prompt must be None for DDPMPipeline, which takes no text, got 'a car'"):
        Diffusers(folders / "pixels", "a car")
    with pytest.raises(ValueError, match="negative_prompt must be None for DDPMPipeline, which takes no text"):
        Diffusers(folders / "pixels", negative_prompt="ugly")
    with pytest.raises(TypeError, match="prompt must be one text, got list"):
        Diffusers(latent, ["a car", "a dog"])
    with pytest.raises(ValueError, match="guidance must be a finite number, got nan"):
        Diffusers(latent, "a car", guidance=math.nan)


def test_a_sigma_that_the_schedule_does_not_reach(latent):
    prior = Diffusers(latent)
    for sigma in (0.01, 20.0):
        with pytest.raises(
            ValueError, match=r"sigma must lie between 0.02917 and 14.61, the network's noise levels, got"
        ):
            prior.denoise(fields((4, 8, 8)), sigma)


def test_pipelines_without_a_noise_level(latent):
    unet = UNet2DModel(**PIXELS)
    with pytest.raises(ValueError, match="must have a scheduler of betas that predicts epsilon, v_prediction, sample"):
        Diffusers(DDPMPipeline(unet, FlowMatchEulerDiscreteScheduler()))
    wide = UNet2DConditionModel.from_config({**latent.unet.config, "in_channels": 9})
    pipeline = StableDiffusionPipeline(**latent.components | {"unet": wide}, requires_safety_checker=False)
    with pytest.raises(ValueError, match="a UNet that is given what it denoises alone, 4 channels, got .* with 9"):
        Diffusers(pipeline)
    with pytest.raises(ValueError, match=r"image_shape must be \(4, H, W\) for this pipeline, got \(3, 8, 8\)"):
        Diffusers(latent, image_shape=(3, 8, 8))


def test_without_diffusers_the_extra_is_named(monkeypatch, folders):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        ImportError, match=r"Diffusers needs diffusers and transformers: pip install 'scorefold\[hub\]'$"
    ):
        Diffusers(folders / "latent")

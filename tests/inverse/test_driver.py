"""The driver: seeds, chunks, early failure, checkpoints, and what a run leaves untouched."""

import dataclasses
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise, LaplaceNoise, PoissonNoise

import inverse
import operators
from inverse import AnnealedLangevin, Langevin, Posterior, sampler
from inverse.driver import InvalidStateError, Run, State
from priors import GaussianMixture, MaximumEntropy, Prior

NAMES = inverse.samplers()
QUICK = {name: sampler(name, steps=12) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_samples_whatever_the_chunk_size(name, gaussian_problem):
    posterior = gaussian_problem(batch=3)
    whole = QUICK[name].sample(posterior, 4, seed=5)
    for chunk_size in (1, 5, 12, 100):
        chunked = QUICK[name].sample(posterior, 4, seed=5, chunk_size=chunk_size)
        torch.testing.assert_close(whole.x, chunked.x, rtol=0, atol=1e-4)
    assert (whole.x - QUICK[name].sample(posterior, 4, seed=6).x).abs().max() > 0.01


@pytest.mark.parametrize("name", ["mmps", "mmps-spectral", "annealed-langevin", "langevin"])
def test_antithetic_pairs_of_a_gaussian_posterior_have_one_mean(name, gaussian_problem):
    # Denoiser and likelihood are affine, so is the sampler in its noise: opposite noise cancels. (Not so where how far
    # a single product is followed depends on the residual.)
    affine = {**QUICK, "mmps-spectral": sampler("mmps-spectral", steps=12, products=0)}[name]
    posterior = gaussian_problem(batch=2)
    samples = affine.sample(posterior, 6, seed=5, antithetic=True)
    assert samples.info["antithetic"]
    first, second = samples.x.chunk(2)
    pairs = (first + second) / 2
    assert (pairs - pairs[0]).abs().max() < 1e-3 < 0.05 < (first - first[0]).abs().max()
    chunked = affine.sample(posterior, 6, seed=5, chunk_size=5, antithetic=True)
    torch.testing.assert_close(samples.x, chunked.x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [2, 5])
def test_antithetic_samples_come_in_pairs(n, gaussian_problem):
    with pytest.raises(ValueError, match=f"n must be even and at least 4 for antithetic samples, got {n}"):
        QUICK["dps"].sample(gaussian_problem(), n, antithetic=True)


def test_chunks_get_their_own_part_of_the_noise_of_a_cancelled_score(gaussian_problem):
    posterior = gaussian_problem(batch=2)
    posterior = Posterior(MaximumEntropy(posterior.prior, method="cancelled"), posterior.physics, posterior.y)
    whole, chunked = (Langevin(steps=12).sample(posterior, 3, chunk_size=size).x for size in (None, 2))
    torch.testing.assert_close(whole, chunked, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_touches_nothing_of_the_caller(name, gaussian_problem):
    posterior = gaussian_problem(batch=2)
    y = posterior.y.clone().requires_grad_()
    before, buffers = y.detach().clone(), {k: v.clone() for k, v in posterior.physics.state_dict().items()}
    random_state = torch.get_rng_state()
    samples = QUICK[name].sample(Posterior(posterior.prior, posterior.physics, y), 2)
    assert torch.equal(y, before) and y.requires_grad and y.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(v, buffers[k]) for k, v in posterior.physics.state_dict().items())
    assert not samples.x.requires_grad and not samples.y.requires_grad
    assert torch.is_grad_enabled()


def test_dps_does_not_move_between_levels_that_coincide(gaussian_problem):
    posterior = gaussian_problem(batch=1)
    x = torch.rand(2, *posterior.image_shape, generator=torch.Generator().manual_seed(0))
    dps = sampler("dps", steps=5, sigma_max=1.0, sigma_min=1 - 1e-15, step_size=1.0)
    assert dps.levels[0] == dps.levels[1]
    moved = dps.step(posterior.chains(torch.zeros(2, dtype=torch.long)), State(x, x), 0, [torch.randn_like(x)])
    assert torch.equal(moved.x, x)


def test_results_name_a_prior_that_has_a_name(gaussian_problem):
    posterior = gaussian_problem(batch=1)
    assert QUICK["dps"].sample(posterior, 1).info["prior"] == "GaussianMixture"
    posterior.prior.about = {"name": "blobs"}
    assert QUICK["dps"].sample(posterior, 1).info["prior"] == "blobs"


class Counting(Prior):
    """A prior that counts how often each of its chains was denoised."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior, self.image_shape, self.items = prior, prior.image_shape, 0

    def denoise(self, x, sigma):
        self.items += len(x)
        return self.prior.denoise(x, sigma)


@pytest.mark.parametrize("method", [None, "tempered", "cancelled"])
@pytest.mark.parametrize("name", NAMES)
def test_nfe_is_the_number_of_denoiser_calls_per_chain(name, method, gaussian_problem):
    posterior = gaussian_problem(batch=2)
    counting = Counting(posterior.prior)
    prior = counting if method is None else MaximumEntropy(counting, method=method)
    problem = Posterior(prior, posterior.physics, posterior.y)
    samples = QUICK[name].sample(problem, 3, chunk_size=4)
    calls = counting.items
    resolved = QUICK[name].resolve(problem)
    assert calls == 6 * resolved.evaluations(problem) + 2 * resolved.shared_evaluations(problem)
    assert samples.nfe == math.ceil(calls / 6)
    assert samples.x.shape == (3, 2, 1, 8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_no_hyper_parameter_is_left_to_be_chosen_and_all_can_be_given(name, gaussian_problem):
    posterior = gaussian_problem(batch=1)
    resolved = sampler(name).resolve(posterior)
    chosen = dataclasses.asdict(resolved)
    assert None not in chosen.values()
    assert resolved.resolve(posterior) == resolved
    assert sampler(name, **chosen) == resolved
    samples = QUICK[name].sample(posterior, 1)
    assert samples.hyper == dataclasses.asdict(QUICK[name].resolve(posterior))


@pytest.mark.parametrize("name", NAMES)
def test_noise_of_each_image_is_used_for_that_image(name, gaussian_problem):
    posterior = gaussian_problem(batch=2)
    levels = torch.tensor([0.02, 5.0])
    posterior.physics.noise_model = GaussianNoise(sigma=levels)
    y = posterior.y[:1].repeat(2, 1, 1, 1)
    samples = sampler(name, steps=400).sample(Posterior(posterior.prior, posterior.physics, y), 8, seed=0)
    mask = posterior.physics.mask[0] > 0
    residual = (samples.mean - y).square()[:, mask].mean(1).sqrt()
    # the first image must follow y to within its noise; the second one, of no information, must not
    assert residual[0] < 0.04 < 0.1 < residual[1]


class Breaking(Prior):
    """A denoiser that fails for one chain below sigma = 0.5."""

    image_shape = (1, 8, 8)

    def denoise(self, x, sigma):
        out = 0.5 * x
        if sigma < 0.5:
            out[1:2] = torch.nan
        return out


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_that_leaves_the_finite_numbers_stops_the_run_at_once(name, gaussian_problem):
    posterior = gaussian_problem(batch=2)
    remedy = "lower step_size, or check" if hasattr(QUICK[name], "step_size") else "check"
    said = rf"{name} left the finite numbers by step \d+ of 12 .*first chain \d+: {remedy}"
    with pytest.raises(InvalidStateError, match=said):
        QUICK[name].sample(Posterior(Breaking(), posterior.physics, posterior.y), 2)


@dataclasses.dataclass(frozen=True)
class Interrupted(AnnealedLangevin):
    """Annealed Langevin dynamics that is interrupted once, after the noise of its first eight steps is used up."""

    pending: ClassVar[list[bool]] = []

    def step(self, posterior, state, i, noise):
        if i == 9 and self.pending:
            self.pending.clear()
            raise KeyboardInterrupt
        return super().step(posterior, state, i, noise)


def test_each_step_gets_noise_of_its_own(gaussian_problem):
    problem = gaussian_problem()
    run = Run(QUICK["dps"].resolve(problem), problem, 3, seed=0, chunk_size=None, checkpoint=None)
    fields = torch.stack([field for _ in range(12) for field in run._white(2)]).flatten(1)
    # 24 independent fields of 3 * 16 * 64 numbers: correlations have a standard deviation of 0.018
    torch.testing.assert_close(torch.corrcoef(fields), torch.eye(24), rtol=0, atol=0.1)


def test_an_interrupted_run_resumes_to_the_same_samples(gaussian_problem, tmp_path, monkeypatch):
    monkeypatch.setattr("inverse.driver.CHECKPOINT_SECONDS", 0.0)
    posterior, path = gaussian_problem(batch=2), tmp_path / "run.safetensors"
    reference = Interrupted(steps=12).sample(posterior, 3, seed=2).x
    Interrupted.pending.append(True)
    with pytest.raises(KeyboardInterrupt):
        Interrupted(steps=12).sample(posterior, 3, seed=2, checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint must belong to this run"):
        Interrupted(steps=12).sample(posterior, 3, seed=3, checkpoint=path)
    assert torch.equal(Interrupted(steps=12).sample(posterior, 3, seed=2, checkpoint=path).x, reference)
    assert list(tmp_path.iterdir()) == []


def test_antithetic_runs_resume_as_such(gaussian_problem, tmp_path, monkeypatch):
    monkeypatch.setattr("inverse.driver.CHECKPOINT_SECONDS", 0.0)
    posterior, path = gaussian_problem(batch=2), tmp_path / "run.safetensors"
    reference = Interrupted(steps=12).sample(posterior, 4, seed=2, antithetic=True).x
    Interrupted.pending.append(True)
    with pytest.raises(KeyboardInterrupt):
        Interrupted(steps=12).sample(posterior, 4, seed=2, checkpoint=path, antithetic=True)
    with pytest.raises(ValueError, match="checkpoint must belong to this run"):
        Interrupted(steps=12).sample(posterior, 4, seed=2, checkpoint=path)
    resumed = Interrupted(steps=12).sample(posterior, 4, seed=2, checkpoint=path, antithetic=True)
    assert torch.equal(resumed.x, reference)


def test_a_foreign_checkpoint_is_refused(gaussian_problem, tmp_path):
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="checkpoint must be a file of an interrupted run"):
        QUICK["dps"].sample(gaussian_problem(), 1, checkpoint=path)


def test_numbers_of_numpy_are_taken_and_can_be_saved(gaussian_problem, tmp_path):
    found = sampler("mmps", steps=np.int64(3), sigma_max=np.float32(2.0)).sample(gaussian_problem(batch=1), np.int64(2))
    found.save(tmp_path / "samples.safetensors")
    assert found.hyper["steps"] == 3 and inverse.Samples.load(tmp_path / "samples.safetensors").hyper == found.hyper


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_n_below_one_is_refused(n, gaussian_problem):
    with pytest.raises(ValueError, match=r"n must be a whole number of at least 1, got"):
        QUICK["mmps"].sample(gaussian_problem(), n)
    with pytest.raises(ValueError, match=r"chunk_size must be a whole number of at least 1, got"):
        QUICK["mmps"].sample(gaussian_problem(), 1, chunk_size=n)


def test_gaussian_only_samplers_refuse_other_noise_and_physics():
    prior = GaussianMixture(torch.full((1, 1, 8, 8), 0.5), torch.tensor([0.04]))
    y = torch.rand(1, 1, 8, 8)
    for noise in (PoissonNoise(0.1), LaplaceNoise(0.1)):
        physics = operators.create("denoising", (1, 8, 8), noise=noise)
        with pytest.raises(ValueError, match=f"physics must have Gaussian noise for mmps, got {type(noise).__name__}"):
            QUICK["mmps"].sample(Posterior(prior, physics, y), 1)
    physics = operators.create("saturation", (1, 8, 8), noise=0.1)
    with pytest.raises(ValueError, match="physics must be linear for mmps"):
        QUICK["mmps"].sample(Posterior(prior, physics, y), 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_physics_without_noise_is_refused_with_the_reason(name):
    prior = GaussianMixture(torch.full((1, 1, 8, 8), 0.5), torch.tensor([0.04]))
    physics = operators.create("denoising", (1, 8, 8))
    with pytest.raises(ValueError, match="physics must have noise above 0, got ZeroNoise"):
        QUICK[name].sample(Posterior(prior, physics, torch.rand(1, 1, 8, 8)), 1)


@pytest.mark.parametrize("name", [name for name in NAMES if not sampler(name).needs_linear_gaussian])
@pytest.mark.parametrize("operator", ["saturation", "phase-retrieval"])
def test_non_linear_physics_are_sampled(name, operator):
    prior = GaussianMixture(torch.full((1, 1, 8, 8), 0.5), torch.tensor([0.04]))
    physics = operators.create(operator, (1, 8, 8), noise=0.1)
    truth = prior.sample(2, seed=1)
    samples = sampler(name, steps=300).sample(Posterior(prior, physics, physics(truth)), 8)
    start = (physics.A(torch.full_like(truth, 0.5)) - samples.y).square().mean()
    assert (physics.A(samples.mean) - samples.y).square().mean() < 0.5 * start


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "many"])
def test_bad_hyper_parameters_are_refused(value):
    if not isinstance(value, str):
        with pytest.raises(ValueError, match="step_size must be a finite number above 0"):
            sampler("dps", step_size=value)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
        sampler("dps", steps=value)


class Network(Prior):
    """A denoiser with weights that the caller is training."""

    image_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)
        self.seen = []

    def denoise(self, x, sigma):
        self.seen.append(self.layer.weight.requires_grad)
        return 0.9 * x + 0.01 * self.layer(x)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_shared_but_not_differentiated_and_stay_as_the_caller_has_them(name, gaussian_problem):
    posterior, network = gaussian_problem(batch=1), Network()
    QUICK[name].sample(Posterior(network, posterior.physics, posterior.y), 2)
    assert network.layer.weight.requires_grad and network.layer.weight.grad is None
    frozen = Posterior(network, posterior.physics, posterior.y).without_weight_gradients().prior
    assert frozen.layer.weight.data_ptr() == network.layer.weight.data_ptr()
    frozen.denoise(posterior.y, 0.1)
    assert frozen.seen[-1] is False


def test_langevin_runs_for_the_time_it_is_given(gaussian_problem):
    posterior = gaussian_problem()
    chosen = inverse.Langevin(time=0.05, sigma=0.1, step_size=1.0).resolve(posterior)
    h = float(chosen.step_length(posterior))
    assert 0.05 <= (chosen.steps - chosen.anneal_steps) * h < 0.05 + h and chosen.time == pytest.approx(0.05, abs=h)

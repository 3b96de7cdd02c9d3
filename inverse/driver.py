"""The driver: all that is the same for every sampler.

A sampler is a frozen dataclass of hyper-parameters. It resolves those left at None from the problem (`resolve`),
lists its noise levels (`levels`), and says in `init`, `step` and `finish` what its paper's algorithm box says. The
driver owns the loop, the random numbers, chunks, progress, early failure, checkpoint and resume.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

import operators
from operators.flattened import Flattened

from .checks import seed_number, whole
from .files import replacing
from .posterior import Posterior
from .samples import Samples

# Chains times pixels that one call of a network takes by default: more no longer runs faster, only needs more memory.
CHUNK_ENTRIES = {"cpu": 2**18, "cuda": 2**22}
# Seconds between two checkpoints.
CHECKPOINT_SECONDS = 20.0
# Steps between two looks for values that are not finite: each waits for the device.
CHECK_STEPS = 16
# Random numbers that are drawn in one call, for several steps where they are few: a call takes time of its own.
NOISE_ENTRIES, NOISE_STEPS = 2**17, 8


class State(NamedTuple):
    """Chains x (N, *image_shape), and what the method remembers from its last step, of the same shape."""

    x: Tensor
    memory: Tensor


class InvalidStateError(RuntimeError):
    """Raised when a chain is no longer finite; says at which step, at which noise level and what to change."""


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Hyper-parameters of a posterior sampler; None means: chosen from the physics, its noise and the prior.

    A subclass writes `resolve`, `levels`, `init`, `step` and, where the last state is not yet a sample, `finish`.
    Chain i of measurement b is item i * B + b of a batch, B the number of measurements.
    """

    steps: int | None = None

    name: ClassVar[str] = ""
    needs_linear_gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _check_hyperparameter(field.name, value)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
        high, low = getattr(self, "sigma_max", None), getattr(self, "sigma_min", None)
        if high and low and low >= high:
            raise ValueError(f"sigma_min must be below sigma_max ({high:g}), got {low:g}")

    def resolve(self, posterior: Posterior) -> Sampler:
        """The same sampler with every hyper-parameter that was None chosen from the problem."""
        raise NotImplementedError

    @functools.cached_property
    def levels(self) -> tuple[float, ...]:
        """Noise level of each step; one more where a step leads from a level to the next."""
        raise NotImplementedError

    def init(self, posterior: Posterior, noise: Tensor) -> State:
        """First state of the chains, from white noise (N, *image_shape)."""
        raise NotImplementedError

    def step(self, posterior: Posterior, state: State, i: int, noise: Sequence[Tensor]) -> State:
        """State after step i, from white noise, `draws` fields (N, *image_shape)."""
        raise NotImplementedError

    def finish(self, posterior: Posterior, state: State) -> Tensor:
        """Samples (N, *image_shape) from the last state."""
        return state.x

    def draws(self, posterior: Posterior) -> int:
        """White noise fields that one step takes."""
        return 1

    def evaluations(self, posterior: Posterior) -> int:
        """Denoiser calls per chain in a whole run."""
        raise NotImplementedError

    def shared_evaluations(self, posterior: Posterior) -> int:
        """Further denoiser calls per measurement in a whole run, however many chains it has."""
        return 0

    def sample(
        self,
        posterior: Posterior,
        n: int,
        seed: int = 0,
        chunk_size: int | None = None,
        progress: bool = False,
        checkpoint: str | Path | None = None,
        antithetic: bool = False,
    ) -> Samples:
        """n posterior samples of every measurement.

        The samples depend on the seed, not (but for rounding) on chunk_size, the number of chains computed at once
        (None: chosen). Neither the posterior nor any global random state is changed. With `checkpoint`, a file, an
        interrupted run is resumed where it stopped; the file is removed at the end.
        antithetic: chains i and i + n/2 see opposite noise. Each is a sample as before; the mean of a few, where the
        posterior is nearly Gaussian, is that of many, but they are not independent of each other.
        Raises ValueError for n < 1, a seed below 0, antithetic samples of which n is odd or below 4, chunk_size < 1,
        noise without a density, a physics or noise the method cannot take; InvalidStateError as soon as a chain is not
        finite.
        """
        n, seed = whole("n", n), seed_number(seed)
        antithetic = bool(antithetic)
        if antithetic and (n % 2 or n < 4):
            raise ValueError(f"n must be even and at least 4 for antithetic samples, got {n}")
        if chunk_size is not None:
            whole("chunk_size", chunk_size)
        self.check(posterior)
        start = time.perf_counter()
        sampler = self.resolve(posterior)
        # Inside the caller's inference mode, methods that differentiate the denoiser could not.
        with torch.inference_mode(False), torch.no_grad():
            x = Run(sampler, posterior, n, seed, chunk_size, checkpoint, antithetic).run(progress)
        return Samples(
            x=x.reshape(n, len(posterior), *posterior.image_shape),
            nfe=sampler.evaluations(posterior) + math.ceil(sampler.shared_evaluations(posterior) / n),
            seconds=time.perf_counter() - start,
            sampler=self.name,
            hyper=dataclasses.asdict(sampler),
            seed=seed,
            y=posterior.y,
            info=_provenance(posterior) | {"antithetic": antithetic},
        )

    def check(self, posterior: Posterior) -> None:
        """Raise ValueError, with the reason, where the method does not apply to the problem."""
        likelihood = posterior.likelihood
        if not self.needs_linear_gaussian:
            return
        if not posterior.linear:
            raise ValueError(f"physics must be linear for {self.name}, got {type(posterior.physics).__name__}; use dps")
        if not isinstance(likelihood, operators.GaussianLikelihood):
            noise = type(posterior.physics.noise_model).__name__
            raise ValueError(f"physics must have Gaussian noise for {self.name}, got {noise}; use dps or langevin")


class Run:
    """One run of a resolved sampler: N = n B chains, computed in chunks at every step."""

    def __init__(
        self,
        sampler: Sampler,
        posterior: Posterior,
        n: int,
        seed: int,
        chunk_size: int | None,
        checkpoint: str | Path | None,
        antithetic: bool = False,
    ) -> None:
        self.sampler, self.posterior, self.seed = sampler, posterior.without_weight_gradients(), seed
        self.antithetic = antithetic
        self.device, self.dtype = posterior.y.device, posterior.y.dtype
        self.shape = (n * len(posterior), *posterior.image_shape)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.levels = sampler.levels
        self.chunks = self._chunks(chunk_size)
        self.checkpoint = None if checkpoint is None else _Checkpoint(Path(checkpoint), self._key())
        self._ahead: list[Tensor] = []  # noise of the steps to come

    def run(self, progress: bool) -> Tensor:
        first, state = self._first()
        steps = self.sampler.steps
        bar = tqdm(total=steps, initial=first, desc=self.sampler.name, unit="step", disable=not progress)
        with bar:
            for i in range(first, steps):
                state = self._step(state, i)
                if i % CHECK_STEPS == 0 or i == steps - 1:
                    self._check_finite(state.x, i)
                bar.update()
                if self.checkpoint and not self._ahead:
                    self.checkpoint.save(state, i + 1, self.generator)
        samples = [self.sampler.finish(problem, _rows(state, rows)) for rows, problem in self.chunks]
        if self.checkpoint:
            self.checkpoint.remove()
        return torch.cat(samples)

    def _first(self) -> tuple[int, State]:
        resumed = self.checkpoint and self.checkpoint.load(self.generator)
        if resumed:
            return resumed
        (noise,) = self._draw(1)
        parts = [self.sampler.init(problem, noise[rows]) for rows, problem in self.chunks]
        return 0, State(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))

    def _step(self, state: State, i: int) -> State:
        noise = self._white(self.sampler.draws(self.posterior))
        if len(self.chunks) == 1:
            return self.sampler.step(self.chunks[0][1], state, i, noise)
        parts = [
            self.sampler.step(problem, _rows(state, rows), i, [field[rows] for field in noise])
            for rows, problem in self.chunks
        ]
        return State(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))

    def _white(self, draws: int) -> list[Tensor]:
        """The noise of a step."""
        if not self._ahead:
            steps = NOISE_ENTRIES // max(1, draws * math.prod(self.shape))
            self._ahead = self._draw(draws * min(max(1, steps), NOISE_STEPS))
        noise, self._ahead = self._ahead[:draws], self._ahead[draws:]
        return noise

    def _draw(self, fields: int) -> list[Tensor]:
        # noise of all chains at once, so that samples do not depend on the chunks
        n, *image_shape = self.shape
        n = n // 2 if self.antithetic else n
        options = {"generator": self.generator, "device": self.device, "dtype": self.dtype}
        drawn = torch.randn(fields, n, *image_shape, **options).unbind()
        return [torch.cat([noise, -noise]) for noise in drawn] if self.antithetic else list(drawn)

    def _chunks(self, chunk_size: int | None) -> list[tuple[slice, Posterior]]:
        size = chunk_size or default_chunk(self.shape[1:], self.device)
        index = torch.arange(self.shape[0], device=self.device) % len(self.posterior)
        starts = range(0, self.shape[0], size)
        return [(slice(a, a + size), self.posterior.chains(index[a : a + size])) for a in starts]

    def _check_finite(self, x: Tensor, i: int) -> None:
        if math.isfinite(x.sum()):  # one pass, and one number to wait for
            return
        broken = (~torch.isfinite(x.flatten(1)).all(1)).nonzero()[:, 0].tolist()
        if broken:
            remedy = "lower step_size, or " if hasattr(self.sampler, "step_size") else ""
            raise InvalidStateError(
                f"{self.sampler.name} left the finite numbers by step {i + 1} of {self.sampler.steps} "
                f"(sigma = {self.levels[i]:.3g}) in {len(broken)} of {len(x)} chains, first chain {broken[0]}: "
                f"{remedy}check that the prior's denoiser is finite at this sigma"
            )

    def _key(self) -> str:
        """Digest of all that determines the samples."""
        settings = [self.sampler.name, dataclasses.asdict(self.sampler), self.shape, self.seed, self.antithetic]
        problem = json.dumps(settings)
        digest = hashlib.sha256(problem.encode())
        digest.update(self.posterior.y.cpu().numpy().tobytes())
        return digest.hexdigest()


class _Checkpoint:
    """A run's state in a safetensors file, written under a temporary name and renamed."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key, self.saved = path, key, time.monotonic()

    def save(self, state: State, done: int, generator: torch.Generator) -> None:
        if time.monotonic() - self.saved < CHECKPOINT_SECONDS:
            return
        tensors = {**state._asdict(), "generator": generator.get_state()}
        with replacing(self.path) as path:
            save_file({k: v.contiguous() for k, v in tensors.items()}, path, {"key": self.key, "done": str(done)})
        self.saved = time.monotonic()

    def load(self, generator: torch.Generator) -> tuple[int, State] | None:
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt", device=str(generator.device)) as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"checkpoint must be a file of an interrupted run, got {self.path}: {error}") from None
        if metadata.get("key") != self.key:
            raise ValueError(
                f"checkpoint must belong to this run, got one of another problem, sampler, seed or setting: {self.path}"
            )
        generator.set_state(tensors["generator"].cpu())
        return int(metadata["done"]), State(tensors["x"], tensors["memory"])

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def default_chunk(image_shape: tuple[int, ...], device: torch.device) -> int:
    """How many images of that shape a network is given at once, where nothing else is said."""
    return max(1, CHUNK_ENTRIES.get(device.type, CHUNK_ENTRIES["cpu"]) // math.prod(image_shape))


def _rows(state: State, rows: slice) -> State:
    return State(state.x[rows], state.memory[rows])


def _provenance(posterior: Posterior) -> dict[str, Any]:
    """What a reader of the results needs to know: versions, prior, physics and noise in physical units."""
    import deepinv

    sigma = operators.noise_sigma(posterior.physics)
    parts = posterior.physics.parts if isinstance(posterior.physics, Flattened) else [posterior.physics]
    return {
        "prior": getattr(posterior.prior, "about", {}).get("name", type(posterior.prior).__name__),
        "inference": getattr(posterior.prior, "inference", None),
        "physics": " + ".join(type(part).__name__ for part in parts),
        "noise_sigma": torch.as_tensor(sigma).flatten().tolist() if sigma is not None else None,
        "torch": torch.__version__,
        "deepinv": deepinv.__version__,
    }


def _check_hyperparameter(name: str, value: object) -> None:
    if value is None or name == "likelihood_at":
        return
    if name.endswith("steps") or name.endswith("iterations"):
        whole(name, value)
    elif name == "products":
        whole(name, value, least=0)
    elif name == "eta":
        if isinstance(value, str | bool) or not 0 <= value < math.inf:
            raise ValueError(f"eta must be a finite number of at least 0, got {value!r}")
    elif isinstance(value, str | bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")

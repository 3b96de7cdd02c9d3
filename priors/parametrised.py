"""Diffusion networks of any parametrisation as priors.

A network was trained with its own noise schedule, on its own range of values, to predict its own thing. With x = X +
sigma Z (variance exploding, what a Prior is given) and s the standard deviation of that noise in units of the network's
data, every schedule here is a scaled x, u = a(s) x, and a time t(s), and the network's output is read as

    prediction    the network gives                        D - x
    epsilon       the noise Z                              -s output
    v             (Z - s X) a, a = 1/sqrt(1 + s^2)         -s a output - (s a)^2 x
    x0            the denoised image                       output - x
    score         grad log of the density of u             s^2 a output
    edm           F, a = 1/sqrt(s^2 + sigma_data^2)        s sigma_data a output - (s a)^2 x

(Ho et al. 2020, Eq. 11; Salimans and Ho 2022, App. D; Song et al. 2021, Eq. 7; Karras et al. 2022, Table 1.) A score is
the displacement D - x over sigma^2, so that nothing here cancels at small sigma but "x0".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import Prior, Sigma, sigma_per_item

_ROUNDING = 1e-4  # relative: levels that rounding moved beyond the end of a schedule are still its end


class Schedule(nn.Module):
    """What a network is given at a noise level s: the image times `scale(s)`, and `time(s)`.

    sigma_range: the levels it was trained on. All in units of the network's data, variance exploding.
    """

    sigma_range: tuple[float, float]

    def scale(self, sigma: Tensor) -> Tensor:
        """a(s), like sigma."""
        raise NotImplementedError

    def time(self, sigma: Tensor) -> Tensor:
        """t(s), like sigma."""
        raise NotImplementedError


class VariancePreserving(Schedule):
    """u = sqrt(abar) X + sqrt(1 - abar) Z, so that s = sqrt((1 - abar) / abar) and a = sqrt(abar) = 1/sqrt(1 + s^2)."""

    def scale(self, sigma: Tensor) -> Tensor:
        return (1 + sigma**2).rsqrt()


class VP(VariancePreserving):
    """A table of betas (DDPM, Ho et al. 2020): abar_t = prod over i <= t of (1 - beta_i), t = 0, 1, ...

    betas: (T,), in (0, 1); levels with beta = 1, where nothing of the image is left, are left out of the range. Between
    two steps the time is a fraction, straight in log s, and the network is told time_scale times it. whole: it is told
    the nearest step, an integer, as networks need that look their steps up.
    """

    log_sigmas: Tensor

    def __init__(self, betas: Tensor | Sequence[float], time_scale: float = 1.0, whole: bool = False) -> None:
        super().__init__()
        betas = torch.as_tensor(betas).detach().cpu().double()
        if betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError(f"betas must be at least two numbers in (0, 1], got shape {tuple(betas.shape)}")
        # 1/abar - 1 from logarithms: 1 - abar in single precision has three digits at the first step.
        sigmas = torch.expm1(-torch.log1p(-betas).cumsum(0)).sqrt()
        sigmas = sigmas[sigmas.isfinite()]
        self.register_buffer("log_sigmas", sigmas.log().float())
        self.sigma_range = (float(sigmas[0]), float(sigmas[-1]))
        self.time_scale, self.whole = float(time_scale), whole

    def time(self, sigma: Tensor) -> Tensor:
        log, table = sigma.log(), self.log_sigmas.to(sigma.dtype)
        i = torch.searchsorted(table, log.contiguous()).clamp(1, len(table) - 1)
        step = (i - 1 + (log - table[i - 1]) / (table[i] - table[i - 1])).clamp(0, len(table) - 1)
        return step.round().long() if self.whole else step * self.time_scale

    @classmethod
    def linear(cls, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, **options: Any) -> VP:
        """betas evenly spaced (Ho et al. 2020). options: those of the class."""
        return cls(torch.linspace(beta_start, beta_end, steps, dtype=torch.float64), **options)

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, beta_start: float = 8.5e-4, beta_end: float = 0.012, **options: Any
    ) -> VP:
        """Square roots of betas evenly spaced (Rombach et al. 2022). options: those of the class."""
        return cls(torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2, **options)

    @classmethod
    def cosine(cls, steps: int = 1000, **options: Any) -> VP:
        """abar(t) = cos^2 of (t + 0.008)/1.008 pi/2, betas at most 0.999 (Nichol and Dhariwal 2021, Eq. 17)."""
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        abar = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        return cls((1 - abar[1:] / abar[:-1]).clamp(max=0.999), **options)


class VPSDE(VariancePreserving):
    """Continuous time (Song et al. 2021, App. B): abar(t) = exp(-beta_min t - (beta_max - beta_min) t^2 / 2), t <= 1.

    The network is told time_scale t. t_min: where sampling ends.
    """

    def __init__(
        self, beta_min: float = 0.1, beta_max: float = 20.0, time_scale: float = 999.0, t_min: float = 1e-3
    ) -> None:
        super().__init__()
        if not 0 < beta_min < beta_max < math.inf:
            raise ValueError(f"beta_max must be finite and above beta_min > 0, got {beta_max} and {beta_min}")
        self.beta_min, self.slope, self.time_scale = float(beta_min), float(beta_max - beta_min), float(time_scale)
        low, high = (math.sqrt(math.expm1(beta_min * t + self.slope * t**2 / 2)) for t in (t_min, 1.0))
        self.sigma_range = (low, high)

    def time(self, sigma: Tensor) -> Tensor:
        integral = torch.log1p(sigma**2)  # the root of beta_min t + slope t^2 / 2 = integral, in the form that is exact
        t = 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * self.slope * integral).sqrt())
        return self.time_scale * t


class VE(Schedule):
    """u = X + s Z itself, the network told s (Song et al. 2021, App. C). sigma_min, sigma_max: those of training."""

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0) -> None:
        super().__init__()
        if not 0 <= sigma_min < sigma_max:
            raise ValueError(f"sigma_max must be above sigma_min >= 0, got {sigma_max} and {sigma_min}")
        self.sigma_range = (float(sigma_min), float(sigma_max))

    def scale(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)

    def time(self, sigma: Tensor) -> Tensor:
        return sigma


class EDM(VE):
    """u = x / sqrt(s^2 + sigma_data^2), the network told log(s) / 4 (Karras et al. 2022, Table 1)."""

    def __init__(self, sigma_data: float = 0.5, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        super().__init__(sigma_min, sigma_max)
        self.sigma_data = float(sigma_data)

    def scale(self, sigma: Tensor) -> Tensor:
        return (sigma**2 + self.sigma_data**2).rsqrt()

    def time(self, sigma: Tensor) -> Tensor:
        return sigma.log() / 4


_NEEDS = {"v": VariancePreserving, "edm": EDM}

PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Any], Tensor]] = {
    "epsilon": lambda output, x, s, a, schedule: -s * output,
    "v": lambda output, x, s, a, schedule: -s * a * output - (s * a) ** 2 * x,
    "x0": lambda output, x, s, a, schedule: output - x,
    "score": lambda output, x, s, a, schedule: s**2 * a * output,
    "edm": lambda output, x, s, a, schedule: s * schedule.sigma_data * a * output - (s * a) ** 2 * x,
}
"""D - x from the network's output, x, s and a, all in units of the network's data; see the module."""


class Parametrised(Prior):
    """The prior of a diffusion network, whatever it predicts and whichever schedule it was trained with.

    network: called as network(u, time, **conditions), u (B, C, H, W), time (B,); returns (B, C, H, W), or twice as many
    channels, of which the second half, a learned variance, is dropped. It is used as it is (weights, mode, device).
    prediction: epsilon, v, x0, score or edm (see the module). schedule: VP, VPSDE, VE or EDM.
    data_range: what the network calls an image's 0 and 1; sigma is then in units of [0, 1].
    image_shape: (C, H, W), or None for any size. conditions: further arguments of the network by name; tensors with a
    first axis of 1 serve the whole batch. std: of the data per pixel, in units of x.
    Raises ValueError for another prediction, one that the schedule cannot have, or a sigma beyond the schedule's.
    """

    def __init__(
        self,
        network: nn.Module,
        prediction: str,
        schedule: Schedule,
        data_range: tuple[float, float] = (-1.0, 1.0),
        image_shape: tuple[int, ...] | None = None,
        conditions: Mapping[str, object] | None = None,
        std: float = 0.25,
    ) -> None:
        super().__init__()
        if not callable(network):
            raise TypeError(f"network must be callable as network(u, time), got {type(network).__name__}")
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a VP, VPSDE, VE or EDM, got {type(schedule).__name__}")
        if not isinstance(schedule, _NEEDS.get(prediction, Schedule)):
            needed = "a VP or VPSDE" if prediction == "v" else "an EDM"
            raise ValueError(f"schedule must be {needed} for prediction {prediction!r}, got {type(schedule).__name__}")
        low, high = map(float, data_range)
        if not low < high:
            raise ValueError(f"data_range must be two increasing numbers, got {data_range}")
        self.network, self.prediction, self.schedule = network, prediction, schedule
        self.low, self.width, self.std = low, high - low, float(std)
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.sigma_range = (schedule.sigma_range[0] / self.width, schedule.sigma_range[1] / self.width)
        self.conditions = dict(conditions or {})

    @classmethod
    def edm(
        cls,
        network: nn.Module,
        raw: bool = False,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        y: Tensor | None = None,
        **options: Any,
    ) -> Parametrised:
        """A network of EDM (Karras et al. 2022). options: those of the class, as in all of these.

        network: with its preconditioning, (x, sigma) -> D, as EDMPrecond, VPPrecond and VEPrecond are; raw: without
        it, F(c_in x, c_noise). sigma_min, sigma_max: what it was trained on, on [-1, 1]. y: one-hot class labels
        (1, classes), given to the network as `class_labels`.
        """
        options.setdefault("conditions", {} if y is None else {"class_labels": y})
        if raw:
            return cls(network, "edm", EDM(sigma_data, sigma_min, sigma_max), **options)
        return cls(network, "x0", VE(sigma_min, sigma_max), **options)

    @classmethod
    def score_sde_vp(
        cls, network: nn.Module, beta_min: float = 0.1, beta_max: float = 20.0, **options: Any
    ) -> Parametrised:
        """A continuous VP network of score_sde (Song et al. 2021): told 999 t, it predicts the noise, on [-1, 1]."""
        return cls(network, "epsilon", VPSDE(beta_min, beta_max), **options)

    @classmethod
    def score_sde_ve(
        cls, network: nn.Module, sigma_min: float = 0.01, sigma_max: float = 50.0, **options: Any
    ) -> Parametrised:
        """A continuous VE network of score_sde (Song et al. 2021): told sigma, it gives the score, on [0, 1]."""
        return cls(network, "score", VE(sigma_min, sigma_max), **{"data_range": (0.0, 1.0), **options})

    @classmethod
    def guided_diffusion(
        cls,
        network: nn.Module,
        noise_schedule: str = "linear",
        steps: int = 1000,
        predict_xstart: bool = False,
        rescale_timesteps: bool = False,
        y: Tensor | None = None,
        **options: Any,
    ) -> Parametrised:
        """A UNetModel of OpenAI's guided-diffusion or improved-diffusion, with or without learned variances.

        noise_schedule: linear or cosine; steps: diffusion_steps; predict_xstart, rescale_timesteps: the flags it was
        trained with. y: class labels (1,), for class-conditional networks. (Dhariwal and Nichol 2021.)
        """
        scale = 1000 / steps
        tables: dict[str, Callable[..., VP]] = {
            "linear": lambda **option: VP.linear(steps, scale * 1e-4, scale * 0.02, **option),
            "cosine": lambda **option: VP.cosine(steps, **option),
        }
        if noise_schedule not in tables:
            raise ValueError(f"noise_schedule must be linear or cosine, got {noise_schedule!r}")
        schedule = tables[noise_schedule](time_scale=scale if rescale_timesteps else 1.0)
        options.setdefault("conditions", {} if y is None else {"y": y})
        return cls(network, "x0" if predict_xstart else "epsilon", schedule, **options)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """Root mean square distance of the data from their mean, in units of x."""
        return self.std * math.prod(image_shape) ** 0.5

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """E[X | X + sigma Z = x]. x: (B, *image_shape); sigma: float, (B,) or (B, 1, ..., 1)."""
        return x + self.displacement(x, sigma)

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) - x, as the prediction has it. x: (B, *image_shape); sigma as in `denoise`."""
        return self._displaced(x, self._level(x, sigma), self.conditions)

    def _level(self, x: Tensor, sigma: Sigma) -> Tensor:
        """sigma as a tensor, () or (B, 1, ..., 1); ValueError for another shape of x or a level never trained on."""
        self.check_shape(x)
        level = sigma_per_item(sigma, x)
        low, high = self.sigma_range
        if bool(((level < low * (1 - _ROUNDING)) | (level > high * (1 + _ROUNDING))).any()):
            got = f"{level.min():.4g}" if level.min() == level.max() else f"{level.min():.4g} to {level.max():.4g}"
            raise ValueError(f"sigma must lie between {low:.4g} and {high:.4g}, the network's noise levels, got {got}")
        return level

    def _displaced(self, x: Tensor, level: Tensor, conditions: Mapping[str, object]) -> Tensor:
        s, own = self.width * level, self.low + self.width * x
        a = self.schedule.scale(s)
        time = self.schedule.time(s).reshape(-1).expand(len(x))
        output = self.network(a * own, time, **_for_batch(conditions, x))
        if output.shape[1:2] == (2 * x.shape[1],):
            output = output[:, : x.shape[1]]
        if output.shape != x.shape:
            raise ValueError(f"network must return the shape of x, {tuple(x.shape)}, got {tuple(output.shape)}")
        return PREDICTIONS[self.prediction](output, own, s, a, self.schedule) / self.width


def _for_batch(conditions: Mapping[str, object], x: Tensor) -> dict[str, object]:
    """The conditions with those of one image repeated for each image of x."""

    def repeated(value: object) -> object:
        if isinstance(value, Mapping):
            return _for_batch(value, x)
        if not isinstance(value, Tensor):
            return value
        value = value.to(x.device)
        return value.expand(len(x), *value.shape[1:]) if len(value) == 1 else value

    return {name: repeated(value) for name, value in conditions.items()}

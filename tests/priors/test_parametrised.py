"""Networks of every parametrisation whose data are N(M, V), so that what a perfect one would say is known exactly."""

import math

import pytest
import torch
from torch import Tensor, nn

from priors import GaussianMixture, Parametrised, check_score
from priors.parametrised import EDM, VE, VP, VPSDE

SHAPE, MEAN, STD = (2, 3, 3), 0.3, 0.2
LOW, WIDTH = -1.0, 2.0
M, V = LOW + WIDTH * MEAN, (WIDTH * STD) ** 2  # of the data as the network has them
EXACT = GaussianMixture(torch.full((1, *SHAPE), MEAN, dtype=torch.float64), torch.tensor([STD**2], dtype=torch.float64))


def images(sigma: float | Tensor, n: int = 4) -> Tensor:
    z = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return MEAN + (STD**2 + torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1, 1, 1) ** 2).sqrt() * z


class Perfect(nn.Module):
    """E of the prediction given u = a X + b Z, X ~ N(m, v); levels: time (B,) -> a, b."""

    def __init__(self, prediction: str, levels, m: float = M, v: float = V, channels: int = 1, **_: object) -> None:
        super().__init__()
        self.prediction, self.levels, self.m, self.v, self.channels = prediction, levels, m, v, channels
        self.given: dict[str, object] = {}

    def forward(self, u: Tensor, time: Tensor, **given: object) -> Tensor:
        self.given = {"time": time, **given}
        a, b = (level.reshape(-1, 1, 1, 1) for level in self.levels(time.double()))
        total = a**2 * self.v + b**2
        x0 = self.m + a * self.v / total * (u - a * self.m)
        noise = b / total * (u - a * self.m)
        predictions = {"epsilon": noise, "v": a * noise - b * x0, "x0": x0, "score": -(u - a * self.m) / total}
        return torch.cat([predictions[self.prediction]] + [torch.full_like(u, 9.0)] * (self.channels - 1), dim=1)


def table(betas: Tensor, factor: float = 1.0):
    """Levels of whole and fractional steps of a table, from the products themselves."""
    abar = torch.cumprod(1 - betas.double(), 0)
    log_s = ((1 - abar) / abar).log() / 2

    def levels(time: Tensor) -> tuple[Tensor, Tensor]:
        step = time / factor
        i = step.floor().long().clamp(0, len(abar) - 2)
        s = torch.lerp(log_s[i], log_s[i + 1], step - i).exp()
        return 1 / (1 + s**2).sqrt(), s / (1 + s**2).sqrt()

    return levels


def ve(time: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(time), time


def vp_sde(time: Tensor) -> tuple[Tensor, Tensor]:
    t = time / 999
    abar = torch.exp(-0.1 * t - 19.9 * t**2 / 2)
    return abar.sqrt(), (1 - abar).sqrt()


def linear(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    return start + (end - start) * torch.arange(steps, dtype=torch.float64) / (steps - 1)


SCALED = linear(1000, 0.00085**0.5, 0.012**0.5) ** 2
_F = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
COSINE = torch.tensor([min(1 - _F[t + 1] / _F[t], 0.999) for t in range(1000)], dtype=torch.float64)
SCHEDULES = {
    "linear": (VP.linear(), table(linear())),
    "scaled-linear": (VP.scaled_linear(), table(SCALED)),
    "cosine": (VP.cosine(), table(COSINE)),
    "sde": (VPSDE(), vp_sde),
    "ve": (VE(0.01, 50.0), ve),
}


def check(prior: Parametrised, sigmas: list[float] | None = None, exact: GaussianMixture = EXACT) -> None:
    low, high = prior.sigma_range
    for sigma in sigmas or [low, 1.7 * low, 0.05, 0.5, 3.0, high]:
        x = images(sigma)
        # The table is kept in single precision, and the noise level goes through it.
        expected = exact.displacement(x, sigma)
        torch.testing.assert_close(prior.displacement(x, sigma), expected, rtol=2e-5, atol=2e-6 * min(sigma, 1))
        torch.testing.assert_close(prior.denoise(x, sigma), exact.denoise(x, sigma), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("prediction", "name"),
    [(p, name) for p in ("epsilon", "v", "x0", "score") for name in SCHEDULES if (p, name) != ("v", "ve")],
)
def test_perfect_network_is_the_exact_denoiser(prediction, name):
    schedule, levels = SCHEDULES[name]
    check(Parametrised(Perfect(prediction, levels), prediction, schedule, image_shape=SHAPE))


def test_one_level_per_image_and_the_score():
    schedule, levels = SCHEDULES["cosine"]
    prior = Parametrised(Perfect("v", levels), "v", schedule)
    sigma = torch.tensor([0.02, 0.3, 2.0, 9.0], dtype=torch.float64)
    x = images(sigma)
    expected = EXACT.denoise(x, sigma)
    torch.testing.assert_close(prior.denoise(x, sigma), expected, rtol=2e-5, atol=2e-6)
    torch.testing.assert_close(prior(x, sigma.reshape(4, 1, 1, 1)), expected, rtol=2e-5, atol=2e-6)
    torch.testing.assert_close(prior.score(x, sigma), EXACT.score(x, sigma), rtol=2e-5, atol=2e-5)
    assert check_score(prior, x, 0.3) < 1e-12


def test_gradient_goes_through_the_network():
    prior = Parametrised(Perfect("epsilon", ve), "epsilon", VE())
    x = images(0.2).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.denoise(x, 0.2).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 0.5))  # V / (V + s^2) with s^2 = V


@pytest.mark.parametrize("sigma", [0.002 / 2, 0.1, 2.0, 40.0])
@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edm_with_and_without_its_preconditioning(sigma, sigma_data):
    x = images(sigma)

    class Raw(nn.Module):  # the F of Karras et al.'s Eq. 7 for which D is exact
        def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
            s = torch.exp(4 * c_noise).reshape(-1, 1, 1, 1)
            skip = sigma_data**2 / (s**2 + sigma_data**2)
            out = s * sigma_data / (s**2 + sigma_data**2).sqrt()
            own = u * (s**2 + sigma_data**2).sqrt()
            return (M + V / (V + s**2) * (own - M) - skip * own) / out

    raw = Parametrised.edm(Raw(), raw=True, sigma_data=sigma_data)
    whole = Parametrised.edm(Perfect("x0", ve))
    for prior in (raw, whole):
        torch.testing.assert_close(prior.denoise(x, sigma), EXACT.denoise(x, sigma), rtol=1e-9, atol=1e-9)
        assert prior.sigma_range == (0.001, 40.0)


def test_edm_is_told_its_class():
    network = Perfect("x0", ve)
    prior = Parametrised.edm(network, y=torch.eye(3)[1:2])
    prior.denoise(images(0.3), 0.3)
    assert torch.equal(network.given["class_labels"], torch.eye(3)[1].expand(4, 3))


def test_score_sde_networks():
    check(Parametrised.score_sde_vp(Perfect("epsilon", vp_sde)))
    # The variance exploding networks of score_sde see images in [0, 1].
    prior = Parametrised.score_sde_ve(Perfect("score", ve, MEAN, STD**2), sigma_max=348.0)
    assert prior.sigma_range == (0.01, 348.0)
    check(prior)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("xstart", [False, True])
def test_guided_diffusion_networks_with_and_without_learned_variance(xstart, channels):
    network = Perfect("x0" if xstart else "epsilon", table(linear()), channels=channels)
    prior = Parametrised.guided_diffusion(network, predict_xstart=xstart, y=torch.tensor([207]))
    check(prior)
    assert torch.equal(network.given["y"], torch.full((4,), 207))


def test_guided_diffusion_tells_steps_of_a_thousand_where_they_were_rescaled():
    betas = linear(4000, 1e-4 / 4, 0.02 / 4)
    network = Perfect("epsilon", table(betas, 0.25))
    prior = Parametrised.guided_diffusion(network, steps=4000, rescale_timesteps=True)
    check(prior)
    assert float(network.given["time"].max()) == pytest.approx(999.75)
    cosine = Parametrised.guided_diffusion(Perfect("epsilon", table(COSINE)), noise_schedule="cosine")
    check(cosine)


def test_a_step_of_the_table_is_a_whole_time():
    abar = torch.cumprod(1 - SCALED, 0)
    sigmas = ((1 - abar) / abar).sqrt()
    # Neighbouring levels differ by 0.3% or more, and single precision has 1e-6 of a logarithm of at most 3.
    torch.testing.assert_close(
        VP.scaled_linear().time(sigmas), torch.arange(1000, dtype=torch.float64), rtol=0.0, atol=2e-3
    )
    halfway = (sigmas[:-1] * sigmas[1:]).sqrt()
    times = VP.scaled_linear().time(halfway)
    torch.testing.assert_close(times, torch.arange(999, dtype=torch.float64) + 0.5, rtol=0.0, atol=2e-3)
    whole = VP(SCALED, whole=True).time(sigmas * 1.0001)
    assert whole.dtype == torch.long and torch.equal(whole, torch.arange(1000))


def test_a_level_where_nothing_is_left_of_the_image_is_no_level():
    betas = linear(100)
    ended = torch.cat([betas, torch.ones(1)])
    assert VP(ended).sigma_range == VP(betas).sigma_range


def test_radius_is_that_of_the_data():
    prior = Parametrised(Perfect("epsilon", ve), "epsilon", VE(), std=0.5)
    assert prior.radius((1, 4, 4)) == 2.0


def test_conditions_of_one_image_serve_all_and_nested_ones_too():
    network = Perfect("epsilon", ve)
    given = {"one": torch.ones(1, 5), "each": torch.arange(4), "flag": True, "more": {"pooled": torch.zeros(1, 2)}}
    Parametrised(network, "epsilon", VE(), conditions=given).denoise(images(0.3), 0.3)
    assert network.given["one"].shape == (4, 5) and network.given["flag"] is True
    assert torch.equal(network.given["each"], torch.arange(4))
    assert network.given["more"]["pooled"].shape == (4, 2)


def test_refusals_are_one_sentence():
    network = Perfect("epsilon", ve)
    with pytest.raises(TypeError, match=r"network must be callable as network\(u, time\), got int"):
        Parametrised(3, "epsilon", VE())
    with pytest.raises(ValueError, match="prediction must be one of epsilon, v, x0, score, edm, got 'noise'"):
        Parametrised(network, "noise", VE())
    with pytest.raises(TypeError, match="schedule must be a VP, VPSDE, VE or EDM, got str"):
        Parametrised(network, "epsilon", "linear")
    with pytest.raises(ValueError, match="schedule must be a VP or VPSDE for prediction 'v', got VE"):
        Parametrised(network, "v", VE())
    with pytest.raises(ValueError, match="schedule must be an EDM for prediction 'edm', got VE"):
        Parametrised(network, "edm", VE())
    with pytest.raises(ValueError, match=r"data_range must be two increasing numbers, got \(1, 0\)"):
        Parametrised(network, "epsilon", VE(), data_range=(1, 0))
    with pytest.raises(ValueError, match="noise_schedule must be linear or cosine, got 'sigmoid'"):
        Parametrised.guided_diffusion(network, noise_schedule="sigmoid")
    with pytest.raises(ValueError, match=r"betas must be at least two numbers in \(0, 1\], got shape \(1,\)"):
        VP([0.1])
    with pytest.raises(ValueError, match="beta_max must be finite and above beta_min > 0, got 0.1 and 20"):
        VPSDE(20.0, 0.1)
    with pytest.raises(ValueError, match="sigma_max must be above sigma_min >= 0, got 1.0 and 2.0"):
        EDM(0.5, 2.0, 1.0)
    prior = Parametrised(network, "epsilon", VE(0.01, 50.0))
    for sigma, got in ((0.004, "0.004"), (30.0, "30"), (torch.tensor([0.1, 0.2, 0.3, 26.0]), "0.1 to 26")):
        needed = f"sigma must lie between 0.005 and 25, the network's noise levels, got {got}$"
        with pytest.raises(ValueError, match=needed):
            prior.denoise(images(0.3), sigma)
    with pytest.raises(ValueError, match=r"network must return the shape of x, \(4, 2, 3, 3\), got \(4, 6, 3, 3\)"):
        Parametrised(Perfect("epsilon", ve, channels=3), "epsilon", VE()).denoise(images(0.3), 0.3)

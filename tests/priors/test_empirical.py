"""The kernel mixture over a data set: its formula, its blocks and its memory."""

import subprocess
import sys

import pytest
import torch

from priors import Empirical, gaussian_mixture


def data(n=50):
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("bandwidth", [0.0, 0.3])
def test_denoiser_is_the_weighted_mean_of_shrunken_images(bandwidth):
    images, sigma = data(), 0.4
    x = data(3) + 0.1
    total = bandwidth**2 + sigma**2
    weights = (-(x[:, None] - images).square().sum((2, 3, 4)) / (2 * total)).softmax(1)
    shrunken = images + (x[:, None] - images) * bandwidth**2 / total
    expected = (weights[..., None, None, None] * shrunken).sum(1)
    torch.testing.assert_close(Empirical(images, bandwidth).denoise(x, sigma), expected)


def test_blocks_change_nothing(monkeypatch):
    prior, x, sigma = Empirical(data(), 0.1), data(7), torch.linspace(0.1, 0.7, 7, dtype=torch.float64)
    whole = prior.denoise(x, sigma), prior.log_prob(x, sigma), prior.denoise(x, 0.2)
    monkeypatch.setattr(gaussian_mixture, "BLOCK_ENTRIES", 100)
    blocks = prior.denoise(x, sigma), prior.log_prob(x, sigma), prior.denoise(x, 0.2)
    torch.testing.assert_close(whole, blocks)


@pytest.mark.parametrize("bandwidth", [-0.1, float("nan"), float("inf")])
def test_bad_bandwidth_is_refused(bandwidth):
    with pytest.raises(ValueError, match="bandwidth must be finite and at least 0"):
        Empirical(data(), bandwidth)


def test_sixty_thousand_images_are_denoised_within_two_gibibytes():
    program = (
        "import resource, torch; from priors import Empirical; torch.set_num_threads(1);"
        "data = torch.rand(60_000, 1, 28, 28); start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "prior = Empirical(data, 0.1); prior.denoise(data[:600], 0.5);"
        "print(start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    start, peak = map(int, run.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    assert (peak - start) * unit < 2 * 2**30

"""The shipped prior knows more than its training set: what its model card claims, on a part of the held-out images."""

import pytest
import torch

import priors
from priors import Empirical, fashion_mnist


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2, 0.5])
def test_denoising_error_is_below_that_of_the_exact_denoiser_of_the_training_set(sigma):
    # 0.13 is the best bandwidth on held-out images at each of these levels, to two digits (see the model card)
    exact = Empirical(fashion_mnist.read("train")[0].float() / 255, 0.13)
    clean = fashion_mnist.read("held-out")[0][:200].float() / 255
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        learned, memorised = (
            (prior.denoise(noisy, sigma) - clean).square().flatten(1).mean(1)
            for prior in (priors.load("fashion-28"), exact)
        )
    gain = memorised - learned
    # five standard errors of the mean over 200 images: error probability below 6e-7
    assert gain.mean() > 5 * gain.std() / 200**0.5

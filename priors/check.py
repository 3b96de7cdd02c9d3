"""Is a prior's score the gradient of what it claims to be the score of?"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Prior, Sigma, sigma_per_item

REFERENCES = ("autograd", "tweedie", "monte-carlo")


def check_score(prior: Prior, x: Tensor, sigma: Sigma, reference: str | None = None, draws: int = 2**16) -> float:
    """Relative error |score - reference| / |reference| over the whole batch x (B, *image_shape).

    reference, None taking the first that the prior can give:
    - "autograd": gradient of `log_prob` by autograd. Independent of the score's formula; right to rounding.
    - "tweedie": (denoise - x) / sigma^2. Says whether score and denoiser agree, not whether either is right; the
      difference cancels where sigma is far below |x|, so use float64 there.
    - "monte-carlo": Tweedie with E[X | x] from `draws` draws of `sample`, weighted by the Gaussian likelihood of x. Its
      own error is of order 1 / (sigma sqrt(effective draws)), large for small sigma or high dimension.

    Raises ValueError for an unknown reference, NotImplementedError where the prior cannot give the one asked for.
    """
    if reference is not None and reference not in REFERENCES:
        raise ValueError(f"reference must be one of {', '.join(REFERENCES)} or None, got {reference!r}")
    with torch.no_grad():
        score = prior.score(x, sigma)
    truth = _reference(prior, x.detach(), sigma, reference, draws)
    return float((score - truth).norm() / truth.norm().clamp_min(torch.finfo(truth.dtype).tiny))


def _reference(prior: Prior, x: Tensor, sigma: Sigma, reference: str | None, draws: int) -> Tensor:
    functions = {
        "autograd": lambda: _autograd(prior, x, sigma),
        "tweedie": lambda: _tweedie(prior, x, sigma),
        "monte-carlo": lambda: _monte_carlo(prior, x, sigma, draws),
    }
    if reference is not None:
        return functions[reference]()
    for name in REFERENCES:
        try:
            return functions[name]()
        except NotImplementedError:
            continue
    raise NotImplementedError(f"{type(prior).__name__} has none of log_prob, denoise and sample to check its score by")


def _autograd(prior: Prior, x: Tensor, sigma: Sigma) -> Tensor:
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(prior.log_prob(x, sigma).sum(), x)[0]


def _tweedie(prior: Prior, x: Tensor, sigma: Sigma) -> Tensor:
    with torch.no_grad():
        return (prior.denoise(x, sigma) - x) / sigma_per_item(sigma, x) ** 2


def _monte_carlo(prior: Prior, x: Tensor, sigma: Sigma, draws: int) -> Tensor:
    level = sigma_per_item(sigma, x)
    points = prior.sample(draws).to(x).flatten(1)
    squares = torch.cdist(x.flatten(1), points) ** 2
    weights = (-squares / (2 * level.reshape(-1, 1) ** 2)).softmax(1)
    return ((weights @ points).reshape(x.shape) - x) / level**2

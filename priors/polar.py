"""Quadrature on a sphere in polar coordinates about a point of it, for a density times a Gaussian bump there.

With e = x / |x| and m = r ((1 - v) e + sqrt(v (2 - v)) w), w a unit vector normal to e and v = 1 - cos(polar angle),

    |x - m|^2 / (2 sigma^2) = (|x| - r)^2 / (2 sigma^2) + k v,    k = r |x| / sigma^2,
    d vol(m) = r^n (v (2 - v))^a dv dw,    a = n/2 - 1.

The mean over w of a smooth density is a smooth function of v. So w takes a product rule on S^{n-1}, and v
Gauss-Laguerre with weight v^a exp(-k v) where the bump is narrow, else Gauss-Jacobi with weight (v (2 - v))^a on
[0, 2]. Both rules have only as many nodes as the width of the bump asks for.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from .manifolds import Sphere

LOG_TOLERANCE = math.log(1e-12)
# Above this k the cut at v = 2 leaves less than exp(-2 k) and does not count.
NARROW = 40.0
# A narrow bump needs so many nodes in v for densities of a larger kappa: kappa^2 / (2 k) is up to 8.5 there.
STEEP, STEEP_NODES = 34.0, 16


class PolarRule:
    """Nodes on one sphere about the direction of x (B, n + 1), sigma (B, 1).

    nodes: per angle of the sphere's chart, so many that they resolve the density. It is taken to vary no more than
    exp(kappa cos t), t an angle, kappa as large as so many nodes resolve: (kappa / 2)^nodes / nodes! = 1e-12.
    """

    def __init__(self, sphere: Sphere, nodes: int) -> None:
        self.sphere, self.dim, self.radius, self.bandwidth = sphere, sphere.dim, sphere.radius, nodes
        self.kappa = 2 * math.exp((LOG_TOLERANCE + math.lgamma(nodes + 1)) / nodes)

    @property
    def narrow(self) -> float:
        """The k above which the bump counts as narrow; the mean over w may grow as exp(kappa (2 v)^(1/2))."""
        return max(NARROW, 2 * self.kappa, self.kappa**2 / 17)

    def choose(self, x: Tensor, sigma: Tensor) -> Tensor:
        """How to integrate about each x: whether the bump is narrow, nodes in v, degree in w, (B, 3)."""
        # A strength that is not finite takes any rule, which passes it on.
        k = self._strength(x, sigma)[:, 0].nan_to_num(0, 0)
        narrow = k > self.narrow
        c = (self.kappa + 2) / k.clamp_min(NARROW)
        laguerre = 2 + LOG_TOLERANCE / (2 * (c / (2 - c).clamp_min(1)).log())
        laguerre = laguerre.clamp_min(STEEP_NODES if self.kappa > STEEP else 0)
        jacobi = (self.bandwidth + (-2 * LOG_TOLERANCE * k).sqrt() + 8) / 2
        return torch.stack([narrow.long(), laguerre.where(narrow, jacobi).ceil().long(), self._degree(k)], dim=1)

    def wide(self, k: float) -> tuple[int, int, int]:
        """A choice for this k, narrow or not, that leaves out no degree in w."""
        count = math.ceil((self.bandwidth + math.sqrt(-2 * LOG_TOLERANCE * k) + 8) / 2)
        return 0, count, int(self._degree(torch.zeros(1, dtype=torch.float64)))

    def _strength(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.radius * torch.linalg.vector_norm(x, dim=-1, keepdim=True) / sigma**2

    def _degree(self, k: Tensor) -> Tensor:
        """Degree in w of what matters of the density on the bump, (B,): even, one more for the factor m."""
        v = (15 / k.clamp_min(1e-300)).clamp(max=1)
        radius = (self.kappa * (v * (2 - v)).sqrt() / 2).log()[:, None]
        degrees = torch.arange(1, self.bandwidth + 1, dtype=k.dtype, device=k.device)
        matters = degrees * radius - torch.lgamma(degrees + 1) > LOG_TOLERANCE
        return ((matters * degrees).amax(1).long() + 3) // 2 * 2

    def about(self, x: Tensor, sigma: Tensor, choice: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Points (B, K, n + 1), and their log-weights with the bump's factor, (B, K), by one row of `choose`."""
        narrow, count, degree = choice
        k = self._strength(x, sigma)
        start = k.detach()  # nodes that stay where they are give log_prob the denoiser's score without rounding
        power = self.dim / 2 - 1
        if narrow:
            t, log_weight = (a.to(x.device) for a in _laguerre(count, power))
            v = t / start
            log_weight = log_weight + power * (2 - v).log() - (power + 1) * start.log() - (k - start) * v
        else:
            v, log_weight = (a.to(x.device) for a in _jacobi(count, power))
            log_weight = log_weight - k * v
        v = v.expand(len(x), -1)
        directions, log_around = (a.to(x.device) for a in _directions(self.dim - 1, degree))
        unit = self.sphere.project(x) / self.radius
        ring = directions @ frame(unit)
        points = (1 - v)[:, :, None, None] * unit[:, None, None] + (v * (2 - v)).sqrt()[:, :, None, None] * ring[
            :, None
        ]
        radial = ((torch.linalg.vector_norm(x, dim=-1, keepdim=True) - self.radius) / sigma) ** 2 / 2
        log_weight = log_weight + self.dim * math.log(self.radius) - radial
        return self.radius * points.flatten(1, 2), (log_weight[:, :, None] + log_around).flatten(1)

    def count(self, choice: tuple[int, int, int]) -> int:
        """Nodes of `about`."""
        return choice[1] * len(_directions(self.dim - 1, choice[2])[0])


@functools.lru_cache(maxsize=256)
def _laguerre(count: int, power: float) -> tuple[Tensor, Tensor]:
    """Nodes and log-weights (count,) of Gauss-Laguerre with weight t^power exp(-t)."""
    from scipy.special import roots_genlaguerre

    t, weights = map(torch.from_numpy, roots_genlaguerre(count, power))
    return t, weights.log()


@functools.lru_cache(maxsize=256)
def _jacobi(count: int, power: float) -> tuple[Tensor, Tensor]:
    """Nodes and log-weights (count,) on [0, 2] with weight (v (2 - v))^power."""
    from scipy.special import roots_jacobi

    cosine, weights = map(torch.from_numpy, roots_jacobi(count, power, power))
    return 1 - cosine, weights.log()


@functools.lru_cache(maxsize=64)
def _directions(n: int, degree: int) -> tuple[Tensor, Tensor]:
    """A rule on the unit sphere S^n of at least this degree: points (K, n + 1) and log-weights (K,); S^0 is {1, -1}."""
    if n == 0:
        return torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    sphere, pairs = Sphere(n), (n + 1) // 2
    # A polynomial of the point is one of half its degree in the shares, on which the volume element is one, too.
    heights = [degree // 2 + pairs] * (1 - n % 2)
    shares = [(degree // 2 + pairs - 2 - j) // 2 + 1 for j in range(pairs - 1)]
    points, weights = sphere.quadrature([*heights, *shares, *[degree + 1] * pairs])
    return points, weights.log()


def frame(unit: Tensor) -> Tensor:
    """Orthonormal vectors normal to unit (B, d), (B, d - 1, d): rows of the Householder map of e_1 to +-unit."""
    sign = torch.where(unit[:, :1] < 0, -1.0, 1.0)
    first = torch.zeros_like(unit)
    first[:, 0] = 1
    v = unit + sign * first
    identity = torch.eye(unit.shape[1], dtype=unit.dtype, device=unit.device)
    reflection = identity - 2 * v[:, :, None] * v[:, None] / (v * v).sum(-1)[:, None, None]
    return reflection[:, 1:]

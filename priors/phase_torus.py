"""The flat torus that a spectrum sweeps out when its phases are turned: all shifts of a periodic picture.

With z_k the amplitudes of frequencies k, integers in a half-plane, a point is t(u) = (Re, Im) of z_k exp(i <k, u>), u
two angles. All points have one norm, and the metric of u is the constant matrix

    G = sum_k |z_k|^2 k k^T,

so that the torus is flat, homogeneous under shifts, and u are affine coordinates on it. The nearest point to x
maximises the correlation <x, t(u)> = Re sum_k c_k exp(i <k, u>), c_k = conj(x_k) z_k: a matched filter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations

import torch
from torch import Tensor

from .charts import ANGLE
from .submanifold import Submanifold

# Amplitudes below this share of the largest are rounding (of float32 pictures, too), not a frequency that is there.
ABSENT = 1e-6
# Newton's method converges in about five steps, and slowly only where the highest peak is flat.
NEWTON_STEPS = 40
# Items whose correlations are searched at once: more would only fall out of the cache.
ROWS = 256


def half_plane(cutoff: int) -> Tensor:
    """Frequencies k != 0 with max |k_i| <= cutoff, one of each pair +-k, (K, 2) with K = 2 cutoff (cutoff + 1).

    In the order of a (cutoff + 1, 2 cutoff + 1) table over k_1 = 0..cutoff and k_2 = -cutoff..cutoff without its first
    cutoff + 1 entries, those with k_1 = 0 and k_2 <= 0.
    """
    table = torch.cartesian_prod(torch.arange(cutoff + 1), torch.arange(-cutoff, cutoff + 1))
    return table[cutoff + 1 :]


def sees_every_shift(frequencies: Iterable[tuple[int, int]]) -> bool:
    """Whether u -> exp(i <k, u>) over these k tells any two shifts apart: whether the k generate all integer pairs.

    The lattice that they generate has as its index the greatest common divisor of all their 2 x 2 determinants, 0 where
    they lie on one line; the shifts that leave every exp(i <k, u>) alone number as many.
    """
    return math.gcd(*(a[0] * b[1] - a[1] * b[0] for a, b in combinations(frequencies, 2))) == 1


class PhaseTorus(Submanifold):
    """The flat torus of points (Re z_k exp(i <k, u>), Im z_k exp(i <k, u>)) in R^2K, coordinates two angles u.

    amplitudes: z, complex (K,), of the frequencies `half_plane(cutoff)`. Raises ValueError for another shape, values
    that are not finite, and amplitudes that leave a shift invisible, so that the torus would be covered more than once
    or collapse to a circle.
    """

    dim = 2
    axes = (ANGLE, ANGLE)

    def __init__(self, amplitudes: Tensor, cutoff: int) -> None:
        self.cutoff, self.frequencies = cutoff, half_plane(cutoff)
        if tuple(amplitudes.shape) != (len(self.frequencies),) or not bool(amplitudes.isfinite().all()):
            raise ValueError(
                f"amplitudes must be {len(self.frequencies)} finite numbers, got {tuple(amplitudes.shape)}"
            )
        self.amplitudes = amplitudes.to(torch.complex128)
        power = self.amplitudes.abs() ** 2
        present = self.amplitudes.abs() > ABSENT * self.amplitudes.abs().max()
        if not sees_every_shift(map(tuple, self.frequencies[present].tolist())):
            raise ValueError(
                f"amplitudes must belong to frequencies that together see every shift, got {int(present.sum())} "
                "that leave some shift of both axes, of one axis or of a fraction of a period invisible"
            )
        self.image_shape = (2 * len(self.frequencies),)
        self.radius = float(power.sum().sqrt())
        k = self.frequencies.double()
        self.metric = (power[:, None] * k).T @ k
        self.volume = 4 * math.pi**2 * float(torch.det(self.metric).sqrt())
        self.curvature = self._largest_curvature(power)
        # G is at most its diagonal times 1 + |correlation|: 2 |G_12 a b| <= |correlation| (G_11 a^2 + G_22 b^2).
        diagonal = self.metric.diagonal()
        correlation = float(self.metric[0, 1].abs() / diagonal.prod().sqrt())
        self.speeds = tuple((diagonal * (1 + correlation)).sqrt().tolist())

    def _largest_curvature(self, power: Tensor, count: int = 1024) -> float:
        """Maximum over tangent directions v of |second derivative| / |first|^2 = sqrt(sum |z|^2 <k,v>^4) / <v, G v>.

        Lines of u are geodesics, whose second derivative is normal, so this is the largest normal curvature. In the
        angle of v, made orthonormal, its square is a trigonometric polynomial of degree 4, at most
        1 / cos(4 pi / count) times its largest value on `count` angles (Ehlich and Zeller 1964).
        """
        root = torch.linalg.cholesky(self.metric)
        angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
        whitened = torch.linalg.solve_triangular(root, self.frequencies.double().T, upper=False)
        along = angle.cos()[:, None] * whitened[0] + angle.sin()[:, None] * whitened[1]
        return float(((along**4) @ power).max() / math.cos(4 * math.pi / count)) ** 0.5

    def point(self, u: Tensor) -> Tensor:
        angle = u @ self.frequencies.to(u).T
        real, imag, cos, sin = self.amplitudes.real.to(u), self.amplitudes.imag.to(u), angle.cos(), angle.sin()
        return torch.cat([real * cos - imag * sin, real * sin + imag * cos], dim=-1)

    def correlation(self, x: Tensor) -> Tensor:
        """Coefficients c of <x, t(u)> = Re sum_k c_k exp(i <k, u>), complex (..., K). x: (..., 2K), float64."""
        real, imag = x.chunk(2, dim=-1)
        return torch.complex(real, -imag) * self.amplitudes.to(x.device)

    def table(self, coefficients: Tensor) -> Tensor:
        """Coefficients (..., K) as a table over k_1 and k_2 (see `half_plane`), (..., cutoff + 1, 2 cutoff + 1)."""
        padded = torch.cat([torch.zeros_like(coefficients[..., : self.cutoff + 1]), coefficients], dim=-1)
        return padded.unflatten(-1, (self.cutoff + 1, 2 * self.cutoff + 1))

    @property
    def fineness(self) -> int:
        """Nodes per period, a power of two, that show every peak of a correlation: at least 4 on the finest wave."""
        return 2 ** math.ceil(math.log2(4 * self.cutoff + 4))

    def correlation_on_lattice(self, coefficients: Tensor) -> Tensor:
        """<x, t(u)> at u = 2 pi (i, j) / n, n = `fineness`, (B, n, n), from coefficients (B, K)."""
        n, width = self.fineness, 2 * self.cutoff + 1
        turns = torch.arange(n, dtype=torch.float64, device=coefficients.device) / n
        angle = 2 * math.pi * turns[:, None] * torch.arange(-self.cutoff, self.cutoff + 1, device=turns.device)
        waves = torch.complex(angle.cos(), angle.sin())
        first, second = waves[:, self.cutoff :], waves.T
        inner = (self.table(coefficients).reshape(-1, width) @ second).unflatten(0, (-1, self.cutoff + 1))
        return torch.cat([first.real, -first.imag], dim=1) @ torch.cat([inner.real, inner.imag], dim=1)

    def rise(self, coefficients: Tensor) -> Tensor:
        """sum_k |c_k| k_i^2 (..., 2): no second derivative of the correlation along u_i exceeds it in size."""
        return coefficients.abs() @ self.frequencies.to(coefficients.real).square()

    def coordinates(self, point: Tensor) -> Tensor:
        """Coordinates (..., 2) of the nearest point to any x (..., 2K), differentiable; one of them in a tie."""
        coefficients = self.correlation(point.double().reshape(-1, self.image_shape[0]))
        with torch.no_grad():
            u = torch.cat([self._highest(part) for part in coefficients.detach().split(ROWS)])
        # One more step leaves the value and gives the derivative (implicit function theorem).
        _, slope, bend = self._derivatives(coefficients, u)
        u = u + self._newton(slope, bend.detach())[0]
        return u.remainder(2 * math.pi).reshape(*point.shape[:-1], 2).to(point.dtype)

    def _highest(self, coefficients: Tensor) -> Tensor:
        """Coordinates (B, 2) of the maximum of correlations (B, K), by Newton's method from the peaks on a lattice."""
        item, index = self._candidates(coefficients)
        own = coefficients[item]
        u, height = self._ascend(own, index * (2 * math.pi / self.fineness))
        order = height.argsort(descending=True)
        # The first of each item in the order of heights is its highest.
        order = order[item[order].argsort(stable=True)]
        first = torch.searchsorted(item[order], torch.arange(len(coefficients), device=item.device))
        return u[order[first]]

    def _candidates(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Items (N,), in order and each at least once, and nodes (N, 2) next to which their maximum can be.

        Those are the best node, and every peak among the nodes that is not too low: the correlation rises by at most
        half its largest second derivatives times the squared distance from a peak to the next node.
        """
        n = self.fineness
        values = self.correlation_on_lattice(coefficients)
        best, at = values.flatten(1).max(1)
        rise = self.rise(coefficients).sum(-1) * (math.pi / n) ** 2 / 2
        item, row, column = (values >= (best - rise)[:, None, None]).nonzero().unbind(1)
        here, best_node = values[item, row, column], row * n + column == at[item]
        summit = torch.ones_like(best_node)
        for i, j in ((0, 1), (1, 0), (1, 1), (1, -1)):
            summit &= here >= values[item, (row + i) % n, (column + j) % n]
            # Above what comes before it: of a plateau, one node is enough.
            summit &= here > values[item, (row - i) % n, (column - j) % n]
        chosen = best_node | summit
        return item[chosen], torch.stack([row, column], dim=1)[chosen].double()

    def _ascend(self, coefficients: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's method for maxima from u (N, 2): where it ends, and the correlation there.

        Where the correlation is not concave the step is along its slope. A step that would fall is taken back, and the
        next one may be a quarter as long; after a rise, twice as long.
        """
        height, slope, bend = self._derivatives(coefficients, u)
        longest = 2 * math.pi / self.fineness
        reach = torch.full_like(height, longest)[:, None]
        for _ in range(NEWTON_STEPS):
            newton, concave = self._newton(slope, bend)
            step = newton.where(concave, slope * (longest / _length(slope)))
            step = step * (reach / _length(step)).clamp_max(1)
            if float(step.abs().max()) < 1e-12:
                break
            found = self._derivatives(coefficients, u + step)
            higher = (found[0] >= height - 1e-15 * height.abs())[:, None]
            reach = (2 * reach).clamp_max(longest).where(higher, reach / 4)
            u = (u + step).where(higher, u)
            height = found[0].where(higher[:, 0], height)
            slope, bend = found[1].where(higher, slope), found[2].where(higher, bend)
        return u, height

    def _derivatives(self, coefficients: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The correlation at u (N, 2), (N,), its gradient (N, 2) and second derivatives 11, 12, 22, (N, 3)."""
        k = self.frequencies.to(u)
        pairs = torch.stack([k[:, 0] ** 2, k[:, 0] * k[:, 1], k[:, 1] ** 2], dim=1)
        angle = u @ k.T
        cos, sin = angle.cos(), angle.sin()
        real = coefficients.real * cos - coefficients.imag * sin
        imag = coefficients.real * sin + coefficients.imag * cos
        return real.sum(-1), -imag @ k, -real @ pairs

    @staticmethod
    def _newton(slope: Tensor, bend: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step (N, 2) to a maximum, 0 where the correlation is not concave; and where it is, (N, 1)."""
        (a, b, c), (p, q) = bend.unbind(-1), slope.unbind(-1)
        determinant = a * c - b * b
        concave = (determinant > 1e-10 * a * a) & (a < 0) & (determinant > 1e-10 * c * c)
        across = torch.stack([b * q - c * p, b * p - a * q], dim=-1)
        step = across / determinant.where(concave, torch.ones_like(determinant))[:, None]
        return step.where(concave[:, None], torch.zeros_like(step)), concave[:, None]

    def project(self, x: Tensor) -> Tensor:
        return self.point(self.coordinates(x.double())).to(x.dtype)

    def tangential(self, point: Tensor, vector: Tensor) -> Tensor:
        real, imag = point.chunk(2, dim=-1)
        k = self.frequencies.to(point)
        # Derivatives of the chart, i k_j z_k exp(i <k, u>), from the point itself.
        tangents = torch.cat([-imag[..., None] * k, real[..., None] * k], dim=-2)
        parts = (vector[..., None, :] @ tangents)[..., 0, :] @ torch.linalg.inv(self.metric).to(point)
        return (tangents @ parts[..., None])[..., 0]

    def log_element(self, u: Tensor) -> Tensor:
        return torch.full_like(u[..., 0], math.log(self.volume / (4 * math.pi**2)))

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        return self.point(2 * math.pi * torch.rand(n, 2, dtype=torch.float64, generator=generator))

    def __repr__(self) -> str:
        return f"PhaseTorus(cutoff={self.cutoff}, radius={self.radius:g})"


def _length(v: Tensor) -> Tensor:
    """Lengths of vectors (N, 2), above 0, (N, 1)."""
    return torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)

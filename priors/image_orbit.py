"""All shifts of a photograph: a flat torus of images on which everything is known exactly."""

from __future__ import annotations

import math
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from .embedded import Embedded
from .phase_torus import ABSENT, PhaseTorus, half_plane
from .submanifold import positive

PERIOD = 10.0


class ImageOrbit(Embedded):
    """All periodic shifts of a grey patch, by whole pixels and fractions of one: a flat torus of images (1, H, W).

    The patch is low-passed to its mean and the frequencies k with 0 < max(|k_1|, |k_2|) <= cutoff, and shifted by
    turning their phases, t(u) = mean + contrast * low-pass(patch)(. - u). Coordinates u are two angles, the shift down
    and the shift to the right in units of H / (2 pi) and W / (2 pi) pixels: u = (2 pi / H, 0) is torch.roll by one row.
    All points have one distance from the mean, `radius`, since every frequency is below Nyquist's.

    patch: (H, W) or (1, H, W), real; None is the shipped one. cutoff: highest frequency kept, per period of the patch,
    below half of H and W. The size of the torus is set by one of: period, the root mean square of the lengths of the
    two closed curves that a shift of a whole height and of a whole width draw (None: 10); contrast, the standard
    deviation of the pixels of an image. `manifold` is the torus in its own space (`PhaseTorus`), `basis` the
    orthonormal real Fourier basis, cosines before sines.

    Raises TypeError for a patch that is not a real tensor; ValueError for one of another shape or not finite, for one
    whose kept frequencies leave some shift invisible (a constant one, stripes, one that repeats itself), for another
    cutoff, and where both sizes are given.

    The shipped patch is the photographer's head in scikit-image's `camera` (rows 32 to 159, columns 160 to 287, means
    of 4 x 4 pixels): CC0 by the photographer, Lav Varshney.
    """

    manifold: PhaseTorus

    def __init__(
        self,
        patch: Tensor | None = None,
        cutoff: int = 5,
        period: float | None = None,
        contrast: float | None = None,
    ) -> None:
        if period is not None and contrast is not None:
            raise ValueError(f"period must be None where contrast is given, got {period} beside {contrast}")
        grey = _grey(shipped_patch() if patch is None else patch)
        self.cutoff = _whole_cutoff(cutoff, grey.shape)
        basis = fourier_basis(grey.shape, self.cutoff)
        mean = float(grey.mean())
        cosines, sines = ((grey - mean).flatten() @ basis).chunk(2)
        # A shift multiplies (cosines + i sines) by exp(i <k, u>).
        spectrum = torch.complex(cosines, sines)
        # What is rounding beside the patch itself is not a frequency of it, however far the size is scaled up.
        spectrum = spectrum.where(spectrum.abs() > ABSENT * grey.norm(), torch.zeros_like(spectrum))
        scale = _scale(spectrum, self.cutoff, grey.numel(), period, contrast)
        try:
            torus = PhaseTorus(scale * spectrum, self.cutoff)
        except ValueError:
            raise ValueError(
                f"patch must change under every shift, got one of shape {tuple(grey.shape)} whose frequencies up to "
                f"cutoff {cutoff} leave some shift invisible"
            ) from None
        super().__init__(torus, (1, *grey.shape), center=mean, basis=basis)
        self.radius = torus.radius

    @property
    def contrast(self) -> float:
        """Standard deviation of the pixels of every image."""
        return self.radius / math.sqrt(len(self.center))

    @property
    def periods(self) -> tuple[float, float]:
        """Lengths of the closed curves of shifts down and to the right."""
        down, right = (2 * math.pi * self.manifold.metric.diagonal().sqrt()).tolist()
        return down, right

    def __repr__(self) -> str:
        _, height, width = self.image_shape
        return f"ImageOrbit({height}x{width}, cutoff={self.cutoff}, radius={self.radius:.3g})"


def shipped_patch() -> Tensor:
    """The patch that comes with the package, (32, 32) in [0, 1], float64."""
    from PIL import Image

    file = resources.files(__package__) / "weights" / "photographer-32.png"
    with file.open("rb") as stream, Image.open(stream) as image:
        return torch.from_numpy(np.asarray(image).astype(np.float64) / 255)


def fourier_basis(shape: tuple[int, ...], cutoff: int) -> Tensor:
    """sqrt(2 / HW) (cos <k, v>, sin <k, v>) at pixels v = 2 pi (i / H, j / W), k in `half_plane(cutoff)`, (H W, 2K)."""
    height, width = shape
    angles = [2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in (height, width)]
    angle = torch.cartesian_prod(*angles) @ half_plane(cutoff).double().T
    return math.sqrt(2 / (height * width)) * torch.cat([angle.cos(), angle.sin()], dim=1)


def _grey(patch: Tensor) -> Tensor:
    """The patch as (H, W), float64."""
    if not isinstance(patch, Tensor) or patch.is_complex():
        raise TypeError(f"patch must be a real tensor, got {getattr(patch, 'dtype', type(patch).__name__)}")
    if patch.ndim not in (2, 3) or (patch.ndim == 3 and len(patch) != 1):
        raise ValueError(f"patch must have shape (H, W) or (1, H, W), got {tuple(patch.shape)}")
    grey = patch.detach().cpu().double().reshape(patch.shape[-2:])
    if not bool(grey.isfinite().all()):
        raise ValueError(f"patch must be finite, got {int((~grey.isfinite()).sum())} pixels that are not")
    return grey


def _whole_cutoff(cutoff: int, shape: tuple[int, ...]) -> int:
    """The cutoff as an integer; ValueError unless it is at least 1 and below Nyquist's frequency."""
    highest = (min(shape) - 1) // 2
    if isinstance(cutoff, bool) or int(cutoff) != cutoff or not 1 <= cutoff <= highest:
        raise ValueError(f"cutoff must be an integer from 1 to {highest} for a patch {tuple(shape)}, got {cutoff}")
    return int(cutoff)


def _scale(spectrum: Tensor, cutoff: int, pixels: int, period: float | None, contrast: float | None) -> float:
    """Factor that gives the patch the size asked for; 0 where it has no contrast, which nothing could scale."""
    power = spectrum.abs() ** 2
    if contrast is not None:
        wanted, own = positive("contrast", contrast), math.sqrt(float(power.sum()) / pixels)
    else:
        wanted = positive("period", PERIOD if period is None else period)
        own = 2 * math.pi * math.sqrt(float(power @ half_plane(cutoff).double().square().sum(1)) / 2)
    return wanted / own if own > 0 else 0.0

"""
Your own photograph
===================

A photograph, shaken while it was taken, with the prior ``photo``: eight pictures that the camera could have seen.
"""

import skimage.data
import torch
from PIL import Image

import inverse
import operators
import priors
from inverse import images, metrics

# %%
# The picture
# -----------
#
# Any file that Pillow reads becomes a tensor (3 or 1, H, W) with values in [0, 1]. So that this page needs no file of
# yours, it writes one first: the eyes of scikit-image's cat, which the prior has not seen.

Image.fromarray(skimage.data.chelsea()[60:188, 120:280]).save("photo.jpg", quality=95)
truth = images.read_picture("photo.jpg")[None]
print(tuple(truth.shape))

# %%
# The measurement
# ---------------
#
# Motion blur and noise of 0.05. A picture that your camera has blurred is such a ``y`` itself: then there is no truth,
# and the kernel is given by ``operators.create("blur", shape, kernel=kernel, noise=0.05)``.

physics = operators.create("motion-blur", tuple(truth.shape[1:]), noise=0.05, seed=0)
y = physics(truth)

# %%
# Eight samples
# -------------
#
# The prior is for images of any size, so that the sampler is ``mmps-spectral``: each step calls the network once or
# twice and takes no derivative. On two cores this takes less than a minute; a picture of 256 x 256 pixels, three times
# as large, less than three times as long. (``prior="photo"``, the name alone, takes less: its network then runs in
# whole numbers of 8 bits, where the processor is fast at them.)

prior = priors.load("photo")
samples = inverse.reconstruct(y, physics, prior, n=8, seed=0)
samples.plot("own_photograph.png", truth)
print(samples)

# %%
# The mean has the smallest error, and a single sample looks the most like a photograph: where the mean is smooth, the
# samples agree in nothing but its average. The standard deviation is large along edges and in the fur, where shaking
# lost most.

print("measurement         ", f"{metrics.psnr(y, truth).item():.1f} dB")
print("mean                ", f"{metrics.psnr(samples.mean, truth).item():.1f} dB")
print("one sample          ", f"{metrics.psnr(samples.x[0], truth).item():.1f} dB")
print("residual, 1 is right", f"{metrics.residual_ratio(samples.x, y, physics).mean():.3f}")

# %%
# Larger pictures
# ---------------
#
# The network looks at a neighbourhood, so that a picture can be denoised in tiles that overlap, in the memory of one
# tile, with the same result. ``inverse reconstruct`` does so above 640 pixels; here by hand:

tiled = priors.Tiled(prior, side=128, overlap=56)
noisy = truth + 0.2 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    difference = (tiled.denoise(noisy, 0.2) - prior.denoise(noisy, 0.2)).abs().max().item()
print(f"largest difference {difference:.1e}")
assert difference < 1e-3

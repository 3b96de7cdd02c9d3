"""
A prior from a folder of images
===============================

A folder with pictures becomes a prior, with a card that says how far to trust it. Here it sees 8,000 crops of two
textures, in less than a minute; give yours an hour.
"""

from pathlib import Path

import skimage.data
import torch

import inverse
import operators
import priors
from inverse import images, metrics
from inverse.train import train

# %%
# The folder
# ----------
#
# Pictures of any size and format. So that this page needs none of yours, it cuts scikit-image's grass and gravel into
# 32 tiles.

folder = Path("textures")
folder.mkdir(exist_ok=True)
for name in ("grass", "gravel"):
    texture = torch.from_numpy(getattr(skimage.data, name)())
    for row in range(4):
        for column in range(4):
            tile = texture[128 * row : 128 * (row + 1), 128 * column : 128 * (column + 1)]
            images.write_png(folder / f"{name}-{row}{column}.png", tile[None] / 255)

# %%
# Training
# --------
#
# On the command line this is ``inverse train textures --out textures.safetensors --minutes 60``. It can be interrupted,
# and the same line goes on. The network here has a twentieth of the weights of the one that is taken if none is named.

small = {
    "channels": (16, 32, 64),
    "encoder_blocks": (1, 1),
    "middle_blocks": 1,
    "decoder_blocks": (1, 1),
    "attention": False,
    "local": True,
}
Path("learned").mkdir(exist_ok=True)
train(folder, "learned/textures.safetensors", grey=True, size=32, images=8000, network=small, progress=False)
prior = priors.load("learned/textures.safetensors")
print(prior.about["images_seen"], "crops seen")

# %%
# What it has learned
# -------------------
#
# Beside the weights lie a picture, of held-out tiles with noise, denoised, and of draws of the prior, and the card. Its
# verdict compares the prior with one that has learned its training images by heart, and with simple filters.

card = Path("learned/textures.md").read_text()
print(card.split("## Does it generalise?")[1].split("\n\n")[1])

# %%
# Using it
# --------
#
# Brick is none of the two textures: a prior should be asked about such an image before it is trusted with one. Seven
# tenths of the pixels are hidden.


def mostly_hidden(texture, figure):
    truth = torch.from_numpy(texture[-64:, -64:])[None, None] / 255
    physics = operators.create("inpainting", (1, 64, 64), keep=0.3, noise=0.05, seed=0)
    samples = inverse.reconstruct(physics(truth), physics, prior, n=8, seed=0)
    samples.plot(figure, truth)
    covered = metrics.coverage(samples, truth, level=0.7).item()
    print(f"{metrics.psnr(samples.mean, truth).item():.1f} dB, 70% intervals cover {covered:.0%}")


mostly_hidden(skimage.data.gravel(), "prior_from_a_folder.png")
mostly_hidden(skimage.data.brick(), "prior_from_a_folder_brick.png")

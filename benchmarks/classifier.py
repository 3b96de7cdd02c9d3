"""A small classifier of Fashion-MNIST for judging generated images: ten classes, about 92% right on held-out images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

BATCH = 128


def network() -> nn.Sequential:
    """Two convolutions and two dense layers: images (B, 1, 28, 28) in [0, 1] to logits (B, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(64 * 7 * 7, 128),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(128, 10),
    )


def train(images: Tensor, labels: Tensor, epochs: int = 5, seed: int = 0) -> nn.Module:
    """A trained classifier. images: (N, 1, 28, 28) in [0, 1], labels: (N,). The same seed gives the same classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network().train()
        steps = epochs * (len(images) // BATCH)
        optimizer = torch.optim.Adam(model.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        with trange(steps, desc="classifier", unit="step") as bar:
            for _ in range(epochs):
                for chosen in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
                    loss = F.cross_entropy(model(images[chosen]), labels[chosen])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    bar.update()
    return model.eval()


@torch.no_grad()
def classify(model: nn.Module, images: Tensor) -> Tensor:
    """The most likely class of each image, (N,)."""
    return torch.cat([model(part).argmax(dim=1) for part in images.split(500)])


@torch.no_grad()
def confidence(model: nn.Module, images: Tensor) -> Tensor:
    """The probability that the model gives the most likely class of each image, (N,)."""
    return torch.cat([model(part).softmax(dim=1).amax(dim=1) for part in images.split(500)])

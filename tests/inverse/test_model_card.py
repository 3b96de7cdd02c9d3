import torch

from inverse import model_card
from inverse.generalisation import Generalisation, Level, generalisation
from priors import GaussianMixture, store

DESIGN = {
    "network": {"channels": [4, 4], "encoder_blocks": [0], "decoder_blocks": [0], "middle_blocks": 1, "features": 8},
    "mean": 0.25,
    "std": 0.125,
    "image_shape": [1, 8, 8],
    "sigma_range": [0.002, 80.0],
}


def known() -> Generalisation:
    """Numbers that can be found again in a card, beside an audit of a real prior."""
    prior = GaussianMixture(torch.full((1, 1, 4, 4), 0.5), torch.tensor([0.01]))
    measured = generalisation(prior, prior.sample(8), prior.sample(4, seed=1))
    level = Level(
        0.02,
        (0.001, 0.0001),
        (0.002, 0.0002),
        (0.003, 0.0003),
        (0.004, 0.0004),
        0.07,
        (0.005, 0.0005),
        (0.25, 0.125, 0.5),
        1e-7,
    )
    return Generalisation((level,), measured.audit, (300, 200, 100), "It is a verdict.")


def write(path, best_step=1250, **options):
    prior = store.build(DESIGN)
    prior.about["licence"] = "CC0"
    about = {"step": 1250, "best_step": best_step, "batch": 8, "seconds": 90.0}
    needed = {"data": ["Some images."], "skipped": [], "held_out": ["a.png"], "settings": {"Noise": "much"}}
    model_card.write(path, prior, about, **{**needed, "known": known(), **options})
    return path.read_text()


def test_card_tells_everything(tmp_path):
    card = write(tmp_path / "mine.md", picture="mine.png")
    for said in (
        'priors.load("mine.safetensors")',
        "| images | (1, 8, 8), values in [0, 1] |",
        "| noise levels | sigma from 0.002 to 80, in the units of the images |",
        "data mean 0.250, data standard deviation 0.125",
        "| licence | CC0 |",
        "- Some images.",
        "Held out, by image: `a.png`.",
        "- Skipped: nothing.",
        "- Noise: much",
        "10,000 images (1,250 steps) in 1.5 minutes",
        "mixture of 300 training images",
        "100 held-out and 200 training images",
        "| 0.02 | 1.000 ± 0.100 | 2.000 ± 0.200 | 3.000 ± 0.300 | 4.000 ± 0.400 | 0.07 | 5.000 ± 0.500 | 1.0e-07 |",
        "| 0.02 | 0.250 (0.125 to 0.500) |",
        "It is a verdict.",
        "(mine.png)",
    ):
        assert said in card, said
    assert [path.name for path in tmp_path.iterdir()] == ["mine.md"]
    sentence = "The weights are those of step"
    assert sentence not in card and f"- {sentence} 1,100:" in write(tmp_path / "mine.md", best_step=1100)


def test_long_lists_are_cut_and_counted(tmp_path):
    skipped = [(f"file-{i}.png", "too small") for i in range(60)]
    card = write(tmp_path / "mine.md", skipped=skipped, held_out=[f"h{i}.png" for i in range(53)])
    assert "- Skipped: 60 files." in card and "`file-49.png`: too small" in card and "- and 10 more" in card
    assert "`file-50.png`" not in card and "`h49.png` and 3 more" in card

import threading

import pytest
import torch

from priors.data_sets import Ahead, Images


class Counted:
    """A data set whose batches tell what was asked for, and that counts who asks."""

    channels, image_shape = 1, None

    def __init__(self):
        self.asked, self.threads = [], set()

    def moments(self):
        return 0.5, 0.25

    def batch(self, count, seed, step):
        self.asked.append(step)
        self.threads.add(threading.get_ident())
        return torch.full((count, 1, 2, 2), float(100 * seed + step))


def test_ahead_gives_the_same_batches_each_made_once():
    data = Counted()
    ahead = Ahead(data)
    assert [float(ahead.batch(2, 3, step)[0, 0, 0, 0]) for step in range(5)] == [300, 301, 302, 303, 304]
    assert sorted(data.asked)[:5] == [0, 1, 2, 3, 4] and len(data.asked) == len(set(data.asked))
    assert len(data.threads) == 2
    # Another step than the one that was made ahead, as after a resume, and another seed.
    assert float(ahead.batch(2, 3, 9)[0, 0, 0, 0]) == 309
    assert float(ahead.batch(2, 4, 10)[0, 0, 0, 0]) == 410
    assert (ahead.channels, ahead.image_shape, ahead.moments()) == (1, None, (0.5, 0.25))


def test_an_error_in_a_batch_made_ahead_comes_out():
    class Failing(Counted):
        def batch(self, count, seed, step):
            if step == 1:
                raise MemoryError("step 1")
            return super().batch(count, seed, step)

    ahead = Ahead(Failing())
    ahead.batch(1, 0, 0)
    with pytest.raises(MemoryError, match="step 1"):
        ahead.batch(1, 0, 1)


def test_moments_of_bytes_are_those_of_unit_images():
    values = torch.tensor([0, 255, 255, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)
    mean, std = Images(values).moments()
    assert mean == pytest.approx(0.75)
    assert std == pytest.approx((4 / 3 * 0.75 * 0.25) ** 0.5)
    assert Images(values).batch(1, 0, 0).tolist() == [[[[0.0, 1.0], [1.0, 1.0]]]]

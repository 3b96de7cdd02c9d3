"""Noise levels."""

import math
from itertools import pairwise

import pytest

from inverse.schedule import geometric, karras


@pytest.mark.parametrize("schedule", [karras, geometric])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_levels_fall_from_the_largest_to_the_smallest(schedule, steps):
    levels = schedule(80.0, 0.002, steps)
    assert len(levels) == steps and levels[0] == pytest.approx(80)
    assert all(a > b for a, b in pairwise(levels))
    assert steps == 1 or levels[-1] == pytest.approx(0.002)


def test_spacing_is_even_in_the_seventh_root_and_in_the_logarithm():
    roots = [level ** (1 / 7) for level in karras(80.0, 0.002, 9)]
    logarithms = [math.log(level) for level in geometric(80.0, 0.002, 9)]
    for values in (roots, logarithms):
        gaps = [b - a for a, b in pairwise(values)]
        assert gaps == pytest.approx([gaps[0]] * 8)

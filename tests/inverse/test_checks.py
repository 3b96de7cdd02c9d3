from __future__ import annotations

import numpy as np
import pytest

from inverse.checks import whole


def test_whole_numbers_pass() -> None:
    assert whole("n", 1) == 1 and whole("n", 0, least=0) == 0 and whole("seed", -5, least=None) == -5
    assert type(whole("n", np.int64(3))) is int


@pytest.mark.parametrize(
    ("value", "least", "sentence"),
    [
        (0, 1, "n must be a whole number of at least 1, got 0"),
        (2.0, 1, "n must be a whole number of at least 1, got 2.0"),
        (True, 1, "n must be a whole number of at least 1, got True"),
        ("3", None, "n must be a whole number, got '3'"),
    ],
)
def test_others_are_refused(value: object, least: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        whole("n", value, least)

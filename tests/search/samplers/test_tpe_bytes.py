from __future__ import annotations

import numpy as np
import pytest

from jointsearch.search.samplers.tpe_bytes import along_front


def test_the_way_along_the_front() -> None:

    losses, sizes = np.array([3.0, 2.0, 2.0, 2.9, 1.0]), np.array([10, 15, 20, 12, 20])
    # the front: (10, 3), (12, 2.9), (15, 2), (20, 1); scaled steps (.2, .05), (.3, .45), (.5, .5)
    steps = np.hypot([0.2, 0.3, 0.5], [0.05, 0.45, 0.5])
    assert along_front(losses, sizes, 0.0) == 10
    assert along_front(losses, sizes, 1.0) == 20
    assert along_front(losses, sizes, steps[0] / steps.sum()) == pytest.approx(12)
    halfway = (steps[:2].sum() + steps[2] / 2) / steps.sum()
    assert along_front(losses, sizes, halfway) == pytest.approx(17.5)


def test_one_plan_is_its_own_front() -> None:
    assert along_front(np.array([3.0]), np.array([10]), 0.7) == 10

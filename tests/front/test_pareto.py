"""Fronts by comparing every pair in plain Python; areas by counting unit cells, and by Optuna."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence

import numpy as np
import pytest

from jointsearch.front.pareto import growing_hypervolume, hypervolume, is_on_front, knee

Point = tuple[int, ...]


def brute_force_front(points: list[Point]) -> list[bool]:
    def dominates(one: Point, other: Point) -> bool:
        return all(a <= b for a, b in zip(one, other, strict=True)) and one != other

    return [not any(dominates(other, point) for other in points) for point in points]


def count_cells(points: Sequence[Point], corner: tuple[int, int]) -> int:
    """Unit cells [x, x + 1) × [y, y + 1) below ``corner`` that some point dominates."""
    low = min([0, *(min(point) for point in points)])
    return sum(
        any(a <= x and b <= y for a, b in points)
        for x in range(low, corner[0])
        for y in range(low, corner[1])
    )


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_front_agrees_with_brute_force(num_objectives: int) -> None:
    rng = random.Random(num_objectives)
    for _ in range(100):
        points = [tuple(rng.randrange(6) for _ in range(num_objectives)) for _ in range(rng.randrange(1, 15))]
        assert is_on_front(points).tolist() == brute_force_front(points), points


def test_equal_points_are_all_on_the_front_or_none() -> None:
    assert is_on_front([(1, 2), (1, 2), (2, 2), (2, 2)]).tolist() == [True, True, False, False]


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_many_points_agree_with_brute_force(num_objectives: int) -> None:
    """More than are compared at once, with equal coordinates and whole duplicates."""
    rng = random.Random(num_objectives)
    points = [tuple(rng.randrange(-20, 20) for _ in range(num_objectives)) for _ in range(600)]
    points += points[:50]
    rng.shuffle(points)
    assert is_on_front(points).tolist() == brute_force_front(points)
    shifted = np.array(points) * -0.1  # -0.0 and 0.0 are equal
    turned = [tuple(-value for value in point) for point in points]
    assert is_on_front(shifted).tolist() == brute_force_front(turned)


def test_no_points_have_an_empty_front() -> None:
    assert is_on_front([]).tolist() == []
    assert is_on_front(np.zeros((0, 2))).tolist() == []


def test_hypervolume_counts_the_cells_that_are_dominated() -> None:
    rng = random.Random(0)
    for _ in range(100):
        points = [(rng.randrange(-3, 12), rng.randrange(-3, 12)) for _ in range(rng.randrange(1, 10))]
        assert hypervolume(points, (9, 8)) == count_cells(points, (9, 8)), points


def test_the_hypervolume_after_every_point_counts_its_cells() -> None:
    rng = random.Random(1)
    for _ in range(100):
        points = [(rng.randrange(-3, 12), rng.randrange(-3, 12)) for _ in range(rng.randrange(1, 15))]
        expected = [count_cells(points[: num + 1], (9, 8)) for num in range(len(points))]
        assert growing_hypervolume(points, (9, 8)).tolist() == expected, points
    assert growing_hypervolume([], (9, 8)).tolist() == []


def test_hypervolume_agrees_with_optuna() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optuna._hypervolume import compute_hypervolume

    generator = np.random.default_rng(0)
    for _ in range(50):
        points = generator.normal(size=(generator.integers(1, 30), 2))
        reference = points.max(axis=0) + generator.random(2)
        expected = compute_hypervolume(points, reference)
        assert hypervolume(points, reference) == pytest.approx(expected, rel=1e-12)


def test_hypervolume_by_hand() -> None:
    assert hypervolume([(1, 3), (2, 1)], (4, 4)) == 3 * 1 + 2 * 3 - 2 * 1
    assert hypervolume([(4, 0), (0, 4), (5, 5)], (4, 4)) == 0
    assert hypervolume([], (4, 4)) == 0


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        # scaled: (0, 1), (0.1, 0.2), (0.5, 0.1), (1, 0); distances below x + y = 1: 0, 0.7, 0.4, 0
        ([(0, 10), (1, 2), (5, 1), (10, 0)], 1),
        # the scales differ by a factor of a million: the same front
        ([(0, 10_000_000), (1, 2_000_000), (5, 1_000_000), (10, 0)], 1),
        # the order does not matter; scaled (0.5, 0.1) has 0.4, (0.25, 0.5) has 0.25
        ([(10, 0), (2.5, 5), (5, 1), (0, 10)], 2),
        # bends the other way: (0.6, 0.6) is nearest to (0, 0), 0.72 against 1
        ([(0, 10), (6, 6), (10, 0)], 1),
        ([(0, 10), (9, 9), (10, 0)], 0),  # 1.62 against 1: an end, the first
        ([(3, 4), (4, 3)], 0),
        ([(3, 4)], 0),
        ([(3, 4), (3, 4)], 0),
    ],
)
def test_knee(points: list[tuple[float, float]], expected: int) -> None:
    assert knee(points) == expected

"""Bits of least error under a byte budget: a multiple-choice knapsack, solved to the end by HiGHS.

    minimize    Σ_m Σ_b error_{m,b} x_{m,b}
    subject to  Σ_b x_{m,b} = 1 for every module m,   Σ_m Σ_b bytes_{m,b} x_{m,b} ≤ budget,   x ∈ {0, 1}

Guo et al., LQ-LoRA, arXiv 2311.12023, section 3.3, where it is solved by Gurobi.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from jointsearch.errors import PlanError

Costs = Mapping[str, Mapping[int, tuple[int, float]]]
"""Bytes and error by module and bits."""


def cheapest_errors(costs: Costs, max_bytes: int) -> dict[str, int]:
    """Bits by module; raises ``PlanError`` where no choice fits."""
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import csr_array

    choices = [(name, bits) for name, of_module in costs.items() for bits in of_module]
    if not choices:
        return {}
    positions = {name: row for row, name in enumerate(costs)}
    num_bytes = np.array([costs[name][bits][0] for name, bits in choices], dtype=float)
    errors = np.array([costs[name][bits][1] for name, bits in choices], dtype=float)
    one_each = csr_array(
        (np.ones(len(choices)), ([positions[name] for name, _ in choices], range(len(choices)))),
        shape=(len(costs), len(choices)),
    )
    limit = max_bytes
    while True:
        with _silent_solver():
            found = milp(
                errors / (errors.max() or 1.0),
                integrality=np.ones(len(choices)),
                bounds=(0, 1),
                constraints=[
                    LinearConstraint(one_each, 1, 1),
                    LinearConstraint(num_bytes[None, :], ub=limit),
                ],
                options={"mip_rel_gap": 0.0},
            )
        if found.x is None:
            raise PlanError(f"no choice of bits has at most {max_bytes} bytes; raise the budget")
        chosen = {name: bits for (name, bits), x in zip(choices, found.x, strict=True) if x > 0.5}
        over = sum(costs[name][bits][0] for name, bits in chosen.items()) - max_bytes
        if over <= 0:
            return chosen
        limit -= over  # by less than a tolerance: once more, a little below


@contextmanager
def _silent_solver() -> Iterator[None]:
    """HiGHS sometimes prints a line of its own past Python, on the standard output that is for results."""
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
        if libc is not None:
            libc.fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)

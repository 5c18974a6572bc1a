from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from jointsearch.search.additive.options import Options
from jointsearch.search.samplers.primo import log_prior

MakeOptions = Callable[..., Options]


@pytest.mark.parametrize("center", [0.0, 1.0])
def test_the_prior_is_a_product_of_normal_densities(make_options: MakeOptions, center: float) -> None:
    options = make_options(bits=(4, 8, 16), ranks=(0, 4, 16), exclude=("embed", "layers.1.*"))
    plans = np.array(list(itertools.product(range(9), repeat=2)))
    shares = np.stack([plans // 3 / 2, plans % 3 / 2], axis=2).reshape(len(plans), 4)
    expected = norm(center, 0.25).logpdf(shares).sum(axis=1)
    found = log_prior(options, plans, center)
    assert found - found[0] == pytest.approx(expected - expected[0])

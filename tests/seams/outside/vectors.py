"""A training method: an adapter that trains two vectors beside its matrices."""

from jointsearch.plan.methods import Method, register_method


def _parameters(shape: tuple[int, int], rank: int) -> int:
    return (rank + 1) * sum(shape) if rank else 0


register_method(Method("vectors", "vectors:Vectors", _parameters))

"""Names of the attributes that samplers read, of trials and of studies; the rest are in ``study.records``."""

PLAN = "plan"
SEED = "seed"
COPY_OF = "copy_of"
EXPECTED = "expected"
"""The quality that a trial was expected to reach when it was stopped early."""
PROBE = "probe"
"""Of the study: what its probe has found (``jointsearch.search.probe``)."""

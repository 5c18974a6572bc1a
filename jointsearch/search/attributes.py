"""Names of the attributes by which samplers know a trial's plan; the rest are in ``study.records``."""

PLAN = "plan"
SEED = "seed"
COPY_OF = "copy_of"
EXPECTED = "expected"
"""The quality that a trial was expected to reach when it was stopped early."""

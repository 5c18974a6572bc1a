"""Training methods, one file each; ``plan.methods`` describes them without torch."""

"""The training in full of a chosen plan."""

"""Studies: where they are stored, what a trial's record holds, and the worker that runs them."""

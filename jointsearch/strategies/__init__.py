"""Named rules that make a plan without a search: what a search has to beat, and where one can start."""

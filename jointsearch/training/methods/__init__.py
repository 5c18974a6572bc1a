"""Training variants, one file each."""

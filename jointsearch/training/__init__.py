"""Models, tasks, the short run of a trial and the full run."""

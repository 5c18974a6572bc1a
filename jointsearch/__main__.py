"""``python -m jointsearch``: the command line."""

from jointsearch.cli import main

main()

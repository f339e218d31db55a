"""``python -m onefs`` is ``onefs``."""

from onefs.cli import main

main(prog_name="onefs")

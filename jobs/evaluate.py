"""Evaluate as a Ray job: `ray job submit --working-dir . -- python jobs/evaluate.py OUT [options]`."""

import sys

from sgllie.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))

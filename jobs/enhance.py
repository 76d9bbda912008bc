"""Enhance a corpus as a Ray job: `ray job submit --working-dir . -- python jobs/enhance.py IN OUT [options]`."""

import sys

from sgllie.cli import main

if __name__ == "__main__":
    sys.exit(main(["enhance", *sys.argv[1:]]))

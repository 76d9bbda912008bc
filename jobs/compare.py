"""Compare methods as a Ray job: `ray job submit --working-dir . -- python jobs/compare.py IN --out TABLE [options]`."""

import sys

from sgllie.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))

"""Train as a Ray job: `ray job submit --working-dir . -- python jobs/train.py DATA RUN [options]`."""

import sys

from sgllie.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))

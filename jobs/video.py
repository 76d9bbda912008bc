"""Enhance videos as a Ray job: `ray job submit --working-dir . -- python jobs/video.py IN OUT [options]`."""

import sys

from sgllie.cli import main

if __name__ == "__main__":
    sys.exit(main(["video", *sys.argv[1:]]))

"""`python -m sgllie` is `sgllie`."""

import sys

from sgllie.cli import main

sys.exit(main())

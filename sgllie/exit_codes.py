"""How commands end."""

OK = 0
STOPPED = 1
"""Before the end; the same command goes on."""
USAGE = 2
WITH_FAILURES = 3
"""All is done, and rows say what has failed, or outputs are not what their rows say."""

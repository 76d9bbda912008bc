"""One command at a time begins a run in an output, on whatever machines they are.

OUT/.begin-0 is created exclusively, written again while its command is at work, and removed at the end. Where it is not
written any more its command is dead, and one of those that wait creates OUT/.begin-1.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sgllie.errors import StorageError, UsageError
from sgllie.runs.words import say
from sgllie.storage import Storage

LOCK = ".begin-"
BEAT_SECONDS, DEAD_SECONDS, LOOK_SECONDS = 3.0, 20.0, 0.3
"""Between two signs of life; after how long without one a command is taken for dead; between two looks of who waits."""


@contextmanager
def alone(output: Storage) -> Iterator[Callable[[], None]]:
    """Let no other command begin a run in an output within the block; wait for one that does.

    What is yielded raises UsageError where this command was taken for dead, and another has gone on.
    """
    number, token = acquire(output)
    ended = threading.Event()
    beating = threading.Thread(target=beat, args=(output, number, token, ended), daemon=True)
    beating.start()

    def check() -> None:
        if output.exists(name(number + 1)):
            raise UsageError(f"another command has begun a run in {output.uri}, for this one gave no sign of life")

    try:
        yield check
    finally:
        ended.set()
        beating.join()
        for one in range(number + 1):
            output.remove(name(one))


def acquire(output: Storage) -> tuple[int, str]:
    """Return the number and the content of a lock, once this command has it."""
    token = uuid.uuid4().hex
    seen, since, told = b"", time.monotonic(), False
    while True:
        number, content = newest(output)
        if content is None or (content == seen and time.monotonic() - since > DEAD_SECONDS):
            number = 0 if content is None else number + 1
            if output.create(name(number), token.encode()):
                return number, token
        elif content != seen:
            seen, since = content, time.monotonic()
        if not told:
            say(f"Another command is beginning a run in {output.uri}: waiting for it ...")
            told = True
        time.sleep(LOOK_SECONDS)


def newest(output: Storage) -> tuple[int, bytes | None]:
    """Return number and content of the newest lock; None where there is none."""
    number, content = -1, None
    with suppress(FileNotFoundError):
        while True:
            content = output.read(name(number + 1))
            number += 1
    return number, content


def beat(output: Storage, number: int, token: str, ended: threading.Event) -> None:
    """Give signs of life until the end."""
    beats = 0
    while not ended.wait(BEAT_SECONDS):
        beats += 1
        with suppress(StorageError):  # whoever holds the lock meets the same fault, and says so
            output.write(name(number), f"{token} {beats}".encode())


def name(number: int) -> str:
    """Return the path of a lock."""
    return f"{LOCK}{number}"

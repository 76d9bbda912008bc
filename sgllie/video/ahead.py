"""Running an iterator ahead of its consumer, on a thread of its own."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_END = object()
POLL_SECONDS = 0.2


def ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Yield the same items, produced by another thread while the consumer is busy, at most `depth` of them at a time.

    An exception of the producer is raised where its item would have come. When the consumer stops early (`close`), the
    producer ends, and is waited for.
    """
    waiting: queue.Queue[object] = queue.Queue(depth)
    stopped = threading.Event()
    errors: list[BaseException] = []

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
        except BaseException as error:
            errors.append(error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            put(_END)

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    try:
        while (item := waiting.get()) is not _END:
            yield item  # type: ignore[misc]
        if errors:
            raise errors[0]
    finally:
        stopped.set()
        producer.join()

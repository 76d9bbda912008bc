"""Threads that run ahead of their consumer."""

import itertools

import pytest

from sgllie.video.ahead import ahead


def test_ahead_passes_items_and_errors_on():
    def failing():
        yield from (1, 2)
        raise KeyError("three")

    found = []
    with pytest.raises(KeyError, match="three"):
        found.extend(ahead(failing(), 1))
    assert list(ahead(range(100), 3)) == list(range(100))


def test_ahead_stops_its_producer():
    closed = []

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    items = ahead(endless(), 2)
    assert next(items) == 0
    items.close()
    assert closed == [True]

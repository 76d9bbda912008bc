"""What a run took that is paid for: time of cores and GPUs, requests to S3; and money, where prices are known."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sgllie.runs import machine
from sgllie.runs.totals import Totals
from sgllie.runs.words import duration, size
from sgllie.settings import check_limits, option, setting
from sgllie.storage import requests

SPENT = ("core_seconds", "gpu_seconds", "get_requests", "put_requests")
"""Keys of totals."""


@dataclass(frozen=True)
class Prices:
    """Prices, in any currency; what has none costs nothing."""

    core_hour: float = setting(0.0, least=0)
    """Price of one core for an hour."""
    gpu_hour: float = setting(0.0, least=0)
    """Price of one GPU for an hour."""
    thousand_gets: float = setting(0.0, least=0)
    """Price of 1,000 requests to S3 that read."""
    thousand_puts: float = setting(0.0, least=0)
    """Price of 1,000 requests to S3 that write or list."""

    def __post_init__(self) -> None:
        check_limits(self, lambda name: option(f"price.{name}"))

    def of(self, spent: dict[str, Any]) -> float:
        """Return the money for what was spent."""
        return (
            spent["core_seconds"] / 3600 * self.core_hour
            + spent["gpu_seconds"] / 3600 * self.gpu_hour
            + spent["get_requests"] / 1000 * self.thousand_gets
            + spent["put_requests"] / 1000 * self.thousand_puts
        )


class Meter:
    """Measures what this process spends: the time of its share of the machine (`machine.share`), and requests."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Measure from now on."""
        self.began = time.monotonic()
        self.before = Counter(requests.sent)

    def read(self) -> Totals:
        """Return what was spent since it was begun."""
        seconds = time.monotonic() - self.began
        found = {name: float(count) for name, count in (requests.sent - self.before).items()}
        share = machine.share
        return {"core_seconds": seconds * share.processors, "gpu_seconds": seconds * share.gpus} | found

    def lap(self) -> Totals:
        """Return what was spent since it was begun, and begin anew."""
        found = self.read()
        self.begin()
        return found


def part_spent(totals: Totals | None) -> Totals:
    """Return the part of totals that says what was spent."""
    return {name: value for name, value in (totals or {}).items() if name in SPENT}


def spent(totals: Totals) -> dict[str, Any]:
    """Return what all shards took, for the result."""
    return {name: round(totals.get(name, 0), 3 if name.endswith("seconds") else None) for name in SPENT}


def describe(spent: dict[str, Any], items: int, prices: Prices) -> str:
    """Say what was spent, what was read and written (where that was counted), and what a million more would cost."""
    gpu = f", {duration(spent['gpu_seconds'])} of a GPU" if spent["gpu_seconds"] else ""
    parts = [f"{spent['get_requests']:,} requests that read", f"{spent['put_requests']:,} that write or list"]
    counted = {"bytes_in": "read", "bytes_out": "written"}
    parts += [f"{size(spent[name])} {done}" for name, done in counted.items() if name in spent]
    line = f"Spent: {duration(spent['core_seconds'])} of a core{gpu}; {', '.join(parts)}."
    money = prices.of(spent)
    if not money:
        return line
    return f"{line} Cost: {money:,.2f}; a million more: {money / max(items, 1) * 1e6:,.2f}."

"""The settings that jobs have in common."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgllie.methods import MethodSettings
from sgllie.runs.cost import Prices
from sgllie.settings import check, check_limits, setting
from sgllie.storage import S3Options, refuse_credentials, refuse_read_only


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """How a job runs over the cluster: what all have in common that work through a manifest."""

    s3: S3Options = setting(factory=S3Options, changes_output=False)
    """How to reach S3."""
    limit: int | None = setting(None, least=1)
    """Take only the first N files of the input."""
    num_actors: int | None = setting(None, least=1, changes_output=False)
    """Worker processes; by default one for each CPU; on GPUs one for each, or as many as --workers-per-gpu says."""
    worker_memory: float | None = setting(None, least=1, changes_output=False)
    """Gigabytes that one worker may use. By default each has an equal share of its machine, or of its container."""
    max_failures: str | None = setting(None, changes_output=False)
    """Stop when more items than this have failed: a count (100) or a share (2%)."""
    retry_failed: bool = setting(False, changes_output=False)
    """Process the items whose rows say that they failed once more, too, and replace these rows."""
    check_input: bool = setting(False, changes_output=False)
    """When a run is resumed, list its input again, and refuse to go on if it has changed."""
    overwrite: bool = setting(False, changes_output=False)
    """Remove an earlier result first."""
    dry_run: bool = setting(False, changes_output=False)
    """Say what would be done, and write nothing."""
    address: str | None = setting(None, changes_output=False)
    """Address of a Ray cluster (auto: the one this machine belongs to); by default a local one, where it pays."""

    price: Prices = setting(factory=Prices, changes_output=False)
    """Prices, from which the cost of the run is worked out."""

    if TYPE_CHECKING:  # a field of each job, which decides where it stands on its command line

        @property
        def output(self) -> str:
            """Where the result goes."""

    def __post_init__(self) -> None:
        check_limits(self)
        refuse_read_only(self.output or "")
        refuse_credentials("--address", self.address or "")
        failures_allowed(self.max_failures, 1)


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(JobSettings, MethodSettings):
    """What the jobs that enhance have in common."""

    input: str = setting(changes_output=False)
    """What is read."""
    output: str = setting(changes_output=False)
    """Where the result goes."""
    threads: int | None = setting(None, least=1, changes_output=False)
    """Items that one worker has in hand at the same time."""
    workers_per_gpu: int = setting(4, least=1, most=100, changes_output=False)
    """Worker processes that share a GPU, where there is a CPU for each."""

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        JobSettings.__post_init__(self)
        check(bool(self.input), "IN", "empty", "must name a folder or s3://bucket/prefix")
        check(bool(self.output), "OUT", "empty", "must name a folder or s3://bucket/prefix")


def failures_allowed(limit: str | None, items: int) -> float:
    """Return how many of `items` may fail: all without a limit, a count such as `100`, or a share such as `2%`."""
    if limit is None:
        return math.inf
    try:
        allowed = float(limit[:-1]) / 100 * items if limit.endswith("%") else float(int(limit))
    except ValueError:
        allowed = -1
    check(0 <= allowed < math.inf, "--max-failures", limit, "must be a count such as 100 or a share such as 2%")
    return allowed

"""Fixtures that every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("SGLLIE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all jobs that run inside the test process."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference values and photographs; tests that need it skip without it, and fail in CI."""
    if not (SHARED / "reference").is_dir():
        message = "the folder with reference values is absent (set SGLLIE_SHARED to it)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return SHARED

"""What the rows of a run tell about its time."""

from datetime import UTC
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray


def finished_times(output: Path) -> NDArray[np.float64]:
    """Return when each image was finished, in seconds since the epoch, in order."""
    moments = ds.dataset(output / "stats").to_table(columns=["finished"])["finished"].to_pylist()
    return np.sort(np.array([moment.replace(tzinfo=UTC).timestamp() for moment in moments]))

"""Where things are in the project."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
CLUSTER = ROOT / "cluster"
HOOKS = str(Path(__file__).parent / "hooks")
"""A folder whose `sitecustomize` makes the processes of a job misbehave, on `PYTHONPATH`."""

"""The requests that this process has sent to S3, repeated ones included, by how they are paid for."""

from collections import Counter
from typing import Any

DEAR = ("Put", "List", "Create", "Upload", "Complete", "Copy")
FREE = ("Delete", "Abort")

sent: Counter[str] = Counter()
"""`put_requests` (what writes or lists) and `get_requests` (what reads). Deletions are free."""


def count(event_name: str, **_: Any) -> None:
    """Count a request that is about to be sent; a handler of botocore's event `before-send.s3.OPERATION`."""
    operation = event_name.rpartition(".")[2]
    if not operation.startswith(FREE):
        sent["put_requests" if operation.startswith(DEAR) else "get_requests"] += 1

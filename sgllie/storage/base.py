"""What every storage can do: list, read, write, find and remove objects below a root.

Every write is atomic: a reader sees the whole new object or the old one, whatever is killed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from sgllie.errors import ReadError, UsageError
from sgllie.settings import check, check_limits, option, setting

SCRATCH = ".partial"
"""The folder of a root that holds what is not finished: files until they are renamed, journals, encoded segments."""


@dataclass(frozen=True)
class S3Options:
    """How to reach an S3 service; what is left out is taken from the usual AWS variables and files."""

    endpoint_url: str | None = None
    """Address of an S3 service other than AWS (AWS_ENDPOINT_URL)."""
    profile: str | None = None
    """Name of a profile in the AWS credentials file (AWS_PROFILE)."""
    region: str | None = None
    """Region of the bucket (AWS_DEFAULT_REGION)."""
    anonymous: bool = False
    """Read a public bucket without credentials."""
    requester_pays: bool = False
    """Pay for the requests to a bucket whose owner does not."""
    patience: float = setting(3600.0, least=0)
    """Seconds for which a request is made again while the storage asks to slow down."""
    storage_class: str | None = None
    """Storage class of what is written (STANDARD_IA, INTELLIGENT_TIERING); by default that of the bucket."""
    encryption: Literal["sse-s3", "sse-kms"] | None = None
    """Encryption of what is written, by the server; by default that of the bucket."""
    kms_key: str | None = None
    """Id of the key for sse-kms; by default that of the account."""

    def __post_init__(self) -> None:
        refuse_credentials("--s3.endpoint-url", self.endpoint_url or "")
        check_limits(self, lambda name: option(f"s3.{name}"))
        is_archive = self.storage_class in ("GLACIER", "DEEP_ARCHIVE")
        rule = "must be a class whose objects can be read at once"
        check(not is_archive, "--s3.storage-class", self.storage_class, rule)
        without_kms = self.kms_key is not None and self.encryption != "sse-kms"
        check(not without_kms, "--s3.kms-key", self.kms_key, "needs --s3.encryption sse-kms")


LARGEST_READ = 2 * 2**30
"""Bytes of an object that `read` returns, at most: what is larger must be opened as a file."""


WRITABLE = ("s3", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Schemes whose objects appear as a whole or not at all, each by one request. Elsewhere a reader could see a part of a
file; and Hugging Face makes a commit of each."""

Paths = list[str]
"""Paths below a root. In a class with a method `list` that name is not the type any more."""


class Entry(NamedTuple):
    """One listed file: its path below the root, bytes, and what changes when its content does (ETag or mtime).

    Size and version are None where only a list of paths is known: to ask for each would cost a request per file.
    """

    path: str
    size: int | None
    version: str | None


class Storage(Protocol):
    """A root below which objects are listed, read and written; all paths are relative to it, with `/`.

    Any method may raise UnreachableError where the storage is gone or refuses the credentials.
    """

    uri: str
    is_remote: bool
    """Whether a request travels over a network, so that many should be under way at a time."""

    @property
    def retries(self) -> int:
        """How many requests of the calling thread had to be repeated, since the beginning."""

    def list(self, folder: str = "", unreadable: Paths | None = None) -> Iterator[Entry]:
        """Yield all objects below a folder of the root, their paths relative to it, in a fixed order.

        Args:
            folder: below the root; by default the root itself.
            unreadable: takes the paths of folders that may not be listed, and of pipes, sockets and devices; without it
                the first such folder raises ReadError.
        """

    def read(self, path: str) -> bytes:
        """Return all bytes of one object.

        Raises:
            FileNotFoundError: there is none.
            ReadError: it cannot be read, is no regular file, or has more bytes than LARGEST_READ.
        """

    def open(self, path: str) -> BinaryIO:
        """Open one object as a file that can seek, for what is too large for memory; errors as of `read`."""

    def write(self, path: str, data: bytes) -> None:
        """Create or replace one object, atomically; NameRefusedError or StorageError where that cannot be done."""

    def create(self, path: str, data: bytes) -> bool:
        """Write one object unless there is one of this path; tell whether it was written.

        Of several that try at once one succeeds, if their data differ.
        """

    def commit(self, path: str, data: bytes) -> None:
        """Write one object that says of others that they are there: not even a power cut may keep it and lose them."""

    def upload(self, path: str, file: Path) -> None:
        """Create or replace one object with the content of a local file; otherwise as `write`."""

    def assemble(self, path: str, parts: Iterable[bytes]) -> None:
        """Create or replace one object with parts that need not fit in memory together; otherwise as `write`."""

    def find(self, path: str) -> Entry | None:
        """Return the entry that a listing of the root would hold for one object (not a folder), if it is there."""

    def exists(self, path: str) -> bool:
        """Tell whether there is an object (not a folder) of this path."""

    def remove(self, path: str) -> None:
        """Remove one object or all objects below a folder, if there are any; StorageError where that cannot be done."""


SECRETS = re.compile(
    r"[?&;]\s*((x-(amz|goog)-|aws)?(signature|credential|security-token|accesskeyid|googleaccessid)|policy|key-pair-id|"
    r"sig|sas|(\w*[_-])?token|(\w*[_-])?secret|(\w*[_-])?(api|access|account|private)[_-]?key|key|passw(or)?d|auth\w*|"
    r"googleaccessid)=",
    re.IGNORECASE,
)
"""Parts of a query that let whoever has them in: presigned urls of S3 and Google, Azure's SAS, tokens of services."""


def refuse_credentials(what: str, url: str) -> None:
    """Raise UsageError for a url with a name, password, signature or token, which run.json and logs would show."""
    parts = urlsplit(url)
    is_container = parts.scheme in ("abfs", "abfss") and ":" not in parts.netloc  # container@account
    has_user = "@" in parts.netloc and not is_container
    is_signed = parts.scheme != "s3" and bool(SECRETS.search(unquote(f"?{parts.query}")))  # keys of S3 may hold a ?
    if has_user or is_signed:
        netloc = f"***@{parts.netloc.rpartition('@')[2]}" if has_user else parts.netloc
        masked = parts._replace(netloc=netloc, query="***" if parts.query else "", fragment="").geturl()
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --s3.profile"
        if parts.scheme not in ("s3", "http", "https"):
            advice = f"give them as the variables or files that clients of {parts.scheme}:// read"
        raise UsageError(
            f"{what} is {masked}; it must not hold credentials, which would be stored with the run: {advice}"
        )


def refuse_read_only(uri: str) -> None:
    """Raise UsageError for the url of an output to which nothing can be written."""
    scheme, _, found = uri.partition("://")
    if found and scheme not in WRITABLE:
        known = ", ".join(f"{one}://" for one in WRITABLE)
        raise UsageError(f"{uri}: nothing can be written to {scheme}://; take a folder, or one of {known}")


def refuse_large(path: str, size: int) -> None:
    """Raise ReadError for an object that is too large to be read at once."""
    if size > LARGEST_READ:
        raise ReadError(f"{path} has {size:,} bytes; at most {LARGEST_READ:,} are read at once")

"""Every exception that crosses a module, and what each one means for a job.

    SgllieError
     ├─ UsageError             a mistake of the caller's: the command ends with exit code 2
     │   └─ NoDeviceError      there is no GPU, or no CUDA: a worker takes the CPU, unless no other has a GPU either
     ├─ StorageError           a storage did not do what was asked, after all retries: the job stops
     │   ├─ UnreachableError   it is not there, or refuses the credentials: every object would fail
     │   ├─ ReplacedError      another command has begun a run in the output: it is no longer this one's
     │   ├─ DamagedError       a table of the run itself cannot be read
     │   ├─ ReadError          one object cannot be read: its row says so
     │   └─ NameRefusedError   one object cannot be written under its name: its row says so
     ├─ ItemError              one image or video cannot be processed: its row says so
     │   ├─ ImageError
     │   ├─ VideoError
     │   └─ CrashError         it killed the process that worked on it
     ├─ StuckError             an item takes too long: the worker ends, and the next attempt isolates the item
     ├─ DeviceError            a GPU does not work: the worker ends, and the next attempt takes the CPU
     ├─ DeviceMemoryError      the memory of a GPU is full: the CPU takes over for the image
     ├─ LeavingError           a worker was asked to end: others do the rest of its shard
     ├─ UndefinedError         a metric has no value for an image: its column is null
     └─ CollapseError          a training has failed for good

`failure_of` is the one place that decides between a row and the end of the job, and `raise_device_fault` the one that
tells what a GPU reports.
"""

import errno
from typing import Any, NamedTuple

ERROR_TYPES: dict[str, str] = {
    "empty": "The file has no bytes, or a video holds none of the pictures that its container promises.",
    "not_an_image": "The bytes are not those of an image, whatever the name says.",
    "not_a_video": "The file cannot be opened as a video, or holds no picture that can be decoded.",
    "truncated": "The file ends before its image does.",
    "corrupt": "The file has its full length, but its content is damaged.",
    "too_large": "It has more pixels than --max-pixels, or more than the output format or the network takes.",
    "multi_frame": "The file holds several images: an animation or several pages.",
    "hdr": "The picture is in high dynamic range (PQ or HLG), for which the network was not made.",
    "unsupported": "The file is of a kind that is not handled, or that the output format cannot hold.",
    "not_a_label_map": "The file is no map of classes, or its colours or ids are not those of --classes.",
    "not_measurable": "The files that are compared do not fit together: their sizes differ, say.",
    "missing": "The file was listed, but is not there any more.",
    "read": "The file cannot be read from its storage.",
    "write": "The output cannot be written under its name.",
    "memory": "It does not fit in the memory of the worker.",
    "timeout": "Working on it took longer than --deadline.",
    "crash": "Working on it killed the process.",
    "internal": "A bug of sgllie: please report it.",
}
"""The kinds of failure, as they stand in the column `error_type`, and what each means."""

MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}
"""Errors of the machine itself, such as a full disk for temporary files: no item is to blame."""

FULL_MEMORY = (
    "out of memory",
    "ALLOC_FAILED",  # cuBLAS, and cuDNN before version 9
    "ALLOCATION_FAILED",  # cuDNN 9
    "unable to find an engine",  # torch, where cuDNN has none that does with the memory there is
    "Failed to allocate memory",  # onnxruntime
    "CUDA Runtime failure: '#2'",  # nvImageCodec, for cudaErrorMemoryAllocation
)
"""What a GPU whose memory is full is said to report."""


class SgllieError(Exception):
    """Base of all exceptions that are raised on purpose; the text is one sentence for the user."""


class UsageError(SgllieError):
    """A mistake of the caller's that one sentence explains."""


class NoDeviceError(UsageError):
    """A GPU is wanted where none can be used; one that has fallen off its bus is no longer found, either."""


class StorageError(SgllieError):
    """A storage did not do what was asked, after all retries; the text names the object and the reason."""


class UnreachableError(StorageError):
    """A storage is not there, or refuses the credentials: it would be the same for every object."""


class ReplacedError(StorageError):
    """Another command has begun a run in the same output: nothing more of this one is to be written there."""


class DamagedError(StorageError):
    """A table that a run has written cannot be read: a disk was full, or lost its power."""


class ReadError(StorageError):
    """One object cannot be read; others can."""


class NameRefusedError(StorageError):
    """One object cannot be written under its name (too long, a folder is in its place); others can."""


class ItemError(SgllieError):
    """One item cannot be processed.

    Args:
        error_type: a key of ERROR_TYPES.
        sentence: why, without the path.
    """

    def __init__(self, error_type: str, sentence: str) -> None:
        super().__init__(sentence)
        self.error_type = error_type

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.error_type, str(self))


class ImageError(ItemError):
    """An image that cannot be decoded, enhanced or encoded."""


class VideoError(ItemError):
    """A video that cannot be enhanced."""


class CrashError(ItemError):
    """Working on an item killed the process that did it."""

    def __init__(self, error_type: str = "crash", sentence: str = "working on it killed the process") -> None:
        super().__init__(error_type, sentence)


class StuckError(SgllieError):
    """A thread has worked on one item for longer than it may, and cannot be stopped; the text names the item."""


class DeviceError(SgllieError):
    """A GPU does not work; nothing will in this process. No item is to blame."""


class DeviceMemoryError(SgllieError):
    """The memory of a GPU is full."""


class LeavingError(SgllieError):
    """A worker was asked to end, and has left its shard to others."""


class UndefinedError(SgllieError, ValueError):
    """A metric is not defined for an image, which is too small or has no texture; no fault of the image."""


class CollapseError(SgllieError):
    """A training has failed for good; the text says how."""


class SlowCurveWarning(UserWarning):
    """A GPU works, but not with the fused curve; the text says why."""


class Failure(NamedTuple):
    """What a row says of an item that failed: a key of ERROR_TYPES, and a sentence."""

    error_type: str
    error: str

    def columns(self) -> dict[str, Any]:
        """Return the columns of the row that say so."""
        return {"status": "failed"} | self._asdict()


def failure_of(error: Exception, noun: str = "image") -> Failure:
    """Return what the row of an item says about an exception, or end the job where no item is to blame.

    Args:
        error: what reading, processing or writing the item raised.
        noun: what the item is called in sentences.

    Raises:
        StorageError: the storage or this machine is to blame, and it would be the same for every item.
        DeviceError: the GPU is to blame.
        LeavingError: the item is left to others.
    """
    if isinstance(error, ItemError):
        return Failure(error.error_type, str(error))
    if isinstance(error, FileNotFoundError):
        return Failure("missing", f"the {noun} was listed but is not there now")
    if isinstance(error, ReadError):
        return Failure("read", f"the {noun} cannot be read: {error}")
    if isinstance(error, NameRefusedError):
        return Failure("write", str(error))
    if isinstance(error, StorageError | DeviceError | LeavingError):
        raise error
    if isinstance(error, MemoryError):
        return Failure("memory", f"the {noun} does not fit in the memory of its worker")
    if getattr(error, "errno", None) in MACHINE_ERRORS:
        raise StorageError(f"this machine cannot go on: {error}") from error
    return Failure("internal", f"{type(error).__name__}: {error}")


def first_line(error: object) -> str:
    """Return the first line of what an error says, which is meant for people; its type where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def raise_device_fault(error: Exception, kind: str = "") -> None:
    """Raise what an error of torch, onnxruntime or nvImageCodec says of the GPU; return where it says nothing.

    Nothing here keeps what it raises: a local that did would make a cycle with the traceback, in which all that the
    failed call had on the GPU stays until the garbage collector comes.

    Args:
        error: of the library.
        kind: what its class says, if its text does not.

    Raises:
        DeviceMemoryError: its memory is full.
        DeviceError: nothing works on it any more in this process.
    """
    report = f"{error}\n{kind}".strip()
    if any(said in report for said in FULL_MEMORY):
        raise DeviceMemoryError("the memory of the GPU is full") from error
    if "CUDA" in report or any(name in report.upper() for name in ("CUDNN", "CUBLAS")):
        raise DeviceError(f"the GPU does not work: {first_line(report)}") from error

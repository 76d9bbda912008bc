"""One policy for errors: a row that says what is wrong with an item, or the end of the job."""

import errno
import inspect
import pickle
import re

import pytest

from sgllie import errors
from sgllie.errors import (
    ERROR_TYPES,
    CrashError,
    Failure,
    ImageError,
    ItemError,
    NameRefusedError,
    ReadError,
    SgllieError,
    StorageError,
    UnreachableError,
    UsageError,
    VideoError,
    failure_of,
    first_line,
)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ImageError("truncated", "it ends early"), Failure("truncated", "it ends early")),
        (VideoError("hdr", "it is HDR"), Failure("hdr", "it is HDR")),
        (CrashError(), Failure("crash", "working on it killed the process")),
        (FileNotFoundError("x"), Failure("missing", "the photograph was listed but is not there now")),
        (ReadError("403"), Failure("read", "the photograph cannot be read: 403")),
        (NameRefusedError("too long"), Failure("write", "too long")),
        (ValueError("odd"), Failure("internal", "ValueError: odd")),
        (OSError(errno.EIO, "odd"), Failure("internal", "OSError: [Errno 5] odd")),
    ],
)
def test_an_item_that_is_to_blame_gets_a_row(error, failure):
    assert failure_of(error, "photograph") == failure
    assert failure.error_type in ERROR_TYPES


def test_what_does_not_fit_into_memory_is_a_row():
    assert failure_of(MemoryError()).error_type == "memory"


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("the bucket is gone"),
        StorageError("the output cannot be written"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
    ],
)
def test_where_no_item_is_to_blame_the_job_stops(error):
    with pytest.raises(StorageError):
        failure_of(error)


@pytest.mark.parametrize("error", [ImageError("corrupt", "a"), VideoError("hdr", "b"), CrashError()])
def test_errors_of_items_cross_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.error_type, str(copy)) == (type(error), error.error_type, str(error))


def test_the_drawn_tree_is_the_tree():
    """Each class of the module stands in its docstring, further to the right than its base."""
    drawn = {name: len(before) for before, name in re.findall(r"^(.*?)(\w+Error)\b", errors.__doc__, re.MULTILINE)}
    classes = {
        name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SgllieError)
    }
    assert drawn.keys() == classes.keys()
    for name, kind in classes.items():
        base = kind.__bases__[0].__name__
        assert name == "SgllieError" or drawn[name] > drawn[base], name
    assert issubclass(ItemError, SgllieError)
    assert not issubclass(UsageError, StorageError)


@pytest.mark.parametrize(("said", "line"), [("\nbad\nat 3", "bad"), ("", "ValueError"), (" \n", "ValueError")])
def test_the_first_line_of_an_error(said, line):
    assert first_line(ValueError(said)) == line

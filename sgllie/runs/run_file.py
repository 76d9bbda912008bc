"""What run.json says of a run: described, read, and compared with a command that would go on with it."""

import dataclasses
import importlib.metadata
import json
import platform
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args, get_origin

from sgllie.errors import ReadError, ReplacedError, StorageError, UsageError
from sgllie.runs.names import RUN, SUCCESS
from sgllie.runs.plan import Plan
from sgllie.runs.schemas import SCHEMA_VERSION
from sgllie.settings import option, output_settings
from sgllie.storage import Storage, absolute_uri

PACKAGES = ("sgllie", "av", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "pyarrow", "ray", "torch")

NO_RUN = "without it there is no run: put it back from a copy, or take another folder"
"""What to do about a run.json from which nobody can tell whose the folder is: not even --overwrite removes it."""

Json = dict[str, Any]

KINDS: dict[str, Any] = {
    "id": str,
    "sources": dict,
    "input": dict,
    "input.roots": dict[str, str],
    "input.items": int,
    "input.bytes": int,
    "input.digest": str,
    "input.notes": list[str],
    "fingerprints": dict,
    "output_settings": dict,
    "shards": list[int],
    "others": list[int],
}
"""What run.json of a job over shards holds, and of which type it is; `input.items` is `items` within `input`."""

ENHANCE_KINDS: dict[str, Any] = KINDS | {"input.roots.input": str}
"""The same for a run of sgllie enhance of which other commands read the images."""


class Identity(NamedTuple):
    """What tells a run from the next one in its output: its id, and when an update has listed its input again.

    A worker knows it from its own beginning on, and so never takes the next run for its own.
    """

    id: str = ""
    updated: str | None = None


def identity_of(output: Storage) -> Identity:
    """Return the identity of the run in an output, or that of none; StorageError where it cannot be read."""
    with suppress(FileNotFoundError, ValueError, LookupError, TypeError):
        run = json.loads(output.read(RUN))
        return Identity(run["id"], run.get("updated"))
    return Identity()


def replaced(output: Storage) -> ReplacedError:
    """Return what to raise where another command has begun a run in the same output."""
    return ReplacedError(f"another command has begun a new run in {output.uri}")


def read_run(
    output: Storage,
    command: str,
    kinds: Mapping[str, Any] = KINDS,
    *,
    replace: bool = False,
    instead: str = "another folder",
) -> Json | None:
    """Return what run.json says, if a run was begun in the output.

    Args:
        output: where the run lies.
        command: which began it.
        kinds: what its run.json must hold; by default that of a job over shards.
        replace: accept a run of any command over shards and of any version, since it is to be removed.
        instead: what the user can take instead of a run that is damaged or of another version.

    Raises:
        UsageError: the output holds a run.json that is damaged, of another version or command, or of something else.
    """
    run = read_json(output, RUN)
    if run is None:
        return None
    if not (isinstance(run.get("settings"), dict) and isinstance(run.get("versions"), dict)):
        raise UsageError(f"{output.uri}/{RUN} was written by something else, or is damaged; {NO_RUN}")
    version = run.get("schema_version", 1)
    if replace and "shards" in run:
        return run
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{output.uri} was written by another version of sgllie (schema {version} there, {SCHEMA_VERSION} here); "
            f"use that version, or {instead}"
        )
    if run.get("command") != command:
        raise UsageError(f"{output.uri} belongs to a run of sgllie {run.get('command')}; choose another folder")
    for name, kind in kinds.items():
        found: Any = run
        for key in name.split("."):
            found = found.get(key)
        if not fits(found, kind):
            raise UsageError(
                f"{output.uri}/{RUN} is damaged: {name!r} is missing or of the wrong type; "
                f"put it back from a copy, or take {instead}"
            )
    return run


def fits(found: Any, kind: Any) -> bool:
    """Tell whether a value of run.json is of a type: one of JSON's own, or such as `list[int]` and `dict[str, str]`."""
    if not isinstance(found, get_origin(kind) or kind):
        return False
    inner = get_args(kind)
    return not inner or all(type(one) is inner[-1] for one in (found.values() if isinstance(found, dict) else found))


def read_json(output: Storage, name: str) -> Json | None:
    """Return a JSON object of the output, if it is there; UsageError where it cannot be read."""
    try:
        found = json.loads(output.read(name))
    except FileNotFoundError:
        return None
    except ReadError as error:
        raise UsageError(f"{output.uri}/{name} cannot be read: {error}") from error
    except StorageError as error:
        raise UsageError(f"output {output.uri} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{output.uri}/{name} is no JSON; {NO_RUN}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{output.uri}/{name} is no JSON object; {NO_RUN}")
    return found


def read_result(output: Storage) -> Json | None:
    """Return what _SUCCESS says; None where it is not there, or damaged: the same command writes it again."""
    with suppress(UsageError):
        return read_json(output, SUCCESS)
    return None


def describe(
    settings: Any, sources: Mapping[str, str | None], fingerprints: dict[str, str], weights: Json | None = None
) -> Json:
    """Return what run.json says of a run before its input is listed.

    Args:
        settings: of the present command.
        sources: what the user named as input, by what it is.
        fingerprints: the hash of what else must be the same where the run is resumed, by what it is called.
        weights: what `describe_weights` says; they must be the same too.
    """
    if weights:
        fingerprints = fingerprints | {"the weights": weights["fingerprint"]}
    return {
        **header(settings, PACKAGES),
        "id": uuid.uuid4().hex,
        "sources": {name: absolute_uri(source) for name, source in sources.items() if source},
        "fingerprints": fingerprints,
        "weights": weights,
    }


def with_input(description: Json, plan: Plan, inputs: Json) -> Json:
    """Return what run.json says of a run whose input is listed.

    Args:
        description: what `describe` says.
        plan: what the input came to.
        inputs: what there is to say of the input, with its `roots` and `notes`.
    """
    counts = {"items": plan.items, "bytes": plan.size, "digest": plan.digest}
    return description | {"input": inputs | counts, "shards": plan.shards, "others": sorted(plan.others)}


def plan_in(run: Json) -> Plan:
    """Return the plan of a run from its run.json."""
    listed = run["input"]
    return Plan(listed["items"], listed["bytes"], run["shards"], listed["digest"], frozenset(run["others"]))


def header(settings: Any, packages: Sequence[str]) -> Json:
    """Return what run.json says of any run, training included."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command_of(settings),
        "output_settings": json.loads(json.dumps(output_settings(settings))),  # as it will be read
        "settings": dataclasses.asdict(settings),
        "versions": versions(packages),
        "begun": now(),
    }


def command_of(settings: Any) -> str:
    """Return the command that settings belong to: `enhance` for EnhanceSettings."""
    return type(settings).__name__.removesuffix("Settings").lower()


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Return the version of Python, and those of packages as installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def as_json(found: Json) -> bytes:
    """Return the content of a JSON file of a run."""
    return json.dumps(found, indent=2).encode()


def now() -> str:
    """Return the time in UTC, by the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def changed_options(earlier: Json, present: Json) -> list[str]:
    """Return what differs between two sets of settings, as a user reads it: `--quality (95 then, 90 now)`."""
    return [
        f"{option(name)} ({earlier.get(name)} then, {value} now)"
        for name, value in present.items()
        if earlier.get(name) != value
    ]


def refuse_changes(changes: list[str], name: str, advice: str) -> None:
    """Raise UsageError if there are changes between a command and the run that it would resume.

    Args:
        changes: what differs.
        name: of the run, as the user calls it.
        advice: what else the user can do, after "Use the same settings to go on, ".
    """
    if changes:
        raise UsageError(
            f"{name} belongs to a run with other settings: {'; '.join(changes)}. "
            f"Use the same settings to go on, {advice}"
        )


def refuse_differences(earlier: Json, present: Json, output: str) -> None:
    """Raise UsageError unless the present command has the settings of the earlier one, and its input if that is listed.

    Args:
        earlier: run.json.
        present: what the present command would write into it; without `input` that is not compared.
        output: as the user calls it.
    """
    changes = changed_options(earlier["output_settings"], present["output_settings"])
    changes += [
        f"the content of {name}"
        for name, value in present["fingerprints"].items()
        if earlier["fingerprints"].get(name, value) != value
    ]
    if "input" in present and earlier["input"]["digest"] != present["input"]["digest"]:
        then, new = earlier["input"]["items"], present["input"]["items"]
        changes.append(f"the input ({then} files then, {new} now, or other sizes, dates or columns)")
    refuse_changes(changes, f"output {output}", "choose another output, or --overwrite to begin anew")

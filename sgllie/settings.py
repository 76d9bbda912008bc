"""How the settings of a job are declared: a frozen dataclass, from which the command line is made.

Each field says by itself which values it may have, and whether it changes what is written:

    strength: float = setting(1.0, least=0, most=1)
    num_actors: int | None = setting(None, least=1, changes_output=False)

A run can be resumed only with the same values of the settings that change its output, and that is what a field does
unless it says otherwise: one that was forgotten refuses too much, and never mixes two kinds of output.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from sgllie.errors import UsageError


def setting(
    default: Any = dataclasses.MISSING,
    *,
    factory: Any = dataclasses.MISSING,
    changes_output: bool = True,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Declare a field of a settings dataclass.

    Args:
        default: its value where the user gives none; without it the user must.
        factory: makes the default, where it is a dataclass of its own.
        changes_output: whether what the job writes depends on it.
        least: the lowest value of a number, itself included; None is within any limits.
        most: the highest one.
    """
    metadata = {"changes_output": changes_output, "limits": (least, most)}
    return dataclasses.field(default=default, default_factory=factory, metadata=metadata)


def flat_fields(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Yield dotted name, value and field of every setting; those of a nested dataclass follow `name.`."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value) and changes_output(field):
            yield from flat_fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, field


def changes_output(field: dataclasses.Field[Any]) -> bool:
    """Tell whether what a job writes depends on a setting."""
    return bool(field.metadata.get("changes_output", True))


def output_settings(settings: Any) -> dict[str, Any]:
    """Return the settings that change what is written, by their dotted names."""
    return {name: value for name, value, field in flat_fields(settings) if changes_output(field)}


def option(name: str) -> str:
    """Return the setting `loss.patch_size` as it stands on the command line: `--loss.patch-size`."""
    return "--" + name.replace("_", "-")


def in_words(name: str) -> str:
    """Return the setting `scale_factor` as it is called where there is no command line: `the scale factor`."""
    return "the " + name.replace("_", " ")


def check_limits(settings: Any, called: Callable[[str], str] = option) -> None:
    """Raise UsageError for the first number that lies outside the limits that its field declares.

    Args:
        settings: a dataclass whose fields are declared by `setting`.
        called: how the sentence calls a setting, of its dotted name; by default as on the command line.
    """
    for name, value, field in flat_fields(settings):
        least, most = field.metadata.get("limits", (None, None))
        if value is None or least is most is None:
            continue
        rule = f"must be {least:g} or more" if most is None else f"must lie between {least:g} and {most:g}"
        is_within = (-math.inf if least is None else least) <= value <= (math.inf if most is None else most)
        check(is_within, called(name), value, rule)


def check(fine: bool, option: str, value: object, rule: str) -> None:
    """Raise UsageError with the sentence `OPTION is VALUE; it RULE` unless all is fine."""
    if not fine:
        raise UsageError(f"{option} is {value}; it {rule}")


def split_names(text: str | None) -> tuple[str, ...]:
    """Split names at commas: `a, b` -> (a, b); nothing for None."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())

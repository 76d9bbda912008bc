"""The documents against the code: commands that parse, tables that are complete, links that lead somewhere."""

import ast
import dataclasses
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
import tyro

from places import ROOT
from sgllie import errors
from sgllie.cli import COMMANDS, main
from sgllie.compare.settings import CompareSettings
from sgllie.compare.trial import Trial
from sgllie.corpus.labels import ENDINGS, FOLDERS
from sgllie.demo.settings import DemoSettings
from sgllie.enhance.settings import EnhanceSettings
from sgllie.evaluate.detection import ROW_SCHEMA
from sgllie.evaluate.matching import Item
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.methods import METHODS
from sgllie.metrics import METRICS
from sgllie.network.weights import DEFAULT
from sgllie.report.settings import ReportSettings
from sgllie.runs import schemas
from sgllie.runs.plan import Plan
from sgllie.runs.run_file import describe, with_input
from sgllie.settings import changes_output, option
from sgllie.storage import Entry
from sgllie.train.settings import PRESETS, parse
from sgllie.verify.settings import VerifySettings
from sgllie.video.plan import Segment
from sgllie.video.settings import VideoSettings
from sgllie.weights.run import COMMANDS as WEIGHTS_COMMANDS
from sgllie.weights.run import Export, Import, Show

TOP_LEVEL = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
GUIDES = sorted(ROOT.glob("docs/**/*.md"))
PAGES = [ROOT / name for name in TOP_LEVEL] + GUIDES
PAGES += [path for folder in ("cluster", "samples", "sgllie") for path in sorted(ROOT.glob(f"{folder}/**/*.md"))]
REFERENCE = (ROOT / "docs/reference.md").read_text()
MOST_LINES = 150
"""Of README.md."""

PARSERS: dict[str, Callable[[Sequence[str]], Any]] = {
    "enhance": lambda words: tyro.cli(EnhanceSettings, args=words),
    "video": lambda words: tyro.cli(VideoSettings, args=words),
    "train": parse,
    "evaluate": lambda words: tyro.cli(EvaluateSettings, args=words),
    "compare": lambda words: tyro.cli(CompareSettings, args=words),
    "demo": lambda words: tyro.cli(DemoSettings, args=words),
    "report": lambda words: tyro.cli(ReportSettings, args=words),
    "verify": lambda words: tyro.cli(VerifySettings, args=words),
    "weights": lambda words: tyro.extras.subcommand_cli_from_dict(WEIGHTS_COMMANDS, args=words),
}
"""What each command makes of its arguments, before any work."""


def test_every_command_is_parsed_here():
    assert PARSERS.keys() == COMMANDS.keys()


def code_of(page: Path) -> Iterator[str]:
    """Yield each line of the fenced blocks of a page, continued lines joined, and each piece of code in its text."""
    parts = re.split(r"^```.*$", page.read_text(), flags=re.MULTILINE)
    for number, part in enumerate(parts):
        if number % 2:
            yield from part.replace("\\\n", " ").splitlines()
        else:
            yield from re.findall(r"`([^`\n]+)`", part)


def shown(pattern: str) -> list[Any]:
    """Return what a pattern finds in the code of all pages, with the page that it was found in, each once."""
    found = dict.fromkeys(
        (page.relative_to(ROOT).as_posix(), match[1].strip())
        for page in PAGES
        for line in code_of(page)
        if (match := re.search(pattern, line))
    )
    return [pytest.param(text, id=f"{page}: {text}") for page, text in found]


def words_of(text: str) -> list[str]:
    """Return the words of a command line as it is shown: without its comment, and with what is optional in brackets."""
    return shlex.split(re.sub(r"\[(-[^\]]*)\]", r"\1", text), comments=True)


# Neither Python's imports, nor the name of a Kubernetes account, nor a command that is left open.
COMMAND_LINES = shown(
    r"(?:(?:^|/|-m |(?<!serviceaccount)(?<!from) )sgllie |python jobs/(?=\w+\.py))((?!COMMAND)\w.*|--version)$"
)


@pytest.mark.parametrize("text", COMMAND_LINES)
def test_command_lines_parse(text, capsys):
    command, *words = words_of(text)
    command = command.removesuffix(".py")
    if command == "--version":
        assert main([command, *words]) == 0
        return
    assert command in PARSERS
    if not words or words in (["show"], ["export"]):  # named in a sentence
        return
    settings = PARSERS[command](words)
    hints = get_type_hints(type(settings), include_extras=True)
    for name, hint in hints.items():
        for mark in getattr(hint, "__metadata__", ()):
            placeholder = getattr(mark, "metavar", None)
            if placeholder in words:
                assert getattr(settings, name) == placeholder, f"{placeholder} is taken for something else"


def test_there_are_command_lines():
    assert len(COMMAND_LINES) > 30
    assert {words_of(param.values[0])[0].removesuffix(".py") for param in COMMAND_LINES} >= COMMANDS.keys()


def options_of_script(path: Path) -> set[str]:
    """Return the options that a script of benchmarks/ declares, itself or in a module beside it that it imports."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            found |= {one.value for one in node.args if isinstance(one, ast.Constant)}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parse_known_args":
            found |= {name for name, *_ in options(type(PRESETS["default"]), PRESETS["default"])}
        beside = path.with_name(f"{getattr(node, 'module', None)}.py") if isinstance(node, ast.ImportFrom) else None
        if beside and beside.exists():
            found |= options_of_script(beside)
    return found


@pytest.mark.parametrize("text", shown(r"python (benchmarks/\w+\.py.*)$"))
def test_benchmarks_and_their_options_exist(text):
    script, *words = words_of(text)
    assert (ROOT / script).is_file()
    assert {word for word in words if word.startswith("-")} <= options_of_script(ROOT / script)


@pytest.mark.parametrize("text", shown(r"(?:^|[ (])make ([a-z][\w-]*)"))
def test_targets_of_make_exist(text):
    assert re.search(rf"^{re.escape(text)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_cheap_commands_run(capsys):
    assert main(["--version"]) == 0
    assert main(["weights", "show", DEFAULT]) == 0
    assert "dead layers   none" in capsys.readouterr().out


class Option(NamedTuple):
    """One option as a row of the reference states it."""

    name: str
    default: str
    changes: str


def options(kind: type, values: Any = None, prefix: str = "", changes: bool = True) -> Iterator[Option]:
    """Yield the options of a settings class; the defaults are those of `values`, or of the class."""
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        marks = getattr(hints[field.name], "__metadata__", ())
        if tyro.conf.Positional in marks:
            continue
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        value = made if values is None else getattr(values, field.name)
        writes = changes and changes_output(field) and field.name != "s3"
        if dataclasses.is_dataclass(value):
            yield from options(type(value), value, f"{prefix}{field.name}.", writes)
        else:
            name = next((mark.name for mark in marks if getattr(mark, "name", None)), field.name)
            yield Option(option(prefix + name), as_text(value), "yes" if writes else "no")


def as_text(value: Any) -> str:
    """Return a default as the reference writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return {dataclasses.MISSING: "required", None: "-", "": "-", (): "-"}.get(value, str(value))


def section(heading: str, level: int = 3) -> str:
    """Return what stands below a heading of the reference, up to the next one of its level or above."""
    pattern = rf"^#{{{level}}} {re.escape(heading)}$(.*?)(?=^#{{1,{level}}} |\Z)"
    found = re.search(pattern, REFERENCE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/reference.md has no section {heading!r}"
    return found[1]


def table(text: str) -> list[list[str]]:
    """Return the cells of the rows of all tables in a text, without headings and rulers."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    headings = {number - 1 for number, line in enumerate(lines) if line.startswith("| ---")}
    return [row for number, row in enumerate(rows) if number not in headings and not lines[number].startswith("| ---")]


def names(cell: str) -> list[str]:
    """Return what stands as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def documented(command: str, published: bool = False) -> list[Option]:
    """Return the options that the reference states for a command."""
    found = []
    for heading in re.findall(r"^### (.*)$", section("Options", level=2), re.MULTILINE):
        if command not in names(heading):
            continue
        own = "| published |" in section(heading)
        for row in table(section(heading)):
            default = row[2] if own and published else row[1]
            found.append(Option(names(row[0])[0], default, row[3] if own else row[2]))
    return found


@pytest.mark.parametrize(
    ("command", "kind", "values"),
    [
        ("enhance", EnhanceSettings, None),
        ("video", VideoSettings, None),
        ("evaluate", EvaluateSettings, None),
        ("compare", CompareSettings, None),
        ("demo", DemoSettings, None),
        ("report", ReportSettings, None),
        ("verify", VerifySettings, None),
        ("weights show", Show, None),
        ("weights import", Import, None),
        ("weights export", Export, None),
        ("train", type(PRESETS["default"]), PRESETS["default"]),
        ("train", type(PRESETS["published"]), PRESETS["published"]),
    ],
)
def test_reference_has_every_option(command, kind, values):
    published = values is PRESETS["published"]
    assert sorted(documented(command, published)) == sorted(options(kind, values))


METRIC_COLUMNS = "a column for each metric"
TABLES = {
    "`stats/` of `sgllie enhance`": schemas.STATS_SCHEMA.names,
    "`others/` of `sgllie enhance`": schemas.OTHERS_SCHEMA.names,
    "`stats/` of `sgllie video`": schemas.VIDEOS_SCHEMA.names,
    "`segments/` of `sgllie video`": schemas.SEGMENTS_SCHEMA.names,
    "`frames/` of `sgllie video`": schemas.FRAMES_SCHEMA.names,
}


@pytest.mark.parametrize("heading", TABLES)
def test_reference_has_every_column(heading):
    stated = [name for row in table(section(heading)) for name in names(row[0])]
    assert sorted(stated) == sorted(TABLES[heading])


def test_every_schema_is_compared():
    stated = [schema.names for schema in vars(schemas).values() if type(schema) is type(schemas.STATS_SCHEMA)]
    assert sorted(stated) == sorted(TABLES.values())


@pytest.mark.parametrize(
    ("what", "columns"),
    [
        ("`enhance`, `video`, `evaluate --task detection`", Entry._fields),
        ("`video`, `segments.parquet`", Segment._fields),
        ("`evaluate`", Item._fields),
        ("`compare`", Trial._fields),
    ],
)
def test_reference_has_every_column_of_manifests(what, columns):
    stated = next(row[1] for row in table(section("`manifest/`")) if row[0] == what)
    assert sorted(names(stated)) == sorted(columns)


def test_reference_has_every_column_of_detections():
    stated = next(row[1] for row in table(section("`stats/` of `sgllie evaluate`")) if "detection" in row[0])
    own = {name.removesuffix("_before") for name in ROW_SCHEMA.names} - {name for name, _ in schemas.OUTCOME}
    assert set(names(stated)) - {"_before"} == own


def test_reference_has_every_kind_of_failure():
    assert [names(row[0])[0] for row in table(section("Kinds of failure", level=2))] == list(errors.ERROR_TYPES)


def test_reference_has_the_version_of_the_schema():
    assert f"now {schemas.SCHEMA_VERSION}." in section("run.json")


def test_reference_has_every_key_of_run_json():
    said = with_input(describe(EnhanceSettings("IN", "OUT"), {}, {}), Plan(0, 0, [], ""), {"roots": {}})
    assert [names(row[0])[0] for row in table(section("run.json"))] == [*said, "updated", "data"]


def first_cells(page: str) -> list[list[str]]:
    """Return what stands as code in the first cell of each row of a page's tables."""
    return [names(row[0]) for row in table((ROOT / page).read_text())]


@pytest.mark.parametrize("page", ["docs/methods.md", "docs/figures.md"])
def test_every_method_has_a_row_of_its_own(page):
    assert [name for name in METHODS if [name] not in first_cells(page)] == []


def test_every_metric_is_defined():
    assert {name for cell in first_cells("docs/evaluate.md") for name in cell} >= METRICS.keys()


def test_every_name_of_a_label_map_stands_with_its_layouts():
    text = (ROOT / "docs/datasets.md").read_text().partition("**By content**")[0]
    stated: dict[str, set[str]] = {}
    for layout, *cells in table(text):
        for name in (name for cell in cells for name in names(cell)):
            stated.setdefault(name, set()).add(layout)
    assert stated == {name: set(layouts.split(", ")) for name, layouts in (FOLDERS | ENDINGS).items()}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(linked), f"{target}: {linked.name} has no such heading"


def test_files_that_are_named_exist():
    places = (ROOT, ROOT / "sgllie", ROOT / "sgllie/methods", ROOT / "docs")
    pages = [ROOT / "CONTRIBUTING.md", *GUIDES]
    named = {line for page in pages for line in code_of(page) if re.fullmatch(r"[\w/]+\.(py|md|yaml)", line)}
    assert len(named) > 20
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES

"""The habits of the house.

One front door, one tree of errors, small and silent files, one word a thing, a map that is
true.
"""

import ast
import inspect
import itertools
import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import hilum
from hilum import errors
from house_sources import REPOSITORY, ROOMS, SOURCES, TREES, calls_of, imports_of, python, room_of

# --- the front door
# ------------------------------------------------------------------------------


def test_importing_hilum_is_light():
    loaded = (
        "import sys, {}; print(*sorted({{'torch', 'numpy', 'scipy', 'pydantic', 'SimpleITK'}} &"
        " set(sys.modules)))"
    )
    assert python(loaded.format("hilum")).split() == []
    assert python(loaded.format("hilum.cli")).split() == []  # what `hilum --help` waits for


def test_rooms_below_the_networks_load_no_torch():
    rooms = [
        f"hilum.{name}"
        for name in ROOMS
        if name not in {"networks", "explain", "inference", "training", "pipelines"}
    ]
    assert (
        python(
            f"import sys, {', '.join(rooms)}, hilum.targets.encoding; print('torch' in sys.modules)"
        ).strip()
        == "False"
    )


def exported_names(package):
    """The names that a package's front door imports as themselves, each once."""
    return [
        alias.name
        for node in ast.walk(TREES[f"{package}__init__.py"])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    ]


def test_every_exported_name_is_there_and_documented():
    assert hilum.__all__ == dir(hilum) == sorted(exported_names(""))
    for name in hilum.__all__:
        assert getattr(hilum, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'volumes'"):
        _ = hilum.volumes


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_is_documented(room):
    module = import_module(f"hilum.{room}")
    names = exported_names(f"{room}/")
    assert names
    assert len(set(names)) == len(names)
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert vars(value).get("__doc__") or value.__doc__, f"hilum.{room}.{name}"
            own = [
                f"{name}.{part}"
                for part, member in vars(value).items()
                if not part.startswith("_")
                and (
                    (inspect.isfunction(member) and member.__name__ != "<lambda>")
                    or isinstance(member, property | classmethod | staticmethod)
                )
                and not inspect.getdoc(getattr(member, "__func__", member))
            ]
            assert not own, f"hilum.{room}: {own}"


# --- errors
# ------------------------------------------------------------------------------


def error_classes(root=errors.HilumError):
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


def test_the_tree_of_errors_is_the_one_that_is_drawn():
    drawn = re.findall(
        r"^ *(?:[|`]? *)*(?:\|--|`--)? *([A-Z]\w+Error) +(\d)?", errors.__doc__, re.MULTILINE
    )
    code, codes = 1, {}
    for name, digit in drawn:
        code = int(digit) if digit else code
        codes[name] = code
    assert codes == {kind.__name__: kind.exit_code for kind in error_classes()}
    public = {kind.__name__ for kind in error_classes()}
    assert public <= set(hilum.__all__)


def test_the_command_line_says_the_exit_codes():
    from hilum.cli import app

    said = {int(code): meaning for code, meaning in re.findall(r"(\d) ([a-z ]+)", app.info.epilog)}
    assert set(said) == {0, *(kind.exit_code for kind in error_classes())} == {0, 1, 2, 3, 4, 5}


def test_every_error_is_one_of_ours():
    """Python's own errors are raised only where Python's or pydantic's protocol asks for them."""
    protocol = {
        "AttributeError",
        "KeyError",
        "ValueError",
        "typer.Exit",
        "SystemExit",
        "KeyboardInterrupt",
    }
    ours = {kind.__name__ for kind in error_classes()}
    strange = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                raised = ast.unparse(node.exc.func)
                if raised.rsplit(".", 1)[-1][:1].isupper() and raised not in ours | protocol:
                    strange.append(f"{name}:{node.lineno} {raised}")
                if raised == "HilumError":
                    strange.append(f"{name}:{node.lineno} a bare HilumError")
    assert not strange, strange


# --- small and silent
# ------------------------------------------------------------------------------


def test_files_are_short():
    long = {name: lines for name, text in SOURCES.items() if (lines := text.count("\n")) >= 600}
    tests = {
        p.name: n
        for p in (REPOSITORY / "tests").rglob("*.py")
        if (n := p.read_text(encoding="utf-8").count("\n")) >= 600
    }
    assert not long | tests


def test_every_file_begins_by_saying_what_it_is():
    assert not [name for name, tree in TREES.items() if not ast.get_docstring(tree)]


def test_nothing_prints_asserts_or_waits_to_be_done():
    for name, tree in TREES.items():
        printed = [
            call
            for call, _ in calls_of(tree)
            if call in {"print", "sys.stdout.write", "input", "breakpoint"}
        ]
        assert not printed, f"{name}: {printed}"
        assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)], (
            f"{name}: assert"
        )
        assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", SOURCES[name]), name
        assert room_of(name) == "cli" or "typer" not in {
            module for module, _ in imports_of(tree)
        }, name
        assert room_of(name) == "cli" or "logging.basicConfig" not in {
            call for call, _ in calls_of(tree)
        }, name


def test_every_exception_from_a_rule_has_its_reason():
    marks = re.compile(r"# (?:noqa(?:: [A-Z0-9, ]+)?|type: ignore(?:\[[a-z-]+\])?)(?P<reason>.*)")
    bare = []
    for name, text in SOURCES.items():
        above = ""  # a reason too long for the line stands in a comment above it
        for number, line in enumerate(text.splitlines(), start=1):
            found = marks.search(line)
            reason = found["reason"] + above if found else ""
            if found and len(re.findall(r"[a-z]+", reason)) < 2:
                bare.append(f"{name}:{number}")
            above = line if line.strip().startswith("#") else ""
    assert not bare, bare


def test_one_logger_for_all():
    named = {
        ast.unparse(node.args[0])
        for tree in TREES.values()
        for call, node in calls_of(tree)
        if call == "logging.getLogger"
    }
    assert {name for name in named if "hilum" in name} == {"'hilum'"}
    silenced = ("lightning_fabric", "nibabel", "torch.", "onnxscript", "nncf", "library")
    assert all("hilum" in name or name.strip("'").startswith(silenced) for name in named), named


def test_words_are_those_of_the_house():
    """DESIGN's vocabulary: one word a thing.

    Names of others' formats live in io and in the layouts, which must know them.
    """
    foreign = {
        "gt",
        "ground_truth",
        "zooms",
        "pixdim",
        "modality",
        "segmap",
        "label_map",
        "roi",
        "cfg",
        "subject",
        "tile",
        "tiles",
    }
    strange = []
    for name, tree in TREES.items():
        if room_of(name) not in {"files", "io", "dicom", "dicom_results", "deidentification"}:
            for node in ast.walk(tree):
                own = (
                    getattr(node, "name", None)
                    if isinstance(node, ast.FunctionDef | ast.ClassDef)
                    else None
                )
                word = own or (node.arg if isinstance(node, ast.arg) else None)
                if word and word.lower() in foreign:
                    strange.append(f"{name}:{node.lineno} {word}")
    assert not strange, strange


RETIRED = frozenset(
    (
        *("seen", "unseen", "draw", "drawn", "room", "figure", "figures", "member", "members"),
        *("unit", "units", "answer", "answers", "course", "courses", "asked", "told", "said"),
        *("laps", "fair", "books"),
    )
)
"""Words with a private meaning; the glossary of ARCHITECTURE.md has the field's terms instead."""
STILL_RETIRED: dict[str, int] = {}
"""Names with retired words that are left in each room: to become fewer, never more."""


def test_retired_words_come_back_in_no_name():
    """Files, functions, classes and arguments are named by the field's terms."""
    found = Counter(
        room_of(name)
        for name, tree in TREES.items()
        for named in [Path(name).stem, *map(name_of, ast.walk(tree))]
        if RETIRED & {*re.sub(r"(?<=[a-z])(?=[A-Z])", "_", named).lower().split("_")}
    )
    more = found - Counter(STILL_RETIRED)
    assert not more, f"{dict(more)}: use the field's terms, see the glossary in ARCHITECTURE.md"


def name_of(node):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    return node.arg if isinstance(node, ast.arg) else ""


# --- the map of the house
# ------------------------------------------------------------------------------


ARCHITECTURE = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_map_names_every_room_and_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", ARCHITECTURE)
    assert len(links) > 40
    assert not [link for link in links if not (REPOSITORY / link).exists()]
    rooms = {*ROOMS, "errors.py"}
    assert not [
        room
        for room in rooms
        if f"src/hilum/{room}" not in links and f"src/hilum/{room}/" not in links
    ]
    assert ARCHITECTURE.count("\n") < 200


def test_the_names_that_the_map_tells_exist():
    """Every `name(...)` or `Name` in code type that stands in a link to a file is defined.

    Or called, in that file.
    """
    told = re.findall(r"\[`(\w+)[^`]*`\]\((src/[\w/]+\.py)\)", ARCHITECTURE)
    assert len(told) > 15
    missing = [
        f"{name} in {path}"
        for name, path in told
        if not re.search(rf"\b{name}\b", (REPOSITORY / path).read_text("utf-8"))
    ]
    assert not missing, missing


def test_docstrings_begin_with_a_plain_statement():
    relative = re.compile(r"(What|How|Whether|Where|Which|When|That)\b")
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
    found = [
        f"{name}: {docstring.splitlines()[0]}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, kinds) and relative.match(docstring := ast.get_docstring(node) or "")
    ]
    assert found == []


def test_functions_and_classes_of_six_lines_have_a_docstring():
    """Functions within functions, overloads and special methods are left out."""
    scopes = (ast.Module, ast.ClassDef)
    found = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in TREES.items()
        for scope in ast.walk(tree)
        if isinstance(scope, scopes)
        for node in scope.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.end_lineno - node.lineno >= 5
        and not node.name.startswith("__")
        and "overload" not in [getattr(one, "id", "") for one in node.decorator_list]
        and not ast.get_docstring(node)
    ]
    assert found == []


def test_constants_are_described_by_a_noun():
    """Docstrings below constants and fields say what the value is: no "Of ..." or "What ..."."""
    vague = re.compile(r"(Of|What|How|Whether|Whose|Where|Which|When|Why|Who|That)\b")
    found = [
        f"{name}:{after.lineno} {after.value.value.splitlines()[0]}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef)
        for before, after in itertools.pairwise(node.body)
        if isinstance(before, ast.Assign | ast.AnnAssign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and vague.match(str(after.value.value))
    ]
    assert found == [], found


def test_test_files_have_names_of_their_own():
    """Python's path finds one module of a name: the second would not be collected."""
    names = Counter(path.name for path in (REPOSITORY / "tests").rglob("*.py"))
    assert [name for name, count in names.items() if count > 1 and name != "conftest.py"] == []

"""Each folder of `functions/` is a `func` project that stands alone.

What a function does is tested in its own environment: `make functions`. Here is what needs none.
"""

import ast
import hashlib
import json
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.vectors import published, vector

ROOT = Path(__file__).parents[2]
PROJECTS = sorted(path.parent for path in (ROOT / "functions").glob("*/func.yaml"))
SCHEMA = json.loads((Path(__file__).parent / "func_yaml.schema.json").read_text())
#: Files that several functions hold, and that must be the same in all of them.
COPIES = (
    *("function/events.py", "function/settings.py", "function/fitting.py", "function/store.py"),
    *("function/sink.py", "tests/conftest.py", "tests/test_server.py", "tests/nats_process.py"),
)
#: Modules that a distribution installs under another name.
MODULES = {
    "pyyaml": {"yaml"},
    "nats-py": {"nats"},
    "python-stdnum": {"stdnum"},
    "phonenumberslite": {"phonenumbers"},
    "sqlite-vec": {"sqlite_vec"},
    "a2a-sdk": {"a2a"},
}

each = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)


def manifest(project: Path) -> dict[str, object]:
    read = yaml.safe_load((project / "func.yaml").read_text())
    assert isinstance(read, dict)
    read["created"] = read["created"].strftime("%Y-%m-%dT%H:%M:%SZ")
    return read


def packages(project: Path) -> tuple[dict[str, object], set[str], set[str]]:
    """The [project] table, and the modules that its dependencies and those of its tests bring."""
    table = tomllib.loads((project / "pyproject.toml").read_text())["project"]

    def modules(requirements: list[str]) -> set[str]:
        names = [line.split(">")[0].split("=")[0].split("[")[0] for line in requirements]
        return {module for name in names for module in MODULES.get(name, {name.replace("-", "_")})}

    return table, modules(table["dependencies"]), modules(table["optional-dependencies"]["test"])


def imports(file: Path) -> set[str]:
    """The top-level modules that a file imports by an absolute name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


def test_all_projects_are_seen() -> None:
    names = {project.name for project in PROJECTS}
    assert names >= {
        "agent-bridge",
        "extract",
        "folder-watch",
        "prompt",
        "redact",
        "split-join",
        "vector-store",
        "webhook-out",
    }


@each
def test_func_yaml_has_the_fields_that_func_knows(project: Path) -> None:
    read = manifest(project)
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(read)] == []
    assert read["name"] == project.name


@each
def test_a_project_is_complete(project: Path) -> None:
    for name in ("README.md", "pyproject.toml", "function/__init__.py", "function/func.py"):
        assert (project / name).stat().st_size, name
    assert "new" in imports_of_init(project)
    assert list((project / "tests").glob("test_*.py"))
    assert len((project / "README.md").read_text().splitlines()) <= 60, "one screen"
    table, _, _ = packages(project)
    assert table["name"] == "function", "func's scaffolding imports it by this name"


def imports_of_init(project: Path) -> set[str]:
    tree = ast.parse((project / "function" / "__init__.py").read_text())
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@each
def test_a_function_imports_what_it_declares_and_nothing_of_ours(project: Path) -> None:
    _, own, test = packages(project)
    for file in (project / "function").rglob("*.py"):
        assert imports(file) <= own, file
    local = {file.stem for file in (project / "tests").glob("*.py")} | {"function"}
    for file in (project / "tests").rglob("*.py"):
        assert imports(file) <= own | test | local, file


@pytest.mark.parametrize("name", COPIES)
def test_what_several_functions_hold_is_the_same_file(name: str) -> None:
    found = [project / name for project in PROJECTS if (project / name).exists()]
    assert len(found) > 1, f"only one function holds {name}: take it out of COPIES"
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in found}) == 1, found


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    for project in PROJECTS:
        for requirement in packages(project)[0]["dependencies"]:  # type: ignore[attr-defined]
            assert ">=" in requirement and ",<" in requirement, (project.name, requirement)

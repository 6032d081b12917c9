"""Modules whose code runs when something of them is used (`relume.runtimes.deferred`)."""

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from relume.runtimes.deferred import Deferred, Later, defer

_FILES = {
    "__init__.py": "from .tool import Tool as Tool\nfrom .loud import (\nLoud as Loud,\n)\nOWN = 7",
    "tool.py": "class Tool:\n    size = 3\n\ndef make(): return Tool()\n\nMET = None\n",
    "loud.py": "class Loud: pass\n",
    "broken.py": "raise OSError('no such library')\n",
    "older.py": "import sys\nsys.of_another_release\n",
    "first.py": "from .tool import MET\nMET.wait()\nfrom . import second\nVALUE = 1\n",
    "second.py": "from . import first, tool\ntool.MET.wait()\nhasattr(first, 'VALUE')\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that hands on names of its modules and has one of its own."""
    name = f"deferred_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    for file, text in _FILES.items():
        (folder / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    yield name
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]


def imported(package: str) -> set[str]:
    return {m.removeprefix(f"{package}.") for m in sys.modules if m.startswith(f"{package}.")}


def test_a_module_inside_is_imported_without_the_code_of_its_package(package: str) -> None:
    defer([Deferred(package, alone=None)])
    assert importlib.import_module(f"{package}.tool").Tool.size == 3
    assert imported(package) == {"tool"}
    assert sys.modules[package].OWN == 7
    assert imported(package) == {"tool", "loud"}
    assert type(sys.modules[package]).__name__ == "module"


def test_a_name_that_is_handed_on_imports_its_own_module_alone(package: str) -> None:
    defer([Deferred(package, by_name=True, alone=None)])
    module = importlib.import_module(package)
    assert module.Loud.__name__ == "Loud"
    assert imported(package) == {"loud"}
    assert module.OWN == 7
    assert imported(package) == {"tool", "loud"}


def test_a_package_runs_its_code_first_for_a_module_that_is_not_named(package: str) -> None:
    defer([Deferred(package, alone=frozenset(["tool"]))])
    module = importlib.import_module(package)
    assert module.tool.Tool.size == 3
    assert imported(package) == {"tool"}
    assert importlib.import_module(f"{package}.loud").Loud is module.Loud
    assert imported(package) == {"tool", "loud"}
    spec = sys.modules[f"{package}.loud"].__spec__
    assert spec is not None and str(spec.origin).endswith("loud.py")
    with pytest.raises(AttributeError):
        _ = module.nothing


def test_a_later_name_is_called_compared_and_inherited_from_like_the_object(package: str) -> None:
    defer([Deferred(package, alone=None), Deferred(f"{package}.tool", later=("Tool", "make"))])
    module = importlib.import_module(f"{package}.tool")
    tool, make = module.Tool, module.make
    assert (type(tool), type(make)) == (Later, Later)
    assert isinstance(make(), tool)

    class Longer(tool):  # type: ignore[misc, valid-type]
        pass

    assert issubclass(Longer, module.Tool)
    assert not isinstance(module.Tool, Later)
    tool.size = 4
    assert (tool.size, module.Tool.size) == (4, 4)
    assert tool | None == module.Tool | None


def test_what_stands_in_goes_when_the_code_runs_for_something_else(package: str) -> None:
    defer([Deferred(package, alone=None), Deferred(f"{package}.tool", instead={"make": len})])
    module = importlib.import_module(f"{package}.tool")
    assert vars(module).get("make") is None and getattr(module, "make") is len  # noqa: B009
    assert module.Tool.size == 3
    assert module.make().size == 3


def test_a_module_that_fails_fails_where_it_is_used_and_one_that_is_not_there_at_once(
    package: str,
) -> None:
    defer(
        [
            Deferred(package, alone=None),
            Deferred(f"{package}.broken"),
            Deferred(f"{package}.absent"),
        ]
    )
    module = importlib.import_module(f"{package}.broken")
    for _ in range(2):
        with pytest.raises(OSError, match="no such library"):
            _ = module.anything
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{package}.absent")


def test_an_attribute_error_in_the_code_is_not_taken_for_a_name_that_is_missing(
    package: str,
) -> None:
    defer([Deferred(package, alone=None), Deferred(f"{package}.older")])
    module = importlib.import_module(f"{package}.older")
    with pytest.raises(ImportError, match=r"older cannot be imported: .*of_another_release"):
        hasattr(module, "anything")


def test_what_somebody_replaces_stays_replaced_when_the_code_runs(package: str) -> None:
    defer([Deferred(package, alone=None), Deferred(f"{package}.tool", later=("Tool",))])
    module = importlib.import_module(f"{package}.tool")
    module.make = len
    assert module.Tool.size == 3
    assert module.make is len


def test_files_of_a_package_are_read_before_its_code_runs(package: str) -> None:
    defer([Deferred(package, alone=None)])
    importlib.import_module(package)
    assert files(package).joinpath("loud.py").read_text() == _FILES["loud.py"]
    assert imported(package) == set()


def test_two_threads_that_wait_for_each_others_modules_go_on(package: str) -> None:
    defer([Deferred(package, alone=None), Deferred(f"{package}.first")])
    first = importlib.import_module(f"{package}.first")
    importlib.import_module(f"{package}.tool").MET = threading.Barrier(2, timeout=20)
    threads = [
        threading.Thread(target=task, daemon=True)
        for task in (
            lambda: first.VALUE,
            lambda: importlib.import_module(f"{package}.second"),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert first.VALUE == 1


_EACH = """
import json, sys
from relume.runtimes import deferred, imports, internals, settings, unused
settings.apply_environment()
internals.speed_up_imports()
imports.import_all()
loader = lambda m: getattr(getattr(m, "__spec__", None), "loader", None)
waits = {m: loader(m).deferred for m in sys.modules.values() if hasattr(loader(m), "deferred")}
told = {"waits": [each.name for each in waits.values()], "modules": sorted(sys.modules)}
for module, each in waits.items():
    deferred.run(module)
    for name in each.later:
        assert not isinstance(getattr(module, name), deferred.Later), (module, name)
print(json.dumps(told))
"""


@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_template_holds_none_of_what_waits_and_each_of_it_can_still_be_had() -> None:
    found = subprocess.run(
        [sys.executable, "-c", _EACH], capture_output=True, text=True, timeout=240, check=False
    )
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout.splitlines()[-1])
    assert {"openai", "cv2", "aiohttp", "boto3", "torch._dynamo"} <= set(told["waits"])
    assert not {"sympy", "transformers.modeling_utils", "aiohttp.client"} & set(told["modules"])

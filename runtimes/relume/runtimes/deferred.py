"""Modules whose code runs when something of them is used, and not when they are imported.

    defer([Deferred("openai", alone=None), Deferred("openai.types", by_name=True, alone=None)])

`import openai` then gives a module that knows where it is and no more, so that modules inside of it
can be imported. Whoever asks for anything else gets it: the code of the module is run first.

Python's own `importlib.util.LazyLoader` runs the code of a package as soon as anything inside of it
is imported.
"""

import importlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# `from .x import (A as A, B as B)`: what a package hands on unchanged.
_HANDED_ON = re.compile(r"^from (\.[\w.]*) import (?:\(([^)]*)\)|(.*))$", re.MULTILINE)
# What Python looks for in any module, and what one need not have.
_NOT_ASKED_FOR = frozenset(
    {"__path__", "__file__", "__cached__", "__wrapped__", "__warningregistry__"}
)
# The code of the module `a.b` is run by an import of "code of a/b" (`_LaterLoader.run`).
_CODE_OF = "code of "
_CODES: dict[str, "_Code"] = {}


@dataclass(frozen=True, slots=True)
class Deferred:
    """One module that is deferred."""

    name: str
    by_name: bool = False
    """The package hands on names of its modules (`from .tool import Tool as Tool`), and only the
    module of the name that is asked for is imported."""
    alone: frozenset[str] | None = frozenset()
    """The modules inside of the package that are imported without its code; None: all. For another
    one the code is run first, as Python does, because modules may need an order."""
    later: tuple[str, ...] = ()
    """Names that are given as a `Later` each, until the code is run for something else."""
    instead: Mapping[str, Any] = field(default_factory=dict)
    """Values that are as good as those of the module, until its code is run for something else."""


def defer(modules: Iterable[Deferred]) -> None:
    """Defer these modules where they are imported from now on; those that are there stay."""
    wanted = {module.name: module for module in modules if module.name not in sys.modules}
    sys.meta_path.insert(0, _Finder(wanted))


class Later:
    """Stands for an object of a deferred module, whose code is run when the object is used.

    It can be called, asked for attributes, compared with types and inherited from. It is no type
    itself, so it cannot be the type of a pydantic field.
    """

    def __init__(self, module: str, name: str) -> None:
        vars(self).update(_module=module, _name=name)

    def _object(self) -> Any:
        module = importlib.import_module(self._module)
        if isinstance(module, _Module):
            run(module)
        if self._name not in vars(module):
            raise _not_there(module, self._name)
        return vars(module)[self._name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__module__", "__qualname__"):
            raise AttributeError(name)  # Python looks for it in any object
        return getattr(self._object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._object(), name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._object()(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._object())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._object())

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return (self._object(),)

    def __or__(self, other: Any) -> Any:
        return self._object() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._object()


class _Finder(MetaPathFinder):
    """Finds the modules that are deferred, each once."""

    def __init__(self, modules: dict[str, Deferred]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if (code := _CODES.get(fullname)) is not None:
            return ModuleSpec(fullname, code)
        package, _, name = fullname.rpartition(".")
        loader = _loader_of(sys.modules.get(package))
        if loader is not None and loader.comes_before(name):
            loader.run(sys.modules[package])
            if (imported := sys.modules.get(fullname)) is not None:
                return _Imported(imported).spec
        # Once: the code of some packages imports its own name again.
        if (module := self._modules.pop(fullname, None)) is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:  # not installed
            return None
        spec.loader = _LaterLoader(spec.loader, module)
        return spec


class _Imported(Loader):
    """Gives a module that was imported while it was looked for."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._before = module.__spec__
        # Python takes the spec of a module that has come meanwhile, and would load it twice.
        self.spec = module.__spec__ = ModuleSpec(module.__name__, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._before


class _Module(ModuleType):
    """A module that has not run its code."""

    def __getattr__(self, name: str) -> Any:
        if type(self) is not _Module:  # another thread has run the code meanwhile
            return getattr(self, name)
        loader = _loader_of(self)
        if name in _NOT_ASKED_FOR or loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return loader.attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Run the code before somebody replaces a name of it, because it would set that name again.

        Not for what Python sets itself: modules inside of the package, names with two underscores.
        """
        if not (name.startswith("__") or isinstance(value, ModuleType)):
            run(self)
        ModuleType.__setattr__(self, name, value)  # it may have become its class


def run(module: ModuleType) -> None:
    """Run the code of a deferred module, if that has not been done."""
    if (loader := _loader_of(module)) is not None:
        loader.run(module)


def _loader_of(module: ModuleType | None) -> "_LaterLoader | None":
    """The loader of a module that is deferred and has not run its code."""
    spec = getattr(module, "__spec__", None) if isinstance(module, _Module) else None
    return spec.loader if spec is not None and isinstance(spec.loader, _LaterLoader) else None


class _LaterLoader(Loader):
    """The loader of one deferred module."""

    def __init__(self, loader: Loader, deferred: Deferred) -> None:
        self._loader = loader
        self.deferred = deferred
        self._handed_on: dict[str, str] | None = None
        later = {name: Later(deferred.name, name) for name in deferred.later}
        self._instead = {**deferred.instead, **later}

    def __getattr__(self, name: str) -> Any:
        """What the real loader can do besides: read the package's files, for instance."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Module(spec.name)
        _CODES[_CODE_OF + spec.name.replace(".", "/")] = _Code(self, module)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing yet."""

    def comes_before(self, name: str) -> bool:
        """Whether the code must be run before the module `name` inside of the package is."""
        alone = self.deferred.alone
        return alone is not None and name not in alone

    def attribute(self, module: _Module, name: str) -> Any:
        """The attribute `name` of the module, whose code is run for it if need be."""
        if name in self._instead:
            return self._instead[name]
        if name in (self.deferred.alone or ()):
            return importlib.import_module(f"{module.__name__}.{name}")
        if self.deferred.by_name and (found := self._from_others(module).get(name)):
            value = getattr(importlib.import_module(found, module.__name__), name)
            vars(module)[name] = value
            return value
        self.run(module)
        if type(module) is _Module and name not in vars(module):
            raise _not_there(module, name)
        return getattr(module, name)

    def _from_others(self, module: _Module) -> Mapping[str, str]:
        """The relative module of each name that the package hands on unchanged."""
        if self._handed_on is None:
            found: dict[str, str] = {}
            source = getattr(self._loader, "get_source", lambda _: None)(module.__name__) or ""
            for at, several, one in _HANDED_ON.findall(source):
                for each in (several or one).split(","):
                    name, _, alias = each.strip().partition(" as ")
                    if name and alias == name:
                        found[name] = at
            self._handed_on = found
        return self._handed_on

    def run(self, module: ModuleType) -> None:
        """Run the code of the module once; another thread waits until that is done.

        It is run by an import, because Python's import locks notice where two threads wait for each
        other: this one for a module that the other imports, and the other for this module. One of
        them then goes on with what the module has so far, and with a lock of our own both would
        wait for ever. The code itself also gets what is there so far where it asks for its module.
        """
        if type(module) is _Module:
            code = _CODE_OF + module.__name__.replace(".", "/")
            __import__(code)
            if type(module) is not _Module:
                sys.modules.pop(code, None)

    def execute(self, module: ModuleType) -> None:
        """Run the code of the module, under the lock of its import.

        Raises ImportError for an AttributeError, which `hasattr` and `from … import` would hide.
        """
        if type(module) is not _Module:  # another thread has run it
            return
        instead, self._instead = self._instead, {}
        try:
            self._loader.exec_module(module)
        except BaseException as error:
            self._instead = instead
            if isinstance(error, AttributeError):
                name = module.__name__
                raise ImportError(f"{name} cannot be imported: {error}", name=name) from error
            raise
        module.__class__ = ModuleType  # type: ignore[assignment]
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader


class _Code(Loader):
    """What is imported to run the code of a deferred module."""

    def __init__(self, loader: _LaterLoader, module: _Module) -> None:
        self._loader = loader
        self._module = module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.execute(self._module)


def _not_there(module: ModuleType, name: str) -> AttributeError:
    """The error for a name that the code of the module has not set, or has not set yet."""
    return AttributeError(f"module {module.__name__!r} has no attribute {name!r} (yet)")

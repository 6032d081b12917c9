"""Every place where Relume's eventing code may be suspended, as a place to kill a process at.

Importing a module of PACKAGES after `install` runs it with each `await`, `async with` and
`async for` told before it begins and after it has ended. Nothing else about the code changes.
"""

import ast
import asyncio
import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Literal, TypeVar, cast

T = TypeVar("T")
Phase = Literal["before", "during", "after"]
PHASES: tuple[Phase, ...] = ("before", "during", "after")
PACKAGES = ("relume.eventing", "relume.cloudevents")


@dataclass(frozen=True, slots=True)
class Trap:
    """Fire once, when `point` is reached in this phase for the `occurrence`-th time."""

    point: str
    phase: Phase
    occurrence: int

    def __str__(self) -> str:
        return f"{self.phase} {self.point} (time {self.occurrence})"


class _Rewriter(ast.NodeTransformer):
    """Names the points of one module `module:line:column`, in the order of the source.

    `module` is written without `relume.eventing.`, elsewhere without `relume.`.
    """

    def __init__(self, module: str) -> None:
        self._module = module.removeprefix("relume.eventing.").removeprefix("relume.")
        self.points: list[str] = []

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        value = self._call("__await_point__", self._name(node), node.value, at=node)
        return ast.copy_location(ast.Await(value), node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> Sequence[ast.AST]:
        enter = self._name(node, "enter")
        last = node.body[-1]
        self.generic_visit(node)
        node.body.insert(0, self._tell(enter, "after", node))
        around: list[ast.stmt] = [self._tell(enter, "before", node), node]
        if not isinstance(last, ast.Return | ast.Raise):  # behind those it would never be told
            leave = self._name(node, "exit")
            node.body.append(self._tell(leave, "before", last))
            around.append(self._tell(leave, "after", node))
        return around

    def visit_AsyncFor(self, node: ast.AsyncFor) -> Sequence[ast.stmt]:
        name = self._name(node)
        self.generic_visit(node)
        node.body = [self._tell(name, "after", node), *node.body]
        return [self._tell(name, "before", node), node]

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        name = self._name(node.iter) if node.is_async else None
        self.generic_visit(node)
        if name is not None:
            node.iter = self._call("__iterate_point__", name, node.iter, at=node.iter)
        return node

    def _name(self, node: ast.expr | ast.stmt, part: str = "") -> str:
        name = f"{self._module}:{node.lineno}:{node.col_offset}" + (f":{part}" if part else "")
        self.points.append(name)
        return name

    def _tell(self, name: str, phase: Phase, at: ast.stmt) -> ast.stmt:
        call = self._call("__reach_point__", name, ast.Constant(phase), at=at)
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), at))

    def _call(
        self, function: str, name: str, argument: ast.expr, at: ast.expr | ast.stmt
    ) -> ast.Call:
        call = ast.Call(ast.Name(function, ast.Load()), [ast.Constant(name), argument], [])
        return ast.fix_missing_locations(ast.copy_location(call, at))


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        tree = _Rewriter(fullname).visit(ast.parse(self.get_data(path)))
        return compile(ast.fix_missing_locations(tree), path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _is_watched(name):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class Points:
    """What was reached in this process, and the trap that waits in it."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self._trap: Trap | None = None
        self._fire: Callable[[], None] = lambda: None

    def set(self, trap: Trap | None, fire: Callable[[], None]) -> None:
        self._trap, self._fire = trap, fire

    def install(self) -> None:
        """Rewrite what is imported from now on; no module of PACKAGES may be there yet."""
        here = [name for name in sys.modules if _is_watched(name)]
        assert not here, f"imported too early: {here}"
        vars(builtins)["__await_point__"] = self._pass
        vars(builtins)["__reach_point__"] = self._reach
        vars(builtins)["__iterate_point__"] = self._iterate
        sys.meta_path.insert(0, _Finder())

    async def _pass(self, name: str, awaitable: Awaitable[T]) -> T:
        self._reach(name, "before")
        result = await awaitable
        self._reach(name, "after")
        return result

    async def _iterate(self, name: str, items: AsyncIterable[T]) -> AsyncIterator[T]:
        self._reach(name, "before")
        async for item in items:
            self._reach(name, "after")
            yield item

    def _reach(self, name: str, phase: Phase) -> None:
        if phase == "before":
            self.reached[name] += 1
        trap = self._trap
        if trap is None or trap.point != name or trap.occurrence > self.reached[name]:
            return
        if trap.phase == phase:
            self._trap = None
            self._fire()
        elif trap.phase == "during" and phase == "before":
            self._trap = None
            # Runs after this task was suspended; at once if it never is.
            asyncio.get_running_loop().call_soon(self._fire)


def _is_watched(module: str) -> bool:
    return module.startswith(tuple(f"{package}." for package in PACKAGES))


def all_points() -> list[str]:
    """Every point of the packages, from their source."""
    found: list[str] = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        for folder in cast("list[str]", spec.submodule_search_locations):
            for file in sorted(Path(folder).rglob("*.py")):
                module = ".".join(file.relative_to(folder).with_suffix("").parts)
                rewriter = _Rewriter(f"{package}.{module}")
                rewriter.visit(ast.parse(file.read_text()))
                found += rewriter.points
    return found

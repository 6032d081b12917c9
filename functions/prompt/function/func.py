"""A domain event becomes an inference request, by a template and a mapping in `prompt.yaml`."""

import logging
from pathlib import Path
from typing import Any

from cloudevents.core.v1.event import CloudEvent
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonschema import Draft202012Validator

from .events import Answer, EventFunction, Json, Refusal, object_of
from .fitting import misfits
from .settings import ConfigError, Settings, load_settings

FIELDS = frozenset({"type", "schema", "request", "max_chars"})
#: In the mapping, an object with this one key is an expression and keeps the type of its value.
VALUE = "$value"


def new() -> "Prompt":
    return Prompt()


class Prompt(EventFunction):
    name = "prompt"

    def start(self, cfg: dict[str, str]) -> None:
        super().start(cfg)
        settings = load_settings(cfg, "prompt.yaml", FIELDS)
        self._type = settings.read("type", str)
        self._validator = Draft202012Validator(settings.schema("schema"))
        self._max_chars = settings.read("max_chars", int, 100_000)
        self._request = RequestTemplate(settings)
        logging.info("requests are of type %s, by %s", self._type, settings.file)

    async def answer(self, request: CloudEvent) -> Answer:
        data = object_of(request)
        if errors := misfits(data, self._validator):
            raise Refusal("invalid-data", "; ".join(errors), errors[0].split(":")[0])
        attributes = {name: str(value) for name, value in request.get_attributes().items()}
        made = self._request.render({"data": data, "event": attributes})
        if _length(made) > self._max_chars:
            raise Refusal(
                "prompt-too-long",
                f"the request has {_length(made)} characters, and max_chars is {self._max_chars}",
            )
        return Answer(self._type, made)


class RequestTemplate:
    """The mapping `request` of the settings, compiled once."""

    def __init__(self, settings: Settings) -> None:
        self._file: Path = settings.file
        # The data is never a template itself. The sandbox is there for templates that somebody
        # other than the operator wrote.
        self._environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined,
            loader=FileSystemLoader(settings.file.parent),
            keep_trailing_newline=False,
        )
        self._tree = self._compile(settings.read("request", dict), "request")

    def render(self, variables: Json) -> Any:
        """The request for these variables. Raises Refusal with reason `template-failed`."""
        try:
            return _render(self._tree, variables)
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError) as error:
            told = f"the template cannot be filled in: {type(error).__name__}"
            if isinstance(error, TemplateError):
                told += f": {error.message}"  # names variables, never their values
            raise Refusal("template-failed", told) from None

    def _compile(self, node: Any, where: str) -> Any:
        try:
            if isinstance(node, str):
                return self._environment.from_string(node).render
            if isinstance(node, dict) and set(node) == {VALUE}:
                expression = self._environment.compile_expression(node[VALUE], False)
                return lambda variables: _defined(expression(**variables), node[VALUE])
        except (TemplateError, TypeError) as error:
            raise ConfigError(f"{self._file}: {where}: {error}") from None
        if isinstance(node, dict):
            return {key: self._compile(each, f"{where}.{key}") for key, each in node.items()}
        if isinstance(node, list):
            return [self._compile(each, f"{where}[{i}]") for i, each in enumerate(node)]
        return node


def _render(node: Any, variables: Json) -> Any:
    if callable(node):
        return node(variables)
    if isinstance(node, dict):
        return {key: _render(each, variables) for key, each in node.items()}
    if isinstance(node, list):
        return [_render(each, variables) for each in node]
    return node


def _defined(value: Any, expression: str) -> Any:
    if isinstance(value, StrictUndefined):
        raise LookupError(expression)
    return value


def _length(node: Any) -> int:
    if isinstance(node, str):
        return len(node)
    if isinstance(node, dict):
        return sum(map(_length, node.values()))
    return sum(map(_length, node)) if isinstance(node, list) else 0

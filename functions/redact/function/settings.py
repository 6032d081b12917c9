"""The configuration of a function: one YAML file in a folder, as a ConfigMap mounts it.

The folder is `CONFIG_DIR`, else the `config` folder inside the package. Every function that is
configured by a file holds the same copy of this one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError


class ConfigError(Exception):
    """The configuration is wrong. The message names the file and the field."""


@dataclass(frozen=True)
class Settings:
    """The values of one file; `read` names the field in what it raises."""

    file: Path
    values: Mapping[str, Any]

    def read(self, name: str, kind: type, default: Any = None) -> Any:
        """The value of a field, which must be of `kind`. A field without a default is required."""
        value = self.values.get(name, default)
        if value is None:
            raise ConfigError(f"{self.file}: {name} is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"{self.file}: {name} must be of type {kind.__name__}")
        return value

    def schema(self, name: str) -> dict[str, Any]:
        """A JSON Schema, written here or in the file that is named (JSON or YAML)."""
        value = self.values.get(name)
        if isinstance(value, str):
            value = load_file(self.file.parent / value)
        if not isinstance(value, dict):
            raise ConfigError(f"{self.file}: {name} must be a JSON Schema or the name of a file")
        try:
            Draft202012Validator.check_schema(value)
        except SchemaError as error:
            raise ConfigError(f"{self.file}: {name}: {error.message}") from None
        return value


def load_file(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from None


def load_settings(cfg: Mapping[str, str], name: str, known: frozenset[str]) -> Settings:
    """Read `name` from the configuration folder. An unknown field is an error."""
    folder = Path(cfg.get("CONFIG_DIR") or Path(__file__).parent / "config")
    path = folder / name
    values = load_file(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the file must hold a mapping")
    if unknown := sorted(set(map(str, values)) - known):
        raise ConfigError(f"{path}: unknown field {unknown[0]}; known: {', '.join(sorted(known))}")
    return Settings(path, values)

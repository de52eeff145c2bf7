"""One's own methods, from a YAML file: a list of cycles (`schemas.Cycle`) by each one's name."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas import Cycle, MethodsFile
from trainer.errors import ConfigError
from trainer.problems import read_yaml


def read_methods(path: Path, taken: Collection[str]) -> dict[str, tuple[Cycle, ...]]:
    """The cycles of each method in a file.

    Args:
        path: Of the file.
        taken: Names that a method may not have.

    Raises:
        ConfigError: The file cannot be read, a name is taken, or a field is unknown or impossible;
            the message names the method, the stage and the field.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: expected the names of methods, each with a list of stages")
    try:
        methods = MethodsFile.model_validate_json(json.dumps(content), strict=True).root
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{path}: {_problem(first)}") from error
    if ours := sorted(methods.keys() & set(taken)):
        raise ConfigError(f"{path}: {', '.join(ours)}: is a method already; give it another name")
    return methods


def _problem(details: Mapping[str, Any]) -> str:
    """In words, with the method, the stage from 1, and the field."""
    method, *rest = (part for part in details["loc"] if part != "[key]")
    where = [str(method)]
    if rest and isinstance(rest[0], int):
        where.append(f"stage {rest.pop(0) + 1}")
    if rest[:1] == ["max_lr"] and details["type"] != "missing":
        return f"{', '.join(where)}, max_lr: expected a number above 0, or one for each dataset"
    if details["type"] == "extra_forbidden":
        known = ", ".join(Cycle.model_fields)
        return f"{', '.join(where)}: no field {rest[0]!r}; there are: {known}"
    return f"{', '.join([*where, *map(str, rest)])}: {details['msg']}"

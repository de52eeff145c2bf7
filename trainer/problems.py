"""One-line descriptions of what was wrong with a user's input or a program's record."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from featurestore import yamlfile
from featurestore.errors import first_problem
from featurestore.yamlfile import YamlError
from trainer.errors import ConfigError

_MOST_CHARS = 40


def in_a_line(error: Exception) -> str:
    """Return one line of what was wrong; the first problem, if pydantic found several."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    return " ".join(str(error).split()) or type(error).__name__


def refused(error: ValidationError) -> ConfigError:
    """Return an error for the first invalid option: its name, its value, and what is wrong."""
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    return ConfigError(f"{name} {_short(repr(first['input']))}: {first['msg']}")


def differing(found: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """Return the differing values, by name and with both values; names of `found` alone count."""
    return [
        f"{name} ({_short(value)}, the run has {_short(wanted[name])})"
        for name, value in found.items()
        if value != wanted[name]
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"


def read_yaml(path: Path, exponents: bool = True) -> object:
    """Read a YAML or JSON file of the user's; see `featurestore.yamlfile`.

    Raises:
        ConfigError: It cannot be read, or is no YAML that is taken.
    """
    try:
        return yamlfile.read_yaml(path, exponents)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except YamlError as error:
        raise ConfigError(f"{path}: is no YAML that is taken: {error}") from error

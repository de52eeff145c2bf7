"""A FeatureSpec from a YAML or JSON file, and the words for what is wrong with one."""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import yaml
from pydantic import ValidationError

from featurestore.errors import SpecError
from schemas import FeatureSpec as FeatureSpec  # public as `featurestore.FeatureSpec`
from schemas import Variant


def load_spec(path: Path) -> FeatureSpec:
    """The spec in a file; what it leaves out is the paper's.

    Raises:
        SpecError: The file is missing or no YAML or JSON mapping, or a field is unknown or
            impossible; the message names the field.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"cannot read the spec {path}: {error}") from error
    if not isinstance(values, dict):
        raise SpecError(f"the spec {path} is no mapping of field names to values")
    try:
        return FeatureSpec.model_validate_json(_json(values))
    except ValidationError as error:
        problems = "; ".join(_problem(e["loc"], e["type"], e["msg"]) for e in error.errors())
        raise SpecError(f"the spec {path}: {problems}") from error
    except (TypeError, ValueError) as error:
        raise SpecError(f"the spec {path}: {error}") from error


def with_variants(spec: FeatureSpec, more: Iterable[str]) -> FeatureSpec:
    """The spec with more variants: those it lacks follow its own, in one order however given.

    Raises:
        SpecError: There is no such variant.
    """
    wanted, known = set(more), get_args(Variant)
    for name in sorted(wanted.difference(known)):
        near = "".join(f"; did you mean {n}?" for n in difflib.get_close_matches(name, known, 1))
        raise SpecError(f"no variant {name!r}; there are: {', '.join(known)}{near}")
    lacking = (v for v in known if v in wanted.difference(spec.variants))
    return spec.model_copy(update={"variants": (*spec.variants, *lacking)})


def _json(values: dict[object, object]) -> str:
    """JSON text, because pydantic's JSON mode takes lists for tuples and still refuses `"1024"`."""
    return json.dumps(values)


def _problem(where: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(map(str, where))
    if kind != "extra_forbidden":
        return f"{name}: {message}" if name else message.removeprefix("Value error, ")
    near = difflib.get_close_matches(str(where[-1]), FeatureSpec.model_fields, 1)
    return f"{name}: no such field" + (f"; did you mean {near[0]}?" if near else "")

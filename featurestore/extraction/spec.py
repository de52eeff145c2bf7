"""A FeatureSpec from a YAML or JSON file, and messages about mistakes in one."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from featurestore.errors import SpecError, cause, first_problem
from featurestore.text import did_you_mean
from featurestore.yamlfile import YamlError, read_yaml
from schemas import EXTRACTOR_VERSION as EXTRACTOR_VERSION  # public in `featurestore`
from schemas import FeatureSpec as FeatureSpec
from schemas import Resolution, TrimSpec, Variant

_NAMES = [name for part in (FeatureSpec, Resolution, TrimSpec) for name in part.model_fields]


def load_spec(path: Path) -> FeatureSpec:
    """Read a spec from a file; omitted fields have the paper's values.

    Raises:
        SpecError: The file is missing or not a YAML or JSON mapping, or a field is unknown or
            invalid; the message names the first such field.
    """
    try:
        values = read_yaml(path)
    except OSError as error:
        raise SpecError(f"cannot read the spec {path}: {cause(error)}") from error
    except YamlError as error:
        raise SpecError(f"cannot read the spec {path}: {error}") from error
    return spec_of(values, f"the spec {path}")


def spec_of(values: object, where: str = "the spec") -> FeatureSpec:
    """Return the spec for a mapping of fields; omitted fields have the paper's values.

    Args:
        values: Mapping of field names to values.
        where: Name of the spec in messages.

    Raises:
        SpecError: It is not a mapping, or a field is unknown or invalid; the message names the
            first such field.
    """
    if not isinstance(values, Mapping):
        raise SpecError(f"{where} is no mapping of field names to values")
    try:
        # JSON, of which the strict mode takes lists for tuples, and neither "1024" nor true for a
        # number.
        return FeatureSpec.model_validate_json(json.dumps(dict(values)), strict=True)
    except ValidationError as error:
        raise SpecError(f"{where}: {first_problem(error, _NAMES)}") from error
    except TypeError as error:
        raise SpecError(f"{where}: expected values that JSON has: {error}") from error


def with_variants(spec: FeatureSpec, more: Iterable[str]) -> FeatureSpec:
    """Return the spec with more variants, which follow its own in a fixed order.

    Raises:
        SpecError: There is no such variant, or all images together are too large.
    """
    chosen, known = set(more), get_args(Variant)
    for name in sorted(chosen.difference(known)):
        meant = did_you_mean(name, known)
        raise SpecError(f"no variant {name!r}; there are: {', '.join(known)}{meant}")
    lacking = (v for v in known if v in chosen.difference(spec.variants))
    values = spec.model_dump() | {"variants": (*spec.variants, *lacking)}
    try:
        return FeatureSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(first_problem(error, _NAMES)) from error

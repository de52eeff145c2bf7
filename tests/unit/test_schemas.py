import json
from pathlib import Path

import jsonschema

import schemas.__main__ as published
from schemas import FeatureSpec


def test_the_committed_json_schemas_are_the_models() -> None:
    assert published.stale() == []


def test_a_schema_that_is_missing_or_edited_is_noticed(tmp_path: Path) -> None:
    for name, text in published.generate().items():
        (tmp_path / name).write_text(text)
    assert published.stale(tmp_path) == []
    (tmp_path / "FeatureSpec.json").write_text("{}")
    (tmp_path / "Clip.json").unlink()
    (tmp_path / "Old.json").write_text("{}")
    assert published.stale(tmp_path) == ["Clip.json", "FeatureSpec.json", "Old.json"]


def test_a_spec_satisfies_its_own_json_schema() -> None:
    schema = json.loads((published.FOLDER / "FeatureSpec.json").read_text())
    jsonschema.validate(json.loads(FeatureSpec().model_dump_json()), schema)

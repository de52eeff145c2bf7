"""`python -m schemas` writes the JSON Schemas; `--check` exits with 1 if they are not current."""

import json
import sys
from pathlib import Path

from schemas import (
    Clip,
    Ensemble,
    EpochMetrics,
    Evaluation,
    FeatureSpec,
    FoldRecord,
    LrFind,
    MethodsFile,
    Predictions,
    RunConfig,
    RunRecord,
    RunResult,
    StoreManifest,
)

PUBLISHED = (
    FeatureSpec,
    Clip,
    StoreManifest,
    RunConfig,
    RunRecord,
    RunResult,
    FoldRecord,
    EpochMetrics,
    Predictions,
    Evaluation,
    LrFind,
    MethodsFile,
    Ensemble,
)
FOLDER = Path(__file__).parent / "json"


def generate() -> dict[str, str]:
    """Return the text of each JSON Schema by file name."""
    return {
        f"{model.__name__}.json": json.dumps(model.model_json_schema(), indent=2, sort_keys=True)
        + "\n"
        for model in PUBLISHED
    }


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the names of the files that are missing, outdated or no longer published."""
    generated = generate()
    existing = {path.name: path.read_text() for path in folder.glob("*.json")}
    return sorted(
        name for name in generated | existing if generated.get(name) != existing.get(name)
    )


def main() -> int:
    """Write the files, or with `--check` only compare; return the exit code."""
    if "--check" in sys.argv[1:]:
        if names := stale():
            sys.stderr.write(f"not current: {', '.join(names)}; run `make schemas`\n")
        return int(bool(names))
    for name, text in generate().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

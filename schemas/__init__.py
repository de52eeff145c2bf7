"""The contract between the two programs: pydantic models only, no behaviour."""

from schemas.base import Schema, Sealed
from schemas.ensemble import Ensemble, EnsembleMember, PairedDifference
from schemas.features import (
    FULL,
    FeatureSpec,
    ResizeOperator,
    Resolution,
    TrimSpec,
    Variant,
)
from schemas.lrfind import LrFind
from schemas.method import Cycle, MethodsFile
from schemas.prediction import (
    CheckpointName,
    ClassEvaluation,
    Evaluation,
    FoldEvaluation,
    Prediction,
    Predictions,
    UnusedFile,
)
from schemas.run import (
    Acceleration,
    EpochMetrics,
    FoldRecord,
    FoldResult,
    Reading,
    RunConfig,
    RunRecord,
    RunResult,
    Selection,
    Stage,
)
from schemas.store import (
    FORMAT_VERSION,
    Clip,
    ClipStatus,
    DatasetCard,
    Fold,
    StoreManifest,
    StoreMark,
)

__all__ = [
    "FORMAT_VERSION",
    "FULL",
    "Acceleration",
    "CheckpointName",
    "ClassEvaluation",
    "Clip",
    "ClipStatus",
    "Cycle",
    "DatasetCard",
    "Ensemble",
    "EnsembleMember",
    "EpochMetrics",
    "Evaluation",
    "FeatureSpec",
    "Fold",
    "FoldEvaluation",
    "FoldRecord",
    "FoldResult",
    "LrFind",
    "MethodsFile",
    "PairedDifference",
    "Prediction",
    "Predictions",
    "Reading",
    "ResizeOperator",
    "Resolution",
    "RunConfig",
    "RunRecord",
    "RunResult",
    "Schema",
    "Sealed",
    "Selection",
    "Stage",
    "StoreManifest",
    "StoreMark",
    "TrimSpec",
    "UnusedFile",
    "Variant",
]

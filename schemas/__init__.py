"""The contract between the two programs: pydantic models only, no behaviour.

Each name is imported when it is first used, so that a command line answers without pydantic.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from schemas.base import Schema, Sealed
    from schemas.ensemble import Ensemble, EnsembleMember, PairedDifference
    from schemas.features import (
        EXTRACTOR_VERSION,
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
        BestOf,
        Carry,
        EpochMetrics,
        FirstConv,
        FoldRecord,
        FoldResult,
        LayerGroups,
        Moments,
        Reading,
        Recipe,
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
else:
    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__,
        submod_attrs={
            "base": ["Schema", "Sealed"],
            "ensemble": ["Ensemble", "EnsembleMember", "PairedDifference"],
            "features": [
                "EXTRACTOR_VERSION",
                "FULL",
                "FeatureSpec",
                "ResizeOperator",
                "Resolution",
                "TrimSpec",
                "Variant",
            ],
            "lrfind": ["LrFind"],
            "method": ["Cycle", "MethodsFile"],
            "prediction": [
                "CheckpointName",
                "ClassEvaluation",
                "Evaluation",
                "FoldEvaluation",
                "Prediction",
                "Predictions",
                "UnusedFile",
            ],
            "run": [
                "Acceleration",
                "BestOf",
                "Carry",
                "EpochMetrics",
                "FirstConv",
                "FoldRecord",
                "FoldResult",
                "LayerGroups",
                "Moments",
                "Reading",
                "Recipe",
                "RunConfig",
                "RunRecord",
                "RunResult",
                "Selection",
                "Stage",
            ],
            "store": [
                "Clip",
                "ClipStatus",
                "DatasetCard",
                "FORMAT_VERSION",
                "Fold",
                "StoreManifest",
                "StoreMark",
            ],
        },
    )

__all__ = [
    "EXTRACTOR_VERSION",
    "FORMAT_VERSION",
    "FULL",
    "Acceleration",
    "BestOf",
    "Carry",
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
    "FirstConv",
    "Fold",
    "FoldEvaluation",
    "FoldRecord",
    "FoldResult",
    "LayerGroups",
    "LrFind",
    "MethodsFile",
    "Moments",
    "PairedDifference",
    "Prediction",
    "Predictions",
    "Reading",
    "Recipe",
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

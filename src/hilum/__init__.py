"""hilum: deep learning on medical images, from scanner files to answers that can be trusted.

This is the front door: every public name, imported when it is first used, so that `import hilum`
loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilum.api import (
        ClassificationOptions,
        Labelling,
        NetworkOptions,
        SegmentationOptions,
        check,
        compare,
        demo,
        evaluate,
        export,
        import_nnunet,
        load_model,
        plan,
        predict,
        train,
        tune,
    )
    from hilum.dataset import (
        Audit,
        Case,
        ClassTable,
        Dataset,
        Fold,
        audit,
        make_folds,
        open_dataset,
        read_annotation,
        read_case,
    )
    from hilum.errors import (
        DataError,
        FormatError,
        GeometryError,
        HilumError,
        LabelError,
        ModelError,
        ResourceError,
        TrainingError,
        UsageError,
    )
    from hilum.evaluation import (
        ClassEvaluation,
        ClassScore,
        Comparison,
        Evaluation,
        Score,
        score_labels,
        summarise,
    )
    from hilum.inference import (
        ClassPrediction,
        ClassPredictor,
        Prediction,
        Predictor,
        RunReport,
        TrainedModel,
        make_predictor,
    )
    from hilum.io import read_labels, read_volume, write_labels, write_volume
    from hilum.networks import Classifier, UNet, build_network
    from hilum.plan import (
        Decision,
        Fingerprint,
        Plan,
        load_plan,
        make_fingerprint,
        make_plan,
        save_plan,
    )
    from hilum.volume import Geometry, Label, LabelTable, Region, Volume

_HOMES = {
    "hilum.api": (
        "ClassificationOptions",
        "Labelling",
        "NetworkOptions",
        "SegmentationOptions",
        "check",
        "compare",
        "demo",
        "evaluate",
        "export",
        "import_nnunet",
        "load_model",
        "plan",
        "predict",
        "train",
        "tune",
    ),
    "hilum.dataset": (
        "Audit",
        "Case",
        "ClassTable",
        "Dataset",
        "Fold",
        "audit",
        "make_folds",
        "open_dataset",
        "read_annotation",
        "read_case",
    ),
    "hilum.errors": (
        "DataError",
        "FormatError",
        "GeometryError",
        "HilumError",
        "LabelError",
        "ModelError",
        "ResourceError",
        "TrainingError",
        "UsageError",
    ),
    "hilum.evaluation": (
        "ClassEvaluation",
        "ClassScore",
        "Comparison",
        "Evaluation",
        "Score",
        "score_labels",
        "summarise",
    ),
    "hilum.inference": (
        "ClassPrediction",
        "ClassPredictor",
        "Prediction",
        "Predictor",
        "RunReport",
        "TrainedModel",
        "make_predictor",
    ),
    "hilum.io": ("read_labels", "read_volume", "write_labels", "write_volume"),
    "hilum.networks": ("Classifier", "UNet", "build_network"),
    "hilum.plan": (
        "Decision",
        "Fingerprint",
        "Plan",
        "load_plan",
        "make_fingerprint",
        "make_plan",
        "save_plan",
    ),
    "hilum.volume": ("Geometry", "Label", "LabelTable", "Region", "Volume"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "__version__",
    *sorted(_HOME_OF),
]


def __getattr__(name: str) -> Any:
    """Import a public name from its room."""
    if name == "__version__":
        from importlib import metadata  # a tenth of a second

        return metadata.version("hilum")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hilum' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, for completion."""
    return __all__

"""The leak audit: near-duplicates, patients on both sides, columns that tell the class."""

from hilum.dataset.leaks.audit import audit, audit_of
from hilum.dataset.leaks.record import Audit, Pair, Predictor, SharedPatient

__all__ = ["Audit", "Pair", "Predictor", "SharedPatient", "audit", "audit_of"]

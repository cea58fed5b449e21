"""The leak audit: near-duplicates, patients on both sides, columns that tell the class."""

from hilum.dataset.leaks.audit import audit as audit
from hilum.dataset.leaks.audit import audit_of as audit_of
from hilum.dataset.leaks.record import Audit as Audit
from hilum.dataset.leaks.record import Pair as Pair
from hilum.dataset.leaks.record import Predictor as Predictor
from hilum.dataset.leaks.record import SharedPatient as SharedPatient

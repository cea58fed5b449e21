"""The doctor: finds what is wrong with a data set, says the cure, and mends a copy on request."""

from hilum.dataset.doctor.check import check
from hilum.dataset.doctor.finding import KINDS, Finding, Fixed, FixLog, Severity
from hilum.dataset.doctor.fix import fix, refuse_target

__all__ = ["KINDS", "Finding", "FixLog", "Fixed", "Severity", "check", "fix", "refuse_target"]

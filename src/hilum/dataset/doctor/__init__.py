"""The doctor: finds what is wrong with a data set, says the cure, and mends a copy on request."""

from hilum.dataset.doctor.check import check as check
from hilum.dataset.doctor.finding import KINDS as KINDS
from hilum.dataset.doctor.finding import Finding as Finding
from hilum.dataset.doctor.finding import Fixed as Fixed
from hilum.dataset.doctor.finding import FixLog as FixLog
from hilum.dataset.doctor.finding import Severity as Severity
from hilum.dataset.doctor.fix import fix as fix
from hilum.dataset.doctor.fix import refuse_target as refuse_target

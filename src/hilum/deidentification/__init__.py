"""De-identification by DICOM PS3.15 Annex E, and a search of its output for what was removed."""

from hilum.deidentification.folder import deidentify_folder as deidentify_folder
from hilum.deidentification.profile import Options as Options
from hilum.deidentification.report import DeidentificationReport as DeidentificationReport

"""De-identification by DICOM PS3.15 Annex E, and a search of its output for what was removed."""

from hilum.io.dicom.deidentify.folder import deidentify_folder as deidentify_folder
from hilum.io.dicom.deidentify.profile import Options as Options
from hilum.io.dicom.deidentify.report import DeidentificationReport as DeidentificationReport

"""DICOM studies, series and annotations, read by where each frame lies in the patient."""

from hilum.dicom.annotation import read_annotation as read_annotation
from hilum.dicom.choose import Choice as Choice
from hilum.dicom.choose import SeriesChoice as SeriesChoice
from hilum.dicom.choose import choose as choose
from hilum.dicom.rule import Rule as Rule
from hilum.dicom.rule import parse_rule as parse_rule
from hilum.dicom.stack import OpenedStack as OpenedStack
from hilum.dicom.stack import open_stack as open_stack
from hilum.dicom.study import SeriesVolume as SeriesVolume
from hilum.dicom.study import Study as Study
from hilum.dicom.study import StudyList as StudyList
from hilum.dicom.study import read_studies as read_studies

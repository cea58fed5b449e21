"""Images in and out, by what a file is."""

from hilum.io.dispatch import in_colours as in_colours
from hilum.io.dispatch import inspect_file as inspect_file
from hilum.io.dispatch import is_dicom as is_dicom
from hilum.io.dispatch import is_dicom_annotation as is_dicom_annotation
from hilum.io.dispatch import read_channels as read_channels
from hilum.io.dispatch import read_dicom_annotation as read_dicom_annotation
from hilum.io.dispatch import read_geometry as read_geometry
from hilum.io.dispatch import read_labels as read_labels
from hilum.io.dispatch import read_modality as read_modality
from hilum.io.dispatch import read_volume as read_volume
from hilum.io.dispatch import segments_of as segments_of
from hilum.io.dispatch import supported as supported
from hilum.io.dispatch import write_labels as write_labels
from hilum.io.dispatch import write_volume as write_volume
from hilum.io.medmnist import ArchivePart as ArchivePart
from hilum.io.medmnist import archive_parts as archive_parts
from hilum.io.picture import palette_of as palette_of

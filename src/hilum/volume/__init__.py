"""Images in space: geometry, volumes, label tables, and the operations that move voxels."""

from hilum.volume.crop import Box as Box
from hilum.volume.crop import crop as crop
from hilum.volume.crop import pad as pad
from hilum.volume.geometry import CANONICAL as CANONICAL
from hilum.volume.geometry import Geometry as Geometry
from hilum.volume.labels import LARGEST_ID as LARGEST_ID
from hilum.volume.labels import MOST_LABELS as MOST_LABELS
from hilum.volume.labels import Label as Label
from hilum.volume.labels import LabelTable as LabelTable
from hilum.volume.labels import Region as Region
from hilum.volume.onto import resample_labels_onto as resample_labels_onto
from hilum.volume.onto import resample_onto as resample_onto
from hilum.volume.orient import reorient as reorient
from hilum.volume.orient import reorient_geometry as reorient_geometry
from hilum.volume.orient import snap as snap
from hilum.volume.present import label_boxes as label_boxes
from hilum.volume.present import places_of as places_of
from hilum.volume.resample import resample as resample
from hilum.volume.resample import resample_array as resample_array
from hilum.volume.resample import resample_labels as resample_labels
from hilum.volume.resample import resample_labels_array as resample_labels_array
from hilum.volume.volume import Volume as Volume

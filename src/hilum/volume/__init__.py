"""Images in space: geometry, volumes, label tables, and the operations that move voxels."""

from hilum.volume.geometry import CANONICAL, Geometry
from hilum.volume.labels import Label, LabelTable, Region
from hilum.volume.volume import Volume

__all__ = ["CANONICAL", "Geometry", "Label", "LabelTable", "Region", "Volume"]

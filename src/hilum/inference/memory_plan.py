"""Plan of memory: what a case takes, whether it is refused, and where its arrays are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hilum.engines.memory import RowStorage, resident
from hilum.errors import HilumError, ResourceError
from hilum.inference.inputs import image_files
from hilum.inference.windows import count_windows
from hilum.io import inspect_file
from hilum.preprocess.restore_stream import WORKING_BYTES
from hilum.preprocess.steps import network_shape
from hilum.targets.postprocess import BYTES_A_VOXEL
from hilum.volume import Box, reorient_geometry

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.dataset.case import Case
    from hilum.engines.memory import Budget
    from hilum.inference.inputs import Source
    from hilum.inference.sliding_window import Sweep
    from hilum.plan.segmentation import SegmentationPlan
    from hilum.preprocess import Restore
    from hilum.volume import Geometry

_ROWS = 6  # of K planes that exist beside the mean while rows are restored
# bytes a voxel and channel, of the source's grid and of the network's, while a case is preprocessed
_PREPROCESSING = 8
_NORMALISING = {"case": 9, "case_nonzero": 15, "case_filled": 19}
"""Bytes a voxel of one channel that statistics of a case take beside the channels themselves:
float64, masks, numbered pieces."""


@dataclass(frozen=True)
class Size:
    """Size of a case, from its files' headers.

    Args:
        patches: that the network has to see, mirrored ones counted.
        bytes: of memory that reading and preprocessing it take.
    """

    patches: int
    bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """Storage of the arrays of a case while it is predicted.

    Args:
        probabilities: whether these are kept, too.
        probabilities_in_file: whether they are in a file, as memory is not enough.
        contours_in_file: whether contours are in a file, as memory is not enough.
        rows: limits of the rows of logits in the making.
        limit: bytes that the process may hold in the end, while labels are post-processed.
        reads_ahead: whether the next case is read meanwhile.
    """

    probabilities: bool = False
    probabilities_in_file: bool = False
    contours_in_file: bool = False
    rows: RowStorage = field(default_factory=RowStorage)
    limit: int = 0
    reads_ahead: bool = True


@dataclass(frozen=True)
class MemoryPlanner:
    """Plans the memory of cases under the limit of this process.

    Args:
        plan: of the model.
        sweep: of the sliding window.
        budget: the limit.
        contours: number of regions whose contours are kept on the source's grid.
    """

    plan: SegmentationPlan
    sweep: Sweep
    budget: Budget
    contours: int = 0

    @property
    def working(self) -> int:
        """Bytes of the arrays that each restoring stream works in."""
        return min(WORKING_BYTES, self.budget.most // 32)

    def size_of_files(self, source: Source) -> Size | None:
        """Return the size of a case from its files' headers, as if it had no margins to crop.

        None where these cannot be read quickly (DICOM) or at all.
        """
        files = image_files(source)
        if not files or any(file.is_dir() for file in files):
            return None
        try:
            facts = [inspect_file(file) for file in files]
        except HilumError:
            return None  # reading it reports what is wrong
        stored = sum(one.channels * one.dtype.itemsize for one in facts)
        return self.size(facts[0].geometry, stored=stored)

    def size(self, geometry: Geometry, *, stored: int) -> Size:
        """Return the size of a case on a grid; `stored` bytes a voxel are still to be read."""
        channels = len(self.plan.channels)
        code = self.plan.orientation.value
        turned = geometry if code == "source" else reorient_geometry(geometry, code)
        shape = network_shape(turned, Box((0, 0, 0), turned.shape), self.plan)
        voxels, inside = math.prod(geometry.shape), math.prod(shape)
        windows = count_windows(self.sweep.padded(shape), self.sweep.patch, self.sweep.overlap)
        statistics = max(_NORMALISING.get(how.kind, 0) for how in self.plan.normalisation.value)
        beside = max(_PREPROCESSING * channels, 4 * channels + statistics)
        needed = voxels * (stored + beside) + _PREPROCESSING * channels * inside
        return Size(patches=windows * self.sweep.copies, bytes=needed)

    def refuse_too_large(self, case: str, size: Size) -> None:
        """Refuse a case whose images take more memory than is left, before the memory is gone.

        Raises:
            ResourceError: what the process holds already and these bytes are more than is allowed.
        """
        held, most = resident(), self.budget.most
        if held + size.bytes <= most:
            return
        least = math.ceil(11 * (held + size.bytes) / 2**30) / 10  # a tenth more, for the patches
        images = f"{size.bytes / 2**30:.2f} GiB"
        alone = held >= most
        raise ResourceError(
            (
                f"{case}: hilum and the model alone hold {held / 2**30:.2f} GiB, which is more than"
                f" the {self.budget}"
                if alone
                else f"{case}: its images take {images} while they are brought to the model's"
                f" spacing, beside the {held / 2**30:.2f} GiB that hilum and the model hold, of"
                f" {self.budget}"
            ),
            needed=f"at least {least:.1f} GiB, of which the images take {images}",
            cure=f"allow more (memory='{least:.1f}GiB'), "
            + (
                "or close other programs; smaller images do not help"
                if alone
                else "crop the image to the part that matters, or use another machine"
            ),
        )

    def plan_case(
        self,
        restore: Restore,
        *,
        probabilities: bool = False,
        following: Case | None = None,
        folder: Path | None = None,
    ) -> MemoryPlan:
        """Plan the memory of a preprocessed case.

        Args:
            restore: its way back.
            probabilities: also keep probabilities on the source's grid. They stay in memory where
                they take at most half of what is left.
            following: the next case. It is read meanwhile where it takes at most a third of what
                is left beside this case's post-processing; a size that is not known (DICOM) is
                taken to be that of this case.
            folder: for files in place of memory.
        """
        outputs, voxels = self.sweep.outputs, math.prod(restore.source.shape)
        held = resident()
        label_bytes = int(np.min_scalar_type(max(self.plan.labels.ids)).itemsize)
        # post-processing changes labels all over the grid at most
        afterwards = (BYTES_A_VOXEL + label_bytes) * voxels * bool(self.plan.postprocessing.value)
        reserve = 0
        if following is not None:
            size = self.size_of_files(following) or self.size(
                restore.source, stored=4 * len(self.plan.channels)
            )
            reserve = size.bytes
        reads_ahead = reserve <= (self.budget.most - held - afterwards) // 3
        most = self.budget.most - (reserve if reads_ahead else 0)
        labels = label_bytes * voxels
        left = most - labels - held - afterwards
        in_file = probabilities and 4 * outputs * voxels > left // 2
        left -= 4 * outputs * voxels * (probabilities and not in_file)
        contours_in_file = self.contours * voxels > left // 2
        row = 4 * outputs * math.prod(restore.shape[1:])
        streams = 1 + probabilities + bool(self.contours)
        beside = labels + streams * (2 * self.working + _ROWS * row) + max(self.working, row)
        beside += self.working * (in_file + contours_in_file)  # pages that are not given back yet
        rows = RowStorage(most - beside, folder, at_once=self.working)
        return MemoryPlan(probabilities, in_file, contours_in_file, rows, most, reads_ahead)

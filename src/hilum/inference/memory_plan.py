"""Plan of memory: what a case takes, whether it is refused, and where its arrays are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import HilumError, ResourceError
from hilum.inference.inputs import image_files
from hilum.inference.memory import RowStorage, resident
from hilum.inference.windows import count_windows
from hilum.io import inspect_file
from hilum.preprocess.restore_stream import WORKING_BYTES
from hilum.preprocess.steps import network_shape
from hilum.tasks.postprocess import BYTES_A_VOXEL
from hilum.volume import Box, reorient_geometry

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.inference.inputs import Source
    from hilum.inference.memory import Budget
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
        voxels: of the source's grid.
        patches: that the network has to see, mirrored ones counted.
        bytes: of memory that reading and preprocessing it take.
    """

    voxels: int
    patches: int
    bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """Storage of the arrays of a case while it is predicted.

    Args:
        rows: limits of the rows of logits in the making.
        probabilities_in_file: whether the probabilities are in a file, as memory is not enough.
        limit: bytes that the process may hold in the end, while labels are post-processed.
    """

    rows: RowStorage
    probabilities_in_file: bool
    limit: int


@dataclass(frozen=True)
class MemoryPlanner:
    """Plans the memory of cases under the limit of this process.

    Args:
        plan: of the model.
        sweep: of the sliding window.
        budget: the limit.
    """

    plan: SegmentationPlan
    sweep: Sweep
    budget: Budget

    @property
    def working(self) -> int:
        """Bytes of the arrays that each restoring stream works in."""
        return min(WORKING_BYTES, self.budget.most // 32)

    @property
    def label_bytes(self) -> int:
        """Bytes of a voxel of a label map."""
        return int(np.min_scalar_type(max(self.plan.labels.ids)).itemsize)

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
        return self.size(facts[0].geometry, stored=stored, channels=len(self.plan.channels))

    def size(self, geometry: Geometry, *, stored: int, channels: int) -> Size:
        """Return the size of a case on a grid; `stored` bytes a voxel are still to be read."""
        code = self.plan.orientation.value
        turned = geometry if code == "source" else reorient_geometry(geometry, code)
        shape = network_shape(turned, Box((0, 0, 0), turned.shape), self.plan)
        voxels, inside = math.prod(geometry.shape), math.prod(shape)
        windows = count_windows(self.sweep.padded(shape), self.sweep.patch, self.sweep.overlap)
        statistics = max(_NORMALISING.get(how.kind, 0) for how in self.plan.normalisation.value)
        beside = max(_PREPROCESSING * channels, 4 * channels + statistics)
        needed = voxels * (stored + beside) + _PREPROCESSING * channels * inside
        return Size(voxels=voxels, patches=windows * self.sweep.copies, bytes=needed)

    def refuse_too_large(self, case: str, needed: int) -> None:
        """Refuse a case whose images take more memory than is left, before the memory is gone.

        Raises:
            ResourceError: what the process holds already and these bytes are more than is allowed.
        """
        held, most = resident(), self.budget.most
        if held + needed <= most:
            return
        least = math.ceil(11 * (held + needed) / 2**30) / 10  # a tenth more, for the patches
        enough = f"{least:.1f} GiB, of which the images take {needed / 2**30:.2f}"
        if held >= most:
            raise ResourceError(
                f"{case}: hilum and the model alone hold {held / 2**30:.2f} GiB, which is more than"
                f" the {self.budget}",
                needed=f"at least {enough}",
                cure=(
                    f"allow more memory (--memory {least:.1f}GiB), or close other programs; smaller"
                    " images do not help"
                ),
            )
        raise ResourceError(
            f"{case}: its images take {needed / 2**30:.2f} GiB while they are brought to the"
            f" model's spacing, beside the {held / 2**30:.2f} GiB that hilum and the model hold, of"
            f" {self.budget}",
            needed=f"about {enough}",
            cure=(
                f"allow more (--memory {least:.1f}GiB), crop the image to the part that matters, or"
                " use another machine"
            ),
        )

    def read_ahead(self, expected: Size | None, before: Geometry | None) -> int | None:
        """Return the bytes to set aside for reading a case while another is predicted.

        Args:
            expected: size of the case to be read; None: as the one before it.
            before: grid of the case that is predicted meanwhile; None where there is none.

        Returns:
            None where it has to wait: it takes more than a third of what is left.
        """
        if expected is None and before is not None:
            channels = len(self.plan.channels)
            expected = self.size(before, stored=4 * channels, channels=channels)
        needed = 0 if expected is None else expected.bytes
        afterwards = 0 if before is None else self._postprocessing(before)
        return needed if needed <= (self.budget.most - resident() - afterwards) // 3 else None

    def plan_case(
        self, restore: Restore, *, probabilities: bool, reserve: int, folder: Path | None
    ) -> MemoryPlan:
        """Plan the memory of a preprocessed case.

        Args:
            restore: its way back.
            probabilities: also keep probabilities on the source's grid. They stay in memory where
                they take at most half of what is left.
            reserve: bytes that something else, such as reading the next case, takes meanwhile.
            folder: for files in place of memory.
        """
        outputs, voxels = self.sweep.outputs, math.prod(restore.source.shape)
        labels = self.label_bytes * voxels
        most = self.budget.most - reserve
        left = most - labels - resident()
        afterwards = self._postprocessing(restore.source)
        in_file = probabilities and 4 * outputs * voxels > (left - afterwards) // 2
        row = 4 * outputs * math.prod(restore.shape[1:])
        streams = 1 + probabilities
        beside = labels + streams * (2 * self.working + _ROWS * row) + max(self.working, row)
        if in_file:
            beside += self.working  # pages of the file that are not given back yet
        rows = RowStorage(most - beside, folder, at_once=self.working)
        return MemoryPlan(rows, in_file, most)

    def _postprocessing(self, geometry: Geometry) -> int:
        """Bytes that post-processing takes at most: its changes are spread over the whole grid."""
        voxels = math.prod(geometry.shape) if self.plan.postprocessing.value else 0
        return (BYTES_A_VOXEL + self.label_bytes) * voxels

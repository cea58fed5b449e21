"""Memory for reading the next case: a third of what is left beside this one's post-processing."""

from dataclasses import replace

import pytest

from hilum.dataset import Case
from hilum.engines.memory import Budget
from hilum.inference import Predictor
from hilum.inference.memory_plan import MemoryPlanner, Size
from hilum.plan.segmentation import PostprocessingStep
from hilum.targets.postprocess import BYTES_A_VOXEL
from inference_toys import index_volume, make_model

MOST, HELD = 10**7, 10**6
STEP = PostprocessingStep(kind="fill_holes", region="r", labels=(2,))


@pytest.mark.parametrize("steps", [(), (STEP,)])
def test_post_processing_of_this_case_comes_before_reading_the_next(steps, monkeypatch):
    model = make_model()
    plan = model.plan
    cleaning = plan.postprocessing.model_copy(update={"value": steps})
    object.__setattr__(model, "plan", plan.model_copy(update={"postprocessing": cleaning}))
    predictor = Predictor(model)
    image = index_volume()
    before = predictor.prepare(image)
    voxels = image.array[0].size
    needed = (
        (BYTES_A_VOXEL + predictor.predict(image).labels.array.itemsize) * voxels if steps else 0
    )
    predictor._memory = replace(predictor._memory, budget=Budget(MOST, given=True))
    monkeypatch.setattr("hilum.inference.memory_plan.resident", lambda: HELD)
    room = (MOST - HELD - needed) // 3
    following = Case("next", None, {})
    limits = []
    for size in (room, room + 1):
        known = Size(patches=1, bytes=size)
        monkeypatch.setattr(MemoryPlanner, "size_of_files", lambda *_, size=known: size)
        memory = predictor.plan_memory(before, following=following)
        assert memory.reads_ahead == (size == room)
        limits.append(memory.limit)
    assert limits == [MOST - room, MOST]  # what waits takes nothing meanwhile

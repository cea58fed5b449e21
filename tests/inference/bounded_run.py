"""Predictions in a process of its own, without torch: prints the peak memory as JSON.

Used by test_bounded_memory.py, which starts it: a process of its own holds only what it needs.
"""

import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.modules["torch"] = (
    None  # importing it raises: an exported model predicts where torch is not installed
)

import hilum  # noqa: E402
import hilum.api  # noqa: E402, F401
from hilum.engines.memory import resident  # noqa: E402
from hilum.inference import Predictor, predict_many, predictor  # noqa: E402
from hilum.inference.run_report import peak_memory_bytes  # noqa: E402
from hilum.plan import load_plan  # noqa: E402


class Free:
    """Answers at once: the label is the intensity, in steps.

    Its logits are the caller's to keep, as those of any engine.
    """

    name, precision, device, batch, because = "free", "float32", "nothing", 1, "it costs nothing"

    def __init__(self, outputs):
        self.outputs = outputs
        self.calls = 0

    def __call__(self, patches):
        self.calls += 1
        answer = np.full((len(patches), self.outputs, *patches.shape[2:]), -1, np.float32)
        wanted = np.clip(np.rint(patches[:, :1]), 0, self.outputs - 1).astype(np.int64)
        np.put_along_axis(answer, wanted, np.float32(1), axis=1)
        return answer

    def close(self):
        pass


def main(plan_path, source, out, memory, probabilities):
    plan = load_plan(Path(plan_path))
    engine = Free(plan.network.value.out_channels)
    model = SimpleNamespace(
        plan=plan,
        id="free",
        facts=None,
        metrics=None,
        confidence=None,
        make_engine=lambda *_, **__: engine,
    )
    ready = Predictor(model, memory=memory)
    files, mapped = [], predictor.file_array
    predictor.file_array = lambda shape, folder: (files.append(shape), mapped(shape, folder))[1]
    most, going = [resident()], [True]

    def watch():
        while going:
            most[0] = max(most[0], resident())
            time.sleep(0.005)

    threading.Thread(target=watch, daemon=True).start()
    begun = time.perf_counter()
    report = predict_many(
        ready, [source], out, formats=("nifti",), probabilities=probabilities == "yes"
    )
    going.clear()
    seconds = time.perf_counter() - begun
    cases = [case.model_dump() for case in report.cases]
    peaks = {"peak": most[0], "highest": peak_memory_bytes()}
    said = {**peaks, "calls": engine.calls, "seconds": seconds, "files": len(files), "cases": cases}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

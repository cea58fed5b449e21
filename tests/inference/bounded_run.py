"""One prediction in a process of its own, without torch, by an engine that costs nothing: prints what it held at most, as JSON.

Used by test_bounded_memory.py, which starts it: a process of its own holds only what it needs.
"""

import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.modules["torch"] = None  # importing it raises: an exported model predicts where torch is not installed

import hilum  # noqa: E402
import hilum.api  # noqa: E402, F401
from hilum.inference import Predictor, predict_many  # noqa: E402
from hilum.inference.memory import resident  # noqa: E402
from hilum.plan import load_plan  # noqa: E402


class Free:
    """Answers at once: the label is the intensity, in steps. Its logits are the caller's to keep, as those of any engine."""

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
    model = SimpleNamespace(plan=plan, id="free", make_engine=lambda *_, **__: engine)
    predictor = Predictor(model, memory=memory)
    most, going = [resident()], [True]

    def watch():
        while going:
            most[0] = max(most[0], resident())
            time.sleep(0.005)

    threading.Thread(target=watch, daemon=True).start()
    begun = time.perf_counter()
    report = predict_many(predictor, [source], out, formats=("nifti",), probabilities=probabilities == "yes")
    going.clear()
    seconds = time.perf_counter() - begun
    said = {"peak": most[0], "calls": engine.calls, "seconds": seconds, "case": report.cases[0].model_dump()}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

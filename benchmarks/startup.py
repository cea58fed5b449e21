"""Time `hilum --help` and `import hilum`, and check that the import loads no torch."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from _common import write_result

RUNS = 15


def main() -> None:
    """Time both in turn, after one warm-up; report median and spread."""
    commands = {
        "hilum --help": [sys.executable, "-m", "hilum", "--help"],
        "import hilum": [sys.executable, "-c", "import hilum"],
        "python alone": [sys.executable, "-c", "pass"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(RUNS + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if run:
                seconds[name].append(time.perf_counter() - start)
    loaded = subprocess.run(
        [sys.executable, "-c", "import hilum, sys; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    result = {
        name: {
            "median_s": round(statistics.median(times), 3),
            "min_s": round(min(times), 3),
            "max_s": round(max(times), 3),
        }
        for name, times in seconds.items()
    }
    for name, figures in result.items():
        print(
            f"{name:14} median {figures['median_s']:.3f} s ({figures['min_s']:.3f} to"
            f" {figures['max_s']:.3f})"
        )
    print("import hilum loads torch:", loaded.stdout.strip())
    write_result("startup", result | {"import_loads_torch": loaded.stdout.strip() == "True"})


if __name__ == "__main__":
    main()

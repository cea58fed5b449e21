"""Facts about this machine, and records written as JSON for other programs."""

from __future__ import annotations


def environment() -> dict[str, str]:
    """Describe this machine in words, for `hilum doctor` and for reports of faults."""
    import platform

    import psutil

    from hilum.engines import computes_in_bfloat16, describe_device, host_memory, resolve_device
    from hilum.inference.run_report import package_versions

    device = resolve_device("auto")
    memory = host_memory()
    facts = {
        "device": describe_device(device),
        "bfloat16": (
            "has instructions for it"
            if computes_in_bfloat16(device)
            else "no instructions for it, so float32 is used"
        ),
        "memory": f"{memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "disk": f"{psutil.disk_usage('.').free / 2**30:.1f} GiB free here",
        "cores": str(psutil.cpu_count(logical=True)),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return facts | package_versions()


def gigabytes(amount: str) -> float:
    """Convert an amount of memory such as "4GB", "500MB" or "1.5GiB" to GB.

    Raises:
        UsageError: it is no amount of memory.
    """
    from hilum.engines.memory import parse_memory

    return parse_memory(amount) / 1e9


def to_json(value: object) -> str:
    """Write what a verb returned as JSON; undefined numbers become null."""
    from pydantic_core import to_json as dump

    return dump(value, indent=2, inf_nan_mode="null").decode()

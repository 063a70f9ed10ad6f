"""What a measurement depends on besides the job: the machine and the versions."""

from __future__ import annotations

import platform
from datetime import date
from importlib.metadata import version

import velostream

# What does the work besides our own kernels.
LIBRARIES = ("pyarrow", "numpy", "faust-streaming")


def machine() -> dict[str, str]:
    """The day, CPU, number of usable CPUs, system, and versions, each as text."""
    from velostream.runtime.lane import usable_cpus

    return {
        "date": str(date.today()),
        "cpu": cpu_model(),
        "cpus": str(len(usable_cpus())),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "velostream": velostream.__version__,
        **{name: version(name) for name in LIBRARIES},
    }


def machine_line(facts: dict[str, str]) -> str:
    """`machine()` in one line."""
    libraries = ", ".join(f"{name} {facts[name]}" for name in ("velostream", *LIBRARIES))
    return (
        f"{facts['date']}, {facts['cpu']}, {facts['cpus']} CPUs, {facts['system']}, "
        f"Python {facts['python']}, {libraries}"
    )


def cpu_model() -> str:
    """As the system calls it; the processor's kind where it does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

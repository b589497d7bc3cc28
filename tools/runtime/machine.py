"""Describes the machine of a measurement: processor, versions, load by other processes, and memory."""

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

__all__ = [
    "OtherLoad",
    "available_memory",
    "cores",
    "describe",
    "device_peak",
    "one_line",
    "process_peak",
    "release_memory",
    "reset_device_peak",
]

_STAT = Path("/proc/stat")
_DRIVER = Path("/proc/driver/nvidia/version")

# Limit and use of the memory of a control group, such as a container's: version 2, and version 1.
_GROUP_MEMORY = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def describe() -> dict[str, Any]:
    """Returns the processor, the number of cores this process may use, and versions. Requires TensorFlow's import.

    On a machine with GPUs it also returns their names, the version of their driver, and the versions of CUDA and cuDNN
    that TensorFlow was built for. What the system does not tell is None.
    """
    return {
        "processor": _processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "tensorflow": sys.modules["tensorflow"].__version__,
        **{name: importlib.metadata.version(name) for name in ("tf-slim", "numpy")},
        **_gpus(),
    }


def _gpus() -> dict[str, Any]:
    tensorflow = sys.modules["tensorflow"]
    gpus = tensorflow.config.list_physical_devices("GPU")
    if not gpus:
        return {}
    build = tensorflow.sysconfig.get_build_info()
    return {
        "gpus": [_gpu(tensorflow.config.experimental.get_device_details(gpu)) for gpu in gpus],
        "driver": _driver(),
        **{name: build.get(f"{name}_version") for name in ("cuda", "cudnn")},
    }


def _gpu(details: dict[str, Any]) -> str:
    capability = details.get("compute_capability")
    name = details.get("device_name", "a GPU without a name")
    return f"{name}, compute capability {'.'.join(map(str, capability))}" if capability else name


def _driver() -> str | None:
    """Returns the version of Nvidia's driver; None if the system does not tell."""
    if not _DRIVER.exists():
        return None
    match = re.search(r"\s(\d+(?:\.\d+)+)\s", _DRIVER.read_text(encoding="utf-8"))
    return match[1] if match else None


def one_line() -> str:
    """Returns ``describe()`` as a line of text."""
    found = describe()
    versions = ", ".join(f"{name} {found[name]}" for name in ("tf-slim", "numpy"))
    text = (
        f"{found['processor']}, {found['cores']} cores; Python {found['python']}, TensorFlow {found['tensorflow']}, "
        f"{versions}"
    )
    if "gpus" not in found:
        return text
    driver, cuda, cudnn = (found[name] or "unknown" for name in ("driver", "cuda", "cudnn"))
    return f"{'; '.join([*found['gpus'], text])}, driver {driver}, built for CUDA {cuda} and cuDNN {cudnn}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor()


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(_cores())


def _cores() -> set[int]:
    """Returns the cores that this process may use; all of them except on Linux."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


class OtherLoad:
    """The load of other processes on this process's cores, since the object was made.

    Time that a hypervisor gave to other guests counts too.
    """

    def __init__(self) -> None:
        self._start = _now()

    def cores(self) -> float | None:
        """Returns the load as a number of cores: 1.0 is one core, all the time. None except on Linux.

        Busy time comes in ticks of a hundredth of a second, so one tick a core is subtracted as doubtful.
        """
        end = _now()
        if self._start is None or end is None or end[0] <= self._start[0]:
            return None
        elapsed, busy, own = (after - before for after, before in zip(end, self._start, strict=True))
        doubtful = cores() / os.sysconf("SC_CLK_TCK")
        return max(busy - own - doubtful, 0.0) / elapsed


def _now() -> tuple[float, float, float] | None:
    """Returns seconds: of the clock, of busy time on this process's cores, and of this process's processor time."""
    if not _STAT.exists():
        return None
    ticks = 0
    for line in _STAT.read_text().splitlines():
        name, *fields = line.split()
        if re.fullmatch(r"cpu\d+", name) and int(name[3:]) in _cores():
            user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    # In some sandboxes the file holds zeros.
    if not ticks:
        return None
    own = os.times()
    return time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), own.user + own.system


def process_peak() -> int | None:
    """Returns the peak of this process's resident memory in bytes; None if the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux getrusage includes the process that started this one.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_memory() -> None:
    """Frees unused objects that refer to themselves, as graphs do, and gives the memory back to the system.

    The C library keeps freed memory, and only that of Linux can be told to give it back.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def device_peak(device: str) -> int | None:
    """Returns the peak of TensorFlow's memory on a GPU since the last reset, in bytes; None for a processor.

    Args:
      device: 'gpu', 'gpu:1', 'cpu'.
    """
    if not device.startswith("gpu"):
        return None
    return sys.modules["tensorflow"].config.experimental.get_memory_info(_tensorflow_name(device))["peak"]


def reset_device_peak(device: str) -> None:
    """Resets ``device_peak``. Does nothing for a processor."""
    if device.startswith("gpu"):
        sys.modules["tensorflow"].config.experimental.reset_memory_stats(_tensorflow_name(device))


def _tensorflow_name(device: str) -> str:
    return f"{device.upper()}:0" if ":" not in device else device.upper()


def available_memory() -> int | None:
    """Returns the bytes still available to this process, from its system and control group; None if unknown."""
    left = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists() and (match := re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)):
        left.append(int(match[1]) * 1024)
    for limit, used in _GROUP_MEMORY:
        # Without a limit, version 2 says 'max', and version 1 a number beyond any memory.
        if Path(limit).is_file() and (text := Path(limit).read_text().strip()).isdigit():
            left.append(int(text) - int(Path(used).read_text()))
    return min(left, default=None)

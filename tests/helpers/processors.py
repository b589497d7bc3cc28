"""Runs the numerical tests as on other processors: ``python -m tests.helpers.processors [PYTEST'S ARGUMENTS]``.

The environment tells oneDNN which instructions to use, and TensorFlow whether to use oneDNN, when TensorFlow is
imported. So each setting requires a run of pytest of its own.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["SETTINGS", "main"]

_INSTRUCTIONS = ("SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_BF16", "ALL")

SETTINGS = (*({"ONEDNN_MAX_CPU_ISA": name} for name in _INSTRUCTIONS), {"TF_ENABLE_ONEDNN_OPTS": "0"})


def main(arguments: Sequence[str]) -> int:
    """Runs the tests under every setting, and prints the last lines; returns 0 if all passed, and 1 otherwise."""
    known = {name for setting in SETTINGS for name in setting}
    inherited = {name: value for name, value in os.environ.items() if name not in known}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "numerical and not full", *arguments]
    closing = {}
    passed = True
    for setting in SETTINGS:
        title = " ".join(f"{name}={value}" for name, value in setting.items())
        print(f"{title} ...", flush=True)
        done = subprocess.run(command, env={**inherited, **setting}, stdout=subprocess.PIPE, text=True, check=False)
        lines = done.stdout.strip().splitlines() or [f"pytest ended with exit status {done.returncode}"]
        if done.returncode:
            passed = False
            print(done.stdout, flush=True)
        closing[title] = lines[-1]
        print(f"{title}: {lines[-1]}", flush=True)
    print("\n".join(["", *(f"{title}: {line}" for title, line in closing.items())]))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Starts an engine's process, and talks to it. ``worker`` is the other end."""

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tools.errors import PeerError
from tools.runtime.processes import module_command, module_environment

__all__ = ["WorkerProcess", "worker_command"]

# Seconds that a worker has to end by itself after its input ends.
_GRACE = 5.0


def worker_command(name: str, folder: Path, precision: str | None) -> list[str]:
    """Returns the command of an engine's process; ``precision`` replaces the problem's."""
    return module_command("tools.peers.worker", name, folder, *filter(None, [precision]))


class WorkerProcess(contextlib.AbstractContextManager):
    """An engine's process, from its start to the end of the ``with`` block."""

    def __init__(self, name: str, folder: Path, precision: str | None = None) -> None:
        """Starts an engine's process for a problem.

        Args:
          name: name of the engine.
          folder: folder of the problem.
          precision: precision in place of the problem's; None for the problem's.
        """
        self.name = name
        self._errors = folder / f"stderr-{name.replace(':', '-')}.txt"
        self._ready = False
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                worker_command(name, folder, precision),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=module_environment(),
                # Ctrl-C must reach only the process that compares, which then ends this one.
                process_group=0,
            )

    def wait_until_ready(self) -> str:
        """Waits until the engine has computed once, and returns its version.

        Raises:
          PeerError: if it cannot compute, or the process ends.
        """
        answer = self._answer()
        if "error" in answer:
            raise PeerError(answer["error"])
        self._ready = True
        return answer["version"]

    def step(self) -> float:
        """Has the engine compute once, and returns the seconds that it took.

        Raises:
          PeerError: if the process has ended.
        """
        with contextlib.suppress(BrokenPipeError):  # _answer finds out why
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        return self._answer()["duration"]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        ended = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
        lines = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = f": {lines[-1].strip()}" if lines else ", without a message"
        raise PeerError(f"The process of {self.name} {ended}{said}")

    def close(self) -> None:
        """Ends the process, and all processes that it started."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            # A process that is not ready does not read its input yet.
            self._process.wait(_GRACE if self._ready else 0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()

    def __exit__(self, *error: object) -> None:
        self.close()

"""The other end of ``worker``: an engine's process, as the one that compares sees it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.errors import PeerError

__all__ = ["WorkerProcess", "worker_command"]

# Seconds for a worker to end by itself once its input has.
_GRACE = 5.0


def worker_command(name: str, folder: Path, precision: str | None) -> list[str]:
    """The command of an engine's process; ``precision`` is another one than the problem's."""
    # -P: nothing of the folder that somebody happens to be in takes the place of a module.
    return [sys.executable, "-P", "-m", "tools.peers.worker", name, os.fspath(folder), *filter(None, [precision])]


class WorkerProcess:
    """An engine's process, from its start to the end of the ``with`` block."""

    def __init__(self, name: str, folder: Path, precision: str | None = None) -> None:
        """Starts the process of the engine of that name for the problem in ``folder``.

        Args:
          name: of the engine.
          folder: the problem's.
          precision: None for the problem's.
        """
        self.name = name
        self._errors = folder / f"stderr-{name}.txt"
        self._ready = False
        root = os.fspath(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                worker_command(name, folder, precision),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
                # An interrupt at the terminal is for the process that compares, which ends this one.
                process_group=0,
            )

    def wait_until_ready(self) -> str:
        """Waits until the engine has computed once; its version.

        Raises:
          PeerError: if it cannot, or the process ends.
        """
        answer = self._answer()
        if "error" in answer:
            raise PeerError(answer["error"])
        self._ready = True
        return answer["version"]

    def step(self) -> float:
        """Has the engine compute once; the seconds that it took.

        Raises:
          PeerError: if the process has ended.
        """
        with contextlib.suppress(BrokenPipeError):  # The answer that does not come says why.
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
        said = f": {lines[-1].strip()}" if lines else ", without a word"
        raise PeerError(f"The process of {self.name} {ended}{said}")

    def close(self) -> None:
        """Ends the process, and those that it started."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            # One that is not ready does not listen yet.
            self._process.wait(_GRACE if self._ready else 0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

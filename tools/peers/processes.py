"""Starts a process that measures, such as an engine's, and talks to it. ``worker`` is the other end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

from tools.errors import PeerError
from tools.runtime.processes import module_command, module_environment

__all__ = ["AnsweringProcess", "WorkerProcess", "answers", "say", "worker_command"]

# Seconds that a process has to end by itself after its input ends.
_GRACE = 5.0


def worker_command(name: str, folder: Path, precision: str | None) -> list[str]:
    """Returns the command of an engine's process; ``precision`` replaces the problem's."""
    return module_command("tools.peers.worker", name, folder, *filter(None, [precision]))


def answers() -> TextIO:
    """Returns the standard output for the answers alone. What libraries print goes to the standard error."""
    sys.stdout.flush()
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stdout


def say(stdout: TextIO, **answer: Any) -> None:
    """Answers with a line of JSON."""
    stdout.write(f"{json.dumps(answer)}\n")
    stdout.flush()


class AnsweringProcess(contextlib.AbstractContextManager):
    """A process that answers lines with lines of JSON, from its start to the end of the ``with`` block.

    When it is ready it says so with a first answer; an answer with ``error`` is its last one.
    """

    def __init__(self, name: str, command: list[str], errors: Path) -> None:
        """Starts a process.

        Args:
          name: name for error messages.
          command: the command and its arguments.
          errors: file for its standard error.
        """
        self.name = name
        self._errors = errors
        self._ready = False
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=module_environment(),
                # Ctrl-C must reach only the process that compares, which then ends this one.
                process_group=0,
            )

    def first_answer(self) -> dict[str, Any]:
        """Waits for the first answer.

        Raises:
          PeerError: if the process answers with an error, or ends.
        """
        answer = self._answer()
        self._ready = True
        return answer

    def ask(self, line: str) -> dict[str, Any]:
        """Sends a line, and returns the answer.

        Raises:
          PeerError: if the process answers with an error, or has ended.
        """
        with contextlib.suppress(BrokenPipeError):  # _answer finds out why
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if line:
            answer = json.loads(line)
            if "error" in answer:
                raise PeerError(answer["error"])
            return answer
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


class WorkerProcess(AnsweringProcess):
    """An engine's process."""

    def __init__(self, name: str, folder: Path, precision: str | None = None) -> None:
        """Starts an engine's process for a problem.

        Args:
          name: name of the engine.
          folder: folder of the problem.
          precision: precision in place of the problem's; None for the problem's.
        """
        errors = folder / f"stderr-{name.replace(':', '-')}.txt"
        super().__init__(name, worker_command(name, folder, precision), errors)

    def wait_until_ready(self) -> str:
        """Waits until the engine has computed once, and returns its version.

        Raises:
          PeerError: if it cannot compute, or the process ends.
        """
        return self.first_answer()["version"]

    def step(self) -> float:
        """Has the engine compute once, and returns the seconds that it took.

        Raises:
          PeerError: if the process has ended.
        """
        return self.ask("step")["duration"]

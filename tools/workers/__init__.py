"""Makes the shards of a feature job with several processes, each of which restores its own network."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tools.runtime.importing import import_tensorflow

__all__ = ["DISTRIBUTORS", "ShardMaker", "Work"]

DISTRIBUTORS = ("local", "ray")


class Work(NamedTuple):
    """All that a process requires to make shards of a job, in values that can be sent to it.

    folder: folder that relative paths start from.
    inputs: names of the inputs as the user gave them.
    patterns: ``include`` and ``exclude`` of ``open_inputs``.
    output: the job's folder, which all processes share.
    stored: the job's format, dtype and number of shards.
    options: arguments of ``FeatureExtractor``.
    """

    folder: str
    inputs: tuple[str, ...]
    patterns: dict[str, Any]
    output: str
    stored: dict[str, Any]
    options: dict[str, Any]


class ShardMaker:
    """A context manager that makes shards of a job in a worker process.

    It describes the job anew and compares that with the manifest, so a worker with another checkpoint of that name, or
    another TensorFlow, is refused.

    Raises:
      CheckpointError, InputError, ValueError: if this process cannot make the job, or would make a different one.
    """

    def __init__(self, work: Work) -> None:
        import_tensorflow()
        from tools.errors import InputError
        from tools.features import FeatureExtractor
        from tools.features.folder import read_record
        from tools.features.job import FeatureJob
        from tools.features.record import Storage, describe_run
        from tools.images import open_inputs

        if not Path(work.folder).is_dir():
            raise InputError(
                f"{platform.node()} has no folder {work.folder}: run the command in a folder that all machines share."
            )
        os.chdir(work.folder)
        if work.stored["shards"] > 1 and read_record(Path(work.output)) is None:
            raise InputError(f"{platform.node()} does not find the job in {work.output}: share that folder with it.")
        inputs = open_inputs(work.inputs, **work.patterns)
        self._extractor = FeatureExtractor(**work.options)
        self._extractor.prepare(inputs)
        record = describe_run(self._extractor, inputs, Storage(**work.stored))
        self._job = FeatureJob(Path(work.output), inputs, record)

    def make(self, shard: int, advance: Callable[[int], None]) -> None:
        """Makes a shard, unless it is done or another process is working on it."""
        self._job.make(shard, self._extractor, advance)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._extractor.close()

"""A job of features made by several processes, of this machine or of many: each holds one restored network."""

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
    """All that a process needs to make shards of a job, and that can be sent to it.

    folder: that relative paths are relative to.
    inputs: as the user named them.
    patterns: ``include`` and ``exclude`` of ``open_inputs``.
    output: the job's folder, which every process sees.
    stored: the job's format, dtype and number of shards.
    options: of ``FeatureExtractor``.
    """

    folder: str
    inputs: tuple[str, ...]
    patterns: dict[str, Any]
    output: str
    stored: dict[str, Any]
    options: dict[str, Any]


class ShardMaker:
    """Makes shards of a job, in a process that knows nothing yet; a context manager.

    It finds out for itself what the job is made of, so that it is held against the manifest: another checkpoint under
    that name, or another TensorFlow, is no worker of this job.

    Raises:
      CheckpointError, InputError, ValueError: if the job cannot be made from here, or would be another one.
    """

    def __init__(self, work: Work) -> None:
        import_tensorflow()
        from tools.errors import InputError
        from tools.features import FeatureExtractor
        from tools.features.folder import read_record
        from tools.features.job import FeatureJob
        from tools.features.record import describe_run
        from tools.images import open_inputs

        if not Path(work.folder).is_dir():
            raise InputError(f"{platform.node()} has no folder {work.folder}: give paths that all machines share.")
        os.chdir(work.folder)
        if work.stored["shards"] > 1 and read_record(Path(work.output)) is None:
            raise InputError(f"{platform.node()} does not find the job in {work.output}: share that folder.")
        inputs = open_inputs(work.inputs, **work.patterns)
        self._extractor = FeatureExtractor(**work.options)
        self._job = FeatureJob(Path(work.output), inputs, describe_run(self._extractor, inputs, **work.stored))

    def make(self, shard: int, advance: Callable[[int], None]) -> None:
        """Makes a shard, unless it is done or another process is at it."""
        self._job.make(shard, self._extractor, advance)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._extractor.close()

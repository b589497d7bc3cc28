"""Ray Data: actors of this machine or of a cluster, each with a network, to which Ray gives the shards of a job.

What a lost actor or node was at, Ray has another one do again.
"""

import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tools.errors import InputError
from tools.workers import ShardMaker, Work

__all__ = ["make_with_ray"]

# Seconds for a cluster to answer.
_TIMEOUT = 10


def make_with_ray(
    work: Work, shards: Sequence[int], workers: int, threads: int, address: str | None, advance: Callable[[int], None]
) -> None:
    """Makes shards with actors.

    Args:
      work, shards: what to make.
      workers: the number of actors.
      threads: the cores of each.
      address: of a cluster's head; None for Ray on this machine, until all is made.
      advance: called with the number of images whenever a shard is done.

    Raises:
      InputError: if Ray is not installed, there is no cluster, or an actor cannot make a shard.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"Ray needs {error.name}: pip install 'slimnets[ray]'.") from None
    if address is not None:
        _check_address(address)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # of each execution it tells the plan
    stop = signal.getsignal(signal.SIGTERM)
    try:
        # Not None, by which Ray would join whatever cluster it has heard of last, and wait for minutes if that is gone.
        ray.init(address=address or "local", include_dashboard=False, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"There is no Ray cluster at {address} ({said}): start one with `ray start`.") from None
    # What Ray says of lost workers is no result; a thread of its own says it, until it is shut down.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            signal.signal(signal.SIGTERM, stop)  # Ray has put its own in its place
            _make(work, shards, workers, threads, advance)
        except ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            raise InputError(f"Ray has given up ({said[-300:]}): the same command goes on with what is done.") from None
        finally:
            ray.shutdown()


def _make(work: Work, shards: Sequence[int], workers: int, threads: int, advance: Callable[[int], None]) -> None:
    """The same, once there is a cluster."""
    import ray
    import ray.data

    cores = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if threads > cores:
        raise InputError(f"No machine of the cluster has {threads} cores, the most is {cores:g}: give fewer threads.")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A shard may take an hour.
    context.execution_no_progress_timeout_s = -1
    made = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards)).map_batches(
        _Actor,
        fn_constructor_args=(work,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(shards))),
        num_cpus=threads,
        num_gpus=1 if ray.cluster_resources().get("GPU") else 0,
    )
    for row in made.iter_rows():
        if row["error"]:
            raise InputError(row["error"])
        advance(int(row["images"]))


def _check_address(address: str) -> None:
    """Raises InputError if nobody answers there, which takes Ray minutes to find out; not so for 'auto' and others."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), _TIMEOUT).close()
        except OSError as error:
            raise InputError(f"There is no Ray cluster at {address} ({error}): start one with `ray start`.") from None


class _Actor:
    """What runs in an actor. What it cannot do it says in its result: Ray would wrap an exception in its own."""

    def __init__(self, work: Work) -> None:
        self._work = work
        # Made at the first shard: an actor that dies in its constructor is not started again.
        self._maker: ShardMaker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        done: list[int] = []
        error = ""
        try:
            if self._maker is None:
                self._maker = ShardMaker(self._work)
            for shard in batch["shard"]:
                self._maker.make(int(shard), done.append)
        except (ImportError, MemoryError, OSError, ValueError) as refused:
            error = " ".join(str(refused).split()) or type(refused).__name__
        return {"images": [sum(done)], "error": [error]}

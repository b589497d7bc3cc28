"""Makes shards with Ray Data: actors on this machine or a cluster, each with its own network.

Ray assigns the shards to the actors, and reassigns those of lost actors and nodes.
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

# Seconds to wait for a cluster to answer.
_TIMEOUT = 10


def make_with_ray(
    work: Work, shards: Sequence[int], workers: int, threads: int, address: str | None, advance: Callable[[int], None]
) -> None:
    """Makes shards with actors.

    Args:
      work: the job.
      shards: numbers of the shards to make.
      workers: number of actors.
      threads: number of cores of each.
      address: of a cluster's head; None to start Ray on this machine for this call.
      advance: called with the number of images whenever a shard is done.

    Raises:
      InputError: if Ray is not installed, there is no cluster, or an actor fails.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"Ray requires {error.name}: pip install 'slimnets[ray]'.") from None
    if address is not None:
        _check_address(address)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it logs the plan of each execution
    stop = signal.getsignal(signal.SIGTERM)
    try:
        # With None, Ray would join the last cluster that it knows, and wait for minutes if that is gone.
        ray.init(address=address or "local", include_dashboard=False, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"There is no Ray cluster at {address} ({said}): start one with `ray start`.") from None
    # Until it is shut down, a thread of Ray prints messages about lost workers. They do not belong on stdout.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            signal.signal(signal.SIGTERM, stop)  # Ray has replaced the handler
            _make(work, shards, workers, threads, advance)
        except ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            raise InputError(
                f"Ray has given up ({said[-300:]}): finished shards are kept; run the same command again for the rest."
            ) from None
        finally:
            ray.shutdown()


def _make(work: Work, shards: Sequence[int], workers: int, threads: int, advance: Callable[[int], None]) -> None:
    """Makes the shards on the cluster that Ray has joined."""
    import ray
    import ray.data

    cores = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
    if threads > cores:
        raise InputError(
            f"No machine of the cluster has {threads} cores, the largest has {cores:g}: give fewer threads."
        )
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
    """Raises InputError if no cluster answers at a host and port. Ray itself would take minutes to find out."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), _TIMEOUT).close()
        except OSError as error:
            raise InputError(f"There is no Ray cluster at {address} ({error}): start one with `ray start`.") from None


class _Actor:
    """Runs in an actor. Returns error messages in its results, because Ray would wrap exceptions in its own."""

    def __init__(self, work: Work) -> None:
        self._work = work
        # Created at the first shard, because Ray does not restart an actor that dies in its constructor.
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

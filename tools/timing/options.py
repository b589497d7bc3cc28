"""The options of a timing, and the combinations that are refused."""

import re
from typing import NamedTuple

import tensorflow as tf

from tools.runtime.sessions import session_config

__all__ = ["MODES", "Options", "check"]

MODES = ("forward", "forward-backward", "train")

# More than any machine has cores. Systems cannot start tens of thousands of threads.
_MOST_THREADS = 1024


class Options(NamedTuple):
    """The options of a timing. None stands for the network's own value, or for TensorFlow's choice.

    end_point: name or alias of the end point to stop at.
    device: 'cpu', 'gpu', 'gpu:1'.
    threads: number of threads between ops, and inside of an op.
    """

    batch_size: int = 32
    image_size: int | None = None
    num_classes: int | None = None
    mode: str = "forward"
    precision: str = "float32"
    xla: bool = False
    freeze: bool = False
    feed: bool = False
    end_point: str | None = None
    device: str | None = None
    threads: int | None = None
    checkpoint: str | None = None
    checkpoint_dir: str | None = None


def check(options: Options) -> None:
    """Raises ValueError for options that contradict each other, or that this machine or TensorFlow cannot honour."""
    if options.mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, but is {options.mode!r}.")
    if options.mode != "forward":
        for option, what in (("freeze", "constant weights"), ("end_point", "a single end point")):
            if getattr(options, option):
                value = getattr(options, option)
                raise ValueError(f"{option}={value!r} requires mode='forward': {what} cannot be trained.")
        if options.num_classes is not None and options.num_classes < 2:
            raise ValueError(f"mode={options.mode!r} requires a loss, and so at least num_classes=2.")
    if options.num_classes is not None and options.num_classes < 0:
        raise ValueError(f"num_classes must be at least 0, but is {options.num_classes}.")
    if options.checkpoint_dir is not None and options.checkpoint is None:
        raise ValueError("checkpoint_dir goes with checkpoint, the key of a checkpoint in that folder.")
    if options.threads is not None and not 1 <= options.threads <= _MOST_THREADS:
        raise ValueError(f"threads must be from 1 to {_MOST_THREADS:,}, but is {options.threads:,}.")
    if options.device is not None:
        _check_device(options.device)
    if options.precision == "float16" and (options.device or "").startswith("cpu"):
        raise ValueError("precision='float16' requires a GPU: omit device='cpu', or take bfloat16 or float32.")
    if options.xla and options.precision != "float32":
        raise ValueError(
            f"precision={options.precision!r} requires the graph optimizer, but xla=True compiles without it: choose "
            "one of the two."
        )
    if options.xla and not tf.test.is_built_with_xla():
        raise ValueError("xla=True requires a TensorFlow that was built with XLA, and this one was not: omit it.")
    session_config(  # raises for a precision that TensorFlow does not compute here
        options.precision,
        threads=options.threads,
        training=options.mode != "forward",
        use_gpu=not (options.device or "").startswith("cpu"),
    )


def _check_device(device: str) -> None:
    match = re.fullmatch(r"(cpu|gpu)(?::(\d+))?", device)
    if match is None:
        raise ValueError(f"device must be cpu, gpu, or gpu: and a number, but is {device!r}.")
    there = tf.config.list_physical_devices(match[1].upper())
    if int(match[2] or 0) >= len(there):
        number = f"{len(there)} of that kind" if there else "none of that kind"
        raise ValueError(f"device={device!r} does not exist: TensorFlow finds {number}.")

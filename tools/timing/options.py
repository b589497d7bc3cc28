"""What to time, and which combinations are refused."""

import re
from typing import NamedTuple

import tensorflow as tf

from tools.runtime.sessions import session_config

__all__ = ["MODES", "Options", "check"]

MODES = ("forward", "forward-backward", "train")

# Beyond the cores of any machine; tens of thousands are more than a system starts.
_MOST_THREADS = 1024


class Options(NamedTuple):
    """What is timed. None stands for the network's own value, or for TensorFlow's choice.

    end_point: name or alias of the end point to stop at.
    device: 'cpu', 'gpu', 'gpu:1'.
    threads: for the ops of the graph, and inside of an op.
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
        raise ValueError(f"mode must be one of {', '.join(MODES)}, and is {options.mode!r}.")
    if options.mode != "forward":
        for option, what in (("freeze", "weights that are constants"), ("end_point", "an end point on its own")):
            if getattr(options, option):
                value = getattr(options, option)
                raise ValueError(f"{option}={value!r} goes with mode='forward' alone: {what} cannot be trained.")
        if options.num_classes is not None and options.num_classes < 2:
            raise ValueError(f"mode={options.mode!r} needs a loss, and so at least num_classes=2.")
    if options.num_classes is not None and options.num_classes < 0:
        raise ValueError(f"num_classes must be at least 0, and is {options.num_classes}.")
    if options.checkpoint_dir is not None and options.checkpoint is None:
        raise ValueError("checkpoint_dir goes with checkpoint, the key of what is to be taken from there.")
    if options.threads is not None and not 1 <= options.threads <= _MOST_THREADS:
        raise ValueError(f"threads must be from 1 to {_MOST_THREADS:,}, and is {options.threads:,}.")
    if options.device is not None:
        _check_device(options.device)
    if options.precision == "float16" and (options.device or "").startswith("cpu"):
        raise ValueError("precision='float16' needs a GPU: leave device='cpu' out, or take bfloat16 or float32.")
    if options.xla and options.precision != "float32":
        raise ValueError(
            f"precision={options.precision!r} is the graph optimizer's work, and xla=True compiles without it: "
            "choose one of the two."
        )
    if options.xla and not tf.test.is_built_with_xla():
        raise ValueError("xla=True needs a TensorFlow that was built with XLA, and this one was not: leave it out.")
    session_config(  # refuses a precision that TensorFlow does not compute here
        options.precision,
        threads=options.threads,
        training=options.mode != "forward",
        use_gpu=not (options.device or "").startswith("cpu"),
    )


def _check_device(device: str) -> None:
    match = re.fullmatch(r"(cpu|gpu)(?::(\d+))?", device)
    if match is None:
        raise ValueError(f"device must be cpu, gpu, or gpu: and a number, and is {device!r}.")
    there = tf.config.list_physical_devices(match[1].upper())
    if int(match[2] or 0) >= len(there):
        number = f"{len(there)} of that kind" if there else "none of that kind"
        raise ValueError(f"device={device!r} is not there: TensorFlow finds {number}.")

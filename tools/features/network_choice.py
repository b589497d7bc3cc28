"""Chooses the network that a checkpoint is restored into, and its input: as requested, or else by the checkpoint."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

import tensorflow as tf

from checkpoints import CheckpointReader, Diagnosis, diagnose
from checkpoints.background_class import class_conversion
from checkpoints.diagnosis import expected_input
from checkpoints.files.notes import INPUT
from nets import nets_factory
from tools.features.computing import CALIBRATE, MIN_COSINE, TENSORFLOW

__all__ = [
    "DEFAULTS",
    "ENGINE_OPTIONS",
    "ExtractorOptions",
    "NetworkChoice",
    "NetworkFn",
    "choose_network",
    "imported_network",
]

NetworkFn = Callable[[tf.Tensor], tuple[tf.Tensor, dict[str, tf.Tensor]]]


class ExtractorOptions(TypedDict, total=False):
    """Further arguments of ``FeatureExtractor``, which documents them."""

    scope: str | None
    exclude: str | Sequence[str]
    ema: bool
    checkpoint_dir: str | Path | None
    pool: str
    freeze: bool | None
    threads: int | None
    engine: str
    calibrate: int
    min_cosine: float
    engine_dir: str | Path | None
    engine_model: str | Path | None


DEFAULTS: ExtractorOptions = {
    "scope": None,
    "exclude": (),
    "ema": False,
    "checkpoint_dir": None,
    "pool": "none",
    "freeze": None,
    "threads": None,
    "engine": TENSORFLOW,
    "calibrate": CALIBRATE,
    "min_cosine": MIN_COSINE,
    "engine_dir": None,
    "engine_model": None,
}

# Those that choose and make the engine.
ENGINE_OPTIONS = ("engine", "calibrate", "min_cosine", "engine_dir", "engine_model")


class NetworkChoice(NamedTuple):
    """A network, its input, and how to restore it.

    name: of the network, or of the function that builds it.
    num_classes: of its logits; None if a function builds it.
    image_size: height and width of its input.
    preprocessing: of its input.
    build: builds it, for inference unless training mode was asked for.
    scope: variable scope in the file.
    expected_input: (preprocessing, image size) that the weights were trained with; None if unknown.
    convert_to: number of classes to convert the logits to; None to keep them.
    channels: of the images that the weights are for.
    options: further arguments of the network's builder that the weights require.
    labels: names of the classes; None if the notes on the weights do not tell them.
    assumed: what of the input was neither asked for nor noted: 'preprocessing', 'image_size', both or neither.
    expects_assumed: whether ``expected_input`` itself is assumed in part.
    cut_off: whether the file is a graph that holds only the beginning of the network.
    """

    name: str
    num_classes: int | None
    image_size: int
    preprocessing: str
    build: NetworkFn
    scope: str | None
    expected_input: tuple[str, int] | None = None
    convert_to: int | None = None
    channels: int = 3
    options: Mapping[str, Any] = MappingProxyType({})
    labels: tuple[str, ...] | None = None
    assumed: tuple[str, ...] = ()
    expects_assumed: bool = False
    cut_off: bool = False

    @property
    def doubt(self) -> str | None:
        """Returns a warning if the input is not the one that the weights were trained with, and None otherwise."""
        # With preprocessing 'none' the user prepares the input.
        if self.expected_input in (None, (self.preprocessing, self.image_size)) or self.preprocessing == "none":
            return None
        preprocessing, size = self.expected_input
        assumed = " (assumed: nothing in the file says so)" if self.expects_assumed else ""
        return (
            f"The weights go with preprocessing {preprocessing} at {size}{assumed}, and {self.preprocessing} at "
            f"{self.image_size} was asked for: features and classes will be worse, unless the weights were trained so."
        )


def choose_network(
    reader: CheckpointReader,
    net: str | NetworkFn | None,
    num_classes: int | None,
    image_size: int | None,
    preprocessing: str | None,
    scope: str | None,
    *,
    is_training: bool = False,
) -> NetworkChoice:
    """Returns the choice by the arguments of ``FeatureExtractor``. The checkpoint decides those that are None.

    With ``is_training`` the batch norms are built in training mode, and dropout stays off.

    Raises:
      CheckpointError: if the network in the checkpoint is unknown or ambiguous.
      ValueError: for arguments that exclude each other, or an unknown network.
    """
    is_named = isinstance(net, str) and ":" in net
    if callable(net) or is_named:
        if is_training:
            raise ValueError("A function as net builds for inference: give the name of a network, or none.")
        if image_size is None or preprocessing is None or (num_classes is not None and not is_named):
            also = "" if is_named else ", and not num_classes"
            raise ValueError(f"With a function as net, give image_size and preprocessing{also}.")
        name = net if is_named else getattr(net, "__name__", "function")
        build = imported_network(net, num_classes) if is_named else net
        return NetworkChoice(name, num_classes, image_size, preprocessing, build, scope)
    found = diagnose(reader, scope=scope, net=net)
    network = found.identified() if net is None else nets_factory.get_network(net)
    known = found.network is network
    in_file = network.num_classes if found.num_classes is None else found.num_classes
    classes = in_file if num_classes is None else num_classes
    expected = (found.preprocessing, found.image_size) if known else expected_input(network, in_file)
    build = nets_factory.get_network_fn(network.name, classes, is_training=is_training)
    arguments = found.builder_arguments if known else {}
    given = {"preprocessing": preprocessing, "image_size": image_size}
    assumed = found.assumed if known else INPUT
    size = expected[1] if image_size is None else image_size
    arguments |= _settings(network, size, is_training)
    return NetworkChoice(
        name=network.name,
        num_classes=classes,
        image_size=size,
        preprocessing=expected[0] if preprocessing is None else preprocessing,
        build=lambda images: build(images, **arguments),
        scope=found.scope if known else scope,
        expected_input=expected,
        convert_to=classes if {in_file, classes} == {1000, 1001} else None,
        channels=(known and found.structure.channels) or network.channels,
        options=found.options if known else {},
        labels=_labels(found, classes) if known else None,
        assumed=tuple(name for name in assumed if given[name] is None),
        expects_assumed=bool(assumed),
        cut_off=known and found.cut_off,
    )


def _settings(network: nets_factory.Network, image_size: int, is_training: bool) -> dict[str, Any]:
    """Returns arguments of a builder: no dropout, and no auxiliary logits at a size that they were not trained at."""
    parameters = inspect.signature(network.builder).parameters
    settings = {"dropout_rate": 0.0, "dropout_keep_prob": 1.0} if is_training else {}
    if image_size != network.image_size:
        # The kernels of auxiliary logits, and so their names, depend on the size of the images.
        settings["create_aux_logits"] = False
    return {name: value for name, value in settings.items() if name in parameters}


def imported_network(name: str, num_classes: int | None = None) -> NetworkFn:
    """Returns the function ``images -> (net, end_points)`` that a name tells.

    Args:
      name: 'module:function', of a module in this folder or on Python's path. If the function has the arguments
        ``is_training`` and ``num_classes``, as slim's do, it gets False and the number of classes.
      num_classes: number of classes; None to keep the function's own.

    Raises:
      ValueError: if there is no such function, or it cannot build a network from images alone.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise ValueError(f"net={name!r} must be the name of a network, or module:function.")
    module = _imported(module_name, name)
    function = getattr(module, function_name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        known = f"it has {', '.join(sorted(there)[:8])}" if there else "it has no functions"
        raise ValueError(f"net={name!r} names no function of {module_name}: {known}.")
    try:
        parameters = inspect.signature(function).parameters
        given = {"is_training": False} if "is_training" in parameters else {}
        if num_classes is not None:
            given["num_classes"] = num_classes
        inspect.signature(function).bind(None, **given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"net={name!r} must be a function of images that returns (net, end_points), and cannot be called so "
            f"({error}): give defaults to its other arguments."
        ) from error
    return functools.partial(function, **given)


def _imported(module_name: str, name: str) -> Any:
    """Imports a module, also from the current folder, where Python's own path begins only in `python -m`."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"net={name!r} cannot be imported: {error}.") from error
        raise ValueError(
            f"net={name!r} names the module {module_name}, and there is none in {here} or on Python's path: run "
            "from the folder that it is in, or install it."
        ) from error
    except Exception as error:
        raise ValueError(f"net={name!r} cannot be imported ({type(error).__name__}: {error}): mend it.") from error
    finally:
        sys.path.remove(here)


def _labels(found: Diagnosis, num_classes: int) -> tuple[str, ...] | None:
    """Returns the names of the classes of logits that are perhaps converted to another number of classes."""
    if found.labels is None or num_classes == found.num_classes:
        return found.labels
    conversion = class_conversion(found.num_classes, num_classes)
    return conversion.rename(found.labels) if conversion else None

"""The other networks of tf_slim: AlexNet v2, OverFeat, VGG A, 16 and 19, and Inception v1, v2 and v3.

tf_slim's own functions build them. What stops those on current TensorFlow is their batch norm, so the arg scopes here
name that of ``nets.layers`` instead; tf_slim itself stays as it is. Arguments, variables, end points and values are
tf_slim's. VGG, AlexNet and OverFeat get one more end point, ``predictions``, the softmax of their logits.

Krizhevsky: One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997 (alexnet_v2); Sermanet and
others: OverFeat, arXiv:1312.6229; Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image
Recognition, arXiv:1409.1556 (VGG); Szegedy and others: Going Deeper with Convolutions, arXiv:1409.4842 (v1), and
Rethinking the Inception Architecture for Computer Vision, arXiv:1512.00567 (v2 and v3).
"""

import functools
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tf_slim as slim
from tf_slim.nets import alexnet, inception, vgg
from tf_slim.nets import overfeat as overfeat_module

from nets import layers
from nets.arguments import check_collections, check_scope, check_weight_decay, flag, function, number, whole_number
from nets.builders import Builder, EndPoints, check_inputs
from nets.building import building, one_at_a_time

__all__ = [
    "alexnet_v2",
    "alexnet_v2_arg_scope",
    "inception_arg_scope",
    "inception_v1",
    "inception_v1_arg_scope",
    "inception_v2",
    "inception_v2_arg_scope",
    "inception_v3",
    "inception_v3_arg_scope",
    "overfeat",
    "overfeat_arg_scope",
    "vgg_16",
    "vgg_19",
    "vgg_a",
    "vgg_arg_scope",
]

v1 = tf.compat.v1

_UPDATE_OPS = v1.GraphKeys.UPDATE_OPS


class Sizes(NamedTuple):
    """The heights and widths of images that a network can be built for.

    default: size that the network was made for.
    least: smallest size whose feature maps are large enough for all kernels.
    most: largest size that leaves a single position to the logits, as ``spatial_squeeze`` requires.
    """

    default: int
    least: int
    most: int


# Each found by building tf_slim's network at every size around its own.
_SIZES = {
    "alexnet_v2": Sizes(224, 195, 226),
    "overfeat": Sizes(231, 231, 262),
    "vgg_a": Sizes(224, 224, 255),
    "vgg_16": Sizes(224, 224, 255),
    "vgg_19": Sizes(224, 224, 255),
    "inception_v1": Sizes(224, 193, 224),
    "inception_v2": Sizes(224, 1, 256),
    "inception_v3": Sizes(299, 107, 346),
}
# The auxiliary logits of inception_v3 require more positions than the logits.
_WITHOUT_AUX_LOGITS = Sizes(299, 75, 362)

_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "create_aux_logits": flag,
    "depth_multiplier": number,
    "dropout_keep_prob": functools.partial(number, most=1, tensor=True),
    "min_depth": functools.partial(whole_number, least=1),
    "prediction_fn": function,
    "spatial_squeeze": flag,
}

_DESCRIPTION = """Builds {name} by tf_slim's own function.

    Args:
      inputs: [batch, height, width, channels], float32, float16 or bfloat16; {size} is the usual height and width.
      num_classes: number of classes; 0 or None for no logits. The result is then the input of the logits.
      is_training: mode of batch norm and dropout, True, False or a boolean tensor; None for that of the enclosing arg
        scope, and where none says, True.
      {others}: as in tf_slim.

    Returns:
      (logits, end_points): the logits are [batch, num_classes], or [batch, height, width, num_classes] without
      ``spatial_squeeze``; the dict has tf_slim's keys{predictions}.

    Raises:
      ValueError: for an argument that no network can be built with, or images of another size than it requires.
    """


def _builder(name: str, original: Builder) -> Builder:
    """Returns the builder of one network; it has the arguments of tf_slim's function, in its order."""
    signature = inspect.signature(original)
    is_inception = name.startswith("inception")

    def build(*args: Any, **kwargs: Any) -> tuple[tf.Tensor, EndPoints]:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        arguments = given.arguments
        inputs = arguments["inputs"] = tf.convert_to_tensor(arguments["inputs"])
        classes = arguments["num_classes"] = check_inputs(inputs, arguments["num_classes"]) or None
        for argument in _CHECKS.keys() & arguments.keys():
            arguments[argument] = _CHECKS[argument](argument, arguments[argument])
        check_scope(arguments["scope"], arguments.get("reuse"))
        if classes is None:
            arguments["spatial_squeeze"] = False
            if is_inception:
                arguments["prediction_fn"] = lambda logits, scope: logits
        _check_size(name, arguments)
        with building(), warnings.catch_warnings():
            # TensorFlow says it of tf_slim's calls.
            warnings.filterwarnings("ignore", message=".layer.apply. is deprecated")
            arguments["is_training"] = _mode(arguments["is_training"])
            net, end_points = (original if classes else _without_logits(original))(*given.args, **given.kwargs)
            if is_inception and classes is None:
                end_points = {key: point for key, point in end_points.items() if key not in ("Logits", "Predictions")}
            elif classes is not None and not is_inception:
                scope = next(iter(end_points.values())).op.name.partition("/conv1/")[0]
                with tf.name_scope(f"{scope}/"):
                    end_points["predictions"] = tf.nn.softmax(net, name="predictions")
        return net, dict(end_points)

    build.__signature__ = signature
    build.__name__ = build.__qualname__ = name
    build.default_image_size = _SIZES[name].default
    others = [each for each in signature.parameters if each not in ("inputs", "num_classes", "is_training")]
    build.__doc__ = _DESCRIPTION.format(
        name=name,
        size=_SIZES[name].default,
        others=", ".join(others),
        predictions="" if is_inception else ", and ``predictions``",
    )
    return build


def _mode(is_training: Any) -> Any:
    """Returns the mode of a builder, which for None is that of the enclosing arg scope, or else True."""
    if is_training is None:
        is_training = layers.scoped_arguments(layers.batch_norm).get("is_training", True)
    layers.static_bool(is_training)  # raises ValueError unless it is a mode
    return is_training


def _check_size(name: str, arguments: dict[str, Any]) -> None:
    """Raises ValueError if the images are too small for the network, or too large for ``spatial_squeeze``."""
    has_aux_logits = arguments.get("create_aux_logits") and arguments["num_classes"]
    sizes = _WITHOUT_AUX_LOGITS if name == "inception_v3" and not has_aux_logits else _SIZES[name]
    size = [each for each in arguments["inputs"].shape.as_list()[1:3] if each is not None]
    most = sizes.most if arguments["spatial_squeeze"] else None
    if any(each < sizes.least or (most and each > most) for each in size):
        given = "x".join(map(str, arguments["inputs"].shape.as_list()[1:3]))
        expected = f"{sizes.least} to {most}" if most else f"at least {sizes.least}"
        advice = f"resize them, for example to {sizes.default}x{sizes.default}"
        if most and min(size) >= sizes.least:
            advice += ", or set spatial_squeeze=False, which allows larger ones"
        if has_aux_logits and min(size) >= _WITHOUT_AUX_LOGITS.least and max(size) <= sizes.most:
            advice += ", or set create_aux_logits=False, which allows smaller ones"
        raise ValueError(f"{name} takes images of {expected} rows and columns, and these are {given}: {advice}.")


@functools.cache
def _without_logits(original: Builder) -> Builder:
    """Returns tf_slim's function with layers that leave a convolution without outputs out, as that of no classes is."""
    names = {**original.__globals__, "layers": _Layers()}
    return types.FunctionType(original.__code__, names, original.__name__, original.__defaults__, original.__closure__)


class _Layers:
    """tf_slim's layers, but for ``conv2d``, which returns its input if it has no outputs."""

    def __init__(self) -> None:
        def conv2d(inputs: tf.Tensor, num_outputs: int | None, *args: Any, **kwargs: Any) -> tf.Tensor:
            return inputs if num_outputs is None else slim.conv2d(inputs, num_outputs, *args, **kwargs)

        conv2d._key_op = slim.arg_scope_func_key(slim.conv2d)
        self.conv2d = conv2d

    def __getattr__(self, name: str) -> Any:
        return getattr(slim.layers, name)


def vgg_arg_scope(weight_decay: float | tf.Tensor = 0.0005) -> dict[str, dict[str, Any]]:
    """Returns the arg scope of the VGGs; ``weight_decay`` is the factor of the L2 loss on the weights."""
    return _arg_scope(vgg.vgg_arg_scope, weight_decay)


def alexnet_v2_arg_scope(weight_decay: float | tf.Tensor = 0.0005) -> dict[str, dict[str, Any]]:
    """Returns the arg scope of AlexNet; ``weight_decay`` is the factor of the L2 loss on the weights."""
    return _arg_scope(alexnet.alexnet_v2_arg_scope, weight_decay)


def overfeat_arg_scope(weight_decay: float | tf.Tensor = 0.0005) -> dict[str, dict[str, Any]]:
    """Returns the arg scope of OverFeat; ``weight_decay`` is the factor of the L2 loss on the weights."""
    return _arg_scope(overfeat_module.overfeat_arg_scope, weight_decay)


def _arg_scope(original: Callable, weight_decay: float | tf.Tensor) -> dict[str, dict[str, Any]]:
    with one_at_a_time():
        return original(weight_decay=check_weight_decay(weight_decay))


def inception_arg_scope(
    weight_decay: float | tf.Tensor = 0.00004,
    use_batch_norm: bool = True,
    batch_norm_decay: float | tf.Tensor = 0.9997,
    batch_norm_epsilon: float = 0.001,
    activation_fn: Callable | None = tf.nn.relu,
    batch_norm_updates_collections: layers.Collections = _UPDATE_OPS,
    batch_norm_scale: bool = False,
) -> dict[str, dict[str, Any]]:
    """Returns the arg scope of the Inceptions, with the arguments of research/slim's.

    Args:
      weight_decay: factor of the L2 loss on the weights.
      use_batch_norm: whether batch norms follow the convolutions. Without, they have biases.
      batch_norm_decay: decay of the moving statistics.
      batch_norm_epsilon: number added to the variances.
      activation_fn: activation of the convolutions.
      batch_norm_updates_collections: collections of the updates; None runs the updates with the network.
      batch_norm_scale: whether batch norms have a ``gamma``; the published weights have none.

    Raises:
      ValueError: for an argument of the wrong kind; the message names it.
    """
    batch_norm = {
        "decay": number("batch_norm_decay", batch_norm_decay, most=1, tensor=True),
        "epsilon": number("batch_norm_epsilon", batch_norm_epsilon),
        "scale": flag("batch_norm_scale", batch_norm_scale),
        "updates_collections": check_collections("batch_norm_updates_collections", batch_norm_updates_collections),
        "variables_collections": {
            "beta": None,
            "gamma": None,
            "moving_mean": ["moving_vars"],
            "moving_variance": ["moving_vars"],
        },
    }
    normalizer = {"normalizer_fn": layers.batch_norm, "normalizer_params": batch_norm}
    if not flag("use_batch_norm", use_batch_norm):
        normalizer = {"normalizer_fn": None, "normalizer_params": {}}
    with (
        one_at_a_time(),
        slim.arg_scope(inception.inception_v3_arg_scope(weight_decay=check_weight_decay(weight_decay))),
        slim.arg_scope([slim.conv2d], activation_fn=function("activation_fn", activation_fn), **normalizer),
        slim.arg_scope([slim.batch_norm], **batch_norm),
    ):
        return slim.current_arg_scope()


# research/slim has one arg scope under three names.
inception_v1_arg_scope = inception_v2_arg_scope = inception_v3_arg_scope = inception_arg_scope

alexnet_v2 = _builder("alexnet_v2", alexnet.alexnet_v2)
overfeat = _builder("overfeat", overfeat_module.overfeat)
vgg_a = _builder("vgg_a", vgg.vgg_a)
vgg_16 = _builder("vgg_16", vgg.vgg_16)
vgg_19 = _builder("vgg_19", vgg.vgg_19)
inception_v1 = _builder("inception_v1", inception.inception_v1)
inception_v2 = _builder("inception_v2", inception.inception_v2)
inception_v3 = _builder("inception_v3", inception.inception_v3)

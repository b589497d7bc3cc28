"""Receptive fields: the part of the image that each position of a tensor sees.

A field is read from the graph, and is the union over all paths from the image to the tensor, as in Araujo, Norris, Sim:
Computing Receptive Fields of Convolutional Neural Networks, Distill 2019.
"""

from typing import NamedTuple

import tensorflow as tf

__all__ = ["ReceptiveField", "receptive_fields"]


class ReceptiveField(NamedTuple):
    """The part of the image that one position of an end point sees; each a pair (vertical, horizontal), in pixels.

    size: height and width.
    stride: distance between the fields of neighbouring positions; None after global pooling.
    padding: rows above and columns left of the image in the field of the first position.
    """

    size: tuple[int, int]
    stride: tuple[int, int] | None
    padding: tuple[int, int]


class _Window(NamedTuple):
    """The pixels that position i of a tensor sees: first + i * stride to last + i * stride."""

    stride: int
    first: int
    last: int


_EVERYTHING = "everything"
_Axis = _Window | str
_Field = tuple[_Axis, _Axis]
_WHOLE: _Field = (_EVERYTHING, _EVERYTHING)

# Conditions belong to batch norms: in both branches the output has the field of the input.
_POINTWISE_OPS = {
    "Add",
    "AddV2",
    "BiasAdd",
    "Cast",
    "Elu",
    "EnsureShape",
    "FusedBatchNormV3",
    "Identity",
    "If",
    "LeakyRelu",
    "MatMul",
    "Maximum",
    "Merge",
    "Minimum",
    "Mul",
    "RealDiv",
    "Relu",
    "Relu6",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "StatelessIf",
    "StopGradient",
    "Sub",
    "Switch",
    "Tanh",
}


def receptive_fields(
    inputs: tf.Tensor, targets: set[str]
) -> dict[str, tuple[tuple[int, int] | None, ReceptiveField | None]]:
    """Returns the stride and the receptive field of tensors, by their names.

    Args:
      inputs: input of the network, [batch, height, width, channels].
      targets: names of the tensors. Those that do not depend on the input through known ops are left out.

    Returns:
      (stride, field): the stride is None where positions do not see windows, and the field where its size is unknown.
    """
    fields = _trace(inputs, targets)
    return {name: _described(fields[name], inputs) for name in targets & fields.keys()}


def _described(field: _Field, inputs: tf.Tensor) -> tuple[tuple[int, int] | None, ReceptiveField | None]:
    vertical, horizontal = field
    if isinstance(vertical, _Window) and isinstance(horizontal, _Window):
        stride = (vertical.stride, horizontal.stride)
        size = (vertical.last - vertical.first + 1, horizontal.last - horizontal.first + 1)
        return stride, ReceptiveField(size, stride, padding=(-vertical.first, -horizontal.first))
    if field == _WHOLE:
        height, width = inputs.shape.as_list()[1:3]
        if None not in (height, width):
            return None, ReceptiveField(size=(height, width), stride=None, padding=(0, 0))
    return None, None


def _trace(inputs: tf.Tensor, targets: set[str]) -> dict[str, _Field]:
    """Returns the fields of the tensors that depend on ``inputs`` through known ops, up to the last of the targets."""
    fields: dict[str, _Field] = {}
    if None not in inputs.shape.as_list()[1:3]:
        fields[inputs.name] = (_Window(1, 0, 0), _Window(1, 0, 0))
    # Tensors that depend on the image through unknown ops; nothing downstream of them is known either.
    unknown: set[str] = set()
    waiting = set(targets)
    for op in inputs.graph.get_operations():
        if not waiting:
            break
        if op.type == "Shape":  # its output depends on no pixel
            continue
        sources = [tensor for tensor in op.inputs if tensor.name in fields or tensor.name in unknown]
        if not sources or inputs.name in (tensor.name for tensor in op.outputs):
            continue
        field = None
        if not any(tensor.name in unknown for tensor in sources):
            field = _after(op, [fields[tensor.name] for tensor in sources])
        for tensor in op.outputs:
            waiting.discard(tensor.name)
            if field is None:
                unknown.add(tensor.name)
            else:
                fields[tensor.name] = field
    return fields


def _after(op: tf.Operation, fields: list[_Field]) -> _Field | None:
    """Returns the field of an op's output from the fields of its inputs; None if it is unknown."""
    axes = []
    for axis in (0, 1):
        axis_after = _axis_after(op, [field[axis] for field in fields], axis)
        if axis_after is None:
            return None
        axes.append(axis_after)
    return tuple(axes)


def _axis_after(op: tf.Operation, sources: list[_Axis], axis: int) -> _Axis | None:
    if _EVERYTHING in sources:
        return _EVERYTHING
    if op.type in _POINTWISE_OPS or (op.type == "ConcatV2" and _joins_channels(op)):
        return _union(sources)
    source = sources[0]
    if op.type == "Reshape":
        return source if _keeps_positions(op) else None
    if op.type in ("Conv2D", "DepthwiseConv2dNative"):
        kernel = op.inputs[1].shape.as_list()[axis]
        return _slide(op, source, axis, kernel, op.get_attr("dilations")[1 + axis])
    if op.type in ("AvgPool", "MaxPool"):
        return _slide(op, source, axis, op.get_attr("ksize")[1 + axis], rate=1)
    if op.type in ("Max", "Mean", "Sum"):
        reduced = tf.get_static_value(op.inputs[1])
        if reduced is None or op.inputs[0].shape.rank is None:
            return None
        return _EVERYTHING if 1 + axis in reduced.ravel() % op.inputs[0].shape.rank else source
    if op.type in ("MirrorPad", "Pad", "PadV2"):
        paddings = tf.get_static_value(op.inputs[1])
        return None if paddings is None else _shift(source, -int(paddings[1 + axis][0]))
    if op.type in ("BatchToSpaceND", "SpaceToBatchND"):
        return _interleave(op, source, axis)
    return None


def _joins_channels(concat: tf.Operation) -> bool:
    """Returns whether a concatenation is one of channels, so that its inputs share their positions."""
    axis, rank = tf.get_static_value(concat.inputs[-1]), concat.outputs[0].shape.rank
    return axis is not None and rank is not None and int(axis) % rank == rank - 1


def _keeps_positions(reshape: tf.Operation) -> bool:
    """Returns whether a reshape only flattens the positions of an image, in their order, or changes nothing."""
    before, after = reshape.inputs[0].shape, reshape.outputs[0].shape
    if before.rank is None or after.rank is None or before[-1] is None or before[-1] != after[-1]:
        return False
    return 4 not in (before.rank, after.rank) or before.rank != after.rank or before[1:3] == after[1:3]


def _union(windows: list[_Window]) -> _Window | None:
    if len({window.stride for window in windows}) > 1:
        return None
    return _Window(windows[0].stride, min(window.first for window in windows), max(window.last for window in windows))


def _shift(window: _Window, positions: int) -> _Window:
    pixels = positions * window.stride
    return _Window(window.stride, window.first + pixels, window.last + pixels)


def _slide(op: tf.Operation, window: _Window, axis: int, kernel: int | None, rate: int) -> _Window | None:
    """Returns the window of the output of a kernel that slides over ``window``."""
    if op.get_attr("data_format") != b"NHWC":
        return None
    size = op.inputs[0].shape.as_list()[1 + axis]
    stride = op.get_attr("strides")[1 + axis]
    padding = op.get_attr("padding")
    extent = (kernel - 1) * rate + 1 if kernel is not None else None
    if extent is None or (padding == b"SAME" and size is None):
        return None
    if padding == b"SAME":
        # TensorFlow's rule: the padding that ceil(size / stride) positions need, the odd row at the end.
        before = max((-(-size // stride) - 1) * stride + extent - size, 0) // 2
    elif padding == b"EXPLICIT":
        before = op.get_attr("explicit_paddings")[2 * (1 + axis)]
    else:
        before = 0
    return _Window(
        window.stride * stride,
        window.first - before * window.stride,
        window.last + (extent - 1 - before) * window.stride,
    )


def _interleave(op: tf.Operation, window: _Window, axis: int) -> _Window | None:
    """Returns the window after one of the two ops around a dilated convolution.

    Between the two, neighbours are ``block`` positions of the image apart.
    """
    block, cut = (tf.get_static_value(tensor) for tensor in op.inputs[1:3])
    if block is None or cut is None:
        return None
    rate, before = int(block[axis]), int(cut[axis][0])
    if op.type == "SpaceToBatchND":
        return _shift(window, -before)._replace(stride=window.stride * rate)
    return _shift(window._replace(stride=window.stride // rate), before)

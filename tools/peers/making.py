"""Writes problems, from the tensors of any session or from a network of the table."""

from pathlib import Path

import numpy as np
import tensorflow as tf

import checkpoints
from nets import endpoint_info, guards, nets_factory
from tools.errors import PeerError
from tools.peers.problem import Problem
from tools.runtime.agreement import logit_size
from tools.runtime.freezing import freeze
from tools.runtime.machine import cores
from tools.runtime.random_weights import assign_random_weights, random_images

__all__ = ["make_problem", "network_problem"]

v1 = tf.compat.v1

# Smallest number of images behind the statistics of random weights. With fewer, a channel of the last block, which may
# have one pixel an image, would hardly vary.
_IMAGES_OF_STATISTICS = 8


def make_problem(
    folder: str | Path,
    session: v1.Session,
    images_tensor: tf.Tensor,
    output_tensor: tf.Tensor,
    images: np.ndarray,
    *,
    net: str,
    num_classes: int,
    threads: int | None = None,
    precision: str = "float32",
) -> Problem:
    """Writes a session's network with its weights, and images, as a problem.

    Args:
      folder: folder of the problem; created if it does not exist.
      session: session whose variables have values.
      images_tensor: [N or None, height, width, channels], the tensor that the images replace.
      output_tensor: the tensor that the engines compute.
      images: float32 [N, height, width, channels].
      net, num_classes: the session's network.
      threads: threads that an engine may use; None for one a core.
      precision: precision of our own engine.

    Raises:
      PeerError: if the images do not fit ``images_tensor``, ``output_tensor`` does not depend on it, or ``threads`` is
        less than 1.
      ValueError: if a graph cannot hold the weights.
    """
    if threads is not None and threads < 1:
        raise PeerError(f"threads must be at least 1, or None for one a core, but is {threads}.")
    folder = Path(folder)
    images = np.ascontiguousarray(images, np.float32)
    if not images_tensor.shape.is_compatible_with(images.shape):
        raise PeerError(
            f"images must have the shape {images_tensor.shape} of {images_tensor.name}, but have {list(images.shape)}: "
            "give others, or build the network for them."
        )
    folder.mkdir(parents=True, exist_ok=True)
    graph_def, images_name = _with_fixed_shape(freeze(session, [output_tensor]), images_tensor, output_tensor, images)
    with session.graph.as_default():
        weights = session.run({variable.op.name: variable for variable in v1.global_variables()})
    problem = Problem(
        folder=folder,
        net=net,
        num_classes=num_classes,
        images_name=images_name,
        output_name=output_tensor.name,
        threads=threads or cores(),
        precision=precision,
        logit_size=_logit_size(session, images_tensor, output_tensor, images),
    )
    problem.graph_file.write_bytes(graph_def.SerializeToString())
    np.savez(folder / "weights.npz", **weights)
    np.save(folder / "images.npy", images)
    problem.save()
    return problem


def network_problem(
    folder: str | Path,
    net: str,
    *,
    batch_size: int,
    image_size: int | None = None,
    num_classes: int | None = None,
    checkpoint: str | Path | None = None,
    end_point: str = "predictions",
    threads: int | None = None,
    precision: str = "float32",
    seed: int = 0,
) -> Problem:
    """Writes a network of the table, and random images, as a problem.

    Args:
      folder: folder of the problem; created if it does not exist.
      net: name of the network.
      batch_size: number of images.
      image_size: height and width of the images; None for the network's.
      num_classes: number of classes; None for the network's.
      checkpoint: the weights, as for ``checkpoints.restore``; None for random weights, with the moving statistics of
        the images under them.
      end_point: name or alias of the end point that the engines compute; 'logits' works for every network.
      threads: threads that an engine may use; None for one a core.
      precision: precision of our own engine.
      seed: seed of images and weights.

    Raises:
      PeerError: if ``batch_size`` is less than 1.
      ValueError: for an unknown network or end point, a checkpoint that does not fit, or weights that a graph cannot
        hold.
    """
    network = nets_factory.get_network(net)
    num_classes = network.num_classes if num_classes is None else num_classes
    if batch_size < 1:
        raise PeerError(f"batch_size must be at least 1, but is {batch_size}.")
    with tf.Graph().as_default(), v1.Session() as session:
        size = network.image_size if image_size is None else image_size
        images = v1.placeholder(tf.float32, [None, size, size, network.channels], name="images")
        logits, end_points = nets_factory.get_network_fn(net, num_classes)(images)
        # Not all networks have an end point of that alias.
        output = logits if end_point == "logits" else endpoint_info.resolve(end_point, end_points)[1]
        count = max(batch_size, _IMAGES_OF_STATISTICS)
        values = random_images([count, *images.shape[1:]], network.preprocessing, seed)
        if checkpoint is not None:
            checkpoints.restore(session, checkpoint)
        else:
            assign_random_weights(session, images, output, values, seed)
        return make_problem(
            folder,
            session,
            images,
            output,
            values[:batch_size],
            net=net,
            num_classes=num_classes,
            threads=threads,
            precision=precision,
        )


def _logit_size(session: v1.Session, images_tensor: tf.Tensor, output_tensor: tf.Tensor, images: np.ndarray) -> float:
    """Returns the size of the terms of logits; 0 if the output is not a product of features and a kernel."""
    op = output_tensor.op
    while op.type in ("BiasAdd", "Identity", "Reshape", "Squeeze"):
        op = op.inputs[0].op
    if op.type != "MatMul" and (op.type != "Conv2D" or op.inputs[1].shape[:2] != [1, 1]):
        return 0.0
    features, kernel = session.run([op.inputs[0], op.inputs[1]], {images_tensor: images})
    return logit_size(features, kernel)


def _with_fixed_shape(
    graph_def: v1.GraphDef, images_tensor: tf.Tensor, output_tensor: tf.Tensor, images: np.ndarray
) -> tuple[v1.GraphDef, str]:
    """Returns the graph behind a placeholder of the images' shape, so that every shape is known, and its name."""
    with tf.Graph().as_default() as graph:
        placeholder = v1.placeholder(tf.float32, images.shape, name="images")
        mapping = {images_tensor.name: placeholder}
        try:
            (output,) = tf.graph_util.import_graph_def(
                graph_def, input_map=mapping, return_elements=[output_tensor.name], name=""
            )
        except ValueError as error:
            raise PeerError(f"{output_tensor.name} does not depend on {images_tensor.name}: give others.") from error
        needed = {op.name for op in guards.ancestors([output])}
        result = v1.GraphDef(versions=graph_def.versions)
        result.node.extend(node for node in graph.as_graph_def().node if node.name in needed)
        return result, placeholder.name

"""Writes problems: of any session's tensors, and of a network of the table."""

from pathlib import Path

import numpy as np
import tensorflow as tf

import checkpoints
from nets import endpoint_info, guards, nets_factory
from tools.errors import PeerError
from tools.peers.problem import Problem
from tools.runtime.freezing import freeze
from tools.runtime.machine import cores
from tools.runtime.random_weights import assign_random_weights, random_images

__all__ = ["make_problem", "network_problem"]

v1 = tf.compat.v1

# At least so many images are behind the statistics of random weights: with fewer, a channel of the last block, of one
# pixel an image, would hardly vary.
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
      folder: made if it does not exist.
      session: its variables have values.
      images_tensor: [N or None, height, width, channels], what the images take the place of.
      output_tensor: what is computed of them.
      images: float32 [N, height, width, channels].
      net, num_classes: what the session's network is.
      threads: that an engine may use; None for one a core.
      precision: of our own engine.

    Raises:
      PeerError: if the images do not fit ``images_tensor``, ``output_tensor`` does not depend on it, or there is to be
        less than 1 thread.
      ValueError: if the weights are more than a graph can hold.
    """
    if threads is not None and threads < 1:
        raise PeerError(f"threads must be at least 1, or None for one a core, and is {threads}.")
    folder = Path(folder)
    images = np.ascontiguousarray(images, np.float32)
    if not images_tensor.shape.is_compatible_with(images.shape):
        raise PeerError(
            f"images must be {images_tensor.shape} as {images_tensor.name} is, and are {list(images.shape)}: "
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
    """Writes a network of the table, on random images, as a problem.

    Args:
      folder: made if it does not exist.
      net: its name.
      batch_size: number of images.
      image_size: their height and width; None for the network's.
      num_classes: None for the network's.
      checkpoint: where its weights are, as for ``checkpoints.restore``; None for random ones, and moving statistics
        that are those of the images under them.
      end_point: what is computed: 'logits', or another name or alias of the network's end points.
      threads: that an engine may use; None for one a core.
      precision: of our own engine.
      seed: of images and weights.

    Raises:
      PeerError: if there is not one image.
      ValueError: for an unknown network or end point, a checkpoint that does not fit, or weights that no graph can
        hold.
    """
    network = nets_factory.get_network(net)
    num_classes = network.num_classes if num_classes is None else num_classes
    if batch_size < 1:
        raise PeerError(f"batch_size must be at least 1, and is {batch_size}.")
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


def _with_fixed_shape(
    graph_def: v1.GraphDef, images_tensor: tf.Tensor, output_tensor: tf.Tensor, images: np.ndarray
) -> tuple[v1.GraphDef, str]:
    """The graph from a placeholder of the images' shape on, so that every shape is known; and that one's name."""
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

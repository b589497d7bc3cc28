"""Writes problems: of any session's tensors, and of a network of the table."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

import checkpoints
from nets import endpoint_info, guards, nets_factory
from tools.freezing import freeze
from tools.machine import cores
from tools.peers import PeerError
from tools.peers.problem import Problem
from tools.sessions import assign, session_config

__all__ = ["assign_random_weights", "make_problem", "network_problem", "random_images"]

v1 = tf.compat.v1

# At least so many images are behind the statistics of random weights: with fewer, a channel of the last block, of one
# pixel an image, would hardly vary.
_IMAGES_OF_STATISTICS = 8

# From the bounds of a preprocessing's values.
_BOUNDS = {"vgg": (-120.0, 140.0), "inception": (-1.0, 1.0), "cifar": (-2.0, 2.0), "grayscale": (0.0, 1.0)}


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


def assign_random_weights(
    session: v1.Session,
    images_tensor: tf.Tensor,
    output_tensor: tf.Tensor,
    images: np.ndarray,
    seed: int = 0,
    scales: Mapping[str, float] | None = None,
) -> None:
    """Gives every variable a random value, and the moving ones the statistics of the images under these.

    As training would leave them: with random statistics activations would vanish, or grow past all numbers.

    Args:
      session: of the network, whose variables may have no values yet.
      images_tensor, output_tensor: of its graph; the statistics are those on the way from one to the other.
      images: float32 [N, height, width, channels].
      seed: of the values.
      scales: from names of variables to factors of their values.
    """
    generator = np.random.default_rng(seed)
    with session.graph.as_default():
        variables = v1.global_variables()
    values = {v.op.name: _random_value(generator, v.op.name, v.shape.as_list()) for v in variables}
    for name, scale in (scales or {}).items():
        values[name] *= np.float32(scale)
    assign(session, variables, values)
    values |= _statistics(freeze(session, [output_tensor]), images_tensor.name, images)
    assign(session, variables, values)


def random_images(shape: tuple[int, ...] | list[int], preprocessing: str, seed: int = 0) -> np.ndarray:
    """Images of patches that vary from image to image, with values as of a preprocessing's; float32 [N, H, W, C]."""
    count, height, width, channels = shape
    generator = np.random.default_rng(seed)
    patches = generator.uniform(size=(count, -(-height // 8), -(-width // 8), channels))
    smooth = np.repeat(np.repeat(patches, 8, axis=1), 8, axis=2)[:, :height, :width]
    unit = 0.8 * smooth + 0.2 * generator.uniform(size=smooth.shape)
    low, high = _BOUNDS.get(preprocessing, (-1.0, 1.0))
    return (low + (high - low) * unit).astype(np.float32)


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


def _random_value(generator: np.random.Generator, name: str, shape: list[int]) -> np.ndarray:
    if len(shape) > 1:
        # He et al., arXiv:1502.01852, for what a ReLU follows.
        value = generator.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    elif name.endswith(("gamma", "variance")):
        value = generator.uniform(0.5, 1.5, shape)
    else:
        value = generator.normal(0, 0.1, shape)
    return value.astype(np.float32)


def _statistics(graph_def: v1.GraphDef, images_name: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """The mean and variance of every batch norm's inputs, by the names of its moving ones."""
    constants = {}
    for node in graph_def.node:
        if node.op == "FusedBatchNormV3":
            node.attr["is_training"].b = True
            for output, given in enumerate(node.input[3:5], start=1):
                constants[f"{node.name}:{output}"] = given
    with tf.Graph().as_default() as graph, v1.Session(config=session_config(optimize_graph=False)) as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        fetches = {}
        for tensor, given in constants.items():
            source = graph.get_operation_by_name(given)
            while source.type == "Identity":
                source = source.inputs[0].op
            fetches[source.name] = tensor
        return session.run(fetches, {images_name: images})

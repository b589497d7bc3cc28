"""``slimnets nets``: lists the networks, or the end points or layers of one network."""

import argparse
import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tools.terminal.tables import print_table

if TYPE_CHECKING:
    import tensorflow as tf

    from nets.nets_factory import Network

__all__ = ["add", "end_point_rows", "layer_rows", "network_row", "print_layers", "print_network", "print_networks"]


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("nets", help="list the networks, or the end points or layers of one network")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="network whose end points to list (default: list the networks)"
    )
    parser.add_argument(
        "--layers", action="store_true", help="list the layers of the network and their parameters, as Keras does"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=functools.partial(_run, parser))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.layers and arguments.name is None:
        parser.error("--layers requires the NAME of a network")
    if arguments.name is None:
        print_networks(arguments.json)
    elif arguments.layers:
        print_layers(arguments.name, arguments.json)
    else:
        print_network(arguments.name, arguments.json)
    return 0


def _build(network: "Network") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
    import tensorflow as tf

    from nets import nets_factory

    size = network.image_size
    images = tf.compat.v1.placeholder(tf.float32, [None, size, size, network.channels], name="images")
    _, end_points = nets_factory.get_network_fn(network.name, network.num_classes)(images)
    return images, end_points


def network_row(network: "Network") -> dict[str, Any]:
    """Returns the row of one network in ``slimnets nets``: its usual classes, and what weights with these expect."""
    from checkpoints.diagnosis import expected_input

    preprocessing, image_size = expected_input(network, network.num_classes, network.channels)
    return {
        "name": network.name,
        "classes": network.num_classes,
        "trainable_parameters": network.trainable_parameters,
        "parameters": network.parameters,
        "image_size": image_size,
        "preprocessing": preprocessing,
    }


def layer_rows(name: str) -> list[dict[str, Any]]:
    """Returns the rows of ``slimnets nets NAME --layers``, in the order of Keras' summary."""
    import tensorflow as tf

    from nets import endpoint_info, layer_info, nets_factory

    network = nets_factory.get_network(name)
    with tf.Graph().as_default():
        images, end_points = _build(network)
        layers = layer_info.describe_layers(images, endpoint_info.resolve("predictions", end_points)[1])
    return [layer._asdict() for layer in layers]


def end_point_rows(name: str) -> list[dict[str, Any]]:
    """Returns the rows of ``slimnets nets NAME``, in graph order, for the network's own image size."""
    import tensorflow as tf

    from nets import endpoint_info, nets_factory

    network = nets_factory.get_network(name)
    with tf.Graph().as_default():
        described = endpoint_info.describe(*_build(network))
    return [
        {
            "name": point.name,
            "alias": point.alias,
            "shape": point.shape[1:],
            "stride": point.stride,
            "channels": point.channels,
            "receptive_field": point.receptive_field._asdict() if point.receptive_field else None,
        }
        for point in described
    ]


def print_networks(as_json: bool) -> None:
    """Prints the networks as a table or as JSON."""
    from nets import nets_factory

    rows = [network_row(network) for network in nets_factory.NETWORKS.values()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    header = ("name", "classes", "trainable", "with statistics", "image size", "preprocessing")
    print_table(header, [list(row.values()) for row in rows])


def print_network(name: str, as_json: bool) -> None:
    """Prints the end points of one network as a table or as JSON."""
    rows = end_point_rows(name)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    header = ("name", "alias", _shape_at(name), "stride", "channels", "receptive field", "padding")
    print_table(header, [_cells(row) for row in rows])


def print_layers(name: str, as_json: bool) -> None:
    """Prints the layers of one network and their parameters as a table or as JSON."""
    rows = layer_rows(name)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    header = ("layer", "scope", f"output {_shape_at(name)}", "parameters")
    cells = [[f"{row['name']} ({row['kind']})", row["scope"], _times(row["shape"]), row["parameters"]] for row in rows]
    print_table(header, cells)
    from nets import nets_factory

    network = nets_factory.get_network(name)
    print(
        f"\n{network.parameters:,} parameters: {network.trainable_parameters:,} trainable, "
        f"{network.parameters - network.trainable_parameters:,} not"
    )


def _shape_at(name: str) -> str:
    """Returns the header of the column of shapes, with the image size that the shapes are for."""
    from nets import nets_factory

    return f"shape at {nets_factory.get_network(name).image_size}"


def _times(shape: Sequence[int | None]) -> str:
    return "x".join(str(size) for size in shape)


def _cells(row: dict[str, Any]) -> list[object]:
    field = row["receptive_field"]
    return [
        row["name"],
        row["alias"],
        _times(row["shape"]),
        row["stride"][0] if row["stride"] else None,
        row["channels"],
        None if field is None else field["size"][0] if field["stride"] else "image",
        field["padding"][0] if field and field["stride"] else None,
    ]

"""Writes the golden files: variables, end points and parameter counts of every network, as tf_slim builds them.

    python -m tests.golden.make            shows what would change
    python -m tests.golden.make --write    writes it

They come from tf_slim's own networks, and not from ours.
"""

import argparse
import difflib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from nets import nets_factory
from tools.slim_reference import tf_slim_builder, tf_slim_scope

v1 = tf.compat.v1

FOLDER = Path(__file__).parent


def golden_file(name: str) -> Path:
    """The golden file of a network."""
    return FOLDER / f"{name}.json"


def described(variables: Sequence[tf.Variable], end_points: dict[str, tf.Tensor]) -> dict[str, Any]:
    """What a golden file holds of a network that was built."""
    trainable = {variable.name for variable in v1.trainable_variables()}
    sizes = {variable.name: math.prod(variable.shape.as_list()) for variable in variables}
    return {
        "parameters": sum(sizes.values()),
        "trainable_parameters": sum(size for name, size in sizes.items() if name in trainable),
        "variables": {variable.op.name: variable.shape.as_list() for variable in variables},
        "end_points": {name: [tensor.name, tensor.shape.as_list()] for name, tensor in end_points.items()},
    }


def build_reference(name: str) -> dict[str, Any]:
    """Builds tf_slim's own network of that name, at its image size and in inference mode, and describes it."""
    network = nets_factory.get_network(name)
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, network.image_size, network.image_size, 3])
        with tf_slim_scope():
            _, end_points = tf_slim_builder(name)(images, num_classes=network.num_classes, is_training=False)
        return described(v1.global_variables(), end_points)


def text(golden: dict[str, Any]) -> str:
    """A golden file's text: a line for each variable and end point."""
    lines = json.dumps(golden, indent=1).splitlines()
    # json breaks shapes over several lines; one line each is what a difference is read in.
    joined: list[str] = []
    for line in lines:
        if joined and joined[-1].count("[") > joined[-1].count("]"):
            joined[-1] += (
                line.strip() if line.strip() in ("]", "],") or joined[-1].endswith("[") else " " + line.strip()
            )
        else:
            joined.append(line)
    return "\n".join(joined) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files")
    arguments = parser.parse_args(argv)
    different = 0
    for name in nets_factory.NETWORKS:
        new = text(build_reference(name))
        file = golden_file(name)
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        if new != old:
            different += 1
            sys.stdout.writelines(
                difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(file), "new", n=0)
            )
            if arguments.write:
                file.write_text(new, encoding="utf-8")
    print(f"{different} of {len(nets_factory.NETWORKS)} golden files {'written' if arguments.write else 'differ'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

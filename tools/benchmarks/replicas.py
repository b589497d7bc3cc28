"""The checkpoint and the images of the benchmarks, with the sizes and formats of real ones."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from nets import nets_factory
from tools.runtime.random_weights import assign_random_weights, random_images
from tools.runtime.sessions import session_config

__all__ = ["save_images", "save_network", "save_resnet_50"]

v1 = tf.compat.v1


def save_resnet_50(folder: Path, write_version: str = "V2") -> str:
    """Saves a ResNet-50 v2 for 1001 classes; see ``save_network``."""
    return save_network(folder, "resnet_v2_50", 1001, write_version)


def save_network(folder: Path, net: str, num_classes: int, write_version: str = "V2") -> str:
    """Saves a network with random weights, and the moving statistics that training would leave. Returns the path.

    No value is 0 or 1, as in initial weights: TensorFlow would compute less with them.
    """
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, 224, 224, 3])
        logits, _ = nets_factory.get_network_fn(net, num_classes)(images)
        with v1.Session(config=session_config()) as session:
            assign_random_weights(session, images, logits, random_images([8, 224, 224, 3], "inception"))
            saver = v1.train.Saver(write_version=getattr(v1.train.SaverDef, write_version))
            return saver.save(session, str(folder / f"{net}.ckpt"), write_meta_graph=False)


def save_images(folder: Path, count: int) -> list[str]:
    """Writes JPEG files of 500x375 pixels with smooth random content; returns their paths."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, [24, 32, 3], np.uint8))
        paths.append(str(folder / f"{i:05d}.jpg"))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths

"""Prints the first features of a ResNet-50 v2, like a script of tf_slim's users: build, initialize, restore, run.

``python -m tools.benchmarks.scripts.slim_script CHECKPOINT IMAGE``

It imports what such a script requires, and nothing else of this project, because its start-up is measured.
"""

import sys

import tensorflow as tf

from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope

__all__ = ["main"]

v1 = tf.compat.v1


def main(checkpoint: str, image: str) -> None:
    with tf.Graph().as_default():
        pixels = tf.io.decode_jpeg(tf.io.read_file(image), channels=3)
        pixels = tf.image.central_crop(tf.image.convert_image_dtype(pixels, tf.float32), 0.875)
        pixels = tf.raw_ops.ResizeBilinear(images=pixels[tf.newaxis], size=[299, 299])
        pixels = tf.ensure_shape((pixels - 0.5) * 2.0, [1, 299, 299, 3])
        with tf_slim_scope():
            tf_slim_builder("resnet_v2_50")(pixels, 1001, is_training=False)
        features = v1.get_default_graph().get_tensor_by_name("resnet_v2_50/pool5:0")
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().restore(session, checkpoint)
            print(session.run(features).ravel()[:5], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

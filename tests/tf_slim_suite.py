"""Runs the test suite that tf_slim ships for its own v2 networks, with the networks of this project in their place.

A program: the suite turns eager execution off for its process. Nothing of the suite changes but what two names mean.
The one thing the drop-in does not share with tf_slim, and does with research/slim, is the place of ``reuse`` and
``scope`` among the positional arguments, which the suite gives by position.
"""

import sys
import types
import unittest
from pathlib import Path

import tf_slim.nets

from nets import resnet_utils, resnet_v2


def resnet_v2_of_tf_slim(
    inputs,
    blocks,
    num_classes=None,
    is_training=True,
    global_pool=True,
    output_stride=None,
    include_root_block=True,
    reuse=None,
    scope=None,
):
    return resnet_v2.resnet_v2(
        inputs,
        blocks,
        num_classes,
        is_training,
        global_pool,
        output_stride,
        include_root_block,
        spatial_squeeze=False,
        reuse=reuse,
        scope=scope,
    )


def suite_on_our_networks() -> types.ModuleType:
    ours = types.ModuleType("tf_slim.nets.resnet_v2")
    vars(ours).update(vars(resnet_v2), resnet_v2=resnet_v2_of_tf_slim)
    tf_slim.nets.resnet_v2, tf_slim.nets.resnet_utils = ours, resnet_utils
    path = Path(tf_slim.nets.__path__[0]) / "resnet_v2_test.py"
    # Known to Python by its name, so that unittest finds the suite's set-up.
    suite = sys.modules["resnet_v2_test"] = types.ModuleType("resnet_v2_test")
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(suite))
    return suite


def main() -> int:
    tests = unittest.defaultTestLoader.loadTestsFromModule(suite_on_our_networks())
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    return 0 if result.wasSuccessful() and result.testsRun >= 15 else 1


if __name__ == "__main__":
    sys.exit(main())

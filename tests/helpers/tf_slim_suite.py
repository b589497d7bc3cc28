"""Runs the test suites that tf_slim ships for its own networks, with the networks of this project in their place.

This is a program because the suites turn eager execution off for their process. Its argument is the family, 'v1' or
'v2'. Only two names in a suite get another meaning. The suites give ``reuse`` and ``scope`` by position, and these
two have the positions of research/slim in this project, not those of tf_slim.
"""

import sys
import types
import unittest
from pathlib import Path

import tf_slim.nets

from nets import resnet_utils, resnet_v1, resnet_v2

FAMILIES = {"v1": resnet_v1, "v2": resnet_v2}


def as_in_tf_slim(generator):
    """Returns ``generator`` with the positional arguments of tf_slim's."""

    def build(
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
        return generator(
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

    return build


def suite_on_our_networks(family: str) -> types.ModuleType:
    module = FAMILIES[family]
    name = f"resnet_{family}"
    ours = types.ModuleType(f"tf_slim.nets.{name}")
    vars(ours).update(vars(module), **{name: as_in_tf_slim(getattr(module, name))})
    setattr(tf_slim.nets, name, ours)
    tf_slim.nets.resnet_utils = resnet_utils
    path = Path(tf_slim.nets.__path__[0]) / f"{name}_test.py"
    # Registered in sys.modules, so that unittest finds the suite's set-up.
    suite = sys.modules[f"{name}_test"] = types.ModuleType(f"{name}_test")
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(suite))
    return suite


def main(family: str) -> int:
    tests = unittest.defaultTestLoader.loadTestsFromModule(suite_on_our_networks(family))
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    return 0 if result.wasSuccessful() and result.testsRun >= 15 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

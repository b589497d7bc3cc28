"""A corpus of good, odd and broken files of tf_slim's other networks, each with its expected diagnosis.

python -m tests.helpers.slim_corpus FOLDER

Names and shapes come from the golden files, which tf_slim made. Of the large networks a file holds the shapes alone, as
a bundle of partitioned variables whose first parts are there. The expected diagnoses were written by hand.
"""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.golden.make import golden_file
from tests.helpers.corpus import Case

__all__ = ["SCOPES", "make", "save_shapes", "shapes_of"]

Shapes = dict[str, tuple[int, ...]]


def shapes_of(name: str, *, scope: str | None = None, classes: int | None = None) -> Shapes:
    """Returns the shapes of a network's variables, with so many classes, under a scope ('' for none)."""
    golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
    shapes = {key: tuple(shape) for key, shape in golden["variables"].items()}
    if classes is not None:
        usual = 1001 if name.startswith("inception") else 1000
        shapes = {key: tuple(classes if size == usual else size for size in shape) for key, shape in shapes.items()}
    if scope is None:
        return shapes
    return {"/".join(filter(None, [scope, key.partition("/")[2]])): shape for key, shape in shapes.items()}


def save_shapes(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: tf.DType = tf.float32) -> Path:
    """Writes a bundle whose index tells these shapes, with a single value of each variable."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        first = [":".join(["0,1"] * len(shape)) for shape in shapes.values()]
        sizes = [" ".join(map(str, shape)) for shape in shapes.values()]
        slices = [f"{size} {part}" if part else "" for size, part in zip(sizes, first, strict=True)]
        data = [tf.zeros([1] * len(shape), dtype) for shape in shapes.values()]
        save = tf.raw_ops.SaveV2(prefix=str(path), tensor_names=list(shapes), shape_and_slices=slices, tensors=data)
        session.run(save)
    # The rest of the values is a hole, which takes no room.
    os.truncate(f"{path}.data-00000-of-00001", sum(dtype.size * math.prod(shape) for shape in shapes.values()))
    return path


def make(folder: Path) -> list[Case]:
    """Makes the corpus in a folder, and returns its cases."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for file, shapes, said in (*_good(), *_odd(), *_unfit(), *_broken(), *_others()):
        save_shapes(folder / file, shapes)
        cases.append(Case(file, said))
    return cases


Made = Iterator[tuple[str, Shapes, dict[str, Any]]]

# What goes with the published weights, from slim's README.
_INPUTS = {
    "alexnet_v2": ("vgg", 224, 1000),
    "overfeat": ("vgg", 231, 1000),
    **dict.fromkeys(("vgg_a", "vgg_16", "vgg_19"), ("vgg", 224, 1000)),
    **dict.fromkeys(("inception_v1", "inception_v2"), ("inception", 224, 1001)),
    "inception_v3": ("inception", 299, 1001),
}
SCOPES = {"inception_v1": "InceptionV1", "inception_v2": "InceptionV2", "inception_v3": "InceptionV3"}


def _whole(name: str, **said: Any) -> dict[str, Any]:
    preprocessing, image_size, classes = _INPUTS[name]
    scope = SCOPES.get(name, name)
    known = {"net": name, "scope": scope, "num_classes": classes, "channels": 3, "options": {}}
    return {**known, "preprocessing": preprocessing, "image_size": image_size, "format": "V2", **said}


def _faulty(name: str, words: str, kind: str = "incomplete", **said: Any) -> dict[str, Any]:
    return _whole(name, usable=False, problems=(kind,), words=(words,), **said)


def without(shapes: Shapes, *parts: str) -> Shapes:
    """Returns the shapes whose names have none of the parts."""
    return {key: shape for key, shape in shapes.items() if not any(part in key for part in parts)}


def changed(shapes: Shapes, ending: str, shape: tuple[int, ...]) -> Shapes:
    """Returns the shapes with another one for the variables whose names have this ending."""
    assert any(key.endswith(ending) for key in shapes)
    return {key: shape if key.endswith(ending) else old for key, old in shapes.items()}


def _good() -> Made:
    parameters = {"vgg_16": 138_357_544, "inception_v3": 27_182_194}
    for name in _INPUTS:
        background = name.startswith("inception")
        more = {"parameters": parameters[name]} if name in parameters else {}
        yield f"{name}.ckpt", shapes_of(name), _whole(name, background_class=background, **more)
    for name in ("vgg_19", "inception_v1"):
        step = {"global_step": ()}
        yield f"{name}_step.ckpt", shapes_of(name) | step, _whole(name, extras={"global_step": 1})


def _odd() -> Made:
    v3, vgg = shapes_of("inception_v3"), shapes_of("vgg_16")
    trained = without(v3, "/moving_")
    yield (
        "no_aux.ckpt",
        without(v3, "AuxLogits"),
        _whole("inception_v3", options={"create_aux_logits": False}),
    )
    yield "no_head_v3.ckpt", without(v3, "Logits"), _whole("inception_v3", num_classes=0)
    yield "no_head_vgg.ckpt", without(vgg, "fc8"), _whole("vgg_16", num_classes=0)
    yield "flowers.ckpt", shapes_of("inception_v3", classes=5), _whole("inception_v3", num_classes=5)
    yield "under_scope.ckpt", shapes_of("vgg_16", scope="a/b"), _whole("vgg_16", scope="a/b")
    yield "without_scope.ckpt", shapes_of("inception_v1", scope=""), _whole("inception_v1", scope="")
    rms = {f"{key}/{slot}": shape for key, shape in trained.items() for slot in ("RMSProp", "RMSProp_1")}
    slots = {"slots RMSProp": 2 * len(trained), "global_step": 1}
    yield "rmsprop.ckpt", v3 | rms | {"global_step": ()}, _whole("inception_v3", extras=slots)
    averages = {f"{key}/ExponentialMovingAverage": shape for key, shape in trained.items()}
    yield "averages.ckpt", v3 | averages, _whole("inception_v3", moving_averages=len(trained))
    momentum = {f"{key}/Momentum": shape for key, shape in vgg.items()}
    yield "momentum.ckpt", vgg | momentum, _whole("vgg_16", extras={"slots Momentum": len(vgg)})
    yield (
        "mean_rgb.ckpt",
        vgg | {"vgg_16/mean_rgb": (3,), "global_step": ()},
        _whole("vgg_16", extras={"mean_rgb": 1, "global_step": 1}),
    )
    grey = changed(vgg, "conv1_1/weights", (3, 3, 1, 64))
    yield "grey.ckpt", grey, _whole("vgg_16", channels=1, preprocessing="grayscale")
    yield (
        "several.ckpt",
        vgg | v3,
        {
            "net": None,
            "usable": False,
            "problems": ("several networks",),
            "words": ("inception_v3 under 'InceptionV3', vgg_16 under 'vgg_16'", "scope='InceptionV3'"),
        },
    )


def _unfit() -> Made:
    vgg, v3 = shapes_of("vgg_16"), shapes_of("inception_v3")
    yield (
        "vgg_160.ckpt",
        changed(vgg, "fc6/weights", (5, 5, 512, 4096)),
        _faulty("vgg_16", "its fc6 has a kernel of 5x5, as of a network made for images of some 160 pixels"),
    )
    yield (
        "vgg_matrix.ckpt",
        changed(vgg, "fc6/weights", (25088, 4096)),
        _faulty("vgg_16", "fc6 is a matrix of 25088x4096, and tf_slim's is a convolution: reshape it, to 7 x 7 x 512"),
    )
    yield (
        "alexnet_large.ckpt",
        changed(shapes_of("alexnet_v2"), "fc6/weights", (6, 6, 256, 4096)),
        _faulty("alexnet_v2", "its fc6 has a kernel of 6x6, as of a network made for images of some 256 pixels"),
    )
    kernels = {
        key: (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape for key, shape in shapes_of("vgg_a").items()
    }
    yield "torch.ckpt", kernels, _faulty("vgg_a", "PyTorch's order", channels=3, num_classes=1)
    norms = {key: shape for key, shape in v3.items() if "/BatchNorm/" not in key}
    norms |= {key.replace("/weights", "/biases"): shape[-1:] for key, shape in norms.items() if key.endswith("weights")}
    yield "no_norms.ckpt", norms, _faulty("inception_v3", "inception_arg_scope(use_batch_norm=False)")
    gammas = {key.replace("/beta", "/gamma"): shape for key, shape in v3.items() if key.endswith("/beta")}
    yield "gammas.ckpt", v3 | gammas, _faulty("inception_v3", "inception_arg_scope(batch_norm_scale=True)")
    yield "no_statistics.ckpt", without(v3, "/moving_"), _faulty("inception_v3", "it has no moving statistics")
    norm = {f"vgg_16/conv1/conv1_1/BatchNorm/{leaf}": (64,) for leaf in ("beta", "gamma", "moving_mean")}
    yield "vgg_norms.ckpt", vgg | norm, _faulty("vgg_16", "it has batch norms, and tf_slim's vgg_16 has none")
    yield (
        "aux_classes.ckpt",
        changed(changed(v3, "AuxLogits/Conv2d_2b_1x1/weights", (1, 1, 768, 5)), "AuxLogits/Conv2d_2b_1x1/biases", (5,)),
        _faulty("inception_v3", "its auxiliary logits have 5 classes and its logits 1001"),
    )
    wide = changed(vgg, "conv3/conv3_2/weights", (3, 3, 256, 300))
    wide = changed(changed(wide, "conv3_2/biases", (300,)), "conv3_3/weights", (3, 3, 300, 256))
    yield "wide.ckpt", wide, _faulty("vgg_16", "1 of its layers have other widths (conv3/conv3_2 300 and not 256)")


def _broken() -> Made:
    v1, vgg = shapes_of("inception_v1"), shapes_of("vgg_19")
    yield (
        "cut_vgg.ckpt",
        without(vgg, "conv5", "fc"),
        _faulty("vgg_19", "lacks 6 of 18 layers (conv5/conv5_1, conv5/conv5_2, conv5/conv5_3, and 3", num_classes=0),
    )
    ends = "it ends before fc6, as Keras' VGG without its top: leave fc6 and fc7 out, exclude='vgg_19/fc?/*'"
    yield "no_top.ckpt", without(vgg, "fc"), _faulty("vgg_19", ends, num_classes=0)
    lacks = "lacks 3 of 18 layers (conv5/conv5_4, fc6, fc7): take the whole checkpoint"
    yield "no_top_and_conv5_4.ckpt", without(vgg, "fc", "conv5_4"), _faulty("vgg_19", lacks, num_classes=0)
    yield "no_fc7.ckpt", without(vgg, "fc7"), _faulty("vgg_19", "lacks 1 of 18 layers (fc7): take the whole checkpoint")
    yield "no_first.ckpt", without(v1, "1a_7x7"), _faulty("inception_v1", "(Conv2d_1a_7x7)", channels=None)
    yield "no_block.ckpt", without(v1, "Mixed_4d"), _faulty("inception_v1", "lacks 6 of 57 layers (Mixed_4d/Branch_0")
    yield "no_bias.ckpt", without(vgg, "conv2_1/biases"), _faulty("vgg_19", "it lacks conv2/conv2_1/biases")
    yield (
        "no_beta.ckpt",
        without(v1, "Mixed_3b/Branch_0/Conv2d_0a_1x1/BatchNorm/beta"),
        _faulty("inception_v1", "it lacks beta of 1 batch norms, such as Mixed_3b/Branch_0/Conv2d_0a_1x1"),
    )
    yield (
        "half_logits.ckpt",
        without(vgg, "fc8/biases"),
        _faulty("vgg_19", "it lacks fc8/biases: leave these logits out, exclude='vgg_19/fc8/*'"),
    )
    yield "two_classes.ckpt", changed(vgg, "fc8/biases", (7,)), _faulty("vgg_19", "1000 classes by their weights and 7")
    yield (
        "channels.ckpt",
        changed(vgg, "conv1_1/weights", (3, 3, 5, 64)),
        _faulty("vgg_19", "images of 5 channels", kind="channels", channels=5),
    )
    inner = changed(vgg, "conv4_2/weights", (3, 3, 500, 512))
    yield "inner.ckpt", inner, _faulty("vgg_19", "parameters between its first layer and the logits, and a vgg_19 has")
    names = {f"{key}:0": shape for key, shape in v1.items()}
    yield "names.ckpt", names, _faulty("inception_v1", "names that end in ':0'", kind="names")


def _unlisted(kind: str, words: str, **said: Any) -> dict[str, Any]:
    return {"net": None, "usable": False, "problems": (kind,), "words": (words,), **said}


def _others() -> Made:
    vgg = without(shapes_of("vgg_16", scope="vgg_13"), "conv3_3", "conv4_3", "conv5_3")
    yield "vgg_13.ckpt", vgg, _unlisted("unknown depth", "a VGG of 2 2 2 2 2 convolutions", family="vgg")
    v1 = shapes_of("alexnet_v2", scope="alexnet_v1")
    v1 = changed(changed(v1, "conv1/weights", (11, 11, 3, 96)), "conv1/biases", (96,))
    v1 = changed(changed(v1, "conv2/weights", (5, 5, 48, 256)), "fc6/weights", (9216, 4096))
    yield "alexnet_v1.ckpt", v1, _unlisted("unknown depth", "alexnet_v1: its conv1 has 96 outputs", family="alexnet")
    v4 = {key.replace("InceptionV3", "InceptionV4"): shape for key, shape in shapes_of("inception_v3").items()}
    blocks = [f"InceptionV4/Mixed_6{block}/Branch_{branch}" for block in "fgh" for branch in range(4)]
    extra = {f"{block}/Conv2d_0a_1x1/weights": (1, 1, 1024, 128) for block in blocks}
    yield "inception_v4.ckpt", v4 | extra, _unlisted("unknown depth", "an Inception that is not in", family="inception")
    lenet = {f"LeNet/{name}/weights": (5, 5, 1, 32) for name in ("conv1", "conv2", "fc3", "fc4")}
    yield "lenet.ckpt", lenet, _unlisted("unknown network", "none of the known networks")
    plain = {f"mine/conv{i}/weights": (3, 3, 8, 8) for i in range(1, 6)}
    yield "plain.ckpt", plain, _unlisted("unknown network", "none of the known networks (5 variables, under mine)")


if __name__ == "__main__":
    for made in make(Path(sys.argv[1])):
        print(made.path)

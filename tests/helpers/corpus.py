"""A corpus of good, odd and broken checkpoints, each with its expected diagnosis.

python -m tests.helpers.corpus FOLDER

Names and shapes come from the golden files, which other implementations made; values are random. The expected
diagnoses were written by hand, from how each file is made.
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tests.golden.make import golden_file
from tests.helpers.reference import random_values_of_shapes

__all__ = ["Case", "make", "published", "save_v1", "save_v2", "weights"]

Values = dict[str, np.ndarray]

TINY = "resnet_v2_tiny"


class Case(NamedTuple):
    """A file, and its expected diagnosis.

    path: relative to the corpus.
    said: attributes of the diagnosis with their values; ``problems`` are the kinds of its problems (empty by default),
      and ``words`` must be in their sentences.
    check: whether the values are read.
    """

    path: str
    said: dict[str, Any]
    check: bool = False


def weights(
    name: str = TINY, *, scope: str | None = None, classes: int | None = None, logits: bool = True, seed: int = 0
) -> Values:
    """Returns random values for a network's variables, with so many classes, under a scope ('' for none)."""
    golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
    shapes = {key: tuple(shape) for key, shape in golden["variables"].items()}
    if classes is not None:
        shapes = {key: (*shape[:-1], classes) if "/logits/" in key else shape for key, shape in shapes.items()}
    if not logits:
        shapes = {key: shape for key, shape in shapes.items() if "logit" not in key}
    values = random_values_of_shapes(shapes, seed)
    if scope is None:
        return values
    prefix = f"{scope}/" if scope else ""
    return {prefix + key.removeprefix(f"{name}/"): value for key, value in values.items()}


def save_v1(path: Path, values: Mapping[str, np.ndarray]) -> Path:
    """Writes a file as tf.train.Saver(write_version=V1) does."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        data = [tf.constant(value) for value in values.values()]
        session.run(tf.raw_ops.Save(filename=str(path), tensor_names=list(values), data=data))
    return path


def save_v2(path: Path, values: Mapping[str, np.ndarray]) -> Path:
    """Writes a bundle as tf.train.Saver does."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        names, data = list(values), [tf.constant(value) for value in values.values()]
        slices = [""] * len(values)
        session.run(tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=slices, tensors=data))
    return path


def published(folder: Path, name: str, classes: int) -> Path:
    """Returns a faithful replica of a published file: V1, with the global step, and for v1 with the mean colour."""
    values = weights(name, classes=classes)
    values["global_step"] = np.array(1_000_000, np.int64)
    if name.startswith("resnet_v1"):
        values[f"{name}/mean_rgb"] = np.array([123.68, 116.78, 103.94], np.float32)
    return save_v1(folder / f"{name}.ckpt", values)


def slots(values: Values, *names: str) -> Values:
    """Returns an optimizer's slots for the trained variables."""
    trained = {key: value for key, value in values.items() if not key.endswith(("moving_mean", "moving_variance"))}
    return {f"{key}/{name}": np.zeros_like(value) for name in names for key, value in trained.items()}


def shadows(values: Values) -> Values:
    """Returns moving averages, under the names that tf.train.ExponentialMovingAverage gives them."""
    return {f"{key}/ExponentialMovingAverage": value for key, value in values.items()}


def changed(values: Values, ending: str, function: Callable[[np.ndarray], np.ndarray]) -> Values:
    """Returns the values with a change to those whose names have this ending."""
    return {key: function(value) if key.endswith(ending) else value for key, value in values.items()}


def without(values: Values, part: str) -> Values:
    """Returns the values whose names do not have that part."""
    return {key: value for key, value in values.items() if part not in key}


def make(folder: Path) -> list[Case]:
    """Makes the corpus in a folder, and returns its cases."""
    folder.mkdir(parents=True, exist_ok=True)
    return [case for maker in (_good, _odd, _unfit, _broken, _damaged, _others) for case in maker(folder)]


def _tiny(**said: Any) -> dict[str, Any]:
    whole = {"net": TINY, "scope": TINY, "num_classes": 10, "preprocessing": "inception", "image_size": 32}
    return {**whole, **said}


def _good(folder: Path) -> Iterator[Case]:
    values = weights()
    save_v1(folder / "plain_v1.ckpt", values)
    yield Case("plain_v1.ckpt", _tiny(format="V1", background_class=None, parameters=521_418), check=True)
    save_v2(folder / "plain_v2.ckpt", values)
    yield Case("plain_v2.ckpt", _tiny(format="V2"), check=True)
    yield Case("plain_v2.ckpt.index", _tiny(format="V2"))
    yield Case("plain_v2.ckpt.data-00000-of-00001", _tiny(format="V2"))
    save_v1(folder / "resnet_v1_50.ckpt", weights("resnet_v2_50", classes=1001))
    yield Case(
        "resnet_v1_50.ckpt",  # its name says something else
        {
            "net": "resnet_v2_50",
            "num_classes": 1001,
            "background_class": True,
            "preprocessing": "inception",
            "image_size": 299,
        },
    )
    save_v1(folder / "many.ckpt", {**values, **slots(values, "Momentum"), "global_step": np.array(5, np.int64)})
    yield Case("many.ckpt", _tiny(extras={"global_step": 1, "slots Momentum": 52}))
    powers = {f"beta{i}_power": np.float32(0.9) for i in (1, 2)}
    save_v2(folder / "adam", {**values, **slots(values, "Adam", "Adam_1"), **powers})
    yield Case("adam", _tiny(extras={"slots Adam": 104, "beta powers (Adam)": 2}))
    nested = {f"train/{key}": value for key, value in slots(values, "RMSProp", "RMSProp_1").items()}
    save_v2(folder / "nested_slots", {**values, **nested})
    yield Case("nested_slots", _tiny(extras={"slots RMSProp": 104}))
    save_v2(folder / "shadows", {**values, **shadows(values)})
    yield Case("shadows", _tiny(moving_averages=78))
    for scope in ("model/resnet_v2_tiny", "tower_0/features/backbone", ""):
        name = f"scope_{scope.replace('/', '_')}"
        save_v2(folder / name, weights(scope=scope))
        yield Case(name, _tiny(scope=scope))
    for classes, background in ((1, None), (21, None), (1000, False), (1001, True)):
        save_v2(folder / f"head_{classes}", weights(classes=classes))
        yield Case(f"head_{classes}", _tiny(num_classes=classes, background_class=background))
    save_v2(folder / "no_head", weights(logits=False))
    yield Case("no_head", _tiny(num_classes=0))
    decoder = {"aspp0/weights": np.ones((1, 1, 512, 8), np.float32), "logits/semantic/biases": np.ones(21, np.float32)}
    save_v1(folder / "deeplab.ckpt", {**weights(scope="deeplab/resnet_v2_tiny", logits=False), **decoder})
    yield Case("deeplab.ckpt", _tiny(scope="deeplab/resnet_v2_tiny", num_classes=0, other_variables=2))
    save_v2(folder / "cifar", weights("resnet_cifar_20"))
    yield Case("cifar", {"net": "resnet_cifar_20", "scope": "", "num_classes": 10, "preprocessing": "cifar"})
    save_v2(folder / "digits", weights("resnet_keras_18_digits", scope="mine"))
    yield Case("digits", {"net": "resnet_keras_18_digits", "scope": "mine", "channels": 1, "image_size": 28})
    save_v2(folder / "basic", weights("resnet_basic_18", classes=5))
    yield Case("basic", {"net": "resnet_basic_18", "num_classes": 5, "options": {"shortcut": "B"}})
    save_v1(folder / "half.ckpt", {key: value.astype(np.float16) for key, value in values.items()})
    yield Case("half.ckpt", _tiny(), check=True)
    grey = changed(values, "/conv1/weights", lambda value: value[:, :, :1] if value.shape[0] == 7 else value)
    save_v2(folder / "grey", grey)
    yield Case("grey", _tiny(channels=1, preprocessing="grayscale"))
    yield from _folders(folder, values)


def _folders(folder: Path, values: Values) -> Iterator[Case]:
    moved = folder / "moved"
    moved.mkdir()
    save_v2(moved / "model.ckpt-999", weights(classes=3))
    save_v2(moved / "model.ckpt-10000", values)
    (moved / "checkpoint").write_text('model_checkpoint_path: "/gone/with/the/machine/model.ckpt-10000"\n')
    yield Case("moved", _tiny())
    yield Case("moved/checkpoint", _tiny())
    single = folder / "single with a space ü"
    single.mkdir()
    save_v1(single / "weights", values)
    (single / "._weights").write_bytes(b"\x00\x05\x16\x07 macOS's notes")
    yield Case(single.name, _tiny(format="V1"))
    (single / "checkpoint").write_text('model_checkpoint_path: "x"', encoding="utf-16")
    yield Case(single.name, _tiny(format="V1"))
    brackets = folder / "run[1]"
    brackets.mkdir()
    save_v1(folder / "b.ckpt", values).rename(brackets / "model*.ckpt")
    yield Case("run[1]/model*.ckpt", _tiny(format="V1"), check=True)
    (folder / "link.ckpt").symlink_to(folder / "plain_v1.ckpt")
    yield Case("link.ckpt", _tiny(format="V1"))


def _unlike(*problems: str, words: str | tuple[str, ...] = (), **said: Any) -> dict[str, Any]:
    return {"usable": False, "problems": problems, "words": (words,) if isinstance(words, str) else words, **said}


def _odd(folder: Path) -> Iterator[Case]:
    """Writes networks that are usable by someone who knows what to say about them."""
    values = weights()
    save_v2(folder / "only_shadows", shadows(values))
    yield Case("only_shadows", _unlike("only shadows", words="ema=True", net=TINY, moving_averages=78))
    kept = {key: value for key, value in values.items() if "moving_" in key}
    averaged = {key: value for key, value in values.items() if "moving_" not in key}
    save_v2(folder / "mixed_shadows", {**kept, **shadows(averaged)})
    yield Case("mixed_shadows", _unlike("only shadows", words=("52 variables", "ema=True"), net=TINY))
    save_v2(folder / "towers", {**weights(scope="a/net"), **weights(scope="b/net")})
    yield Case(
        "towers",
        _unlike("several networks", words="scope='a/net'", net=None, networks={"a/net": TINY, "b/net": TINY}),
    )
    parts = weights("resnet_v1_50", logits=False)
    second = {f"second/{key}": value for key, value in parts.items() if "block4" in key}
    save_v2(folder / "parts", {**{f"first/{key}": v for key, v in parts.items() if "block4" not in key}, **second})
    yield Case("parts", _unlike("several scopes", words=("block 4", "second/resnet_v1_50")))
    save_v2(folder / "names", {f"{key}:0": value for key, value in values.items()})
    yield Case("names", _unlike("names", words="':0'", net=TINY))


def _unfit(folder: Path) -> Iterator[Case]:
    """Writes readable checkpoints that are not, or not completely, a network of the table."""
    values = weights()
    trainable = without(values, "moving_")
    cases = {
        "trainable": (trainable, "moving statistics"),
        "no_norm": (without(values, "BatchNorm"), "use_batch_norm=False"),
        "no_gamma": (without(values, "/gamma"), "batch_norm_scale=False"),
        "no_beta": (without(values, "/beta"), "center=False"),
        "no_variance": (
            without(values, "block3/unit_1/bottleneck_v2/conv2/BatchNorm/moving_variance"),
            "moving_variance",
        ),
        "no_root": (without(values, "tiny/conv1/"), "conv1/weights"),
        "no_postnorm": (without(values, "postnorm"), "postnorm"),
        "group_norm": (
            {k.replace("BatchNorm", "GroupNorm"): v for k, v in without(values, "moving_").items()},
            "group",
        ),
        "classes_disagree": (changed(values, "logits/biases", lambda value: value[:5]), "10 classes"),
        "matrix": (changed(values, "logits/weights", lambda value: value[0, 0]), "1x1 convolution"),
        "sixty": (changed(values, "block3/unit_1/bottleneck_v2/conv1/weights", lambda v: v[..., :60]), "60 outputs"),
    }
    for name, (kept, words) in cases.items():
        save_v2(folder / name, kept)
        yield Case(name, _unlike("incomplete", words=words, net=TINY))
    half = {key: value for key, value in weights("resnet_v1_50").items() if "block4" not in key}
    save_v2(folder / "three_blocks", half)
    yield Case("three_blocks", _unlike("unknown depth", words="first 3 blocks of resnet_v1_50", net=None))
    save_v2(folder / "unit_missing", without(weights("resnet_v1_50"), "block3/unit_4"))
    yield Case("unit_missing", _unlike("incomplete", words="3/4", net="resnet_v1_50"))
    beta = {**without(weights("resnet_v1_50"), "_50/conv1/"), "resnet_v1_50/conv1_1/weights": np.ones((3, 3, 3, 64))}
    save_v2(folder / "beta", beta)
    yield Case("beta", _unlike("incomplete", words="DeepLab", net="resnet_v1_50"))
    shallow = {
        key: value for key, value in weights("resnet_v1_50").items() if not any(f"unit_{i}" in key for i in "3456")
    }
    save_v2(folder / "depth_26", shallow)
    yield Case("depth_26", _unlike("unknown depth", words="2 2 2 2 units", net=None, units=(2, 2, 2, 2)))
    save_v2(folder / "quantized", changed(values, "/weights", lambda value: (value * 10).astype(np.int8)))
    yield Case("quantized", _unlike("dtype", words="int8", net=TINY))
    vgg = {"vgg_16/conv1/conv1_1/weights": np.ones((3, 3, 3, 64), np.float32), "global_step": np.array(1, np.int64)}
    save_v1(folder / "vgg_16.ckpt", vgg)
    yield Case("vgg_16.ckpt", _unlike("unknown network", words="under vgg_16", net=None))
    save_v2(folder / "only_step", {"global_step": np.array(1, np.int64)})
    yield Case("only_step", _unlike("unknown network", net=None))
    tf.train.Checkpoint(net=tf.Variable([1.0])).write(str(folder / "object"))
    yield Case("object", _unlike("object-based", words="tf.train.Checkpoint", format="V2"))


def _broken(folder: Path) -> Iterator[Case]:
    """Writes files that were downloaded or copied incompletely."""
    v1, index, data = (
        (folder / name).read_bytes()
        for name in ("plain_v1.ckpt", "plain_v2.ckpt.index", "plain_v2.ckpt.data-00000-of-00001")
    )
    files = {
        "cut_early.ckpt": (v1[:3000], "truncated", "cut short"),
        "cut_late.ckpt": (v1[:-1], "truncated", "cut short"),
        "longer.ckpt": (v1 + b"\n", "truncated", "does not end"),
        "tail.ckpt": (v1[-100_000:], "damaged", "footer"),
        "footer.ckpt": (v1[:-48] + b"\xff\xff\xff\xff\x7f" + v1[-43:], "damaged", "footer"),
        "empty.ckpt": (b"", "empty", "0 bytes"),
        "one_byte.ckpt": (b"\x08", "truncated", "1 bytes"),
        "zeros.ckpt": (bytes(len(v1)), "truncated", "zero bytes"),
        "noise.ckpt": (np.random.default_rng(0).bytes(10_000), "truncated", "no checkpoint"),
        "page.ckpt": (b"\n<!DOCTYPE html>\n<html><title>403</title></html>", "error page", "HTML"),
        "denied.ckpt": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "error page", "XML"),
        "api.ckpt": (b'{"error": {"code": 404}}', "error page", "JSON"),
        "lfs.ckpt": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "error page",
            "git lfs pull",
        ),
        "readme.ckpt": (b"These are not the weights you are looking for.\n", "text", "text file"),
    }
    for name, (content, kind, words) in files.items():
        (folder / name).write_bytes(content)
        yield Case(name, _unlike(kind, words=words, net=None))
    bundles = {
        "index_alone": (index, None, "incomplete", "lacks its file index_alone.data-00000-of-00001"),
        "data_alone": (None, data, "incomplete", "data_alone.index is missing"),
        "data_cut": (index, data[:-1], "truncated", "cut short"),
        "data_lfs": (index, files["lfs.ckpt"][0], "error page", "git lfs pull"),
        "index_cut": (index[: len(index) // 2], data, "truncated", "cut short"),
        "index_page": (files["page.ckpt"][0], data, "error page", "HTML"),
        "index_flip": (index[:500] + bytes([index[500] ^ 4]) + index[501:], data, "damaged", "damaged"),
    }
    for name, (first, second, kind, words) in bundles.items():
        for ending, content in ((".index", first), (".data-00000-of-00001", second)):
            if content is not None:
                (folder / f"{name}{ending}").write_bytes(content)
        yield Case(name, _unlike(kind, words=words, net=None))
    (folder / "dangling.ckpt").symlink_to("nowhere.ckpt")
    yield Case("dangling.ckpt", _unlike("missing", words="nowhere.ckpt, which leads nowhere"))
    yield Case("plain_v3.ckpt", _unlike("missing", words="there is plain_v"))
    (folder / "nothing").mkdir()
    yield Case("nothing", _unlike("missing", words="no checkpoint"))
    several = folder / "several"
    several.mkdir()
    for step in (999, 10000):
        shutil.copy(folder / "plain_v1.ckpt", several / f"model.ckpt-{step}")
    yield Case("several", _unlike("ambiguous", words="model.ckpt-999, model.ckpt-10000"))


def _damaged(folder: Path) -> Iterator[Case]:
    """Writes damage that only the values show."""
    values = weights()
    initial = {key: np.zeros_like(v) if key.endswith("mean") else v for key, v in values.items()}
    initial = changed(initial, "moving_variance", np.ones_like)
    block4 = {key: initial[key] if "block4" in key else value for key, value in values.items()}
    nan, negative = (lambda v: v * np.nan), (lambda v: -v)
    cases = {
        "nan": (changed(values, "postnorm/gamma", nan), "not finite", "postnorm/gamma"),
        "infinite": (changed(values, "logits/weights", lambda v: v + np.inf), "not finite", "logits/weights"),
        "negative": (changed(values, "conv2/BatchNorm/moving_variance", negative), "negative variance", "4 moving"),
        "untrained": (initial, "untrained statistics", "13 of 13"),
        "untrained_block4": (block4, "untrained statistics", "3 of 13"),
        "zero": (changed(values, "block3/unit_1/bottleneck_v2/conv2/weights", np.zeros_like), "zero weights", "block3"),
    }
    for name, (stored, kind, words) in cases.items():
        save_v2(folder / name, stored)
        yield Case(name, _unlike(kind, words=words, net=TINY), check=True)
    for source, target in (("plain_v1.ckpt", "flip.ckpt"), ("plain_v2.ckpt.data-00000-of-00001", "")):
        content = bytearray((folder / source).read_bytes())
        content[len(content) * 3 // 4] ^= 1
        (folder / (target or "flip.data-00000-of-00001")).write_bytes(content)
    shutil.copy(folder / "plain_v2.ckpt.index", folder / "flip.index")
    for name in ("flip.ckpt", "flip"):
        yield Case(name, _unlike("damaged", words="1 of 78 variables", net=TINY), check=True)


def _others(folder: Path) -> Iterator[Case]:
    """Writes files of other kinds under a checkpoint's name."""
    v1 = (folder / "plain_v1.ckpt").read_bytes()
    files = {
        "gzipped.ckpt": (gzip.compress(v1), "archive", "gunzip"),
        "bzipped.ckpt": (bz2.compress(v1[:10_000]), "archive", "bunzip2"),
        "xz.ckpt": (lzma.compress(v1[:10_000]), "archive", "unxz"),
        "tar.ckpt": (_tar(v1, "w"), "archive", "tar -xf"),
        "resnet_v2_50_2017_04_14.tar.gz": (_tar(v1, "w:gz"), "archive", "tar -xzf"),
        "zip.ckpt": (_zip({"model.ckpt": v1}), "archive", "unzip"),
        "npz.ckpt": (_zip({"a.npy": b"", "b.npy": b""}), "other format", ".npz"),
        "keras.ckpt": (_zip({"config.json": b"{}", "model.weights.h5": b""}), "other format", "Keras"),
        "torch.ckpt": (_zip({"archive/data.pkl": b"", "archive/version": b"3"}), "other format", "PyTorch"),
        "npy.ckpt": (b"\x93NUMPY\x01\x00", "other format", "NumPy"),
        "h5.ckpt": (b"\x89HDF\r\n\x1a\n" + bytes(100), "other format", "HDF5"),
        "old_torch.ckpt": (_legacy_torch(), "other format", "PyTorch"),
        "pickle.ckpt": (pickle.dumps({"weights": [1.0]}), "other format", "pickle"),
        "safetensors.ckpt": (_safetensors(), "other format", "safetensors"),
        "tflite.ckpt": (b"\x1c\x00\x00\x00TFL3" + bytes(50), "other format", "Lite"),
        "onnx.ckpt": (b"\x08\x08\x12\x07pytorch\x1a\x011", "other format", "ONNX"),
        "picture.ckpt": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "other format", "JPEG"),
        "graph.ckpt": (_variables().SerializeToString(), "other format", "GraphDef"),
        "constant.pb": (_constants({"step": np.float32(1)}), "other format", "none of its 1 nodes"),
        "one_layer.pb": (_constants({"conv1/weights": np.ones((7, 7, 3, 64))}), "unknown network", "under conv1"),
        "cut.pb": (_constants(weights())[:100_000], "damaged", "cut short"),
        "text.ckpt": (str(_variables()).encode(), "other format", "pbtxt"),
        "meta.ckpt": (_meta_graph(), "other format", "MetaGraphDef"),
    }
    for name, (content, kind, words) in files.items():
        (folder / name).write_bytes(content)
        yield Case(name, _unlike(kind, words=words, net=None))
    saved_model = folder / "saved_model"
    (saved_model / "variables").mkdir(parents=True)
    (saved_model / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    save_v2(saved_model / "variables" / "variables", weights())
    yield Case("saved_model", _tiny(format="SavedModel"))
    yield Case("saved_model/saved_model.pb", _tiny(format="SavedModel"))
    yield Case("saved_model/variables", _tiny(format="V2"))
    (folder / "frozen").write_bytes(_constants(weights()))
    yield Case("frozen", _tiny(format="frozen graph", parameters=521_418), check=True)
    (folder / "scope.pb").write_bytes(_constants(weights(scope="import/net")))
    yield Case("scope.pb", _tiny(format="frozen graph", scope="import/net"))


def _tar(content: bytes, mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        member = tarfile.TarInfo("resnet_v2_50.ckpt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _zip(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _legacy_torch() -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save({"fc.bias": torch.zeros(3)}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def _safetensors() -> bytes:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return len(header).to_bytes(8, "little") + header + bytes(4)


def _constants(values: Values) -> bytes:
    """Returns a graph of constants."""
    with tf.Graph().as_default() as graph:
        for name, value in values.items():
            tf.constant(value, tf.float32, name=name)
        return graph.as_graph_def().SerializeToString()


def _variables() -> tf.compat.v1.GraphDef:
    with tf.Graph().as_default() as graph:
        tf.compat.v1.get_variable("conv1/weights", [7, 7, 3, 64])
        return graph.as_graph_def()


def _meta_graph() -> bytes:
    with tf.Graph().as_default():
        tf.compat.v1.get_variable("a", [3])
        return tf.compat.v1.train.export_meta_graph().SerializeToString()


if __name__ == "__main__":
    for made in make(Path(sys.argv[1])):
        print(made.path)

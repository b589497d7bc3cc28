"""Tests frozen graphs and SavedModels in place of checkpoints.

TensorFlow freezes and saves them, from tf_slim's own networks where a network's names matter. Expected features come
from running the graph itself.
"""

import functools
import json
import random
import shutil
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.python.tools import optimize_for_inference_lib

from checkpoints import CheckpointError, CheckpointMismatch, diagnose, open_checkpoint, restore
from nets import endpoint_info, nets_factory
from nets.guards import InferenceWarning
from nets.preprocessing import preprocess
from tests.checkpoints.test_restore import TINY, network, open_session
from tests.golden.make import golden_file
from tests.helpers.digit_folders import held_out_digits
from tests.helpers.float64 import assert_as_exact, references
from tests.helpers.reference import assign, random_values, relative_difference
from tools.cli import main
from tools.features import FeatureExtractor
from tools.peers.slim_reference import tf_slim_builder, tf_slim_scope
from tools.runtime.sessions import without_deprecation_notices

v1 = tf.compat.v1

SIZE = 32


class Frozen(NamedTuple):
    """A frozen graph: its nodes, the values of its variables, and the names of its tensors."""

    graph_def: v1.GraphDef
    values: dict[str, np.ndarray]
    input: str
    end_points: dict[str, str]


def freeze(session, output):
    graph_def = session.graph.as_graph_def()
    with without_deprecation_notices():
        return v1.graph_util.convert_variables_to_constants(session, graph_def, [output.op.name])


@functools.cache
def frozen(name=TINY, end_point="predictions", scope=None, pixels=False, training=False, classes=10, **options):
    """Freezes one of our networks to an end point; ``pixels`` puts the preprocessing in front."""
    with tf.Graph().as_default(), v1.Session() as session:
        if pixels:
            images = v1.placeholder(tf.uint8, [None, None, None, 3], name="pixels")
            given = preprocess(images, "inception", SIZE)
        else:
            images = given = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], name="images")
        with v1.variable_scope(scope or v1.get_variable_scope()):
            build = nets_factory.get_network_fn(name, classes, is_training=training)
            _, end_points = build(given, **options)
        values = random_values(v1.global_variables())
        assign(session, values)
        _, tensor = endpoint_info.resolve(end_point, end_points)
        names = {key: each.name for key, each in end_points.items()}
        return Frozen(freeze(session, tensor), values, images.name, {**names, end_point: tensor.name})


@functools.cache
def frozen_slim(name=TINY, scope="tower", end_point=None):
    """Freezes tf_slim's own network, with the variables of TensorFlow 1."""
    with tf.Graph().as_default(), v1.Session() as session, tf_slim_scope():
        images = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], name="input")
        with v1.variable_scope(scope, use_resource=False):
            logits, end_points = tf_slim_builder(name)(images, 10, is_training=False)
        values = random_values(v1.global_variables())
        assign(session, values)
        names = {key: each.name for key, each in end_points.items()}
        return Frozen(freeze(session, end_points.get(end_point, logits)), values, images.name, names)


def written(path, graph):
    path.write_bytes((graph.graph_def if isinstance(graph, Frozen) else graph).SerializeToString())
    return path


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def exact(graph, tensors, images):
    """Returns references of tensors of the frozen graph itself."""
    with tf.Graph().as_default() as own, v1.Session() as session:
        tf.graph_util.import_graph_def(graph.graph_def, name="")
        fetches = {name: own.get_tensor_by_name(tensor) for name, tensor in tensors.items()}
        return references(session, fetches, {own.get_tensor_by_name(graph.input): images})


def assert_same_features(path, graph, tensors):
    """Asserts that the features of a file are those of the graph; ``tensors`` maps end points to tensors of it."""
    images = noise(4, SIZE, SIZE, 3)
    with FeatureExtractor(path, [*tensors], preprocessing="none", image_size=SIZE, freeze=False) as extractor:
        assert extractor.warnings == ()
        features = extractor(images)
    for name, reference in exact(graph, tensors, images).items():
        assert_as_exact(features[name], reference.reshape(features[name].shape))


# Frozen graphs.


@pytest.mark.numerical
def test_a_graph_that_tf_slim_built(tmp_path):
    """The names of its variables have a scope in front, and are read by Identity nodes."""
    graph = frozen_slim()
    path = written(tmp_path / "model.any", graph)
    reader = open_checkpoint(path)
    assert (reader.format, reader.prefix, reader.files()) == ("frozen graph", path, [path])
    assert {name: value.shape for name, value in graph.values.items()} == reader.shapes
    assert all(np.array_equal(reader.read(name), value) for name, value in graph.values.items())
    found = diagnose(reader, check=True)
    assert (found.network.name, found.scope, found.num_classes, found.problems) == (TINY, f"tower/{TINY}", 10, ())
    scope = f"tower/{TINY}"
    tensors = {alias: graph.end_points[f"{scope}/{alias}"] for alias in ("block2", "block4", "logits")}
    assert_same_features(path, graph, tensors)


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("end_point", "features", "logits"),
    [
        ("predictions", ["block1", "global_pool", "predictions"], 10),
        pytest.param("global_pool", ["block3", "global_pool"], 0, marks=pytest.mark.full),
    ],
)
def test_a_graph_of_ours(tmp_path, end_point, features, logits):
    graph = frozen(end_point=end_point)
    path = written(tmp_path / "model.pb", graph)
    found = diagnose(path)
    assert (found.scope, found.num_classes, found.problems) == (TINY, logits, ())
    names = {f"{TINY}/{alias}": alias for alias in features} | {alias: alias for alias in features}
    assert_same_features(path, graph, {names[key]: tensor for key, tensor in graph.end_points.items() if key in names})


@pytest.mark.numerical
def test_a_graph_with_its_preprocessing(tmp_path):
    """The graph takes pixels. The network is built anew behind our preprocessing, which is the same here."""
    graph = frozen(end_point="global_pool", scope="import", pixels=True)
    path = written(tmp_path / "model.pb", graph)
    pixels = np.random.default_rng(0).integers(0, 256, [3, 50, 40, 3], np.uint8)
    with tf.Graph().as_default(), v1.Session() as session:
        tf.graph_util.import_graph_def(graph.graph_def, name="")
        expected = session.run(graph.end_points["global_pool"], {graph.input: pixels}).reshape(3, -1)
    with FeatureExtractor(path, "global_pool") as extractor:
        assert (extractor.preprocessing, extractor.scope) == ("inception", f"import/{TINY}")
        result = extractor(pixels)["global_pool"]
    # Rounding makes 1e-6 on any processor; another preprocessing makes 0.1.
    assert relative_difference(result, expected) < 1e-4
    [given] = open_checkpoint(path).graph.inputs
    assert given == ("pixels", "uint8", (None, None, None, 3))


def test_a_graph_in_half_precision(tmp_path):
    graph_def = v1.GraphDef()
    graph_def.CopyFrom(frozen().graph_def)
    for node in graph_def.node:
        if node.op == "Const" and node.name in frozen().values:
            half = tf.make_ndarray(node.attr["value"].tensor).astype(np.float16)
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(half))
            node.attr["dtype"].type = tf.float16.as_datatype_enum
    path = written(tmp_path / "half.pb", graph_def)
    assert diagnose(path).usable
    with open_session(network().graph) as session:
        restore(session, path)
        kernel = session.run(network().graph.get_tensor_by_name(f"{TINY}/conv1/weights/Read/ReadVariableOp:0"))
    assert np.array_equal(kernel, frozen().values[f"{TINY}/conv1/weights"].astype(np.float16).astype(np.float32))


# Graphs that end before the network does.


@pytest.mark.numerical
@pytest.mark.parametrize(
    "end_point", ["block2", *(pytest.param(name, marks=pytest.mark.full) for name in ("block3/unit_1/conv2", "block4"))]
)
def test_the_beginning_of_a_network(tmp_path, end_point):
    graph = frozen(end_point=end_point)
    path = written(tmp_path / "model.pb", graph)
    found = diagnose(path)
    [problem] = found.problems
    assert (problem.kind, found.network.name, found.usable) == ("cut off", TINY, False)
    last = end_point if "unit" not in end_point else end_point.rpartition("/")[0]
    assert f"only the beginning of {TINY}, up to {last}" in problem.sentence
    assert_same_features(path, graph, {end_point: graph.end_points[end_point]})
    with open_session(network().graph) as session, pytest.raises(CheckpointMismatch, match="only the beginning"):
        restore(session, path)


def test_what_a_beginning_does_not_have_is_refused(tmp_path):
    path = written(tmp_path / "model.pb", frozen(end_point="block2"))
    with pytest.raises(CheckpointMismatch, match="ask for features of end points up to there"):
        FeatureExtractor(path, "block3")
    only = written(tmp_path / "conv1.pb", frozen(end_point="conv1"))
    [problem] = diagnose(only).problems
    assert problem.kind == "unknown network"


def constants(values, **others):
    """Returns a graph of constants that hold one number each, however large their shapes are."""
    graph_def = v1.GraphDef()
    for name, shape in values.items():
        node = graph_def.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0.5, tf.float32, shape))
    for name, op in others.items():
        graph_def.node.add(name=name.replace("__", "/"), op=op)
    return graph_def


@pytest.mark.parametrize(
    ("stored", "last", "nodes", "networks"),
    [
        ("resnet_v1_50", (2, 3), (), "resnet_v1_50 or resnet_v1_101 or resnet_v1_152 or resnet_v1_200"),
        # A block's last unit has a stride. Where block2 has only four units, it is the fourth one.
        ("resnet_v1_50", (2, 4), ("Pad",), "resnet_v1_50 or resnet_v1_101"),
        ("resnet_v1_50", (2, 4), (), "resnet_v1_152 or resnet_v1_200"),
        ("resnet_v1_50", (3, 5), (), "resnet_v1_50 or resnet_v1_101"),
        ("resnet_v1_50", (3, 6), ("shortcut__MaxPool",), "resnet_v1_50"),
        ("resnet_v1_50", (3, 6), (), "resnet_v1_101"),
        ("resnet_v1_152", (2, 8), ("Pad",), "resnet_v1_152"),
    ],
)
def test_which_network_begins_so(tmp_path, stored, last, nodes, networks):
    def is_kept(name):
        block, unit = (name + "//").split("/")[1:3]
        return block == "conv1" or (
            block.startswith("block") and (int(block[-1]), int(unit.removeprefix("unit_"))) <= last
        )

    shapes = json.loads(golden_file(stored).read_text())["variables"]
    unit = f"{stored}__block{last[0]}__unit_{last[1]}__bottleneck_v1__"
    kept = {name: shape for name, shape in shapes.items() if is_kept(name)}
    path = written(tmp_path / "model.pb", constants(kept, **{unit + node: "NoOp" for node in nodes}))
    [problem] = diagnose(path).problems
    assert f"only the beginning of {networks}, up to block{last[0]}/unit_{last[1]}," in problem.sentence


# Networks built with other options.


@pytest.mark.numerical
def test_the_padding_of_the_first_pooling_is_the_graphs(tmp_path):
    graph = frozen(end_point="block2", pool1_padding="PAD1")
    path = written(tmp_path / "model.pb", graph)
    assert diagnose(path).options == {"pool1_padding": "PAD1"}
    assert_same_features(path, graph, {"block2": graph.end_points["block2"]})


@pytest.mark.full
def test_the_padding_of_the_first_pooling_is_noted(tmp_path):
    path = written(tmp_path / "model.pb", frozen(pool1_padding="PAD1"))
    assert main(["convert", str(path), str(tmp_path / "model.ckpt")]) == 0
    assert diagnose(tmp_path / "model.ckpt").options == {"pool1_padding": "PAD1"}
    assert main(["note", str(path), "--preprocessing", "vgg"]) == 0
    assert diagnose(path).options == {"pool1_padding": "PAD1"}
    with open_session(network().graph) as session, pytest.warns(InferenceWarning, match="pool1_padding='PAD1'") as said:
        restore(session, path)
    assert len(said) == 1


def test_a_graph_of_another_stride_is_doubted(tmp_path):
    path = written(tmp_path / "model.pb", frozen(output_stride=8, scope="import"))
    words = r"import/resnet_v2_tiny/block2/.*shortcut/Conv2D has strides=\[1, 1, 1, 1\] and not \[1, 2, 2, 1\] \(4 such"
    with open_session(network().graph) as session, pytest.warns(InferenceWarning, match=words):
        restore(session, path, scope=f"import/{TINY}")
    path = written(tmp_path / "same.pb", frozen())
    with open_session(network().graph) as session:
        assert restore(session, path).warnings == ()


# SavedModels.


def save_simple(folder, graph=None):
    """Saves a SavedModel as TensorFlow 1 did, with variables or, of a frozen graph, with constants."""
    with tf.Graph().as_default() as own, v1.Session() as session:
        if graph is None:
            images = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], name="images")
            _, end_points = nets_factory.get_network_fn(TINY, 10)(images)
            values = random_values(v1.global_variables())
            assign(session, values)
            output = end_points["predictions"]
        else:
            tf.graph_util.import_graph_def(graph.graph_def, name="")
            images, output = (own.get_tensor_by_name(n) for n in (graph.input, graph.end_points["predictions"]))
            values = graph.values
        v1.saved_model.simple_save(session, str(folder), {"images": images}, {"scores": output})
    return values


@pytest.mark.numerical
def test_a_saved_model_with_variables(tmp_path, capsys):
    folder = tmp_path / "saved"
    values = save_simple(folder)
    for path in (folder, folder / "saved_model.pb"):
        reader = open_checkpoint(path)
        assert (reader.format, reader.prefix) == ("SavedModel", folder / "variables" / "variables")
        assert all(np.array_equal(reader.read(name), value) for name, value in values.items())
    assert_same_features(folder, frozen(), {"predictions": frozen().end_points["predictions"]})
    assert main(["inspect", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["format"], said["graph"]["inputs"][0]["name"]) == ("SavedModel", "images")
    assert said["graph"]["end_points_not_in_it"] == []
    (folder / "variables").rename(tmp_path / "variables")
    with pytest.raises(CheckpointError, match="the values of its 78 variables are files of the folder variables"):
        open_checkpoint(folder)
    (tmp_path / "variables").rename(folder / "variables")
    (folder / "saved_model.pb").write_bytes(b"")  # the values do not need it
    assert diagnose(folder).usable


@pytest.mark.full
@pytest.mark.numerical
def test_a_saved_model_with_constants(tmp_path):
    folder, graph = tmp_path / "saved", frozen()
    save_simple(folder, graph)
    assert diagnose(folder).usable
    assert open_checkpoint(folder).files() == [folder / "saved_model.pb"]
    assert_same_features(folder, graph, {"predictions": graph.end_points["predictions"]})


def test_a_saved_model_of_tensorflow_2_with_constants(tmp_path):
    """The constants are in functions of the graph's library, some of them twice."""
    graph = frozen()

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3])])
        def __call__(self, images):
            names = [graph.end_points["predictions"]]
            return tf.graph_util.import_graph_def(graph.graph_def, {graph.input: images}, names, name="")[0]

        @tf.function(input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3])])
        def single(self, images):
            return self(images) + tf.graph_util.import_graph_def(
                graph.graph_def, {graph.input: images}, [graph.end_points["predictions"]], name=""
            )

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__)
    reader = open_checkpoint(tmp_path / "saved")
    assert (reader.format, reader.files()) == ("SavedModel", [tmp_path / "saved" / "saved_model.pb"])
    assert set(reader.shapes) == set(graph.values)
    assert all(np.array_equal(reader.read(name), value) for name, value in graph.values.items())
    assert diagnose(reader).usable
    assert [given.name for given in reader.graph.inputs] == ["serving_default_images"]


# Commands.


def test_inspect_names_the_end_points_in_the_graph(tmp_path, capsys):
    """The names of their nodes are those that tf_slim gave them."""
    graph, scope = frozen_slim(end_point=f"tower/{TINY}/block3"), f"tower/{TINY}"
    path = written(tmp_path / "model.pb", graph)
    assert main(["inspect", str(path)]) == 1  # it is only the beginning of a network
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[:3] != "end")
    assert (lines["format"], lines["network"], lines["scope"]) == ("frozen graph", TINY, scope)
    assert lines["placeholder"] == f"input, float32 [?, {SIZE}, {SIZE}, 3]"
    assert main(["inspect", str(path), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)["graph"]
    assert said["inputs"] == [{"name": "input", "dtype": "float32", "shape": [None, SIZE, SIZE, 3]}]
    nodes = {node.name for node in graph.graph_def.node}
    expected = {
        name.removeprefix(f"{scope}/").replace("/bottleneck_v2", ""): tensor.removesuffix(":0")
        for name, tensor in graph.end_points.items()
        if tensor.removesuffix(":0") in nodes
    }
    assert "block3" in expected
    assert expected.items() <= said["end_points"].items()
    assert {"block4", "postnorm", "global_pool", "logits", "predictions"} <= {*said["end_points_not_in_it"]}
    assert said["nodes"] == len(nodes)


def test_inspect_says_it_shortly(tmp_path, capsys):
    assert main(["inspect", str(written(tmp_path / "model.pb", frozen()))]) == 0
    assert (
        "end points    35 of 35: conv1, pool1, block1, block2, block3, block4, postnorm, global_pool, logits, "
        "spatial_squeeze, predictions\n"
    ) in capsys.readouterr().out
    main(["inspect", str(written(tmp_path / "part.pb", frozen(end_point="block2")))])
    assert (
        "end points    16 of 35: conv1, pool1, block1, block2; not block3, block4, postnorm, global_pool, logits, "
        "spatial_squeeze, predictions\n"
    ) in capsys.readouterr().out


def test_notes_beside_a_graph_and_its_checkpoint(tmp_path, capsys):
    path = written(tmp_path / "x.pb", frozen())
    assert main(["note", str(path), "--preprocessing", "vgg", "--image-size", "48"]) == 0
    assert (tmp_path / "x.pb.slimnets.json").is_file()
    found = diagnose(path)
    assert (found.preprocessing, found.image_size, found.assumed) == ("vgg", 48, ())
    assert main(["convert", str(path), str(tmp_path / "x.ckpt")]) == 0
    converted = open_checkpoint(tmp_path / "x.ckpt")
    assert all(np.array_equal(converted.read(name), value) for name, value in frozen().values.items())
    assert diagnose(converted).preprocessing == "vgg"
    written(path, frozen(end_point="global_pool"))
    assert diagnose(path).assumed == ("preprocessing", "image_size")  # the notes are on another graph
    capsys.readouterr()


def test_a_restore_reports_it(tmp_path):
    path = written(tmp_path / "x.pb", frozen())
    with open_session(network().graph) as session:
        report = restore(session, path)
    assert str(report).startswith(f"{path} (frozen graph): 78 variables loaded")
    assert set(report.loaded) == set(frozen().values)


# What is refused.


def folded(graph):
    """Returns the graph after TensorFlow's own tool for inference, which folds batch norms into convolutions."""
    names = [graph.input.removesuffix(":0")], [graph.end_points["predictions"].removesuffix(":0")]
    return optimize_for_inference_lib.optimize_for_inference(graph.graph_def, *names, tf.float32.as_datatype_enum)


def quantized(graph):
    graph_def = v1.GraphDef()
    graph_def.CopyFrom(graph.graph_def)
    for node in graph_def.node:
        if node.op == "Const" and node.name.endswith("/weights"):
            node.name += "_quint8_const"
            graph_def.node.add(name=node.name.removesuffix("_quint8_const"), op="Dequantize", input=[node.name])
    return graph_def


def resized(graph):
    graph_def = v1.GraphDef()
    graph_def.CopyFrom(graph.graph_def)
    kernel = next(node for node in graph_def.node if node.name == f"{TINY}/conv1/weights")
    kernel.attr["value"].tensor.tensor_shape.dim[0].size = 9
    return graph_def


@functools.cache
def not_frozen():
    with tf.Graph().as_default() as graph:
        nets_factory.get_network_fn(TINY, 10)(v1.placeholder(tf.float32, [1, SIZE, SIZE, 3]))
        return graph.as_graph_def()


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (not_frozen, "other format", r"without weights: it was not frozen, and its 78 variables have no values: give"),
        (lambda: quantized(frozen()), "dtype", "quantized weights .*: take the graph from before its quantization"),
        (lambda: folded(frozen()), "folded", "batch norms folded into the convolutions"),
        (lambda: frozen(training=True).graph_def, "training mode", "frozen in training mode"),
        (lambda: constants({"a/b": [3]}), "other format", "none of its 1 nodes is a constant with the name of a layer"),
        (lambda: resized(frozen()), "damaged", "the value of .* does not have its shape"),
    ],
)
def test_graphs_that_cannot_be_used(tmp_path, content, kind, words):
    path = written(tmp_path / "model.pb", content())
    problem = diagnose(path).problems[0]
    assert problem.kind == kind
    assert problem.sentence.startswith(str(path))
    with pytest.raises(CheckpointError, match=words), open_session(network().graph) as session:
        restore(session, path)


def test_files_that_are_no_graphs(tmp_path):
    content = frozen().graph_def.SerializeToString()
    (tmp_path / "text.pbtxt").write_text(text_format.MessageToString(constants({"conv1/weights": [2, 2]})))
    (tmp_path / "cut.pb").write_bytes(content[: len(content) // 2])
    with (tmp_path / "large.pb").open("wb") as stream:  # sparse: it takes no space
        stream.write(content[:1000])
        stream.truncate(2**31)
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "cut.pb", tmp_path / "folder")
    for name, words in {
        "text.pbtxt": "is a graph in text form (.pbtxt): take the checkpoint it was made from, or, if the graph is "
        "frozen, parse it by google.protobuf.text_format",
        "cut.pb": "is damaged or cut short (the field at byte",
        "large.pb": "has 2.0 GiB, and a graph is always smaller than 2 GiB",
        "folder": "a folder that holds no checkpoint, but the graph cut.pb: give that file",
    }.items():
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert words in str(caught.value)


def test_two_values_of_one_name_are_refused(tmp_path):
    """Each function of a SavedModel may have constants of its own."""

    class Module(tf.Module):
        @tf.function(input_signature=[])
        def one(self):
            return tf.constant(np.ones([2, 2], np.float32), name="conv1/weights")

        @tf.function(input_signature=[])
        def two(self):
            return tf.constant(np.zeros([2, 2], np.float32), name="conv1/weights")

    tf.saved_model.save(Module(), str(tmp_path / "saved"))
    with pytest.raises(CheckpointError, match="two functions with different values of conv1/weights"):
        open_checkpoint(tmp_path / "saved")


def test_damage_is_an_error_of_ours(tmp_path):
    """A graph has no checksums, so that changed values may be read, but nothing else may happen."""
    generator = random.Random(0)
    content = constants({f"block1/unit_{i}/bottleneck_v2/conv1/weights": [1, 1, 4, 4] for i in range(9)})
    content.node[4].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.ones([1, 1, 4, 4], np.float32)))
    content = content.SerializeToString()
    errors = 0
    for i in range(300):
        place = generator.randrange(len(content))
        changed = content[:place] + (b"" if i % 3 else bytes([generator.randrange(256)]) + content[place + 1 :])
        (tmp_path / "model.pb").write_bytes(changed)
        try:
            reader = open_checkpoint(tmp_path / "model.pb")
            for name in reader.shapes:
                reader.read(name)
        except CheckpointError:
            errors += 1
    assert errors > 150


# Larger networks.


@pytest.mark.full
@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "end_point"),
    [("resnet_v1_50", "block4"), ("resnet_v2_50", "logits"), ("resnet_v1_50", "block3"), ("resnet_v2_101", "block3")],
)
def test_graphs_of_larger_networks_that_tf_slim_built(tmp_path, name, end_point):
    """The blocks of version 1 are a whole network; block3 of 101 layers is not that of 50."""
    graph = frozen_slim(name, "import", f"import/{name}/{end_point}")
    path = written(tmp_path / "model.pb", graph)
    assert diagnose(path).network.name == name
    assert_same_features(path, graph, {end_point: graph.end_points[f"import/{name}/{end_point}"]})
    frozen_slim.cache_clear()


@pytest.mark.full
def test_every_command_takes_a_graph(tmp_path, capsys):
    """A graph of the digits' weights is as good as their checkpoint."""
    digits = tmp_path / "digits"
    held_out_digits(digits)
    reader = open_checkpoint("resnet_v2_tiny_digits")
    values = {name: reader.read(name) for name in reader.shapes}
    path = tmp_path / "digits.pb"
    graph_def = constants({name: value.shape for name, value in values.items()})
    for node in graph_def.node:
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[node.name]))
    written(path, graph_def)
    assert main(["note", str(path), "--preprocessing", "inception", "--image-size", "32"]) == 0
    outputs = []
    for checkpoint in (str(path), "resnet_v2_tiny_digits"):
        capsys.readouterr()
        assert main(["evaluate", str(digits), "--checkpoint", checkpoint, "--json"]) == 0
        outputs.append(json.loads(capsys.readouterr().out)["top_1"])
    assert outputs[0] == outputs[1]
    assert main(["recalibrate", str(path), str(digits), "--output", str(tmp_path / "new.ckpt")]) == 0
    assert diagnose(tmp_path / "new.ckpt").usable
    options = ["--steps", "2", "--batch-size", "8", "--output", str(tmp_path / "trained")]
    assert main(["train", str(digits), "--from", str(path), *options]) == 0
    output = ["--end-points", "global_pool", "--output", str(tmp_path / "features")]
    assert main(["features", str(digits), "--checkpoint", str(path), *output]) == 0
    assert json.loads((tmp_path / "features" / "run.json").read_text())["checkpoint"]["format"] == "frozen graph"

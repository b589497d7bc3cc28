"""Tests every checkpoint format: what is read, restored and refused, and the messages."""

import gzip
import json
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from checkpoints import CheckpointError, CheckpointMismatch, diagnose, open_checkpoint, restore
from checkpoints.diagnosis import expected_input, structures_in
from nets import nets_factory, resnet_v2
from tests.golden.make import golden_file
from tests.helpers import numpy_cifar
from tests.helpers.reference import assign, random_values
from tests.helpers.slim_corpus import SCOPES

v1 = tf.compat.v1


def build(name="resnet_v2_tiny", classes=10, scope=None, training=False, size=32, **kwargs):
    """Builds a network on a placeholder 'images' of the default graph."""
    channels = nets_factory.get_network(name).channels
    images = v1.placeholder(tf.float32, [None, size, size, channels], name="images")
    kwargs = kwargs if scope is None else {"scope": scope, **kwargs}
    logits, _ = nets_factory.get_network_fn(name, classes, is_training=training)(images, **kwargs)
    return logits


def save(path, write_version=v1.train.SaverDef.V2, sharded=False, slots=False, **kwargs):
    """Saves a network with random values; returns them by name."""
    with tf.Graph().as_default():
        logits = build(**kwargs, training=slots)
        if slots:
            step = v1.train.get_or_create_global_step()
            v1.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(logits), global_step=step)
        variables = v1.global_variables()
        values = random_values([variable for variable in variables if variable.dtype.base_dtype == tf.float32])
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            feeds = {v.initializer.inputs[1]: values[v.op.name] for v in variables if v.op.name in values}
            session.run([v.initializer for v in variables if v.op.name in values], feeds)
            saver = v1.train.Saver(variables, write_version=write_version, sharded=sharded)
            saver.save(session, str(path), write_meta_graph=False)
    return values


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns (path, values) of one checkpoint in each format."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {
        "V1": folder / "v1" / "model.ckpt",
        "V2": folder / "v2" / "model.ckpt-12",
        "V2 sharded": folder / "sharded" / "model.ckpt",
        "with slots": folder / "slots" / "model.ckpt",
    }
    for path in paths.values():
        path.parent.mkdir()
    return {
        "V1": (paths["V1"], save(paths["V1"], v1.train.SaverDef.V1)),
        "V2": (paths["V2"], save(paths["V2"])),
        "V2 sharded": (paths["V2 sharded"], save(paths["V2 sharded"], sharded=True)),
        "with slots": (paths["with slots"], save(paths["with slots"], slots=True)),
    }


FORMATS = ("V1", "V2", "V2 sharded", "with slots")


@pytest.mark.parametrize("kind", FORMATS)
def test_reader_gives_what_was_saved(saved, kind):
    path, values = saved[kind]
    reader = open_checkpoint(path)
    assert reader.format == kind[:2] if kind != "with slots" else reader.format == "V2"
    assert set(values) <= set(reader.shapes)
    for name, value in values.items():
        assert reader.shapes[name] == value.shape
        assert reader.dtypes[name] == tf.float32
        assert np.array_equal(reader.read(name), value)
    with pytest.raises(KeyError):
        reader.read("none of these")


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("V2", "model.ckpt-12.index"),
        ("V2", "model.ckpt-12.data-00000-of-00001"),
        ("V2", "model.ckpt-12.meta"),
        ("V2", ""),
        ("V1", ""),
    ],
)
def test_parts_and_folders_are_understood(saved, kind, given):
    path, _ = saved[kind]
    reader = open_checkpoint(path.parent / given)
    assert reader.prefix == path
    assert reader.path == path.parent / given


def test_a_folder_with_one_checkpoint_needs_no_checkpoint_file(saved, tmp_path):
    shutil.copy(saved["V1"][0], tmp_path / "weights.ckpt")
    assert open_checkpoint(tmp_path).format == "V1"
    shutil.copy(saved["V1"][0], tmp_path / "more.ckpt")
    with pytest.raises(CheckpointError, match=r"several checkpoints: give one of more.ckpt, weights.ckpt"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["graph", "partitioned", "reference variables"])
def test_restore_gives_each_variable_its_value(saved, kind, mode):
    path, values = saved[kind]
    partitioner = v1.fixed_size_partitioner(2) if mode == "partitioned" else None
    use_resource = mode != "reference variables"
    with tf.Graph().as_default() as graph:
        with v1.variable_scope(v1.get_variable_scope(), partitioner=partitioner, use_resource=use_resource):
            build()
        ops = len(graph.get_operations())
        with v1.Session() as session:
            report = restore(session, path)
            assert len(graph.get_operations()) == ops
            for variable in v1.global_variables():
                cut = variable._get_save_slice_info()
                name = variable.op.name if cut is None else cut.full_name
                expected = values[name]
                if cut is not None:
                    start = cut.var_offset[0]
                    expected = expected[start : start + cut.var_shape[0]]
                assert np.array_equal(session.run(variable), expected), name
    model = {name for name in values if not name.endswith("/Momentum")}
    assert set(report.loaded) == model
    assert report.missing == report.mismatched == ()
    slots = {f"{name}/Momentum" for name in model if "/moving_" not in name} | {"global_step"}
    assert set(report.unused) == (slots if kind == "with slots" else set())


def test_restore_agrees_with_tensorflows_saver(saved):
    path, _ = saved["V1"]
    images = np.random.default_rng(0).normal(size=[2, 32, 32, 3])
    results = []
    for how in (lambda session: restore(session, path), lambda session: v1.train.Saver().restore(session, str(path))):
        with tf.Graph().as_default():
            logits = build()
            with v1.Session() as session:
                how(session)
                results.append(session.run(logits, {"images:0": images}))
    assert np.array_equal(*results)


def test_only_model_variables_are_restored_unless_told_otherwise(saved):
    path, values = saved["with slots"]
    with tf.Graph().as_default():
        logits = build(training=True)
        step = v1.train.get_or_create_global_step()
        v1.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(logits), global_step=step)
        with v1.Session() as session:
            assert len(restore(session, path).loaded) == len(slim.get_model_variables())
            report = restore(session, path, variables=v1.global_variables())
            assert len(report.loaded) == len(v1.global_variables())
            slot = next(v for v in v1.global_variables() if v.op.name.endswith("conv1/weights/Momentum"))
            assert np.array_equal(session.run(slot), values[slot.op.name])


@pytest.mark.parametrize("shortcut", ["A", "C", "first_unit"])
def test_weights_that_the_graphs_units_lack_are_an_error(tmp_path, shortcut):
    """Tests another shortcut option: files of options C and first_unit have a value for every variable of option B."""
    with tf.Graph().as_default(), v1.Session() as session:
        build("resnet_basic_18", size=32, shortcut=shortcut)
        assign(session, random_values(v1.global_variables()))
        v1.train.Saver().save(session, str(tmp_path / "other.ckpt"), write_meta_graph=False)
    with tf.Graph().as_default(), v1.Session() as session:
        build("resnet_basic_18", size=32)
        session.run(v1.global_variables_initializer())
        before = session.run(v1.global_variables()[0])
        with pytest.raises(
            CheckpointMismatch, match=f"10 classes, shortcut='{shortcut}'; build that network"
        ) as caught:
            restore(session, tmp_path / "other.ckpt")
        if shortcut != "A":
            assert "no place in the graph's blocks" in str(caught.value)
            assert "resnet_basic_18/block1/unit_1/basic/shortcut" in str(caught.value)
        assert np.array_equal(session.run(v1.global_variables()[0]), before)
        if shortcut != "A":
            # A caller who names the variables knows what is left out.
            assert restore(session, tmp_path / "other.ckpt", variables=v1.global_variables()).missing == ()


def test_excluded_variables_are_left_alone(saved):
    path, _ = saved["V2"]
    with tf.Graph().as_default():
        build(classes=7)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            logits = slim.get_variables("resnet_v2_tiny/logits")
            before = session.run(logits)
            report = restore(session, path, exclude="resnet_v2_tiny/logits/*")
            for one, other in zip(before, session.run(logits), strict=True):
                assert np.array_equal(one, other)
    assert set(report.excluded) == {"resnet_v2_tiny/logits/biases", "resnet_v2_tiny/logits/weights"}
    assert report.missing == report.mismatched == report.unused == ()
    assert "2 excluded: resnet_v2_tiny/logits/weights" in str(report)


def test_a_pattern_that_fits_nothing_is_refused(saved):
    with tf.Graph().as_default():
        build()
        with v1.Session() as session, pytest.raises(ValueError, match=r"exclude='logits/\*' fits no variable"):
            restore(session, saved["V2"][0], exclude=["logits/*"])


def untouched(session):
    return not any(session.run([tf.raw_ops.VarIsInitializedOp(resource=v.handle) for v in v1.global_variables()]))


MISTAKES = {
    "classes": ({"classes": 7}, "the graph has 7 classes and the file 10; build the network with num_classes=10"),
    "no arg scope": (None, "built without its arg scope"),
    "scope": ({"scope": "mine"}, "under the scope 'resnet_v2_tiny', and the graph under 'mine'"),
    "network": (
        {"name": "resnet_v2_50", "classes": 10},
        "holds a resnet_v2_tiny with 10 classes, and the graph resnet_v2_50",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("kind", ["V1", "V2"])
def test_a_mismatch_names_its_cause_and_changes_nothing(saved, mistake, kind):
    arguments, sentence = MISTAKES[mistake]
    with tf.Graph().as_default():
        if arguments is None:
            resnet_v2.resnet_v2_tiny(v1.placeholder(tf.float32, [1, 32, 32, 3]), 10, is_training=False)
        else:
            build(**arguments)
        with v1.Session() as session:
            with pytest.raises(CheckpointMismatch) as caught:
                restore(session, saved[kind][0])
            assert untouched(session)
    assert sentence in str(caught.value)
    assert caught.value.missing or caught.value.mismatched


def test_mismatch_holds_all_names(saved):
    with tf.Graph().as_default():
        build(classes=None)
        v1.get_variable("resnet_v2_tiny/extra", [3], collections=["model_variables", "variables"])
        with v1.Session() as session, pytest.raises(CheckpointMismatch) as caught:
            restore(session, saved["V2"][0])
    assert caught.value.missing == ("resnet_v2_tiny/extra",)
    assert caught.value.mismatched == {}
    assert set(caught.value.unused) == {"resnet_v2_tiny/logits/biases", "resnet_v2_tiny/logits/weights"}


def test_damage_leaves_the_session_as_it_was(saved, tmp_path):
    for file in saved["V2"][0].parent.iterdir():
        shutil.copy(file, tmp_path)
    data = tmp_path / "model.ckpt-12.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1000])
    with tf.Graph().as_default():
        build()
        with v1.Session() as session:
            with pytest.raises(CheckpointError, match="cut short"):
                restore(session, tmp_path / "model.ckpt-12")
            assert untouched(session)


def test_variables_of_one_initial_value_get_each_their_own(tmp_path):
    with tf.Graph().as_default():
        initial_value = tf.zeros([2])
        variables = [v1.Variable(initial_value, name=name) for name in ("a", "b")]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run([v1.assign(variables[0], [1.0, 1.0]), v1.assign(variables[1], [2.0, 2.0])])
            v1.train.Saver().save(session, str(tmp_path / "model"))
        with v1.Session() as session:
            restore(session, tmp_path / "model")
            assert np.array_equal(session.run(variables), [[1, 1], [2, 2]])


def test_a_number_that_does_not_fit_is_refused(tmp_path):
    for dtype in (tf.int64, tf.int32):
        with tf.Graph().as_default():
            step = v1.get_variable("step", initializer=tf.constant(0, dtype))
            with v1.Session() as session:
                if dtype == tf.int64:
                    session.run(step.initializer, {step.initializer.inputs[1]: 2**40})
                    v1.train.Saver().save(session, str(tmp_path / "model"))
                else:
                    with pytest.raises(CheckpointError, match="has step as int64, and the graph as int32"):
                        restore(session, tmp_path / "model")


@pytest.mark.parametrize("variables", [None, [], {"a name": 1}])
def test_nothing_to_restore_is_said(saved, variables):
    with tf.Graph().as_default(), v1.Session() as session, pytest.raises(ValueError, match="variable"):
        restore(session, saved["V2"][0], variables=variables)


def test_a_partitioned_variable_can_be_named(saved):
    path, values = saved["V2"]
    with tf.Graph().as_default():
        name = "resnet_v2_tiny/conv1/weights"
        variable = v1.get_variable(name, [7, 7, 3, 64], partitioner=v1.fixed_size_partitioner(3))
        with v1.Session() as session:
            restore(session, path, variables=[variable])
            assert np.array_equal(session.run(variable.as_tensor()), values[name])


# Files that are not checkpoints.


def broken(kind, good, folder):
    path = folder / "file.ckpt"
    if kind == "nothing":
        return path
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("These are not the weights you are looking for.\n")
    elif kind == "cut":
        path.write_bytes(good.read_bytes()[:-5000])
    elif kind == "gzip":
        path.write_bytes(gzip.compress(b"weights"))
    elif kind == "tar":
        path = folder / "model_2017_04_14.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(good, "model.ckpt")
    elif kind == "bytes":
        path.write_bytes(bytes(range(256)) * 20)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("nothing", "There is no checkpoint at"),
        ("empty", "is empty"),
        ("text", "is a text file"),
        ("cut", "cut short"),
        ("gzip", "unpack it"),
        ("tar", "unpack it"),
        ("bytes", "is no checkpoint"),
        ("folder", "holds no checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_said(saved, tmp_path, kind, sentence):
    path = broken(kind, saved["V1"][0], tmp_path)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("model.ckpt.index", "model.ckpt.index is missing"),
        ("model.ckpt.data-00000-of-00001", "lacks its file model.ckpt.data-00000-of-00001"),
    ],
)
def test_half_of_a_bundle_is_refused(saved, tmp_path, missing, sentence):
    for file in saved["V2 sharded"][0].parent.iterdir():
        if file.name != missing:
            shutil.copy(file, tmp_path)
    with pytest.raises(CheckpointError, match=sentence):
        open_checkpoint(tmp_path / "model.ckpt")


def test_a_folder_of_the_same_name_is_not_taken_for_the_checkpoint(saved, tmp_path):
    for file in saved["V2"][0].parent.glob("model*"):
        shutil.copy(file, tmp_path)
    other = tmp_path / "model.ckpt-12"
    other.mkdir()
    save(other / "inner", classes=3)
    reader = open_checkpoint(tmp_path / "model.ckpt-12.index")
    assert reader.shapes["resnet_v2_tiny/logits/biases"] == (10,)


def test_a_path_that_tensorflow_takes_for_a_pattern_is_read(saved, tmp_path):
    folder = tmp_path / "run[1]"
    folder.mkdir()
    shutil.copy(saved["V1"][0], folder)
    _, values = saved["V1"]
    reader = open_checkpoint(folder / "model.ckpt")
    assert all(np.array_equal(reader.read(name), value) for name, value in values.items())


# What a checkpoint is.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ("resnet_v2_tiny", "resnet_v2_tiny", 10, "inception", 32)),
        ({"classes": None, "scope": "outer/mine"}, ("resnet_v2_tiny", "outer/mine", 0, "inception", 32)),
        ({"slots": True}, ("resnet_v2_tiny", "resnet_v2_tiny", 10, "inception", 32)),
        ({"name": "resnet_v2_50", "classes": 1001}, ("resnet_v2_50", "resnet_v2_50", 1001, "inception", 299)),
        ({"name": "resnet_v2_50", "classes": 5}, ("resnet_v2_50", "resnet_v2_50", 5, "vgg", 224)),
        ({"name": "resnet_cifar_20"}, ("resnet_cifar_20", "", 10, "cifar", 32)),
        ({"name": "resnet_cifar_20", "scope": "a/b", "classes": 0}, ("resnet_cifar_20", "a/b", 0, "cifar", 32)),
        (
            {"name": "resnet_keras_18_digits", "scope": "mine"},
            ("resnet_keras_18_digits", "mine", 10, "grayscale", 28),
        ),
    ],
)
def test_diagnosis(tmp_path, arguments, expected):
    save(tmp_path / "renamed.ckpt", **arguments)
    found = diagnose(tmp_path / "renamed.ckpt")
    assert found.usable, found.problems
    assert (found.network.name, found.scope, found.num_classes, found.preprocessing, found.image_size) == expected


@pytest.mark.parametrize("scope", ["", "outer/mine"])
@pytest.mark.parametrize("shortcut", ["A", "B", "C", "first_unit"])
@pytest.mark.parametrize("name", ["resnet_basic_18", "resnet_basic_34"])
def test_shortcuts_are_told_by_the_variables(name, shortcut, scope):
    """Tests another implementation's names: the paper's options, and a projection in the first unit of every block."""
    from tests.helpers import torch_resnet

    module = torch_resnet.resnet(nets_factory.get_network(name).variant.units, shortcut, 10)
    state = torch_resnet.state_by_slim_name(module, scope or "x")
    shapes = {key if scope else key.removeprefix("x/"): value.shape for key, value in state.items()}
    [found] = structures_in(shapes)
    assert (found.network.name, found.scope, found.options) == (name, scope, {"shortcut": shortcut})
    assert not found.faults


@pytest.mark.parametrize("shared", [(True, False, False), (False, False, False), (True, True, True)])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_activation_before_residual_is_told_by_the_variables(shared, bottleneck):
    n = 18 if bottleneck else 3
    shapes = numpy_cifar.variable_shapes(n, bottleneck, activate_before_residual=shared)
    [found] = structures_in(shapes)
    assert found.network.name == ("resnet_cifar_164" if bottleneck else "resnet_cifar_20")
    assert found.options == {"activate_before_residual": shared}
    assert not found.faults


@pytest.mark.parametrize("name", nets_factory.NETWORKS)
def test_every_network_is_told_by_its_variables(name):
    """Uses another implementation's names and shapes, alone and beside an optimizer's variables."""
    golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
    shapes = {variable: tuple(shape) for variable, shape in golden["variables"].items()}
    scope = "" if name.startswith("resnet_cifar") else SCOPES.get(name, name)
    network = nets_factory.get_network(name)
    [found] = structures_in(shapes)
    assert (found.scope, found.network, found.channels, found.faults) == (scope, network, network.channels, ())
    moved = {f"outer/{variable}": shape for variable, shape in shapes.items()}
    slots = {f"{variable}/Momentum": shape for variable, shape in moved.items()}
    outer = "/".join(filter(None, ["outer", scope]))
    [found] = structures_in({**moved, **slots, "global_step": ()})
    assert (found.scope, found.network, found.faults) == (outer, network, ())


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("resnet_v1_50", 1000, ("vgg", 224)),
        ("resnet_v1_50", 1001, ("vgg", 224)),
        ("resnet_v2_101", 1001, ("inception", 299)),
        ("resnet_basic_34", 1000, ("vgg", 224)),
        ("resnet_cifar_110", 10, ("cifar", 32)),
    ],
)
def test_expected_input(name, classes, expected):
    assert expected_input(nets_factory.get_network(name), classes) == expected


def test_a_file_of_something_else_is_said_to_be(tmp_path):
    with tf.Graph().as_default():
        v1.get_variable("dense/kernel", [2, 3])
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(tmp_path / "other.ckpt"))
    [problem] = diagnose(tmp_path / "other.ckpt").problems
    assert problem.kind == "unknown network"
    assert "none of the known networks (1 variables, under dense)" in problem.sentence

"""Checks that each argument that a message of ``checkpoints`` offers works: it is parsed from the message and tried.

The table has one row per situation. The arguments are parsed from the message. The values that each variable must hold
afterwards are looked up among the written values, by names that the row gives by hand. The last test finds every
message in the sources that offers an argument, so none can be added without a row or a test named here.
"""

import ast
import fnmatch
import functools
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

import checkpoints
from checkpoints import diagnose, restore
from checkpoints.files import Notes, write_checkpoint, write_notes
from checkpoints.files.targets import check_target
from checkpoints.frameworks import read_weights
from checkpoints.frameworks.tensor_files import write_npz
from nets import layers, nets_factory, resnet_basic, resnet_v2, tf_slim_nets
from nets.guards import InferenceWarning
from tests.checkpoints.test_restore import (
    CIFAR,
    SHADOW,
    TINY,
    averages,
    held,
    open_session,
    shapes_of,
    split,
    weights,
    write,
)
from tests.helpers.reference import random_values_of_shapes
from tests.helpers.strings import strings_of

v1 = tf.compat.v1

_OFFER = re.compile(
    r"(?:\b(build|leave(?= \w+=)|give|choose|exclude|restor\w+)\b(?!=))|"
    r"\b(\w+)=('[^']*'|\{[^{}]*\}|\[[^\]]*\]|True|False|None|\d+|slim\.get_model_variables\(\)|tf\.compat\.v1\.global_variables\(\))"
)
_CALLS = {
    "slim.get_model_variables()": slim.get_model_variables,
    "tf.compat.v1.global_variables()": v1.global_variables,
}


BASIC = "resnet_basic_18"


class Offer(NamedTuple):
    """An argument that a message offers: give it, omit it, or build the network with it."""

    verb: str
    name: str
    value: Any


def offers(message: str) -> list[Offer]:
    """Returns the arguments that a message offers, in the message's order."""
    found, verb = [], "give"
    for match in _OFFER.finditer(message):
        if match[1]:
            verb = "leave" if match[1] == "leave" else "build" if match[1] == "build" else "give"
        elif match[2]:
            value = match[3]
            found.append(Offer(verb, match[2], _CALLS[value] if value in _CALLS else ast.literal_eval(value)))
    return found


# Graphs.


def tiny(scope=TINY, classes=10, channels=3, arg_scope=None):
    """Makes the variables of the tiny network; with options for an arg scope, builds the network itself."""
    if arg_scope:
        with slim.arg_scope(resnet_v2.resnet_arg_scope(**arg_scope)):
            resnet_v2.resnet_v2_tiny(v1.placeholder(tf.float32, [1, 32, 32, 3]), classes, is_training=False)
        return
    for name, value in weights(scope=scope, classes=classes).items():
        first = name == f"{scope}/conv1/weights"
        make(name, (*value.shape[:2], channels, value.shape[3]) if first else value.shape)


def cifar(scope="", classes=10):
    """Makes the variables of a network for small images, which has no scope of its own."""
    for name, value in weights(CIFAR, scope=scope, classes=classes).items():
        make(name, value.shape)


def basic(**options):
    """Builds a network that has options."""
    nets_factory.get_network_fn(BASIC, 10)(v1.placeholder(tf.float32, [1, 32, 32, 3]), **options)


def make(name, shape):
    slim.model_variable(name, shape, initializer=v1.zeros_initializer())


def graph_of(*parts: Callable[..., None], **build: Any) -> tf.Graph:
    with tf.Graph().as_default() as graph:
        for part in parts:
            part(**build)
    return graph


def tinies(*scopes, **options):
    return [functools.partial(tiny, scope, **options) for scope in scopes]


def slots_of(part):
    """Returns a function that builds the part with an optimizer's slots and a global step."""

    def build(**options):
        part(**options)
        v1.train.get_or_create_global_step()
        for variable in v1.trainable_variables():
            v1.get_variable(f"{variable.op.name}/Momentum", variable.shape, trainable=False)

    return build


def plain(shapes):
    """Makes variables that belong to no network and are in none of slim's collections."""

    def build():
        for name, shape in shapes.items():
            v1.get_variable(name, shape)

    return build


def under(values, old, new):
    return {new + name.removeprefix(old) if name.startswith(old) else name: value for name, value in values.items()}


def without(values, *parts):
    return {name: value for name, value in values.items() if not any(part in name for part in parts)}


def only(values, part):
    return {name: value for name, value in values.items() if part in name}


def changed(values, ending, function):
    return {name: function(value) if name.endswith(ending) else value for name, value in values.items()}


@functools.cache
def basic_weights():
    return random_values_of_shapes({v.op.name: v.shape.as_list() for v in variables_of(basic)})


class Row(NamedTuple):
    """A mistake, and the arguments that the message must offer.

    parts: functions that build the graph.
    stored: values in the file.
    follow: verbs and names of the offered arguments; those that must be given together stand together.
    given: arguments of ``restore`` that make the mistake.
    place: maps a variable's name in the graph to its expected name in the file.
    """

    parts: list[Callable[..., None]]
    stored: Callable[[], Mapping[str, np.ndarray]]
    follow: list[tuple[str, ...]]
    given: Mapping[str, Any] = {}
    place: Callable[[str], str] = lambda name: name


def shadows_alone(values):
    trainable, statistics = split(values)
    return {**averages(trainable), **statistics}


def one_scope(name):
    """Maps the name of a variable of any network in the graph to its name under the tiny network's scope."""
    return re.sub(r"^.*?(?=(block\d|conv1|logits|postnorm)/)", f"{TINY}/", name, count=1)


def bare(name):
    return one_scope(name).removeprefix(f"{TINY}/")


PARTS = ("block3", "block4")
ROWS = {
    # Scopes.
    "two networks in the graph, one in the file": Row(
        tinies(f"First/{TINY}", f"Second/{TINY}"), weights, [("give scope",)], place=one_scope
    ),
    "networks under odd scopes": Row(
        tinies("a/b.c/net", "a/b.c/net/inner", "x-1"), weights, [("give scope",)], place=one_scope
    ),
    "a file without a scope": Row(tinies("one", "two"), lambda: weights(scope=""), [("give scope",)], place=bare),
    "one of two is found": Row(tinies(TINY, "two"), weights, [("give scope",)], place=one_scope),
    "a network that the file does not have": Row(
        [*tinies("one", "two"), functools.partial(cifar, "mine")],
        weights,
        [("give scope", "give exclude")],
        place=one_scope,
    ),
    "a string for two networks": Row(
        tinies("one", "two"), weights, [("give scope",)], given={"scope": TINY}, place=one_scope
    ),
    "a string for two networks of several in the file": Row(
        tinies("one", "two"),
        lambda: {**weights(scope="a"), **weights(scope="b", seed=1)},
        [("give scope",)],
        given={"scope": "b"},
        place=lambda name: f"b/{bare(name)}",
    ),
    "several networks in the file": Row(
        [tiny], lambda: {**weights(scope="a"), **weights(scope="b")}, [("give scope",)], place=lambda n: f"a/{bare(n)}"
    ),
    "several kinds of networks in the file": Row(
        [functools.partial(cifar, "mine")],
        lambda: {**weights(scope="a"), **weights(CIFAR, scope="b")},
        [("give scope",)],
        place=lambda name: name.replace("mine/", "b/"),
    ),
    "a scope where none is needed": Row([tiny], weights, [("give scope",)], given={"scope": {TINY: "x"}}),
    "a scope where one of two needs none": Row(
        tinies(TINY, "two"), weights, [("give scope",)], given={"scope": {TINY: "x", "two": "y"}}, place=one_scope
    ),
    "a network without a scope in the graph": Row(
        [cifar], lambda: weights(CIFAR, scope="b/c"), [("give scope",)], place=lambda name: f"b/c/{name}"
    ),
    "a network in parts": Row(
        [tiny],
        lambda: under(under(weights(), f"{TINY}/block4", "second/net/block4"), TINY, "first/net"),
        [("give scope",)],
        place=lambda name: ("second" if "/block4/" in name else "first") + f"/net/{bare(name)}",
    ),
    "a network in parts, twice in the graph": Row(
        tinies("one", "two"),
        lambda: averages(under(weights(), f"{TINY}/block4", "second/net/block4")),
        [("give scope",)],
        given={"ema": True},
        place=lambda name: f"{'second/net' if '/block4/' in name else TINY}/{bare(name)}/{SHADOW}",
    ),
    "variables of no known network": Row(
        [plain({"net/fc6/weights": [2, 3], "net/fc6/biases": [3], "net/fc7/weights": [3, 4]})],
        lambda: random_values_of_shapes({"m/x/fc6/weights": [2, 3], "m/x/fc6/biases": [3], "m/x/fc7/weights": [3, 4]}),
        [("give scope",)],
        place=lambda name: name.replace("net/", "m/x/"),
    ),
    "averages under another scope": Row(
        tinies("one", "two"),
        lambda: averages(weights()),
        [("give scope",)],
        given={"ema": True},
        place=lambda name: f"{one_scope(name)}/{SHADOW}",
    ),
    # Moving averages.
    "averages alone": Row(
        [tiny],
        lambda: shadows_alone(weights()),
        [("give ema",)],
        place=lambda name: name if "/moving_" in name else f"{name}/{SHADOW}",
    ),
    "averages alone, but for the logits": Row(
        [tiny],
        lambda: {**without(averages(weights()), "/logits/"), **only(weights(), "/logits/")},
        [("give ema", "give exclude")],
        place=lambda name: f"{name}/{SHADOW}",
    ),
    "no averages": Row([tiny], weights, [("leave ema",)], given={"ema": True}),
    "averages of some": Row(
        [tiny],
        lambda: {**without(averages(weights()), "/logits/"), **weights()},
        [("leave ema",), ("give exclude",)],
        given={"ema": True},
        place=lambda name: name,
    ),
    "averages of some, and nothing else": Row(
        [tiny],
        lambda: without(averages(weights()), "/logits/"),
        [("give exclude",)],
        given={"ema": True},
        place=lambda name: f"{name}/{SHADOW}",
    ),
    # What training adds.
    "slots": Row([slots_of(tiny)], weights, [("give variables",)], given={"variables": v1.global_variables}),
    "slots of no model variables": Row(
        [slots_of(lambda: v1.get_variable("net/w", [3]))],
        lambda: {"net/w": np.float32([1, 2, 3])},
        [("give exclude",)],
    ),
    # Channels.
    "another number of channels": Row(
        [tiny],
        lambda: changed(weights(), "tiny/conv1/weights", lambda value: value[:, :, :2]),
        [("give first_kernel",), ("give exclude",)],
    ),
    "grey images for two networks of colours": Row(
        tinies("one", "two"),
        lambda: changed(weights(), "tiny/conv1/weights", lambda value: value[:, :, :1]),
        [("build preprocessing",), ("give first_kernel",), ("give exclude",)],
        given={"scope": {"one": TINY, "two": TINY}},
        place=one_scope,
    ),
    "the same channels": Row([tiny], weights, [("leave first_kernel",)], given={"first_kernel": "mean"}),
    "no first kernel": Row(
        [plain({"net/w": [3]})],
        lambda: {"net/w": np.float32([1, 2, 3])},
        [("leave first_kernel",)],
        given={"first_kernel": "repeat"},
    ),
    # Classes.
    "a background": Row(
        [functools.partial(tiny, classes=1000)],
        lambda: weights(classes=1001),
        [("build num_classes",), ("give num_classes",)],
    ),
    "other classes": Row([tiny], lambda: weights(classes=7), [("build num_classes",), ("give exclude",)]),
    "other classes beside what is excluded": Row(
        [tiny],
        lambda: weights(classes=7),
        [("build num_classes",), ("give exclude",)],
        given={"exclude": f"{TINY}/block4/*"},
    ),
    "other classes of another family": Row(
        [cifar], lambda: weights(CIFAR, classes=7), [("build num_classes",), ("give exclude",)]
    ),
    "other classes of two networks": Row(
        [functools.partial(tiny, "one"), functools.partial(tiny, "two")],
        lambda: {**weights(scope="one", classes=5), **weights(scope="two", classes=7)},
        [("give exclude",)],
    ),
    "no logits": Row([tiny], lambda: weights(classes=0), [("build num_classes",), ("give exclude",)]),
    "no logits of two networks": Row(
        tinies("one", "two"),
        lambda: weights(classes=0),
        [("build num_classes",), ("give exclude",)],
        given={"scope": {"one": TINY, "two": TINY}},
        place=one_scope,
    ),
    "no logits of many networks": Row(
        tinies(*"abcdefgh"),
        lambda: weights(classes=0),
        [("build num_classes",), ("give exclude",)],
        given={"scope": dict.fromkeys("abcdefgh", TINY)},
        place=one_scope,
    ),
    "no logits of another family": Row(
        [cifar], lambda: weights(CIFAR, classes=0), [("build num_classes",), ("give exclude",)]
    ),
    "a conversion that is none": Row(
        [functools.partial(tiny, classes=1000)],
        lambda: weights(classes=7),
        [("leave num_classes", "build num_classes"), ("leave num_classes", "give exclude")],
        given={"num_classes": 1000},
    ),
    "a conversion to another number than the graph's": Row(
        [functools.partial(tiny, classes=1001)],
        lambda: weights(classes=1001),
        [("build num_classes",), ("leave num_classes",)],
        given={"num_classes": 1000},
    ),
    "a conversion to the wrong one of two numbers": Row(
        [functools.partial(tiny, classes=1000)],
        lambda: weights(classes=1001),
        [("build num_classes",), ("give num_classes",)],
        given={"num_classes": 1001},
    ),
    "a conversion of nothing but logits": Row(
        [plain({"net/logits/weights": [1, 1, 8, 1000], "net/logits/biases": [1000], "net/w": [1]})],
        lambda: random_values_of_shapes({"net/logits/weights": [1, 1, 8, 7], "net/logits/biases": [7], "net/w": [1]}),
        [("leave num_classes", "give exclude")],
        given={"num_classes": 1001},
    ),
    "a conversion where nothing fits": Row(
        [tiny],
        lambda: weights(classes=7),
        [("leave num_classes", "give exclude")],
        given={"num_classes": 1000},
    ),
    "a conversion without logits": Row(
        [functools.partial(tiny, classes=None)],
        lambda: weights(classes=1001),
        [("leave num_classes",)],
        given={"num_classes": 1000},
    ),
    "a conversion for one of two networks": Row(
        [functools.partial(tiny, "one", classes=1000), functools.partial(tiny, "two", classes=10)],
        lambda: weights(classes=1001),
        [("build num_classes",), ("give exclude",)],
        given={"num_classes": 1000, "scope": {"one": TINY, "two": TINY}},
        place=one_scope,
    ),
    # Faults of the file.
    "logits that are a matrix": Row(
        [tiny],
        lambda: changed(weights(scope="m"), "logits/weights", lambda value: value[0, 0]),
        [("give exclude",)],
        given={"scope": "m"},
        place=lambda name: f"m/{bare(name)}",
    ),
    "logits of two numbers": Row(
        [tiny], lambda: changed(weights(), "logits/biases", lambda value: value[:5]), [("give exclude",)]
    ),
    "logits without biases": Row([tiny], lambda: without(weights(), "logits/biases"), [("give exclude",)]),
    "no batch norm": Row(
        [tiny],
        lambda: random_values_of_shapes(
            {v.op.name: v.shape.as_list() for v in variables_of(tiny, arg_scope={"use_batch_norm": False})}
        ),
        [("build use_batch_norm",)],
    ),
    "no gamma": Row([tiny], lambda: without(weights(), "/gamma"), [("build batch_norm_scale",)]),
    "no beta": Row([tiny], lambda: without(weights(), "/beta"), [("build center",)]),
    "no root": Row([tiny], lambda: without(weights(), f"{TINY}/conv1/"), [("build include_root_block",)]),
    "kernels of another size": Row(
        [basic],
        lambda: changed(basic_weights(), "block1/unit_2/basic/conv2/weights", lambda value: value[:1, :1]),
        [("give exclude",)],
    ),
    "another shortcut": Row(
        [basic],
        lambda: without(basic_weights(), "/shortcut/"),
        [("build shortcut",), ("give exclude",)],
    ),
    "layers that the graph does not have": Row(
        [cifar], lambda: {**weights(CIFAR), "unit_1_0/sub1/conv3/DW": np.ones([1], np.float32)}, [("give variables",)]
    ),
    "whole numbers": Row(
        [tiny],
        lambda: changed(weights(), "postnorm/gamma", lambda value: value.astype(np.int32)),
        [("give exclude",)],
    ),
    # Patterns of names.
    "a scope as slim excludes it": Row(
        [tiny], lambda: weights(classes=7), [("give exclude",)], given={"exclude": f"{TINY}/logits"}
    ),
    "two of them in one string": Row(
        [tiny],
        lambda: weights(classes=7),
        [("give exclude",)],
        given={"exclude": f"{TINY}/logits/,{TINY}/block4/unit_1"},
    ),
    "a tensor's name": Row(
        [tiny],
        lambda: changed(weights(), "logits/weights", lambda value: value[..., :7]),
        [("give exclude",)],
        given={"exclude": [f"{TINY}/logits/weights:0", f"{TINY}/block4/*", f"{TINY}/logits/biases"]},
    ),
    "the scope in the file": Row(
        [tiny],
        lambda: weights(scope="model", classes=7),
        [("give exclude",)],
        given={"exclude": "model/logits/*", "scope": "model"},
        place=lambda name: f"model/{bare(name)}",
    ),
    "a name without its scope": Row(
        tinies("one", "two"),
        lambda: weights(classes=7),
        [("give exclude",)],
        given={"exclude": "logits", "scope": {"one": TINY, "two": TINY}},
        place=one_scope,
    ),
    "the start of a name, as slim takes it": Row(
        [tiny], lambda: without(weights(), "/block4/"), [("give exclude",)], given={"exclude": f"{TINY}/block4/unit"}
    ),
    "an expression as slim takes it": Row(
        [tiny], lambda: weights(classes=7), [("give exclude",)], given={"exclude": [f"{TINY}/logits/.*"]}
    ),
}


def variables_of(part, **build):
    return graph_of(part, **build).get_collection(v1.GraphKeys.GLOBAL_VARIABLES)


# How to build what must be built with an argument.
BUILT = {
    "use_batch_norm": {"arg_scope": {"use_batch_norm": False}},
    "preprocessing": {"channels": 1},
    "batch_norm_scale": {"arg_scope": {"batch_norm_scale": False}},
}


def built(row: Row, building: Mapping[str, Any]) -> tf.Graph:
    """Builds the row's graph with the offered arguments."""
    if "num_classes" in building:
        return graph_of(*row.parts, classes=building["num_classes"])
    if "include_root_block" in building:
        # Only the generator takes this argument; builders of whole networks always include the root block.
        with tf.Graph().as_default() as graph, slim.arg_scope(resnet_v2.resnet_arg_scope()):
            blocks = [resnet_v2.resnet_v2_block(f"block{i + 1}", 16 * 2**i, 1, 2 if i < 3 else 1) for i in range(4)]
            images = v1.placeholder(tf.float32, [1, 8, 8, 64])
            resnet_v2.resnet_v2(images, blocks, 10, False, include_root_block=False, scope=TINY)
        return graph
    if "center" in building:
        scope = slim.arg_scope(resnet_v2.resnet_arg_scope())
        with tf.Graph().as_default() as graph, scope, slim.arg_scope([layers.batch_norm], center=False):
            resnet_v2.resnet_v2_tiny(v1.placeholder(tf.float32, [1, 32, 32, 3]), 10, is_training=False)
        return graph
    [(name, value)] = building.items()
    return graph_of(*row.parts, **BUILT.get(name, {name: value}))


def arguments(graph, given):
    """Returns the arguments; variables may be a function that looks into the graph."""
    with graph.as_default():
        return {name: value() if callable(value) else value for name, value in given.items()}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_offered_succeeds(tmp_path, name):
    row = ROWS[name]
    stored = row.stored()
    path = write(tmp_path / "model.ckpt", stored)
    graph = graph_of(*row.parts)
    with open_session(graph) as session, pytest.raises(ValueError, match=r".") as caught:
        restore(session, path, **arguments(graph, row.given))
    offered: dict[str, list[Offer]] = {}
    for offer in offers(said(str(caught.value), row.given)):
        offered.setdefault(f"{offer.verb} {offer.name}", []).append(offer)
    assert set(offered) == {each for together in row.follow for each in together}, str(caught.value)
    for together in row.follow:
        for number in range(max(len(offered[each]) for each in together)):
            chosen = [offered[each][min(number, len(offered[each]) - 1)] for each in together]
            follow(row, path, stored, chosen, graph)


def said(message, given):
    """Returns the message without the arguments that it repeats; "leave x out" becomes an offer of ``x=None``."""
    message = re.sub(r"^.* does not fit the graph: ", "", message)
    message = re.sub(r"((?:, \w+='[^']*')+); build that network", r"; build that network\1", message)
    only = next(iter(given), "")
    for argument in ("ema", "num_classes", "first_kernel"):
        message = re.sub(rf"leave {argument}(=True)? out", f"leave {argument}=None give", message)
    message = message.replace("leave it out", f"leave {only}=None give")
    return message.partition(": ")[2] if re.match(r"\w+=\S+ (fits|does|cannot|converts)", message) else message


def follow(row, path, stored, chosen, graph):
    building = {offer.name: offer.value for offer in chosen if offer.verb == "build"}
    options = dict(row.given) | {offer.name: offer.value for offer in chosen if offer.verb == "give"}
    for offer in chosen:
        if offer.verb == "leave":
            del options[offer.name]
    graph = built(row, building) if building else graph
    with open_session(graph) as session:
        report = restore(session, path, **arguments(graph, options))
        found = held(session) if all_resources(graph) else {}
    assert report.loaded
    assert report.missing == report.mismatched == ()
    ema_left = "ema" in row.given and "ema" not in options
    for variable in report.loaded:
        place = row.place(variable)
        if options.get("ema") and f"{variable}/{SHADOW}" in stored and not ema_left:
            place = f"{variable}/{SHADOW}"
        if stored[place].shape == found[variable].shape:
            assert found[variable].tobytes() == stored[place].tobytes(), variable
        else:
            assert "num_classes" in options or "first_kernel" in options


def all_resources(graph):
    return all(hasattr(variable, "handle") for variable in graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES))


# Messages of functions other than restore.


@pytest.mark.parametrize(
    ("stored", "given", "place", "verb"),
    [
        (lambda: {**weights(scope="a"), **weights(CIFAR, scope="b")}, {}, "a", "give"),
        (lambda: weights(classes=1001), {"num_classes": 1000}, TINY, "give"),
        (lambda: weights(classes=7), {"num_classes": 10}, TINY, "give"),
        (lambda: weights(CIFAR, scope="mine", classes=7), {"num_classes": 10}, "mine", "give"),
        (lambda: weights(classes=0), {"num_classes": 10}, TINY, "build"),
        (lambda: shadows_alone(weights()), {}, TINY, "give"),
        (lambda: changed(weights(), "tiny/conv1/weights", lambda v: np.repeat(v, 2, axis=2)), {}, TINY, "give"),
    ],
)
def test_what_a_diagnosis_offers_succeeds(tmp_path, stored, given, place, verb):
    """Gives the offers to ``restore``, with the scope that the network has in the file and the expected classes."""
    stored = stored()
    path = write(tmp_path / "model.ckpt", stored)
    [problem] = diagnose(path, **given).problems
    offered = offers(problem.sentence.replace(str(path), "It").partition(": ")[2])
    assert offered
    part = functools.partial(cifar if "unit_" in str(stored) and place == "mine" else tiny, place)
    for offer in offered:
        builds = offer.verb == "build"
        classes = {"num_classes": offer.value} if builds else given
        graph = graph_of(part, **({"classes": classes["num_classes"]} if "num_classes" in classes else {}))
        with open_session(graph) as session:
            assert restore(session, path, **({} if builds else {offer.name: offer.value})).loaded
    assert verb in {offer.verb for offer in offered}


def test_a_scope_that_a_diagnosis_offers(tmp_path):
    path = write(tmp_path / "model.ckpt", {**weights(CIFAR, scope=""), **weights(scope="z")})
    [problem] = diagnose(path).problems
    [offer] = offers(problem.sentence.partition(": choose")[2])
    assert diagnose(path, **{offer.name: offer.value}).network.name == CIFAR
    message = diagnose(path, scope="y").problems[0].sentence
    assert f"{CIFAR} under '', {TINY} under 'z'" in message


def test_a_root_of_ones_own(tmp_path):
    """Builds as DeepLab does: the generator without its root block, below a root that is built by hand."""
    root = {f"{TINY}/conv1_{i}/weights": np.ones([3, 3, 3, 64], np.float32) for i in (1, 2, 3)}
    path = write(tmp_path / "model.ckpt", {**without(weights(), f"{TINY}/conv1/"), **root})
    [problem] = diagnose(path).problems
    [offer] = offers(problem.sentence.partition("build the root yourself")[2])
    graph = built(ROWS["no root"], {offer.name: offer.value})
    with graph.as_default():
        for name, value in root.items():
            make(name, value.shape)
    with open_session(graph) as session:
        assert set(root) < set(restore(session, path).loaded)


def test_the_pooling_that_is_offered(tmp_path):
    path = tmp_path / "model.ckpt"
    write(path, weights())
    source = {"file": "x.pth", "kind": "torch", "sha256": "0"}
    write_notes(path, Notes(TINY, "PAD1", "torchvision", 32, source), Path(f"{path}.index"))
    padding: dict[str, Any] = {}
    for warned in (True, False):
        with tf.Graph().as_default() as graph, slim.arg_scope(resnet_v2.resnet_arg_scope()):
            resnet_v2.resnet_v2_tiny(v1.placeholder(tf.float32, [1, 32, 32, 3]), 10, is_training=False, **padding)
        with open_session(graph) as session, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = restore(session, path)
        assert bool(report.warnings) == bool([each for each in caught if each.category is InferenceWarning]) == warned
        if warned:
            *_, offer = offers(report.warnings[0])
            padding = {offer.name: offer.value}


@pytest.mark.parametrize(("module", "name"), [(resnet_v2, TINY), (resnet_basic, BASIC)])
def test_the_arg_scope_that_is_offered(tmp_path, module, name):
    """Networks of the other families need no arg scope: their variables are the same without it."""
    build = functools.partial(getattr(module, name), num_classes=10, is_training=False)
    with tf.Graph().as_default() as graph:
        build(v1.placeholder(tf.float32, [1, 32, 32, 3]))
    shapes = {each: (*shape[:-1], 10) if "/logits/" in each else shape for each, shape in shapes_of(name).items()}
    path = write(tmp_path / "model.ckpt", random_values_of_shapes(shapes))
    with open_session(graph) as session, pytest.raises(ValueError, match="without its arg scope; build it") as caught:
        restore(session, path)
    [offered] = re.findall(r"slim\.arg_scope\((\w+)\(\)\)", str(caught.value))
    with tf.Graph().as_default() as graph, slim.arg_scope(getattr(module, offered)()):
        build(v1.placeholder(tf.float32, [1, 32, 32, 3]))
    with open_session(graph) as session:
        assert set(restore(session, path).loaded) == set(shapes)


def test_what_weights_offer_succeeds(tmp_path):
    """Tries the options of ``slimnets convert`` through the functions that it calls."""
    plain = write(tmp_path / "plain", weights())
    some = write(tmp_path / "some", {**weights(), **only(averages(weights()), "/block4/")})
    for path in (plain, some):
        with pytest.raises(ValueError, match=r"leave ema=True out\.$"):
            read_weights(path, ema=True)
        assert read_weights(path).network.name == TINY
    alone = write(tmp_path / "alone", averages(weights()))
    with pytest.raises(ValueError, match=r"choose one by its scope or net, or its averages, ema=True") as caught:
        read_weights(alone).of_network()
    [offer] = offers(str(caught.value))
    assert read_weights(alone, **{offer.name: offer.value}).of_network().network.name == TINY
    both = write(tmp_path / "both", {**weights(scope="a"), **weights(CIFAR, scope="b")})
    with pytest.raises(ValueError, match=r"choose one by its scope or net; `slimnets") as caught:
        read_weights(both).of_network()
    assert read_weights(both, scope="a").of_network().network.name == TINY
    assert read_weights(both, net=CIFAR).of_network().network.name == CIFAR
    slots = write(tmp_path / "slots", {**weights(), f"train/{TINY}/conv1/weights/Adam": np.ones(1, np.float32)})
    with pytest.raises(ValueError, match=r"leave such out, model_only=True\.$"):
        read_weights(slots).under("other")
    assert "other/conv1/weights" in read_weights(slots).of_model().under("other").values
    with pytest.raises(ValueError, match=r" applies to one network, which .* does not hold: leave it out"):
        read_weights(both).for_size(64)
    for argument in ("only", "exclude"):
        with pytest.raises(ValueError, match=rf"^{argument}='logits' fits no variable of ") as caught:
            read_weights(plain).matching(**{"only": (), "exclude": (), argument: ["logits"]})
        [offer] = offers(str(caught.value).partition(": ")[2])
        kept = read_weights(plain).matching(**{"only": (), "exclude": (), argument: [offer.value]})
        assert {"/logits/" in name for name in kept.values} == {argument == "only"}


def test_what_a_writer_offers_succeeds(tmp_path):
    """Values that a format cannot hold are left out by the offered pattern, or written in the other format."""
    values = {"": np.ones(1, np.float32), "net/w": np.ones(2, np.float32), "net/u": np.ones(2, np.uint32)}
    for write_it in (
        lambda kept: write_checkpoint(tmp_path / "model", kept, "V1"),
        lambda kept: write_npz(tmp_path / "model.npz", {name or "x": array for name, array in kept.items()}),
    ):
        kept = values | {"net/t": np.array(["text"], object)}
        for _ in range(3):
            try:
                write_it(kept)
                break
            except ValueError as error:
                [offer] = offers(str(error))
                kept = {name: value for name, value in kept.items() if name not in offer.value}
        write_it(kept)
        assert "net/w" in kept
    write_checkpoint(tmp_path / "model", {"net/u": values["net/u"]}, "V2")


# tf_slim's other networks, in their narrowest form.
NARROW = {"depth_multiplier": 0.0625, "min_depth": 8}


def inception(arg_scope=None, **options):
    """Builds an inception_v3 of 10 classes."""
    images = v1.placeholder(tf.float32, [1, 107, 107, 3])
    with slim.arg_scope(tf_slim_nets.inception_arg_scope(**(arg_scope or {}))):
        tf_slim_nets.inception_v3(images, 10, is_training=False, **NARROW, **options)


@functools.cache
def inception_weights(**arg_scope):
    built = variables_of(functools.partial(inception, arg_scope))
    return random_values_of_shapes({each.op.name: each.shape.as_list() for each in built})


def assert_restored(path, values, build, exclude=()):
    """Restores a file into a graph that ``build`` makes, and looks at every value."""
    with open_session(graph_of(build)) as session:
        restore(session, path, exclude=exclude)
        for name, value in held(session).items():
            if not exclude or not fnmatch.fnmatch(name, exclude):
                assert np.array_equal(value, values[name]), name


@pytest.mark.full
def test_auxiliary_logits_that_the_file_lacks(tmp_path):
    """The classes' logits are restored; the auxiliary ones are left out of the graph, or to be trained."""
    values = without(inception_weights(), "AuxLogits")
    path = write(tmp_path / "model.ckpt", values)
    with open_session(graph_of(inception)) as session, pytest.raises(checkpoints.CheckpointMismatch) as caught:
        restore(session, path)
    sentence = (
        "the file has no auxiliary logits; build with create_aux_logits=False, or give "
        "exclude='InceptionV3/AuxLogits/*' and train them."
    )
    assert sentence in str(caught.value)
    build, give = offers(sentence)
    assert_restored(path, values, functools.partial(inception, **{build.name: build.value}))
    assert_restored(path, values, inception, give.value)


@pytest.mark.full
@pytest.mark.parametrize("option", ["use_batch_norm=False", "batch_norm_scale=True"])
def test_the_arg_scope_that_a_diagnosis_offers(tmp_path, option):
    name, value = option.split("=")
    arg_scope = {name: ast.literal_eval(value)}
    values = inception_weights(**arg_scope)
    path = write(tmp_path / "model.ckpt", values)
    [problem] = diagnose(path).problems
    assert f"write a function that builds it under inception_arg_scope({option})" in problem.sentence
    assert_restored(path, values, functools.partial(inception, arg_scope))


LOGITS = "InceptionV3/Logits/Conv2d_1c_1x1"
EXCLUDED = {
    "auxiliary classes": lambda values: changed(
        changed(values, "Conv2d_2b_1x1/weights", lambda value: value[..., :5]), "2b_1x1/biases", lambda value: value[:5]
    ),
    "other auxiliary biases": lambda values: changed(values, "Conv2d_2b_1x1/biases", lambda value: value[:5]),
    "no biases": lambda values: without(values, f"{LOGITS}/biases"),
    "other biases": lambda values: changed(values, f"{LOGITS}/biases", lambda value: value[:5]),
}


@pytest.mark.full
@pytest.mark.parametrize("case", EXCLUDED)
def test_logits_that_a_diagnosis_excludes(tmp_path, case):
    values = EXCLUDED[case](inception_weights())
    path = write(tmp_path / "model.ckpt", values)
    found = [offer for problem in diagnose(path).problems for offer in offers(problem.sentence)]
    assert found
    for offer in found:
        assert_restored(path, values, inception, offer.value)


@pytest.mark.full
def test_fully_connected_layers_that_a_diagnosis_excludes(tmp_path):
    """Keras' VGG without its top becomes such a file. The graph has the layers, and nothing needs their values."""

    def build():
        images = v1.placeholder(tf.float32, [1, 224, 224, 3])
        nets_factory.get_network_fn("vgg_16", None)(images)

    shapes = {each.op.name: each.shape.as_list() for each in variables_of(build)}
    values = random_values_of_shapes({name: shape for name, shape in shapes.items() if "/fc" not in name})
    path = write(tmp_path / "model.ckpt", values)
    with open_session(graph_of(build)) as session, pytest.raises(checkpoints.CheckpointMismatch) as caught:
        restore(session, path)
    [problem] = diagnose(path).problems
    assert "it ends before fc6, as Keras' VGG without its top: leave fc6 and fc7 out, exclude=" in problem.sentence
    for sentence in (problem.sentence, str(caught.value)):
        [offer] = offers(sentence)
        assert_restored(path, values, build, offer.value)


# Messages that repeat a given argument and offer none.
ECHOES = {
    ("read", "scope={scope}"),
    ("diagnosing", "scope={scope}"),
    ("first_kernel", "first_kernel={how}"),
    ("scopes", "scope={scope}"),
    ("targets", "format={format}"),
    ("targets", "names={names}"),
    ("weights", "num_classes={num_classes}"),
    ("weights", "image_size={image_size}"),
}

# Maps the place where an argument is offered to the row or the test that tries it.
FOLLOWED = {
    ("diagnosing", "scope={structures[0].scope}"): "test_a_scope_that_a_diagnosis_offers",
    ("diagnosing", "num_classes={here}"): "test_what_a_diagnosis_offers_succeeds",
    ("diagnosing", "exclude='{logits}'"): "test_what_a_diagnosis_offers_succeeds",
    ("diagnosing", "ema=True"): "test_what_a_diagnosis_offers_succeeds",
    ("diagnosing", "first_kernel='mean'"): "test_what_a_diagnosis_offers_succeeds",
    ("diagnosing", "first_kernel='repeat'"): "test_what_a_diagnosis_offers_succeeds",
    ("diagnosing", "num_classes=None"): "test_what_a_diagnosis_offers_succeeds",
    ("diagnosing", "num_classes={num_classes}"): "test_what_a_diagnosis_offers_succeeds",
    ("structure_faults", "exclude={logits_pattern(unit_scope, scope)}"): "logits without biases",
    ("structure_faults", "exclude='{logits}'"): "logits that are a matrix",
    ("structure_faults", "include_root_block=False"): "no root",
    ("structure_faults", "use_batch_norm=False"): "no batch norm",
    ("structure_faults", "batch_norm_scale=False"): "no gamma",
    ("structure_faults", "center=False"): "no beta",
    ("layered", "use_batch_norm=False"): "test_the_arg_scope_that_a_diagnosis_offers",
    ("layered", "batch_norm_scale=True"): "test_the_arg_scope_that_a_diagnosis_offers",
    ("layered", "exclude={logits}"): "test_logits_that_a_diagnosis_excludes",
    ("layered", "exclude={exclude}"): "test_fully_connected_layers_that_a_diagnosis_excludes",
    ("layered", "exclude={group}"): "test_logits_that_a_diagnosis_excludes",
    ("layered", "exclude={joined(scope, 'AuxLogits/*')}"): "test_logits_that_a_diagnosis_excludes",
    ("explanation", "create_aux_logits=False"): "test_auxiliary_logits_that_the_file_lacks",
    ("logits", "num_classes={num_classes}"): "a conversion to another number than the graph's",
    ("logits", "num_classes={next(iter(there), None)}"): "a conversion that is none",
    ("logits", "num_classes={next(iter(here))}"): "a conversion to the wrong one of two numbers",
    ("explanation", "variables={everything}"): "layers that the graph does not have",
    ("explanation", "variables=slim.get_model_variables()"): "slots",
    ("explanation", "scope={scope}"): "two networks in the graph, one in the file",
    ("explanation", "scope={moved}"): "variables of no known network",
    ("explanation", "ema=True"): "averages alone",
    ("explanation", "use_batch_norm=False"): "no batch norm",
    ("explanation", "num_classes=None"): "no logits",
    ("explanation", "preprocessing='grayscale'"): "grey images for two networks of colours",
    ("explanation", "num_classes={stored}"): "other classes",
    ("explanation", "num_classes={classes}"): "a background",
    ("explanation", "first_kernel={way}"): "another number of channels",
    ("patterns", "{argument}={patterns[0]}"): "a scope as slim excludes it",
    ("patterns", "{argument}={list(patterns)}"): "two of them in one string",
    ("patterns", "{argument}={name}"): "test_a_variable_is_no_pattern",
    ("patterns", "{argument}={pattern}"): "a scope as slim excludes it",
    ("restoration", "pool1_padding={wanted}"): "test_the_pooling_that_is_offered",
    ("scopes", "scope={offer}"): "a string for two networks",
    ("targets", "overwrite=True"): "test_a_target_that_exists",
    ("tensor_files", "exclude=[{name}]"): "test_what_a_writer_offers_succeeds",
    ("weights", "ema=True"): "test_what_weights_offer_succeeds",
    ("weights", "model_only=True"): "test_what_weights_offer_succeeds",
    ("writer", "exclude=['']"): "test_what_a_writer_offers_succeeds",
    ("writer", "exclude=[{name}]"): "test_what_a_writer_offers_succeeds",
}

_ARGUMENT = re.compile(
    r"(?<![\w.])(?:[a-z]\w*|\{argument\})=(?:\{[^{}]*\}|\[[^\]]*\]|'[^']*'|[A-Z]\w*|\w+(?:\.\w+)*\(\))"
)


def written_offers():
    """Returns (module, argument) of each argument in the strings of the sources, except docstrings."""
    found = set()
    for file in Path(checkpoints.__file__).parent.rglob("*.py"):
        for _, text in strings_of(ast.parse(file.read_text(encoding="utf-8"))):
            found |= {(file.stem, match[0]) for match in _ARGUMENT.finditer(text)}
    return found


def test_a_target_that_exists(tmp_path):
    files = [tmp_path / "model.ckpt.index"]
    files[0].touch()
    with pytest.raises(
        FileExistsError, match=r"model\.ckpt\.index exists: give another name, or overwrite=True"
    ) as caught:
        check_target(tmp_path / "model.ckpt", files, overwrite=False)
    [offer] = offers(str(caught.value))
    check_target(tmp_path / "model.ckpt", files, **{offer.name: offer.value})


def test_a_variable_is_no_pattern(tmp_path):
    path = write(tmp_path / "model.ckpt", changed(weights(), "logits/biases", lambda value: value[:7]))
    graph = graph_of(tiny)
    variables = graph.get_collection(v1.GraphKeys.GLOBAL_VARIABLES)
    biases = [variable for variable in variables if variable.op.name == f"{TINY}/logits/biases"]
    with open_session(graph) as session:
        with pytest.raises(ValueError, match=r"^exclude takes patterns of variables' names, and contains a") as caught:
            restore(session, path, exclude=biases)
        [offer] = offers(str(caught.value))
        assert restore(session, path, **{offer.name: offer.value}).excluded == (f"{TINY}/logits/biases",)


def test_no_sentence_offers_what_nothing_follows():
    """Requires a row, or a test that is named here, for every new offer."""
    assert written_offers() - ECHOES == set(FOLLOWED)
    assert written_offers() >= ECHOES
    assert set(FOLLOWED.values()) <= {*ROWS, *(name for name in globals() if name.startswith("test_"))}

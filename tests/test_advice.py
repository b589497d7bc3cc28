"""Each argument that a sentence of ``checkpoints`` offers is read out of the sentence, given, and must succeed.

The table has a row a situation. What to give is parsed from the message; what each variable must then hold is looked up
among the values that were written, by the names that the row says by hand. The last test finds in the sources every
sentence that offers an argument, so that none can be added that no row, or no test named here, follows.
"""

import ast
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from checkpoints import restore
from nets import layers, nets_factory, resnet_v2
from tests.reference import random_values_of_shapes
from tests.test_restoration import CIFAR, SHADOW, TINY, averages, held, open_session, split, weights, write

v1 = tf.compat.v1

_OFFER = re.compile(
    r"(?:\b(build|leave(?= \w+=)|give|choose|exclude|restor\w+)\b(?!=))|"
    r"\b(\w+)=('[^']*'|\{[^{}]*\}|\[[^\]]*\]|True|False|None|\d+|slim\.get_model_variables\(\)|tf\.compat\.v1\.global_variables\(\))"
)
_CALLS = {
    "slim.get_model_variables()": slim.get_model_variables,
    "tf.compat.v1.global_variables()": v1.global_variables,
}


class Offer(NamedTuple):
    """An argument in a sentence: whether the network is to be built with it, or it is to be given or left out."""

    verb: str
    name: str
    value: Any


def offers(message: str) -> list[Offer]:
    """The arguments that a message offers, in its order."""
    found, verb = [], "give"
    for match in _OFFER.finditer(message):
        if match[1]:
            verb = "leave" if match[1] == "leave" else "build" if match[1] == "build" else "give"
        elif match[2]:
            value = match[3]
            found.append(Offer(verb, match[2], _CALLS[value] if value in _CALLS else ast.literal_eval(value)))
    return found


def weights_of(name):
    shapes = {
        v.op.name: v.shape.as_list() for v in graph_of(functools.partial(cifar, name=name)).get_collection("variables")
    }
    return random_values_of_shapes(shapes)


# Graphs.


def tiny(scope=TINY, classes=10, channels=3, arg_scope=None, **options):
    """Builds the tiny network."""
    images = v1.placeholder(tf.float32, [1, 32, 32, channels])
    with slim.arg_scope(resnet_v2.resnet_arg_scope(**(arg_scope or {}))):
        resnet_v2.resnet_v2_tiny(images, classes, is_training=False, scope=scope, **options)


def cifar(scope=None, classes=10, name=CIFAR, **options):
    """Builds a network for small images, which has no scope of its own."""
    images = v1.placeholder(tf.float32, [1, 32, 32, 3])
    nets_factory.get_network_fn(name, classes)(images, **({"scope": scope} if scope else {}), **options)


def graph_of(*parts: Callable[..., None], **build: Any) -> tf.Graph:
    with tf.Graph().as_default() as graph:
        for part in parts:
            part(**build)
    return graph


def tinies(*scopes, **options):
    return [functools.partial(tiny, scope, **options) for scope in scopes]


def slots_of(part):
    """A network with an optimizer's slots and a global step."""

    def build(**options):
        part(**options)
        v1.train.get_or_create_global_step()
        for variable in v1.trainable_variables():
            v1.get_variable(f"{variable.op.name}/Momentum", variable.shape, trainable=False)

    return build


def plain(shapes):
    """Variables that make up no network and are in no collection of slim's."""

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


class Row(NamedTuple):
    """A mistake, and what the sentence must offer.

    parts: what builds the graph.
    stored: the values in the file.
    follow: verbs and names of the arguments that are offered, those together that are to be given together.
    given: arguments of ``restore`` that the mistake is made with.
    place: from a variable's name in the graph to its name in the file, in what is expected.
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
    """Of whatever network in the graph."""
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
    "a network without a scope in the graph": Row(
        [cifar], lambda: weights(CIFAR, scope="b/c"), [("give scope",)], place=lambda name: f"b/c/{name}"
    ),
    "a network in parts": Row(
        [tiny],
        lambda: under(under(weights(), f"{TINY}/block4", "second/net/block4"), TINY, "first/net"),
        [("give scope",)],
        place=lambda name: ("second" if "/block4/" in name else "first") + f"/net/{bare(name)}",
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
            {v.op.name: v.shape.as_list() for v in variables_of(arg_scope={"use_batch_norm": False})}
        ),
        [("build use_batch_norm",)],
    ),
    "no gamma": Row([tiny], lambda: without(weights(), "/gamma"), [("build batch_norm_scale",)]),
    "no beta": Row([tiny], lambda: without(weights(), "/beta"), [("build center",)]),
    "no root": Row([tiny], lambda: without(weights(), f"{TINY}/conv1/"), [("build include_root_block",)]),
    "kernels of another size": Row(
        [functools.partial(cifar, name="resnet_basic_18")],
        lambda: changed(
            weights_of("resnet_basic_18"), "block1/unit_2/basic/conv2/weights", lambda value: value[:1, :1]
        ),
        [("give exclude",)],
    ),
    "another shortcut": Row(
        [functools.partial(cifar, name="resnet_basic_18")],
        lambda: without(weights_of("resnet_basic_18"), "/shortcut/"),
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


def variables_of(**build):
    return graph_of(tiny, **build).get_collection(v1.GraphKeys.GLOBAL_VARIABLES)


# How what is to be built with an argument is built.
BUILT = {
    "use_batch_norm": {"arg_scope": {"use_batch_norm": False}},
    "preprocessing": {"channels": 1},
    "batch_norm_scale": {"arg_scope": {"batch_norm_scale": False}},
}


def built(row: Row, building: Mapping[str, Any]) -> tf.Graph:
    """The row's graph, built with what was offered."""
    if "num_classes" in building:
        return graph_of(*row.parts, classes=building["num_classes"])
    if "include_root_block" in building:
        # Of the generator: the builders of whole networks have it always.
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
    [(name, value)] = building.items() or [("", None)]
    return graph_of(*row.parts, **BUILT.get(name, {name: value} if name else {}))


def arguments(graph, given):
    """The arguments, of which variables may be a function that looks into the graph."""
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
            follow(row, path, stored, chosen)


def said(message, given):
    """The message without what it repeats of the arguments, and with what it says to leave out by its name."""
    message = re.sub(r"^.* does not fit the graph: ", "", message)
    message = re.sub(r"((?:, \w+='[^']*')+); build it so", r"; build it so\1", message)
    only = next(iter(given), "")
    for argument in ("ema", "num_classes", "first_kernel"):
        message = re.sub(rf"leave {argument}(=True)? out", f"leave {argument}=None give", message)
    message = message.replace("leave it out", f"leave {only}=None give")
    return message.partition(": ")[2] if re.match(r"\w+=\S+ (fits|does|is|cannot|converts)", message) else message


def follow(row, path, stored, chosen):
    building = {offer.name: offer.value for offer in chosen if offer.verb == "build"}
    options = dict(row.given) | {offer.name: offer.value for offer in chosen if offer.verb == "give"}
    for offer in chosen:
        if offer.verb == "leave":
            del options[offer.name]
    graph = built(row, building)
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

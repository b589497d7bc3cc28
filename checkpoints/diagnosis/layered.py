"""Recognizes tf_slim's other networks, which have no residual units, by the names and shapes of their variables."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from checkpoints.diagnosis.layer_plans import PLANS, Plan
from checkpoints.names import NORM, UNITS, joined
from nets.nets_factory import NETWORKS, Network

__all__ = ["Layered", "layered_in"]

Shapes = Mapping[str, tuple[int, ...]]

# Names by which a scope is taken for one of a family's networks, by the families that have such names.
_MARKS = (
    (("vgg",), re.compile(r"(?P<mark>conv(\d)/conv\d_\d+)/(?:weights|biases)$")),
    (("alexnet", "overfeat"), re.compile(r"(?P<mark>conv[1-5])/(?:weights|biases)$")),
    (("inception",), re.compile(r"(?P<mark>Mixed_\d[a-z]/Branch_\d/\w+)/")),
)
# The fewest such layers that make a network; a lone convolution may belong to anything.
_FEWEST = 4
# The part of a file's layers that must belong to a plan.
_MOST_LAYERS = 0.9


class Layered(NamedTuple):
    """A network without residual units, as far as its variables tell.

    scope: its variable scope.
    family: family of its plan.
    plan: name of the plan whose layers it has; None if there is none.
    network: network of the table; None if it is none of them.
    num_classes: number of classes of the logits; 0 if there are none.
    channels: channels of the images; None if the first kernel is missing.
    options: further arguments of the network's builder.
    faults: clauses on why the network's builder makes other variables, each with what to do.
    unlisted: clause on a network that is not in the table, with what to do; '' for one that is.
    lacking: layers at its end that it does not have, if that is its only fault: those of a VGG without Keras' top.
    """

    scope: str
    family: str
    plan: str | None
    network: Network | None
    num_classes: int
    channels: int | None
    options: dict[str, Any]
    faults: tuple[str, ...]
    unlisted: str = ""
    lacking: tuple[str, ...] = ()


def layered_in(shapes: Shapes) -> list[Layered]:
    """Returns the networks without residual units that variables of these names and shapes make up."""
    found: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    residual = {match["scope"] or "" for name in shapes for pattern, _ in UNITS if (match := pattern.match(name))}
    for name in shapes:
        for families, pattern in _MARKS:
            if match := pattern.search(name):
                before = name[: match.start()]
                if not before or before.endswith("/"):
                    found.setdefault((before.rstrip("/"), families), set()).add(match["mark"])
                    break
    return [
        _layered(scope, families, _under(scope, shapes))
        for (scope, families), marks in sorted(found.items())
        if len(marks) >= _FEWEST
        and (len(families) == 1 or joined(scope, "fc6/weights") in shapes or joined(scope, "fc7/weights") in shapes)
        and scope not in residual
        and not any(scope.startswith(f"{outer}/") for outer in residual)
    ]


def _under(scope: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    prefix = joined(scope, "")
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _layered(scope: str, families: tuple[str, ...], shapes: Shapes) -> Layered:
    plans = [plan for plan in PLANS.values() if plan.family in families]
    plan = max(plans, key=lambda each: _likeness(each, shapes))
    unlisted = _unlisted(plan, shapes)
    logits = shapes.get(f"{plan.logits}/weights") or shapes.get(f"{plan.logits}/biases") or (0,)
    first = shapes.get(f"{plan.first}/{'depthwise_' if plan.is_separable(plan.first) else ''}weights", ())
    options = {} if unlisted else _options(plan, shapes, logits[-1])
    faults = () if unlisted else tuple(_faults(plan, scope, shapes, options, logits[-1]))
    ends_early = len(faults) == 1 and not any(_shape_faults(plan, scope, shapes, options))
    return Layered(
        scope,
        plan.family,
        None if unlisted else plan.network,
        None if unlisted else NETWORKS[plan.network],
        num_classes=logits[-1],
        channels=first[-2] if len(first) == 4 else None,
        options=options,
        faults=faults,
        unlisted=unlisted,
        lacking=_lacking(plan, shapes, logits[-1]) if ends_early else (),
    )


def _lacking(plan: Plan, shapes: Shapes, num_classes: int) -> tuple[str, ...]:
    """Returns the fully connected layers of a VGG that ends before them, and has all layers up to there."""
    layers = [name for name in plan.layers if not {f"{name}/weights", f"{name}/biases"} & shapes.keys()]
    return tuple(layers) if plan.family == "vgg" and not num_classes and layers == ["fc6", "fc7"] else ()


def _convolutions(shapes: Shapes) -> dict[str, int]:
    """Returns the number of outputs of each convolution, by its scope."""
    ends = ("/weights", "/pointwise_weights")
    return {name.rpartition("/")[0]: shape[-1] for name, shape in shapes.items() if name.endswith(ends) and shape}


def _likeness(plan: Plan, shapes: Shapes) -> tuple[float, ...]:
    """Returns how well a plan fits: the part of the file's layers that it has, of its own, and with as many outputs."""
    here = {layer: outputs for layer, outputs in _convolutions(shapes).items() if _is_inside(layer)}
    shared = [layer for layer in here if layer in plan.layers]
    alike = sum(here[layer] == plan.layers[layer].outputs for layer in shared)
    return len(shared) / max(len(here), 1), len(shared) / len(plan.layers), alike


def _is_inside(layer: str) -> bool:
    return not re.match(r"(fc8|Logits|AuxLogits)(/|$)", layer)


def _unlisted(plan: Plan, shapes: Shapes) -> str:
    """Returns a clause on a network that is none of the table, with what to do; '' for one that is."""
    here = {layer: outputs for layer, outputs in _convolutions(shapes).items() if _is_inside(layer)}
    advice = "write the function that builds it, and give net=function"
    if plan.family == "vgg":
        counts, usual = (
            [sum(layer.startswith(f"conv{stage}/") for layer in layers) for stage in range(1, 6)]
            for layers in (here, plan.layers)
        )
        # Fewer layers are a part of the network, but for those of VGG-13.
        if counts == [2, 2, 2, 2, 2] or any(more > few for more, few in zip(counts, usual, strict=True)):
            return f"a VGG of {' '.join(map(str, counts))} convolutions, which is not in the table: {advice}"
    if plan.family in ("alexnet", "overfeat") and here.get("conv1") == 96:
        return (
            "an AlexNet of another version (alexnet_v1: its conv1 has 96 outputs, and alexnet_v2's has 64), which "
            f"tf_slim does not have: {advice}, or take a checkpoint of alexnet_v2"
        )
    if plan.family == "inception" and _likeness(plan, shapes)[0] < _MOST_LAYERS:
        return (
            "an Inception that is not in the table, which has inception_v1, v2 and v3 (Inception v4 and "
            f"Inception-ResNet v2 have blocks of these names too): {advice}"
        )
    return ""


def _options(plan: Plan, shapes: Shapes, num_classes: int) -> dict[str, Any]:
    """Returns the builder's arguments that produce these variables."""
    options: dict[str, Any] = {}
    if plan.network == "inception_v3" and num_classes and not any(name.startswith("AuxLogits/") for name in shapes):
        options["create_aux_logits"] = False
    if plan.network in ("inception_v2", "inception_v3"):
        outputs = _convolutions(shapes)
        pairs = [(layer.outputs, outputs[name]) for name, layer in plan.layers.items() if name in outputs]
        options |= _thinned(pairs)
    return options


# What tf_slim's builders thin their layers to at least.
_MIN_DEPTH = 16


def _thinned(pairs: list[tuple[int, int]]) -> dict[str, Any]:
    """Returns ``depth_multiplier`` and ``min_depth`` that make the outputs of a plan those of a file; {} if none do."""
    if not pairs or all(full == here for full, here in pairs):
        return {}
    narrowest = min(here for _, here in pairs)
    for least in dict.fromkeys((_MIN_DEPTH, narrowest)):
        above = [(full, here) for full, here in pairs if here > least]
        if not above:
            continue
        low, high = max(here / full for full, here in above), min((here + 1) / full for full, here in above)
        for digits in range(1, 7):
            multiplier = math.ceil(low * 10**digits - 1e-9) / 10**digits
            if multiplier < high and all(max(int(full * multiplier), least) == here for full, here in pairs):
                return {"depth_multiplier": multiplier} | ({} if least == _MIN_DEPTH else {"min_depth": least})
    return {}


def _faults(plan: Plan, scope: str, shapes: Shapes, options: Mapping[str, Any], num_classes: int) -> Iterator[str]:
    """Yields clauses on how the variables differ from those of the builder; wrong shapes explain more than names."""
    faults = list(_shape_faults(plan, scope, shapes, options))
    faults = faults or list(_name_faults(plan, scope, shapes, options, num_classes))
    yield from faults
    if not faults and not {"depth_multiplier"} & options.keys():
        yield from _count_faults(plan, shapes)


def _shape_faults(plan: Plan, scope: str, shapes: Shapes, options: Mapping[str, Any]) -> Iterator[str]:
    for name, layer in plan.layers.items():
        shape = shapes.get(plan.weights(name))
        if shape is None:
            continue
        kernel = (1, 1) if plan.is_separable(name) else layer.kernel
        if len(shape) != 4:
            rows = f", to {kernel[0]} x {kernel[1]} x {{inputs}} x {layer.outputs}" if len(shape) == 2 else ""
            inputs = shape[0] // (kernel[0] * kernel[1]) if rows else ""
            yield (
                f"{name} is a matrix of {'x'.join(map(str, shape))}, and tf_slim's is a convolution: reshape it"
                f"{rows.format(inputs=inputs)}, and save that"
                if rows
                else f"{plan.weights(name)} is {list(shape)}, and should have four axes: take the original file"
            )
            return
        if shape[:2] == kernel:
            continue
        if shape[2:] == kernel:
            yield "its kernels are in PyTorch's order (OIHW): transpose them by (2, 3, 1, 0), and save that"
            return
        if name == "fc6":
            yield _fc6_fault(plan, shape)
            return
        size, usual = ("x".join(map(str, each)) for each in (shape[:2], kernel))
        yield f"{name} has a kernel of {size}, and {plan.network}'s has {usual}: take the original file"
        return
    if not options.get("depth_multiplier"):
        outputs = _convolutions(shapes)
        others = [name for name, layer in plan.layers.items() if outputs.get(name, layer.outputs) != layer.outputs]
        if others:
            name = others[0]
            yield (
                f"{len(others)} of its layers have other widths ({name} {outputs[name]} and not "
                f"{plan.layers[name].outputs}): write the function that builds it, and give net=function"
            )
    for head in (plan.logits, "AuxLogits/Conv2d_2b_1x1"):
        kernel, biases = shapes.get(f"{head}/weights"), shapes.get(f"{head}/biases")
        if kernel and biases and kernel[-1:] != biases:
            logits = joined(scope, f"{head.partition('/')[0]}/*")
            yield (
                f"its logits have {kernel[-1]} classes by their weights and {biases[0]} by their biases: leave them "
                f"out with exclude={logits!r}, or take the original file"
            )
    main, aux = shapes.get(f"{plan.logits}/weights"), shapes.get("AuxLogits/Conv2d_2b_1x1/weights")
    if main and aux and main[-1] != aux[-1]:
        yield (
            f"its auxiliary logits have {aux[-1]} classes and its logits {main[-1]}: leave the former out with "
            f"exclude={joined(scope, 'AuxLogits/*')!r}"
        )


# Pixels of the image to a row of the features that fc6 sees.
_PIXELS = 32


def _fc6_fault(plan: Plan, shape: tuple[int, ...]) -> str:
    """Returns a clause on a first fully connected layer for images of another size."""
    here, usual = ("x".join(map(str, each)) for each in (shape[:2], plan.layers["fc6"].kernel))
    image_size = NETWORKS[plan.network].image_size
    pixels = image_size + _PIXELS * (shape[0] - plan.layers["fc6"].kernel[0])
    return (
        f"its fc6 has a kernel of {here}, as of a network made for images of some {pixels} pixels, and that of "
        f"{plan.network} is {usual}, for {image_size}: write the function that builds it, and give net=function, or "
        f"take weights that were trained at {image_size}"
    )


def _name_faults(plan: Plan, scope: str, shapes: Shapes, options: Mapping[str, Any], num_classes: int) -> Iterator[str]:
    expected = dict.fromkeys(plan.layers)
    kernels = {name for name in expected if plan.weights(name) in shapes}
    yield from (_norm_faults if plan.has_norms else _bias_faults)(plan, kernels, shapes)
    if ending := _lacking(plan, shapes, num_classes):
        exclude = joined(scope, "fc?/*")
        yield (
            f"it ends before {ending[0]}, as Keras' VGG without its top: leave {' and '.join(ending)} out, "
            f"exclude={exclude!r}, for end points up to pool5, or take the whole checkpoint"
        )
    elif lacking := [name for name in expected if name not in kernels]:
        count = f"{len(lacking)} of {len(expected)} layers"
        yield f"it is incomplete, and lacks {count} ({_some(lacking)}): take the whole checkpoint"
    aux = ["Conv2d_1b_1x1", "Conv2d_2b_1x1"]
    if plan.network == "inception_v3" and num_classes and not options.get("create_aux_logits", True):
        aux = []
    heads = [plan.logits] if num_classes else []
    if plan.network == "inception_v3" and num_classes:
        heads += [f"AuxLogits/{name}" for name in aux]
    for head in heads:
        group = joined(scope, f"{head.partition('/')[0]}/*")
        leaves = ("weights",) if head.endswith("1b_1x1") else ("weights", "biases")
        if lacking := [f"{head}/{leaf}" for leaf in leaves if f"{head}/{leaf}" not in shapes]:
            yield f"it lacks {_some(lacking)}: leave these logits out, exclude={group!r}, or take the whole checkpoint"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f", and {len(names) - 3} more" if len(names) > 3 else "")


def _bias_faults(plan: Plan, kernels: set[str], shapes: Shapes) -> Iterator[str]:
    if any("/BatchNorm/" in name for name in shapes):
        yield (
            f"it has batch norms, and tf_slim's {plan.network} has none: write the function that builds it, and give "
            "net=function"
        )
    elif lacking := [f"{name}/biases" for name in plan.layers if name in kernels and f"{name}/biases" not in shapes]:
        yield f"it lacks {_some(lacking)}: take the whole checkpoint"


def _norm_faults(plan: Plan, kernels: set[str], shapes: Shapes) -> Iterator[str]:
    layers = [name for name in plan.layers if name in kernels and not plan.is_separable(name)]
    here = {leaf: {name for name in layers if f"{name}/BatchNorm/{leaf}" in shapes} for leaf in NORM}
    if not any(here.values()):
        built = "write a function that builds it under inception_arg_scope(use_batch_norm=False), and give net=function"
        yield f"it has no batch norm: {built}"
    elif not here["moving_mean"] and not here["moving_variance"]:
        yield (
            "it has no moving statistics, as only trainable variables were saved: save tf.global_variables(), or "
            "estimate the statistics on data; without them there is no inference"
        )
    elif here["gamma"]:
        built = "write a function that builds it under inception_arg_scope(batch_norm_scale=True)"
        yield f"its batch norms have a gamma, and tf_slim's have none: {built}, and give net=function"
    else:
        for leaf in ("beta", "moving_mean", "moving_variance"):
            if lacking := [name for name in layers if name not in here[leaf]]:
                yield f"it lacks {leaf} of {len(lacking)} batch norms, such as {lacking[0]}: take the whole checkpoint"


def _count_faults(plan: Plan, shapes: Shapes) -> Iterator[str]:
    """Yields a clause if the number of parameters is not the network's; logits and the first kernel are not counted."""
    parts = tuple(f"{name}/" for name in plan.layers)
    first = f"{plan.first}/"
    found = sum(
        math.prod(shape) for name, shape in shapes.items() if name.startswith(parts) and not name.startswith(first)
    )
    if found != plan.parameters:
        yield (
            f"it has {found:,} parameters between its first layer and the logits, and a {plan.network} has "
            f"{plan.parameters:,}, so that some are of another shape: take the original file"
        )

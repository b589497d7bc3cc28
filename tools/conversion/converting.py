"""Converts a file of weights to another kind of file, and proves it by running both networks on the same images."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np

from checkpoints.errors import CheckpointError
from checkpoints.files import notes_file, write_checkpoint, write_notes
from checkpoints.files.atomic import new_files
from checkpoints.files.targets import check_target, remove_older, target_kind
from checkpoints.files.writer import checkpoint_files
from checkpoints.frameworks import Weights
from checkpoints.frameworks.keras_applications import APPLICATIONS
from checkpoints.frameworks.tensor_files import write_npz, write_safetensors, write_torch
from checkpoints.frameworks.torch_names import SHORTCUTS, to_torch
from checkpoints.names import is_logits
from checkpoints.published import resolve
from tools.conversion.proof import TOLERANCE, prove
from tools.conversion.selecting import FRAMEWORKS, Selection, changes_framework, check_selection, fitting, selected

__all__ = ["Conversion", "convert"]


class Conversion(NamedTuple):
    """The result of a conversion.

    source, target: paths.
    source_kind, target_kind: kinds of the files, of ``checkpoints.frameworks.read.KINDS``.
    sha256: hash of the source.
    network: name of the network; None for variables that do not form one.
    num_classes: classes of its logits in the target.
    scope: scope of its variables, under slim's names.
    variables: number of values written, counted by slim's names.
    folded: names of the source's values that were folded into others.
    left_out: names of the values of the source's network that the target's framework has no place for.
    lacking: scopes of the layers at the network's end that the target does not have, relative to the network's; those
      of a VGG without Keras' top.
    options: further arguments of the network's builder.
    pool1_padding, preprocessing, image_size: what the weights require.
    assumed: what of these neither the source nor notes on it tell: 'preprocessing', 'image_size', both or neither.
    notes: file beside the target that records these; None if the weights alone tell as much.
    differences: end point → largest difference between the two frameworks, relative to the scale of the end point (see
      ``tools.conversion.proof``); empty if the framework stays the same.
    tolerance: upper bound of the differences.
    """

    source: str
    target: str
    source_kind: str
    target_kind: str
    sha256: str
    network: str | None
    num_classes: int
    scope: str
    variables: int
    folded: tuple[str, ...]
    left_out: tuple[str, ...]
    lacking: tuple[str, ...]
    options: dict[str, Any]
    pool1_padding: str | None
    preprocessing: str | None
    image_size: int | None
    assumed: tuple[str, ...]
    notes: str | None
    differences: dict[str, float]
    tolerance: float


def convert(
    source: str | Path,
    target: str | Path,
    *,
    format: str | None = None,
    names: str | None = None,
    overwrite: bool = False,
    checkpoint_dir: str | Path | None = None,
    **selection: Unpack[Selection],
) -> Conversion:
    """Writes the weights of one file to another.

    If the framework changes, both networks run on the same images before the target is written.

    Args:
      source: a file, as for ``read_weights``, or a key of the catalog of published weights.
      target: a ``.npz``, ``.safetensors``, ``.keras`` or ``.pth`` file. Any other name makes a checkpoint.
      format: 'V1' or 'V2', for a checkpoint; None for V2.
      names: 'slim' or 'torchvision', for a safetensors file; None for slim's names.
      overwrite: whether to replace an existing target.
      checkpoint_dir: folder of the downloaded checkpoints; see ``checkpoints.published.store.store_folder``.
      **selection: what to write of the source, and under which names; see ``Selection``.

    Raises:
      CheckpointError: if the source cannot be read, or its network computes a function that the target cannot hold.
      OSError: if the target exists, or cannot be written.
      TypeError: for an unknown argument.
      ValueError: for arguments that cannot be honoured, or networks that do not agree.
    """
    check_selection(selection)
    kind = target_kind(target, format, names)
    source, target = _resolved(source, checkpoint_dir), Path(target)
    files = checkpoint_files(target, format or "V2") if kind == "slim" else [target]
    check_target(target, files, overwrite)
    weights, left_out = selected(source, target, kind, selection), ()
    crosses = changes_framework(weights, kind)
    if crosses:
        _check_function(weights, kind, target)
        weights, left_out = fitting(weights, kind)
        _check_size(weights, kind)
        _check_numbers(weights)
    noted = weights.network is not None and (crosses or not weights.tells_itself)
    with new_files(target.absolute().parent, files[-1].name) as folder:
        written = folder / target.name
        _write(weights, written, kind, format or "V2")
        if noted:
            write_notes(written, weights.notes, folder / files[-1].name)
        count, weights = len(weights.values), _only_logits(weights)  # frees the rest before two networks are built
        differences = prove(source, weights, written, kind, selection.get("ema", False)) if crosses else {}
    notes = notes_file(target) if noted else None
    if overwrite:
        remove_older(target, [*files, *([notes] if notes else [])])
    return _conversion(source, target, kind, weights, left_out, count, notes, differences)


def _conversion(
    source: Path,
    target: Path,
    kind: str,
    weights: Weights,
    left_out: tuple[str, ...],
    count: int,
    notes: Path | None,
    differences: dict[str, float],
) -> Conversion:
    return Conversion(
        source=str(source),
        target=str(target),
        source_kind=weights.kind,
        target_kind=kind,
        sha256=weights.sha256,
        network=weights.network.name if weights.network else None,
        num_classes=weights.num_classes,
        scope=weights.scope,
        variables=count,
        folded=weights.folded,
        left_out=left_out,
        lacking=weights.lacking,
        options=weights.options,
        pool1_padding=weights.pool1_padding,
        preprocessing=weights.preprocessing,
        image_size=weights.image_size,
        assumed=weights.assumed,
        notes=str(notes) if notes else None,
        differences=differences,
        tolerance=TOLERANCE,
    )


def _resolved(source: str | Path, checkpoint_dir: str | Path | None) -> Path:
    try:
        return Path(resolve(source, checkpoint_dir))
    except OSError as error:
        raise OSError(f"{source} cannot be read ({error.strerror}): give another file.") from error


def _only_logits(weights: Weights) -> Weights:
    """Returns the weights with copies of the logits' values alone, which the proof requires."""
    values = {name: np.array(weights.values[name]) for name in weights.values if is_logits(name)}
    return dataclasses.replace(weights, values=values)


def _check_function(weights: Weights, kind: str, target: Path) -> None:
    """Raises ValueError if the target's framework has no network that computes this function."""
    if kind not in FRAMEWORKS:
        return
    network, name = weights.network, weights.network.name
    if kind == "keras":
        options = {key: value for key, value in weights.options.items() if key != "create_aux_logits"}
        if name not in APPLICATIONS or options:
            options = "".join(f", {key}={value!r}" for key, value in options.items())
            raise ValueError(
                f"{target} would hold {name}{options}, which keras.applications does not have: it has "
                f"{', '.join(APPLICATIONS)}."
            )
    elif network.family != "resnet_basic" or weights.options.get("shortcut") not in SHORTCUTS:
        option = f" with shortcut={weights.options['shortcut']!r}" if "shortcut" in weights.options else ""
        raise ValueError(
            f"{target} would hold {name}{option}, which torchvision does not have: its ResNet-18 and 34 are "
            "resnet_basic_18 and 34 with projections. Its deeper networks have the stride in the 3x3 convolution, "
            "unlike slim's."
        )
    elif weights.pool1_padding != "PAD1":
        raise ValueError(f"{target} would pool with pool1_padding='PAD1', but these weights require 'SAME'.")


def _check_size(weights: Weights, kind: str) -> None:
    """Raises ValueError if Keras' network takes no images of this size, or computes another function of them."""
    if "keras" not in (weights.kind, kind):
        return
    network, application = weights.network, APPLICATIONS[weights.network.name]
    least, most = (weights.num_classes and application.sizes) or (application.least, weights.image_size)
    if least <= weights.image_size <= most:
        return
    takes = f"takes at least {least}"
    repair = f"state such a size, image_size={network.image_size}"
    if weights.num_classes and application.sizes:
        takes = f"computes slim's {network.name} with logits at {least} to {most}"
        repair += ", or leave the logits out, num_classes=0"
    raise ValueError(
        f"{weights.path} is for images of {weights.image_size} rows and columns, and Keras' {application.function} "
        f"{takes}: {repair}."
    )


def _check_numbers(weights: Weights) -> None:
    """Raises CheckpointError for values that are not finite floating-point numbers.

    Behind infinite values both networks may compute the same zeros. The proof finds NaNs.
    """
    for name, value in weights.values.items():
        if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            raise CheckpointError(
                f"{weights.path} has {name} as {value.dtype.name}: take the unquantized file.", "dtype"
            )
        with np.errstate(over="ignore"):  # float64 values may be too large
            if np.isinf(value.astype(np.float32)).any():
                raise CheckpointError(
                    f"{weights.path} has infinite values in {name}, or values too large for float32: take the original "
                    "file."
                )


def _write(weights: Weights, path: Path, kind: str, format: str) -> None:
    if kind == "slim":
        write_checkpoint(path, weights.values, format)
    elif kind == "keras":
        from tools.conversion.keras_models import write_model

        write_model(path, weights)
    elif kind == "torch":
        state = to_torch(
            weights.path, weights.value, weights.network, weights.options["shortcut"], bool(weights.num_classes)
        )
        (write_safetensors if path.suffix.lower() == ".safetensors" else write_torch)(path, state)
    else:
        (write_npz if kind == "npz" else write_safetensors)(path, weights.values)

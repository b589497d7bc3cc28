"""Weights from one framework's file to another's, proved by running both networks on the same pictures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checkpoints.errors import CheckpointError
from checkpoints.files import notes_file, write_checkpoint, write_notes
from checkpoints.files.atomic import new_files
from checkpoints.files.writer import checkpoint_files, files_called
from checkpoints.frameworks import Weights, read_weights
from checkpoints.frameworks.foreign_names import foreign_names
from checkpoints.frameworks.keras_names import APPLICATIONS
from checkpoints.frameworks.tensor_files import write_npz, write_safetensors, write_torch
from checkpoints.frameworks.torch_names import SHORTCUTS, to_torch
from checkpoints.published import resolve
from tools.conversion.proof import TOLERANCE, prove
from tools.conversion.target import check_target, target_kind

__all__ = ["Conversion", "convert"]

# Characters of a name that a message shows.
_SHOWN = 60
# Whose networks are not ours.
_FRAMEWORKS = {"keras", "torch"}


class Conversion(NamedTuple):
    """What became of a file.

    source, target: paths.
    source_kind, target_kind: of ``checkpoints.frameworks.read.KINDS``.
    sha256: of the source.
    network: name of the network; None for variables that make up none.
    num_classes: of its logits in the target.
    scope: of its variables, where they have slim's names.
    variables: how many values were written, by slim's names.
    folded: names of the values that another of the source's went into.
    options: further arguments of the network's builder.
    pool1_padding, preprocessing, image_size: that go with the weights.
    notes: file beside the target that says so; None where the weights tell it themselves.
    differences: from end points to the largest difference between the two frameworks, relative to the largest value;
      empty where the framework is the same.
    tolerance: that they are within.
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
    options: dict[str, Any]
    pool1_padding: str | None
    preprocessing: str | None
    image_size: int | None
    notes: str | None
    differences: dict[str, float]
    tolerance: float


def convert(
    source: str | Path,
    target: str | Path,
    *,
    net: str | None = None,
    scope: str | None = None,
    to_scope: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    model_only: bool = False,
    ema: bool = False,
    format: str | None = None,
    names: str | None = None,
    overwrite: bool = False,
    checkpoint_dir: str | Path | None = None,
) -> Conversion:
    """Writes the weights of one file as another.

    Where the framework changes, both networks are run on the same pictures before the target takes its place.

    Args:
      source: as for ``read_weights``, or a key of the catalog of published weights.
      target: a ``.npz``, ``.safetensors``, ``.keras`` or ``.pth`` file, or else a checkpoint.
      net, scope: as for ``read_weights``.
      to_scope: the scope that the network is to have under slim's names.
      num_classes: of the logits: of 1001 classes 1000 drops the background, of 1000 1001 adds one; 0 leaves the logits
        out.
      image_size: that goes with the weights, where the file does not say and it is not the usual one.
      only, exclude: patterns of slim's names to write, or not to; ``only=["*"]`` also takes arrays by another library's
        names as they are.
      model_only: leave out what training left: slots, moving averages, a global step.
      ema: take the moving averages in the place of the variables, which are left out.
      format: of a checkpoint, 'V1' or 'V2'; None for V2.
      names: of a safetensors file, 'slim' or 'torchvision'; None for slim's.
      overwrite: whether the target may exist.
      checkpoint_dir: folder of the downloaded checkpoints; see ``checkpoints.published.store.store_folder``.

    Raises:
      CheckpointError: if the source cannot be read, or its network's function is none that the target can hold.
      OSError: if the target exists, or cannot be written.
      ValueError: for arguments that cannot be honoured, or networks that do not agree.
    """
    kind = target_kind(target, format, names)
    source, target = _resolved(source, checkpoint_dir), Path(target)
    files = checkpoint_files(target, format or "V2") if kind == "slim" else [target]
    check_target(target, files, overwrite)
    weights = read_weights(source, net=net, scope=scope, ema=ema)
    crosses = bool(_FRAMEWORKS & {weights.kind, kind})
    if not only:
        _check_names(weights)
    if model_only:
        weights = weights.of_model()
    if only or exclude:
        if crosses:
            raise ValueError("only and exclude leave a part of a network, which another framework's cannot be.")
        weights = weights.matching(only, exclude)
    if crosses:
        weights = weights.of_network()
    if num_classes is not None:
        weights = weights.with_classes(num_classes)
    if to_scope is not None:
        if kind in _FRAMEWORKS:
            raise ValueError(f"to_scope={to_scope!r} is of slim's names, which {target} will not have: leave it out.")
        weights = weights.under(to_scope)
    if image_size is not None:
        weights = weights.for_size(image_size)
    if not weights.values:
        raise ValueError(f"Nothing is left of {source} to write: leave an option out.")
    if crosses:
        _check_function(weights, kind, target)
        _check_numbers(weights)
    noted = weights.network is not None and (crosses or not weights.tells_itself)
    with new_files(target.absolute().parent, files[-1].name) as folder:
        written = folder / target.name
        _write(weights, written, kind, format or "V2")
        if noted:
            write_notes(written, weights.notes, folder / files[-1].name)
        count = len(weights.values)
        weights = dataclasses.replace(weights, values={})  # before two networks are built
        differences = prove(source, weights, written, kind, ema) if crosses else {}
    if overwrite:
        _remove_older(target, files, noted)
    return Conversion(
        str(source),
        str(target),
        weights.kind,
        kind,
        weights.sha256,
        weights.network.name if weights.network else None,
        weights.num_classes,
        weights.scope,
        count,
        weights.folded,
        weights.options,
        weights.pool1_padding,
        weights.preprocessing,
        weights.image_size,
        str(notes_file(target)) if noted else None,
        differences,
        TOLERANCE,
    )


def _resolved(source: str | Path, checkpoint_dir: str | Path | None) -> Path:
    try:
        return Path(resolve(source, checkpoint_dir))
    except OSError as error:
        raise OSError(f"{source} cannot be read ({error.strerror}): give another file.") from error


def _check_names(weights: Weights) -> None:
    """Raises CheckpointError for arrays by another library's names, of which nobody could use what was written."""
    if weights.network is not None or weights.kind not in ("npz", "safetensors"):
        return
    shapes = {name: value.shape for name, value in weights.values.items()}
    if names := foreign_names(shapes):
        examples = ", ".join(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..." for name in names[:3])
        raise CheckpointError(
            f"{weights.path} holds arrays by another library's names ({len(shapes)}, such as {examples}): what can be "
            "converted has slim's names (resnet_v2_50/conv1/weights) or those of torchvision's ResNet-18 and 34 "
            "(layer1.0.conv1.weight); only=['*'] takes arrays of any names as they are.",
            "unknown network",
        )


def _check_function(weights: Weights, kind: str, target: Path) -> None:
    """Raises ValueError where the target's framework has no network of this function."""
    if kind not in _FRAMEWORKS:
        return
    network, name = weights.network, weights.network.name
    if kind == "keras":
        if name not in APPLICATIONS or weights.options:
            options = "".join(f", {key}={value!r}" for key, value in weights.options.items())
            raise ValueError(
                f"{target} would hold {name}{options}, which keras.applications does not have: it has "
                f"{', '.join(APPLICATIONS)}."
            )
    elif network.family != "resnet_basic" or weights.options.get("shortcut") not in SHORTCUTS:
        option = f" with shortcut={weights.options['shortcut']!r}" if "shortcut" in weights.options else ""
        raise ValueError(
            f"{target} would hold {name}{option}, which torchvision has not: its ResNet-18 and 34 are resnet_basic_18 "
            "and 34 with projections, and its deeper ones have their stride in the 3x3 convolution, unlike slim's."
        )
    elif weights.pool1_padding != "PAD1":
        raise ValueError(f"{target} would pool with pool1_padding='PAD1', and these weights go with 'SAME'.")


def _check_numbers(weights: Weights) -> None:
    """Raises CheckpointError for values that are no finite numbers of floating point.

    Behind infinite ones both networks may compute the same zeros. Where a NaN comes from, the proof says.
    """
    for name, value in weights.values.items():
        if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            raise CheckpointError(
                f"{weights.path} has {name} as {value.dtype.name}: take the unquantized file.", "dtype"
            )
        with np.errstate(over="ignore"):  # which of double precision is one of the cases
            if np.isinf(value.astype(np.float32)).any():
                raise CheckpointError(
                    f"{weights.path} has infinite values in {name}, or too large for float32: take the original file."
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


def _remove_older(target: Path, files: Sequence[Path], noted: bool) -> None:
    """What is left of an overwritten target: files of a checkpoint of the other format or of more parts, and notes."""
    for file in files_called(target) - {*files, *([notes_file(target)] if noted else [])}:
        file.unlink(missing_ok=True)

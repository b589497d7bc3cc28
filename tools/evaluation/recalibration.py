"""Re-estimates the moving statistics of a checkpoint from images, and writes a new checkpoint."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import numpy as np

from checkpoints import CheckpointError, CheckpointReader, open_checkpoint
from checkpoints.files import notes_file, write_checkpoint, write_notes
from checkpoints.files.atomic import new_files
from checkpoints.files.targets import check_target, remove_older, target_kind
from checkpoints.files.writer import checkpoint_files
from nets.batch_statistics import BatchNorm
from nets.guards import InferenceWarning
from tools.errors import InputError
from tools.evaluation.batch_statistics import BatchStatisticsNetwork, even_sizes, mixed_rows
from tools.images import Inputs
from tools.images.given import as_inputs

__all__ = ["IMAGES", "LayerChange", "Recalibration", "RecalibrationOptions", "recalibrate"]

# Default number of images. In a layer with one position for each image, the standard error of a mean is then
# 1 / sqrt(2000) = 2 % of the standard deviation. In all other layers it is smaller.
IMAGES = 2000


class RecalibrationOptions(TypedDict, total=False):
    """The further arguments of ``recalibrate``, as ``BatchStatisticsNetwork`` describes them."""

    net: str | None
    image_size: int | None
    preprocessing: str | None
    scope: str | None
    ema: bool
    batch_size: int
    threads: int | None


class LayerChange(NamedTuple):
    """The change of a layer's moving statistics, relative to its scale.

    scope: scope of the moving statistics in the file.
    mean: root mean square of the changes of the means, divided by that of the new standard deviations.
    variance: root mean square of the changes of the variances, divided by that of the new variances.
    """

    scope: str
    mean: float
    variance: float


class Recalibration(NamedTuple):
    """The result of a recalibration.

    checkpoint, output: paths of the checkpoints.
    net, preprocessing, image_size: network, and the input that it got.
    images: number of images that the statistics come from.
    failed: number of images that could not be read, and were left out.
    reasons: their number by reason.
    batches: number of batches.
    layers: changes of the re-estimated layers, in graph order.
    ema: whether the statistics are those of the averaged weights.
    """

    checkpoint: str
    output: str
    net: str
    preprocessing: str
    image_size: int
    images: int
    failed: int
    reasons: dict[str, int]
    batches: int
    layers: tuple[LayerChange, ...]
    ema: bool


def recalibrate(
    checkpoint: str | Path,
    data: Inputs | str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    images: int | None = None,
    overwrite: bool = False,
    checkpoint_dir: str | Path | None = None,
    advance: Callable[[int], None] = lambda count: None,
    **options: Unpack[RecalibrationOptions],
) -> Recalibration:
    """Writes a copy of a checkpoint whose moving statistics fit its weights.

    The network runs once over images in training mode, in batches that mix the classes, so that each layer gets inputs
    that are normalized as in training. A layer's mean becomes the mean over all images, and its variance that of the
    population. All other values in the file stay as they are to the bit, such as an optimizer's slots.

    Args:
      checkpoint: a path or a key, as for ``checkpoints.open_checkpoint``. It is only read.
      data: images like those that the network was trained on: paths, a folder, or inputs of ``tools.images``.
      output: name of the new checkpoint, of format V2.
      images: largest number of images to take; None for 2,000.
      overwrite: whether to replace an existing output.
      checkpoint_dir: folder of the downloaded checkpoints; see ``checkpoints.published.store_folder``.
      advance: called with the number of images just done.
      **options: ``net``, ``image_size``, ``preprocessing``, ``scope``, ``batch_size`` and ``threads`` as for
        ``BatchStatisticsNetwork``. With ``ema`` the statistics are those of the averaged weights. They replace the
        stored averages of the moving statistics; if the file has none, the moving statistics themselves, which then
        fit the averaged weights only. Either way ``ema=True`` restores them.

    Raises:
      CheckpointError: if the checkpoint cannot be read, does not fit the network, or leads to infinite statistics.
      InputError: for images or arguments that no statistics can be computed from.
      OSError: if the output exists, or cannot be written. Then nothing is written.
    """
    output = Path(output)
    reader = open_checkpoint(checkpoint, checkpoint_dir=checkpoint_dir)
    files = _checked_files(reader, output, overwrite)
    inputs = as_inputs(data)
    rows = mixed_rows(len(inputs), IMAGES if images is None else images)
    advance(0)
    with BatchStatisticsNetwork(reader, **options) as network:
        if network.doubt:
            warnings.warn(network.doubt, InferenceWarning, stacklevel=2)
        readable, failed = network.readable(inputs, rows)
        _check_batches(len(readable), len(failed), network.batch_size)
        advance(len(failed))
        estimated, batches = _estimate(network, inputs, readable, advance)
    sources = dict(zip(network.report.loaded, network.report.sources, strict=True))
    statistics = _as_stored(reader, estimated, sources)
    layers = tuple(_change(reader, norm, sources, statistics) for norm in network.batch_norms)
    _write(reader, output, files, statistics)
    if overwrite:
        remove_older(output, [*files, *([notes_file(output)] if reader.notes else [])])
    reasons = [status.error for status in failed]
    return Recalibration(
        checkpoint=str(checkpoint),
        output=str(output),
        net=network.net,
        preprocessing=network.preprocessing,
        image_size=network.image_size,
        images=len(readable),
        failed=len(failed),
        reasons={reason: reasons.count(reason) for reason in reasons},
        batches=batches,
        layers=layers,
        ema=bool(options.get("ema")),
    )


def _checked_files(reader: CheckpointReader, output: Path, overwrite: bool) -> list[Path]:
    """Returns the files of the new checkpoint. Raises an error if it cannot be written."""
    if (kind := target_kind(output, None, None)) != "slim":
        raise InputError(f"{output} would be a file of the kind {kind} by its ending: give a name such as model.ckpt.")
    if output.resolve() == reader.prefix.resolve():
        raise InputError(f"{output} is the checkpoint itself, which is kept: give another name.")
    files = checkpoint_files(output, "V2")
    check_target(output, files, overwrite)
    return files


def _check_batches(readable: int, failed: int, batch_size: int) -> None:
    """Raises InputError unless all batches have two or more images: one has no variance in the last layers."""
    if readable < 2:
        unread = f" of {readable + failed}, {failed} of which cannot be read" if failed else ""
        raise InputError(f"Statistics require at least two images, and there is {readable or 'none'}{unread}.")
    if min(size for size, _ in even_sizes(readable, batch_size)) < 2:
        raise InputError(
            f"batch_size must be larger, and is {batch_size}: {readable} images then make batches of a single image, "
            "whose statistics are not those of training."
        )


def _estimate(
    network: BatchStatisticsNetwork, inputs: Inputs, rows: list[int], advance: Callable[[int], None]
) -> tuple[dict[str, np.ndarray], int]:
    """Returns the statistics over all images, float64 by the names in the graph, and the number of batches."""
    # Sums of the means, and of the mean squares under the names of the variances.
    sums = {name: np.float64(0) for norm in network.batch_norms for name in (norm.moving_mean, norm.moving_variance)}
    batches = 0
    for batch in network.batches(inputs, rows):
        # A layer has as many positions in one image as in another, so images count the same.
        share = len(batch.statuses) / len(rows)
        for norm in network.batch_norms:
            mean, variance = (batch.statistics[name].astype(np.float64) for name in norm[:2])
            sums[norm.moving_mean] += share * mean
            sums[norm.moving_variance] += share * (variance + mean**2)
        batches += 1
        advance(len(batch.statuses))
    for norm in network.batch_norms:
        # Rounding can make the variance of a constant negative.
        sums[norm.moving_variance] = np.maximum(sums[norm.moving_variance] - sums[norm.moving_mean] ** 2, 0)
    return sums, batches


def _as_stored(
    reader: CheckpointReader, statistics: Mapping[str, np.ndarray], sources: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Returns the statistics under their names in the file, and in the types that they have there.

    Raises:
      CheckpointError: if some are not finite.
    """
    stored = {}
    for name, value in statistics.items():
        with np.errstate(over="ignore"):
            stored[sources[name]] = value.astype(reader.dtypes[sources[name]].as_numpy_dtype)
        if not np.isfinite(stored[sources[name]].astype(np.float64)).all():
            raise CheckpointError(
                f"{reader.path} leads to statistics that are not finite in {sources[name].rpartition('/')[0]}, the "
                "first such layer: the weights before it are NaN or too large; take an earlier checkpoint.",
                "not finite",
            )
    return stored


def _change(
    reader: CheckpointReader, norm: BatchNorm, sources: Mapping[str, str], new: Mapping[str, np.ndarray]
) -> LayerChange:
    old_mean, old_variance = (reader.read(sources[name]).astype(np.float64) for name in norm[:2])
    mean, variance = (new[sources[name]].astype(np.float64) for name in norm[:2])
    return LayerChange(
        sources[norm.moving_mean].rpartition("/")[0],
        mean=_relative(np.linalg.norm(mean - old_mean), np.linalg.norm(np.sqrt(variance))),
        variance=_relative(np.linalg.norm(variance - old_variance), np.linalg.norm(variance)),
    )


def _relative(change: float, scale: float) -> float:
    # Not zero even if all channels are constant.
    return float(change / max(scale, np.finfo(np.float32).tiny))


def _write(reader: CheckpointReader, output: Path, files: list[Path], statistics: Mapping[str, np.ndarray]) -> None:
    """Writes the new checkpoint, and notes if the old one has some."""
    values = {name: statistics[name] if name in statistics else reader.read(name) for name in reader.shapes}
    with new_files(output.absolute().parent, files[-1].name) as folder:
        write_checkpoint(folder / output.name, values)
        if reader.notes is not None:
            write_notes(folder / output.name, reader.notes, folder / files[-1].name)

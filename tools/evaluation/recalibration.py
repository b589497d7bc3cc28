"""Re-estimates the moving statistics of a checkpoint from images, and writes a new checkpoint."""

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypedDict, Unpack

import numpy as np

from checkpoints import CheckpointError, CheckpointReader, open_checkpoint
from checkpoints.files import notes_file, write_checkpoint, write_notes
from checkpoints.files.atomic import new_files
from checkpoints.files.targets import check_target, remove_older, target_kind
from checkpoints.files.writer import checkpoint_files
from nets.batch_statistics import BatchNorm
from nets.guards import InferenceWarning
from tools.errors import ImageError, InputError
from tools.evaluation.batch_statistics import BatchStatisticsNetwork, even_sizes, mixed_rows
from tools.evaluation.evaluating import labelled_for, logits_extractor, measure
from tools.evaluation.labelling import Labelled
from tools.evaluation.metrics import Share
from tools.features import FeatureExtractor
from tools.images import Inputs, open_inputs
from tools.images.inputs import Reordered

__all__ = ["LayerChange", "Recalibration", "RecalibrationOptions", "Recalibrator", "recalibrate"]

# Default number of images. In a layer with one position for each image, the standard error of a mean is then
# 1 / sqrt(2000) = 2 % of the standard deviation. In all other layers it is smaller.
_IMAGES = 2000
# Largest number of images by which the accuracies before and after are compared.
_MEASURED = 512


class RecalibrationOptions(TypedDict, total=False):
    """Further arguments of ``recalibrate``, which are those of ``BatchStatisticsNetwork``."""

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
    network, preprocessing, image_size: name of the network, and the input that it got.
    ema: whether the statistics are those of the averaged weights.
    images: number of images that the statistics come from.
    failed: number of images that were left out because they cannot be read.
    reasons: their number by reason.
    batches: number of batches.
    layers: changes of the re-estimated layers, in graph order.
    measured: number of images by which the two accuracies were computed; 0 without labels.
    top_1_before, top_1_after: shares of these images whose class has the highest logit in inference; None without
      labels, and before also if no logits are numbers.
    said: how labels became classes, or why there are no accuracies.
    """

    checkpoint: str
    output: str
    network: str
    preprocessing: str
    image_size: int
    ema: bool
    images: int
    failed: int
    reasons: dict[str, int]
    batches: int
    layers: tuple[LayerChange, ...]
    measured: int
    top_1_before: Share | None
    top_1_after: Share | None
    said: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Returns the result for JSON. Shares are fractions of 1."""
        shares = {name: getattr(self, name) for name in ("top_1_before", "top_1_after")}
        return self._asdict() | {
            "layers": [layer._asdict() for layer in self.layers],
            **{name: share and share._asdict() for name, share in shares.items()},
        }


def recalibrate(
    checkpoint: str | Path,
    data: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    images: int | None = None,
    labels: str | Path | None = None,
    label_offset: int | None = None,
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
      data: images like those that the network was trained on, as for ``tools.images.open_inputs``. If they have labels,
        the accuracies before and after are computed on up to 512 of them.
      output: name of the new checkpoint, of format V2.
      images: largest number of images to take; None for 2,000.
      labels, label_offset: as for ``evaluate``; if given, labels that do not fit are an error.
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

    Warns:
      InferenceWarning: if the input is not the one that the weights were trained with.
    """
    paths = [str(path) for path in ([data] if isinstance(data, str | Path) else data)]
    arguments = {"images": images, "labels": labels, "label_offset": label_offset, "overwrite": overwrite}
    with Recalibrator(
        checkpoint, open_inputs(paths), paths, output, checkpoint_dir=checkpoint_dir, **arguments, **options
    ) as recalibrator:
        return recalibrator.run(advance)


class Recalibrator:
    """A recalibration that is ready to run, with everything checked that can be checked before the work.

    Args:
      inputs: the images.
      paths: what they were opened from.
      checkpoint, output, images, labels, label_offset, overwrite, checkpoint_dir, **options: as for ``recalibrate``,
        whose errors and warnings it raises.

    Attributes:
      network: the network in training mode.
      work: number of images to compute; those by which accuracies are compared count three times.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        inputs: Inputs,
        paths: Sequence[str],
        output: str | Path,
        *,
        images: int | None = None,
        labels: str | Path | None = None,
        label_offset: int | None = None,
        overwrite: bool = False,
        checkpoint_dir: str | Path | None = None,
        **options: Unpack[RecalibrationOptions],
    ) -> None:
        if images is not None and images < 2:
            raise InputError(
                f"images={images} is too few: a single image has no variance in every layer, so take more."
            )
        self._checkpoint, self._output, self._overwrite = checkpoint, Path(output), overwrite
        self._ema = bool(options.get("ema"))
        self._reader = open_checkpoint(checkpoint, checkpoint_dir=checkpoint_dir)
        self._files = _checked_files(self._reader, self._output, overwrite)
        self._images = Reordered(inputs, mixed_rows(len(inputs), _IMAGES if images is None else images))
        _check_batches(len(self._images), 0, options.get("batch_size"))
        with contextlib.ExitStack() as stack:
            self.network = stack.enter_context(BatchStatisticsNetwork(self._reader, **options))
            if self.network.doubt:
                warnings.warn(self.network.doubt, InferenceWarning, stacklevel=3)
            self._extractor, self._labelled, self._said = self._labels(paths, labels, label_offset, options)
            if self._extractor is not None:
                stack.enter_context(self._extractor)
            self._stack = stack.pop_all()
        self.work = len(self._images)
        if self._labelled is not None:
            self.work += 2 * min(len(self._images), _MEASURED)

    def _labels(
        self, paths: Sequence[str], labels: str | Path | None, label_offset: int | None, options: RecalibrationOptions
    ) -> tuple[FeatureExtractor | None, Labelled | None, tuple[str, ...]]:
        """Returns what accuracies require, and sentences on it; if there cannot be any, only the reason."""
        required = labels is not None or label_offset is not None
        if not required and not _is_labelled(self._images):
            return None, None, ("Accuracies were not computed, as the images have no labels.",)
        with contextlib.ExitStack() as stack:
            try:
                with _without_warnings():
                    extractor = logits_extractor(self._reader.path, 0, **{**options, "freeze": False})
                stack.enter_context(extractor)
                labelled = labelled_for(extractor, self._images, paths, labels=labels, label_offset=label_offset)
            except ValueError as error:
                if required:
                    raise
                return None, None, (f"Accuracies were not computed. {error}",)
            stack.pop_all()
        return extractor, labelled, labelled.said

    def run(self, advance: Callable[[int], None] = lambda count: None) -> Recalibration:
        """Estimates the statistics, writes the new checkpoint, and compares accuracies; see ``recalibrate``."""
        advance(0)
        network = self.network
        rows, failed = network.readable(self._images, range(len(self._images)))
        _check_batches(len(rows), len(failed), network.batch_size)
        advance(len(failed))
        estimated, batches = _estimate(network, self._images, rows, advance)
        sources = dict(zip(network.report.loaded, network.report.sources, strict=True))
        statistics = _as_stored(self._reader, estimated, sources)
        before = self._top_1(rows, advance)
        _write(self._reader, self._output, self._files, statistics)
        if self._overwrite:
            remove_older(self._output, [*self._files, *([notes_file(self._output)] if self._reader.notes else [])])
        if self._extractor is not None:
            with _without_warnings():
                self._extractor.reload(self._output)
        return Recalibration(
            checkpoint=str(self._checkpoint),
            output=str(self._output),
            network=network.net,
            preprocessing=network.preprocessing,
            image_size=network.image_size,
            ema=self._ema,
            images=len(rows),
            failed=len(failed),
            reasons=dict(Counter(status.error for status in failed).most_common()),
            batches=batches,
            layers=tuple(_change(self._reader, norm, sources, statistics) for norm in network.batch_norms),
            measured=0 if self._labelled is None else min(len(rows), _MEASURED),
            top_1_before=before,
            top_1_after=self._top_1(rows, advance),
            said=self._said,
        )

    def _top_1(self, rows: list[int], advance: Callable[[int], None]) -> Share | None:
        """Returns the accuracy in inference; None without labels, or if no logits are numbers."""
        if self._labelled is None:
            return None
        try:
            return measure(self._extractor, self._labelled, rows=rows[:_MEASURED], advance=advance).top_1
        except InputError:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Hides doubts about the restored statistics, which are about to be replaced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)
        yield


def _checked_files(reader: CheckpointReader, output: Path, overwrite: bool) -> list[Path]:
    """Returns the files of the new checkpoint. Raises an error if it cannot be written."""
    if (kind := target_kind(output, None, None)) != "slim":
        raise InputError(f"{output} would be a file of the kind {kind} by its ending: give a name such as model.ckpt.")
    if output.resolve() == reader.prefix.resolve():
        raise InputError(f"{output} is the checkpoint itself, which is kept: give another name.")
    files = checkpoint_files(output, "V2")
    check_target(output, files, overwrite)
    return files


def _is_labelled(images: Inputs) -> bool:
    """Returns whether the first image has a label, or may have one."""
    try:
        return bool(images.label(0))
    except ImageError:
        return True


def _check_batches(readable: int, failed: int, batch_size: int | None) -> None:
    """Raises InputError unless all batches have two or more images; without ``batch_size`` if there are fewer in all.

    A single image has no variance in layers with one position for each image.
    """
    if readable < 2:
        read = f", and {readable} of {readable + failed} can be read" if failed else ", and there is one"
        raise InputError(f"Statistics require at least two images{read}: give more.")
    if batch_size and min(size for size, _ in even_sizes(readable, batch_size)) < 2:
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

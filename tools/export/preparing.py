"""Restores the network of an export, and writes all that the other processes need; see ``staging``."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from checkpoints.diagnosis import default_pool1_padding
from nets.endpoint_info import UnknownEndPointError
from nets.nets_factory import NETWORKS
from tools.errors import InputError
from tools.export.description import CLASSES, PREDICTIONS, Description
from tools.export.formats import FORMATS, Format
from tools.export.proof_inputs import write_proof
from tools.export.serving import serving_graph
from tools.export.staging import CALIBRATION, DESCRIPTION, GRAPH, Request, write_batches
from tools.features import FeatureExtractor
from tools.features.classification import class_names, has_constant_predictions
from tools.features.network_choice import ExtractorOptions
from tools.runtime.machine import release_memory
from tools.runtime.records import versions_of

__all__ = ["prepare"]

# The outputs that are exported unless others are asked for. The first ones that the network has are taken.
_DEFAULT_OUTPUTS = (("global_pool", "predictions"), ("global_pool",), ("predictions",), ("logits",))


def prepare(request: Request, folder: Path) -> None:
    """Writes the graph, its description, the images to calibrate with, and the inputs and outputs of the proof.

    Raises:
      CheckpointError, InputError, UnknownEndPointError, ValueError: as ``export``.
    """
    made, input, batch, calibration = FORMATS[request.format], request.input, request.batch, request.calibration
    with _extractor(request.checkpoint, request.end_points, request.options) as (extractor, points):
        _check_network(extractor, points, made, request.dtype, request.labels)
        _write_graph(extractor, points, made, request, folder)
        if calibration is not None:
            write_batches(folder / CALIBRATION, calibration.batches(extractor, input, batch))
        write_proof(extractor, input, batch, calibration.others if calibration else (), folder)


@contextlib.contextmanager
def _extractor(
    checkpoint: str | Path, end_points: str | Sequence[str] | None, options: ExtractorOptions
) -> Iterator[tuple[FeatureExtractor, list[str]]]:
    """Yields an extractor of the outputs, and their names, 'classes' among them."""
    if end_points is None:
        *choices, last = _DEFAULT_OUTPUTS
        for points in choices:
            with contextlib.suppress(UnknownEndPointError):
                extractor = FeatureExtractor(checkpoint, points, freeze=False, **options)
                break
        else:
            points, extractor = last, FeatureExtractor(checkpoint, last, freeze=False, **options)
    else:
        points = [end_points] if isinstance(end_points, str) else list(end_points)
        if points.count(CLASSES) > 1:
            raise InputError(f"end_points names {CLASSES!r} more than once.")
        try:
            extractor = FeatureExtractor(checkpoint, _computed(points), freeze=False, **options)
        except UnknownEndPointError as error:
            if CLASSES in points and f"end point {PREDICTIONS!r}" in str(error):
                raise InputError(f"{checkpoint} has no logits, which {CLASSES!r} requires: omit it.") from None
            raise
    with extractor:
        yield extractor, list(points)


def _computed(points: Sequence[str]) -> list[str]:
    """Returns the end points that an extractor has to compute for outputs of those names."""
    computed = [point for point in points if point != CLASSES]
    return computed if CLASSES not in points or PREDICTIONS in computed else [*computed, PREDICTIONS]


def _check_network(
    extractor: FeatureExtractor, points: Sequence[str], made: Format, dtype: str, labels: str | Path | None
) -> None:
    """Raises InputError for arguments that this network cannot honour."""
    asked: dict[str, str] = {}
    for point in points:
        alias = point if point == CLASSES else extractor.end_points[point].alias
        if alias in asked:
            raise InputError(f"end_points names {alias} twice, as {asked[alias]!r} and {point!r}: omit one.")
        asked[alias] = point
    if CLASSES in points and not made.classes:
        raise InputError(f"The format {made.name} cannot have the output {CLASSES!r}: take {PREDICTIONS!r}.")
    if CLASSES in points and has_constant_predictions(extractor):
        raise InputError(
            f"{extractor.net} has one class, whose softmax is 1 for every image: ask for 'logits' and not {CLASSES!r}."
        )
    if labels is not None and not extractor.num_classes:
        raise InputError(f"labels applies only to a network with classes, and {extractor.net} has none: omit it.")
    if dtype == "int8" and extractor.preprocessing == "none":
        raise InputError(
            "dtype='int8' requires a preprocessing for the images of calibrate, and these weights have none: set "
            "preprocessing."
        )


def _write_graph(
    extractor: FeatureExtractor, points: Sequence[str], made: Format, request: Request, folder: Path
) -> None:
    """Writes the graph and its description."""
    input, labels = request.input, request.labels
    names = tuple(class_names(labels, extractor)) if extractor.num_classes else None
    serving = serving_graph(extractor, points, input, request.batch, None if made.portable else names, made.portable)
    description = Description(
        format=made.name,
        network=extractor.net,
        checkpoint=extractor.reader.sha256(),
        input=input,
        preprocessing=extractor.preprocessing,
        image_size=extractor.image_size,
        assumed=extractor.assumed,
        pool1_padding=_pool1_padding(extractor),
        images=serving.images,
        outputs=serving.outputs,
        labels=names,
        dtype=request.dtype,
        versions=versions_of("slimnets", *made.packages),
    )
    release_memory()  # the graph's, before the weights are copied once more
    (folder / GRAPH).write_bytes(serving.graph_def.SerializeToString())
    description.save(folder / DESCRIPTION)


def _pool1_padding(extractor: FeatureExtractor) -> str | None:
    if extractor.net not in NETWORKS:
        return None
    return extractor.options.get("pool1_padding") or default_pool1_padding(NETWORKS[extractor.net])

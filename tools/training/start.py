"""Chooses the network that is trained, its classes and its input, by the data and the checkpoint it starts from."""

import inspect
from pathlib import Path
from typing import Any, NamedTuple

from checkpoints import CheckpointReader, Diagnosis, diagnose, open_checkpoint
from checkpoints.diagnosis import expected_input
from checkpoints.published import imagenet_labels
from nets.nets_factory import Network, get_network
from tools.errors import InputError
from tools.evaluation import Labelled, number_labels
from tools.evaluation.numbering import IMAGENET, WITH_BACKGROUND, are_imagenet, listed
from tools.training.settings import Settings

__all__ = ["Start", "choose_start", "weight_decay_of"]


class Start(NamedTuple):
    """The beginning of a training.

    network: the network in the table.
    reader: the checkpoint; None to train from scratch.
    found: its diagnosis; None to train from scratch.
    labelled: the images, and the number of each one's class in the network.
    new_head: whether the logits begin anew.
    preprocessing, image_size: of the network's input.
    assumed: which of these two nobody stated, so that they are taken from the table of networks.
    options: further arguments of the network's builder.
    said: sentences on what was chosen.
    """

    network: Network
    reader: CheckpointReader | None
    found: Diagnosis | None
    labelled: Labelled
    new_head: bool
    preprocessing: str
    image_size: int
    assumed: tuple[str, ...]
    options: dict[str, Any]
    said: tuple[str, ...]


def choose_start(
    data: Labelled,
    settings: Settings,
    checkpoint: str | Path | None,
    net: str | None,
    *,
    label_offset: int | None = None,
    checkpoint_dir: str | Path | None = None,
) -> Start:
    """Chooses the beginning of a training.

    Args:
      data: the images, with the classes that they themselves tell.
      settings: of the training.
      checkpoint: a path or a key; None to train from scratch.
      net: name of the network.
      label_offset: as it was given; see ``tools.evaluation.number_labels``.
      checkpoint_dir: folder of downloaded checkpoints.

    Raises:
      CheckpointError: if the checkpoint cannot be read, or its network is not known.
      InputError: if there is neither a checkpoint nor a network, or they contradict each other.
    """
    if checkpoint is None and settings.new_head:
        raise InputError("new_head=True needs checkpoint='PATH', whose logits it replaces: omit it.")
    if checkpoint is None and net is None:
        raise InputError("A training needs checkpoint='PATH' to start from, or net='NAME' to begin from scratch.")
    reader = None if checkpoint is None else open_checkpoint(checkpoint, checkpoint_dir=checkpoint_dir)
    found = None if reader is None else diagnose(reader, net=net)
    network = get_network(net) if found is None else found.identified()
    if net not in (None, network.name):
        raise InputError(f"net={net!r} is not the network of {checkpoint}, {network.name}: omit one of the two.")
    labelled, new_head, said = _labelled(data, found, settings, label_offset)
    classes = len(labelled.names)
    expected = expected_input(network, classes) if found is None else (found.preprocessing, found.image_size)
    preprocessing = expected[0] if settings.preprocessing is None else settings.preprocessing
    size = expected[1] if settings.image_size is None else settings.image_size
    if preprocessing == "none":
        raise InputError("Training reads images, which preprocessing='none' does not take: choose another one.")
    options = {} if found is None else dict(found.options)
    if found is not None and size != network.image_size and _has_aux_logits(network, options):
        options["create_aux_logits"] = False
        said = [*said, f"The auxiliary logits are left out: theirs are kernels for images of {network.image_size}."]
    # What a network from scratch begins with is a choice, and no assumption.
    assumed = () if found is None else tuple(name for name in found.assumed if getattr(settings, name) is None)
    return Start(network, reader, found, labelled, new_head, preprocessing, size, assumed, options, tuple(said))


def _has_aux_logits(network: Network, options: dict[str, Any]) -> bool:
    """Returns whether a builder makes auxiliary logits, whose kernels depend on the size of the images."""
    name = "create_aux_logits"
    return name in inspect.signature(network.builder).parameters and options.get(name, True)


def _labelled(
    data: Labelled, found: Diagnosis | None, settings: Settings, label_offset: int | None
) -> tuple[Labelled, bool, list[str]]:
    """Returns the images with the network's classes, whether the logits begin anew, and sentences on that."""
    if found is None:
        return data, True, []
    stored, ours = found.num_classes, data.names
    if settings.new_head or not stored:
        return data, True, [f"The logits begin anew, with {len(ours)} classes."]
    known = found.labels
    if known is None and stored in (IMAGENET, WITH_BACKGROUND):
        known = imagenet_labels(stored)
    if known is None and len(ours) == stored:
        sentence = (
            f"The checkpoint's logits are kept: it has {stored} classes too, and they are assumed to be the same in "
            "the same order, as nothing in the file names them; new_head=True begins anew."
        )
        return data, False, [sentence]
    if known is not None and ({*ours} == {*known} or (are_imagenet(ours) and are_imagenet(known))):
        options = {"num_classes": stored, "label_offset": label_offset, "found": data.found}
        fitted = number_labels(data.inputs, names=known, **options)
        return fitted, False, ["The checkpoint's logits are kept, as its classes are those of the images."]
    if len(ours) == stored:
        reason = f"the checkpoint's classes ({listed(known)}) are not those of the images ({listed(ours)})"
    else:
        reason = f"the checkpoint has {stored} classes, and the images {len(ours)}"
    return data, True, [f"The logits begin anew: {reason}."]


def weight_decay_of(network: Network) -> float:
    """Returns the default weight decay of a network's arg scope."""
    return inspect.signature(network.arg_scope).parameters["weight_decay"].default

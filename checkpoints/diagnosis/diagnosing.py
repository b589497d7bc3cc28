"""Diagnoses a checkpoint by its contents: its network, classes and expected input, and what is wrong with it."""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from checkpoints.background_class import class_conversion
from checkpoints.diagnosis.contents import Contents, sort_names
from checkpoints.diagnosis.graphs import CUT_OFF, beginnings, cut_off, graph_problem, pool1_padding_of
from checkpoints.diagnosis.structure import Structure, structures_in
from checkpoints.diagnosis.value_faults import value_problems
from checkpoints.errors import CheckpointError, Problem, shortened
from checkpoints.files import CheckpointReader, Notes, notes_file
from checkpoints.files.graph import GraphFile
from checkpoints.files.notes import INPUT
from checkpoints.names import joined, logits_pattern
from checkpoints.opening import reader_of
from nets.nets_factory import NETWORKS, Network, get_network

__all__ = ["Diagnosis", "default_pool1_padding", "diagnose", "expected_input"]

# The published v2 weights have a background class, and were trained and evaluated with inception preprocessing at
# 299, although slim's factory says vgg at 224 (tensorflow/models, issues 1497, 2217 and 2855).
_PUBLISHED_V2_CLASSES = 1001
_PUBLISHED_V2_INPUT = ("inception", 299)
# Whether class 0 is the background, for the numbers of classes that tell.
_BACKGROUND = {1000: False, 1001: True}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The result of a diagnosis.

    path: the path as it was given.
    format: 'V1', 'V2', 'frozen graph' or 'SavedModel'; for other files what they are instead, or None if that is
      unknown.
    shapes, dtypes: shapes and dtypes of the stored names; empty if the file cannot be read.
    contents: the names, sorted by what they are.
    structures: the networks in the file.
    structure: the network that the diagnosis is about; None if there is none, or there are several to choose from.
    problems: reasons why the file cannot be used as it is, each with what to do.
    notes: the notes beside the structure's weights.
    object_based: whether it was saved by ``tf.train.Checkpoint``, or as a SavedModel's variables.
    graph: the graph in the file; None for a checkpoint.
    """

    path: Path
    format: str | None
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    contents: Contents
    structures: tuple[Structure, ...]
    structure: Structure | None
    problems: tuple[Problem, ...]
    notes: Notes | None = None
    object_based: bool = False
    graph: GraphFile | None = None

    @property
    def network(self) -> Network | None:
        """Network in the table of networks; None if it is not in it."""
        return self.structure.network if self.structure else None

    @property
    def scope(self) -> str | None:
        """Variable scope of the network in the file."""
        return self.structure.scope if self.structure else None

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the network's logits; 0 if it has none."""
        return self.structure.num_classes if self.structure else None

    @property
    def background_class(self) -> bool | None:
        """True if class 0 is the background; None if the number of classes does not tell."""
        return _BACKGROUND.get(self.num_classes)

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of the network's builder, known from the variables, the notes or the graph."""
        options = self.structure.options if self.structure else {}
        if self.network and self.pool1_padding != default_pool1_padding(self.network):
            options = options | {"pool1_padding": self.pool1_padding}
        return options

    @property
    def pool1_padding(self) -> str | None:
        """Padding of the network's first pooling by the notes or the graph, or else its default."""
        if self.network is None:
            return None
        if self.network.variant is None:
            return default_pool1_padding(self.network)
        if self.notes:
            return self.notes.pool1_padding
        return pool1_padding_of(self.graph, self.scope) or default_pool1_padding(self.network)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes by the notes; None if there are none, or not one for each class."""
        labels = self.notes.labels if self.notes else None
        return labels if labels and len(labels) == self.num_classes else None

    @property
    def assumed(self) -> tuple[str, ...]:
        """Facts that the table of networks supplied, as no notes tell them: any of 'preprocessing' and 'image_size'."""
        if self.network is None:
            return ()
        return self.notes.assumed if self.notes else INPUT

    @property
    def input_known(self) -> bool:
        """True if notes or the catalog tell the preprocessing and image size; False if they are assumed."""
        return self.network is not None and not self.assumed

    @property
    def preprocessing(self) -> str | None:
        """Preprocessing that the weights expect."""
        if self.notes:
            return self.notes.preprocessing
        return expected_input(self.network, self.num_classes, self.structure.channels)[0] if self.network else None

    @property
    def image_size(self) -> int | None:
        """Height and width of the images that the weights expect."""
        if self.notes:
            return self.notes.image_size
        return expected_input(self.network, self.num_classes)[1] if self.network else None

    @property
    def cut_off(self) -> bool:
        """True if a graph holds only the beginning of the network, whose end points can be computed."""
        return any(problem.kind == CUT_OFF for problem in self.problems)

    @property
    def usable(self) -> bool:
        """True if the weights can be restored into the network as they are."""
        return not self.problems

    @property
    def builder_arguments(self) -> dict[str, Any]:
        """Arguments for the network's builder, without the number of classes."""
        # slim's networks need a scope, and not every name can be one; otherwise they get their default scope.
        can_be_scope = self.scope and re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", self.scope)
        return {**({"scope": self.scope} if can_be_scope else {}), **self.options}

    def identified(self) -> Network:
        """Returns the network.

        Raises:
          CheckpointError: if there is none in the table; the message is the first problem.
        """
        if self.network is None:
            raise CheckpointError(self.problems[0].sentence, self.problems[0].kind, self.format)
        return self.network


def default_pool1_padding(network: Network) -> str:
    """Returns the default padding of the first pooling in the network's builder."""
    return "PAD1" if network.family == "resnet_basic" else "SAME"


def expected_input(network: Network, num_classes: int, channels: int | None = None) -> tuple[str, int]:
    """Returns (preprocessing, image size) that weights of a network with these classes and image channels expect."""
    if channels == 1:
        return "grayscale", network.image_size
    if network.family == "resnet_v2" and network.num_classes == num_classes == _PUBLISHED_V2_CLASSES:
        return _PUBLISHED_V2_INPUT
    return network.preprocessing, network.image_size


def diagnose(
    checkpoint: str | os.PathLike[str] | CheckpointReader,
    *,
    scope: str | None = None,
    net: str | None = None,
    num_classes: int | None = None,
    check: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Diagnosis:
    """Tells what a file is and what is wrong with it; problems are returned, not raised.

    Args:
      checkpoint: a path or a key, as for ``checkpoints.open_checkpoint``, or an open reader.
      scope: scope of the network to examine, if the file has several.
      net: name of the expected network, which also chooses among several; another network is a problem.
      num_classes: expected number of classes; another number is a problem.
      check: also read all values and look for damage.
      advance: with ``check``, called with the number of variables just read.

    Raises:
      ValueError: if there is no network of the name ``net``.
    """
    wanted = None if net is None else get_network(net)
    try:
        reader = reader_of(checkpoint)
    except CheckpointError as error:
        problems = (Problem(error.kind, str(error)),)
        return Diagnosis(Path(checkpoint), error.format, {}, {}, Contents((), {}, {}), (), None, problems)
    contents = sort_names(reader.shapes)
    structures = tuple(structures_in(reader.shapes))
    chosen = [found for found in structures if scope is None or found.scope == scope.strip("/")]
    if len(chosen) > 1 and wanted is not None:
        chosen = [found for found in chosen if found.network is wanted]
    structure = chosen[0] if len(chosen) == 1 else None
    lost = graph_problem(reader.path, reader.graph, reader.shapes) if reader.graph else None
    if lost:
        problems = [lost]
    elif structure is None:
        problems = [_no_single_structure(reader, contents, structures, scope)]
    else:
        begun = beginnings(structure, contents, reader.graph.nodes) if reader.graph else []
        if begun:
            structure = structure._replace(network=wanted if wanted in begun else begun[0], faults=())
        problems = [cut_off(reader.path, structure, begun)] if begun else []
        problems += _structure_problems(reader, contents, structure, wanted, num_classes)
    notes = _notes_on(reader, structure)
    if notes and notes.labels and len(notes.labels) != structure.num_classes:
        problems.append(_labels_problem(reader, len(notes.labels), structure.num_classes))
    if check:
        problems += value_problems(reader, set(contents.variables), advance)
    return Diagnosis(
        reader.path,
        reader.format,
        reader.shapes,
        {name: dtype.name for name, dtype in reader.dtypes.items()},
        contents,
        structures,
        structure,
        tuple(problems),
        notes,
        reader.object_based,
        reader.graph,
    )


def _notes_on(reader: CheckpointReader, structure: Structure | None) -> Notes | None:
    if structure is None or structure.network is None or reader.notes is None:
        return None
    return reader.notes if reader.notes.network == structure.network.name else None


def _labels_problem(reader: CheckpointReader, named: int, classes: int) -> Problem:
    sentence = (
        f"{notes_file(reader.prefix)} names {named} classes, and the network has {classes}: name them with "
        "`slimnets note --labels`, or remove that file."
    )
    return Problem("labels", sentence)


def _no_single_structure(
    reader: CheckpointReader, contents: Contents, structures: Sequence[Structure], scope: str | None
) -> Problem:
    path = reader.path
    if reader.object_based and not structures:
        sentence = (
            f"{path} is an object-based checkpoint of TensorFlow 2 (Keras' save_weights, tf.train.Checkpoint), whose "
            "names are those of objects: load it where it was made, and save it with tf.compat.v1.train.Saver."
        )
        return Problem("object-based", sentence)
    if not structures:
        scopes = dict.fromkeys(name.partition("/")[0] for name in contents.variables or reader.shapes)
        examples = f"under {shortened(list(scopes), 3)}" if scopes else "none at all"
        sentence = (
            f"{path} holds the weights of none of the known networks ({len(reader.shapes)} variables, {examples}): "
            f"`slimnets nets` lists the known ones; take a checkpoint of one of them."
        )
        return Problem("unknown network", sentence)
    found = ", ".join(f"{_name(structure)} under '{structure.scope}'" for structure in structures)
    if scope is not None:
        return Problem("unknown scope", f"{path} has no network under scope={scope!r}: it holds {found}.")
    blocks = [block for structure in structures for block in structure.blocks]
    if blocks and len({structure.family for structure in structures}) == 1 and len(blocks) == len(set(blocks)):
        sentence = (
            f"{path} holds one network in parts, {found}: restore each part into its own network, or all into one with "
            "a dict from the graph's scopes to the file's; the error of restoring without it gives that dict."
        )
        return Problem("several scopes", sentence)
    sentence = f"{path} holds several networks, {found}: choose one by its scope, scope={structures[0].scope!r}."
    return Problem("several networks", sentence)


def _structure_problems(
    reader: CheckpointReader,
    contents: Contents,
    structure: Structure,
    wanted: Network | None,
    num_classes: int | None,
) -> list[Problem]:
    path, network = reader.path, structure.network
    problems = []
    if network is None and not structure.faults:
        problems.append(Problem("unknown depth", f"{path} holds {_unlisted(structure)}."))
    prefix = joined(structure.scope, "")
    variables = [name for name in contents.variables if name.startswith(prefix)]
    averaged = [name for name in contents.shadows if name.startswith(prefix) and name not in reader.shapes]
    if averaged:
        sentence = f"{path} holds {len(averaged)} variables only as moving averages: restore them with ema=True."
        problems.append(Problem("only shadows", sentence))
    if suffixed := [name for name in variables if name.endswith(":0")]:
        sentence = (
            f"{path} has names that end in ':0' ({shortened(suffixed, 1)}), as variable.name does, so that no graph "
            "finds them: save it again under variable.op.name."
        )
        problems.append(Problem("names", sentence))
    if whole := [name for name in variables if reader.shapes[name] and not reader.dtypes[name].is_floating]:
        dtype = reader.dtypes[whole[0]].name
        sentence = f"{path} holds {len(whole)} variables as {dtype} ({shortened(whole, 2)}): take the unquantized file."
        problems.append(Problem("dtype", sentence))
    problems += [Problem("incomplete", f"{path} holds {_name(structure)}, but {fault}.") for fault in structure.faults]
    if structure.channels not in (None, 1, 3):
        sentence = (
            f"{path} is for images of {structure.channels} channels, which no preprocessing here makes: build the "
            "network on such images, and restore that; or restore it in Python with first_kernel='mean' or "
            "first_kernel='repeat', which convert the first kernel to the graph's channels."
        )
        problems.append(Problem("channels", sentence))
    if wanted is not None and network is not wanted:
        sentence = f"{path} holds {_name(structure)} and not {wanted.name}: take that network, or another checkpoint."
        problems.append(Problem("another network", sentence))
    if num_classes is not None and num_classes != structure.num_classes:
        problems.append(Problem("classes", f"{path} {_classes(structure, num_classes)}."))
    return problems


def _classes(structure: Structure, num_classes: int) -> str:
    here = structure.num_classes
    if not here:
        return f"has no logits, and not {num_classes} classes: build the network with num_classes=None"
    if found := class_conversion(here, num_classes):
        return f"has {here} classes and not {num_classes}: restoring it with num_classes={num_classes} {found.effect}"
    logits = logits_pattern(structure.kind, structure.scope)
    return (
        f"has {here} classes and not {num_classes}: build with num_classes={here}, or give exclude='{logits}' and "
        "train logits of your own"
    )


def _name(structure: Structure) -> str:
    if structure.network:
        return structure.network.name
    if structure.unit_scope is None:
        return f"a network of the family {structure.family}"
    units = ", ".join(map(str, structure.units))
    if structure.blocks != tuple(range(1, len(structure.blocks) + 1)):
        return f"block {', '.join(map(str, structure.blocks))} of a {structure.family} ({units} units)"
    return f"a {structure.family} of {units} units"


def _unlisted(structure: Structure) -> str:
    """Describes a network that is not in the table, and how to build it, as a clause."""
    if structure.unlisted:
        return structure.unlisted
    known = {network.name: network.variant for network in NETWORKS.values() if network.family == structure.family}
    count = len(structure.units)
    if structure.blocks != tuple(range(1, count + 1)):
        return f"only {_name(structure)}: take the whole checkpoint"
    parts = [name for name, variant in known.items() if variant.units[:count] == structure.units != variant.units]
    if parts:
        return f"only the first {count} blocks of {' or '.join(parts)}: take the whole checkpoint"
    units, widths = (" ".join(map(str, numbers)) for numbers in (structure.units, structure.base_depths))
    return (
        f"a {structure.family} of {units} units a block, {widths} channels wide, which is not in the table: build it "
        f"with nets.{structure.family}, and restore that"
    )

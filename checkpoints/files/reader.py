"""Reads checkpoints of every format: the names, shapes, dtypes and values of the stored variables.

V1 is the single file of the published slim weights; V2 is a bundle, ``.index`` and ``.data-?????-of-?????``. A bundle
may be object-based, as ``tf.train.Checkpoint`` writes it; the reader then names variables as their graph did. A frozen
graph has the values as constants. A SavedModel has a bundle or, if it has no variables, constants.
"""

import functools
import math
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import NoReturn

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from checkpoints.errors import CheckpointError
from checkpoints.files.finding import data_files, shards
from checkpoints.files.graph import GraphFile
from checkpoints.files.hashing import sha256_of
from checkpoints.files.identifying import FROZEN_GRAPH, SAVED_MODEL, identify
from checkpoints.files.notes import Notes, read_notes
from checkpoints.files.object_graph import OBJECT_GRAPH, stored_keys

__all__ = ["CheckpointReader"]

# Errors of TensorFlow's reader for a damaged file; IndexError if the data end too soon.
_READ_ERRORS = (tf.errors.OpError, IndexError, RuntimeError, ValueError)

_PATTERN = set("*?[]\\")


class CheckpointReader:
    """A checkpoint that is open for reading.

    path: the path as it was given.
    prefix: TensorFlow's name of it: the V1 file, or the V2 files' common name; for constants, the file of the graph.
    format: 'V1', 'V2', 'frozen graph' or 'SavedModel'.
    shapes: the stored names and their shapes, sorted by name.
    dtypes: the stored names and their dtypes.
    object_based: whether it was saved by ``tf.train.Checkpoint``, or as a SavedModel's variables.
    """

    def __init__(self, path: str | Path, prefix: Path, format: str, published: Notes | None = None) -> None:
        self.path = Path(path)
        self.prefix = prefix
        self.format = format
        self._published = published
        # Keys of the values that are not stored under their names (name → key).
        self._keys: dict[str, str] = {}
        self.object_based = False
        # The graph whose constants are the values, if they are not a checkpoint.
        self._constants: GraphFile | None = None
        if format == FROZEN_GRAPH or (format == SAVED_MODEL and prefix.is_file()):
            self._open_graph(prefix)
            return
        self._open_checkpoint()
        if format == SAVED_MODEL and not self.shapes:
            self._open_graph(self._saved_model)

    def _open_checkpoint(self) -> None:
        try:
            # tf.train.load_checkpoint would prefer a folder of the same name.
            self._name = self._name_for_tensorflow()
            self._reader = tf.compat.v1.train.NewCheckpointReader(self._name)
            shapes = self._reader.get_variable_to_shape_map()
            dtypes = self._reader.get_variable_to_dtype_map()
        except _READ_ERRORS as error:
            self._fail(error)
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(shapes[name]) for name in sorted(shapes)}
        self.dtypes: dict[str, tf.DType] = {name: dtypes[name] for name in self.shapes}
        if self.format != "V1":
            self._check_size_of_data()
        self.object_based = OBJECT_GRAPH in self.shapes
        if self.object_based:
            self._name_variables()

    def _open_graph(self, file: Path) -> None:
        self.prefix, self.object_based = file, False
        self._constants = GraphFile(self.path, file, self.format)
        self._constants.check()
        self.shapes, self.dtypes = self._constants.shapes, self._constants.dtypes

    @property
    def _saved_model(self) -> Path:
        """Returns the file with the graph of a SavedModel that has variables."""
        return self.prefix.parent.with_name("saved_model.pb")

    @functools.cached_property
    def graph(self) -> GraphFile | None:
        """The graph in the file; None for a checkpoint, and if the graph beside a SavedModel's variables is damaged."""
        if self._constants or self.format != SAVED_MODEL:
            return self._constants
        try:
            return GraphFile(self.path, self._saved_model, self.format)
        except (CheckpointError, OSError):
            return None  # the weights do not need it

    def _name_variables(self) -> None:
        """Replaces the keys of an object-based checkpoint by the variables' names."""
        try:
            self._keys = stored_keys(self.read(OBJECT_GRAPH), self.shapes)
        except (DecodeError, TypeError) as error:
            self._fail(error, OBJECT_GRAPH)
        shapes, dtypes = self.shapes, self.dtypes
        self.shapes = {name: shapes[self._keys[name]] for name in sorted(self._keys)}
        self.dtypes = {name: dtypes[self._keys[name]] for name in self.shapes}

    def _name_for_tensorflow(self) -> str:
        """Returns a name that TensorFlow can open; it takes some characters of a name for a pattern."""
        pieces = shards(self.prefix) if self.format == "V1" else []
        ending = f"-?????-of-{len(pieces):05d}" if pieces else ""
        name = str(self.prefix)
        if not _PATTERN & set(name) and name.isprintable() and name.encode(errors="replace").decode() == name:
            return f"{self.prefix}{ending}"
        folder = tempfile.mkdtemp(prefix="slimnets-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for file in self.files():
            Path(folder, "checkpoint" + file.name[len(self.prefix.name) :]).symlink_to(file.resolve())
        return str(Path(folder, f"checkpoint{ending}"))

    def _check_size_of_data(self) -> None:
        """Raises CheckpointError if the data files are shorter than the values that the index lists."""
        sizes = (math.prod(shape) * self.dtypes[name].size for name, shape in self.shapes.items() if self._fixed(name))
        expected, present = sum(sizes), sum(file.stat().st_size for file in data_files(self.prefix))
        if present < expected:
            for file in data_files(self.prefix):
                if (found := identify(file)).kind in ("error page", "archive", "empty"):
                    raise CheckpointError(
                        f"{self.path} has no values: {file.name} is {found.name}: {found.advice}.",
                        found.kind,
                        found.name,
                    )
            raise CheckpointError(
                f"{self.path} is cut short: its data files have {present:,} bytes, and its .index file lists "
                f"{expected:,}: fetch or copy them again, all from one save.",
                "truncated",
            )

    def _fixed(self, name: str) -> bool:
        return self.dtypes[name] not in (tf.string, tf.variant, tf.resource)

    def read(self, name: str) -> np.ndarray:
        """Reads the stored value of that name.

        Raises:
          KeyError: if nothing has that name.
          CheckpointError: if the file is damaged there.
        """
        if name not in self.shapes:
            raise KeyError(name)
        if self._constants:
            return self._constants.read(name)
        try:
            return self._reader.get_tensor(self._keys.get(name, name))
        except tf.errors.UnimplementedError:
            return self._read_by_operation(name)
        except _READ_ERRORS as error:
            self._fail(error, name)

    def _read_by_operation(self, name: str) -> np.ndarray:
        """Reads a value by TensorFlow's op, as its reader cannot read half precision and cut variables of V1."""
        on_cpu = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        with tf.Graph().as_default(), tf.compat.v1.Session(config=on_cpu) as session:
            stored = self._keys.get(name, name)
            arguments = {"tensor_names": [stored], "shape_and_slices": [""], "dtypes": [self.dtypes[name]]}
            value = tf.raw_ops.RestoreV2(prefix=self._name, **arguments)
            try:
                return session.run(value)[0]
            except _READ_ERRORS as error:
                self._fail(error, name)

    def files(self) -> list[Path]:
        """Returns the files that hold the values."""
        if self._constants:
            return [self.prefix]
        if self.format == "V1":
            return shards(self.prefix) or [self.prefix]
        return [Path(f"{self.prefix}.index"), *data_files(self.prefix)]

    @functools.cached_property
    def notes(self) -> Notes | None:
        """The notes beside these weights, otherwise those of the catalog of published weights; None without either.

        Those on a SavedModel's variables may also stand beside its graph, where exports have them.
        """
        notes = read_notes(self.prefix, self.files()[0])
        if notes is None and self.format == SAVED_MODEL and not self._constants:
            notes = read_notes(self._saved_model, self.files()[0])
        return notes or self._published

    def sha256(self) -> dict[str, str]:
        """Returns the sha256 of each file, in hexadecimal (file name → sha256)."""
        return {file.name: sha256_of([file]) for file in self.files()}

    def _fail(self, error: Exception, name: str | None = None) -> NoReturn:
        where = f" where {name} is stored" if name else ""
        reason = str(getattr(error, "message", None) or error).splitlines()[0]
        if name and isinstance(error, tf.errors.NotFoundError):
            # TensorFlow says "not found" if the checksum of a V1 file's block is wrong.
            reason = "the checksum of its block is wrong"
        raise CheckpointError(
            f"{self.path} is damaged or cut short{where} ({reason}): fetch or copy it again."
        ) from error

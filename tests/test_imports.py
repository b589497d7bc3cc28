"""Tests the rules of imports in the code: which room may import which, no circles, and the public names."""

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.processes import ROOT, environment
from tests.helpers.strings import strings_of

# Maps a room to the other rooms of the same package that it may import.
CHECKPOINTS = {
    "errors": set(),
    "lazily": set(),
    "names": set(),
    "background_class": set(),
    "patterns": {"names"},
    "files": {"lazily", "errors", "names", "background_class"},
    "published": {"files", "errors", "names", "background_class"},
    "opening": {"published", "files", "errors", "names"},
    "diagnosis": {"opening", "files", "errors", "names", "background_class"},
    "restoring": {"diagnosis", "opening", "files", "errors", "names", "background_class", "patterns"},
    "frameworks": {"diagnosis", "opening", "files", "errors", "names", "background_class", "patterns"},
}
CHECKPOINTS["noting"] = {"diagnosis", "opening", "published", "files", "errors"}
CHECKPOINTS[""] = {*CHECKPOINTS}  # the face

_ENGINE = {"images", "peers", "engines", "runtime", "errors"}
TOOLS = {
    "": set(),
    "errors": set(),
    "terminal": set(),
    "runtime": {"errors"},
    "images": {"runtime", "errors"},
    "engines": {"runtime", "errors"},
    "peers": {"engines", "runtime", "errors"},
    "features": {"images", "engines", "runtime", "errors"},
    "timing": _ENGINE,
    "digits": {"features", *_ENGINE},
    "conversion": {"features", *_ENGINE},
    "workers": {"features", *_ENGINE},
    "evaluation": {"features", *_ENGINE},
    "export": {"conversion", "features", *_ENGINE},
    "training": {"evaluation", *_ENGINE},
    "visualization": {"features", *_ENGINE},
    "benchmarks": {"evaluation", "export", "features", "timing", "training", "terminal", *_ENGINE},
}
TOOLS["commands"] = {*TOOLS} - {"", "benchmarks"}
TOOLS["cli"] = {"commands", "terminal", "runtime"}
TOOLS["__main__"] = {"cli"}

# Files that may print: commands, the function that prints by contract, and processes that communicate on stdout.
PRINTING = re.compile(r"tools/(cli|commands/.*|terminal/.*|benchmarks/.*|digits/train|timing/steps|peers/worker)\.py")

FACES = {
    "checkpoints": "CheckpointError CheckpointMismatch CheckpointReader Diagnosis DownloadError RestoreReport "
    "diagnose download init_fn note open_checkpoint restore",
    "checkpoints.diagnosis": "Contents Diagnosis Structure default_pool1_padding diagnose expected_input model_shapes "
    "sort_names structures_in",
    "checkpoints.files": "CheckpointReader Notes find_checkpoint notes_file read_notes write_checkpoint write_notes",
    "checkpoints.frameworks": "Weights kind_of read_weights",
    "checkpoints.published": "CATALOG CatalogEntry download find get_entry imagenet_labels install labels_for "
    "read_labels resolve store_folder",
    "checkpoints.restoring": "RestoreReport init_fn restore",
    "nets": "augmentation batch_statistics building endpoint_info guards layer_info layers nets_factory node_names "
    "preprocessing resnet_basic resnet_cifar resnet_keras resnet_utils resnet_v1 resnet_v2 "
    "tf_slim_nets",
    "tools.conversion": "Conversion convert",
    "tools.digits": "CHECKPOINT Digits HELD_OUT digits errors nearest",
    "tools.engines": "ENGINES Engine check_engine engine_module installed model_file required_packages",
    "tools.evaluation": "Evaluation Labelled Metrics Recalibration evaluate number_labels open_labelled recalibrate",
    "tools.export": "Export FORMATS export",
    "tools.features": "Classification FeatureExtractor Features Summary classify extract load merge",
    "tools.images": "EncodedImage Inputs decode open_inputs",
    "tools.peers": "ENGINES Engine OURS get_engine missing_packages precision_of",
    "tools.timing": "Timing TimingInterrupted time_steps time_tensorflow_run",
    "tools.training": "Event Job Settings Training fit prepare run",
    "tools.visualization": "ClassActivation FeatureMap Neighbour Neighbours Shown cam feature_map grad_cam "
    "neighbours show",
    "tools.workers": "DISTRIBUTORS ShardMaker Work",
}


class Import(NamedTuple):
    """An import of one of our modules.

    at_start: whether it happens when the file is imported, and not when a function is called.
    names: names imported from the module; empty if the module itself is imported.
    """

    module: str
    at_start: bool
    names: tuple[str, ...]


@functools.cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def sources() -> dict[str, str]:
    files = [file for package in ("nets", "checkpoints", "tools") for file in (ROOT / package).rglob("*.py")]
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in sorted(files)}


def module_of(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@functools.cache
def imports_of(source: str, modules: frozenset[str]) -> list[Import]:
    """Returns the imports of our modules, except those that only type checkers see."""
    return list(_imports_of(parsed(source), modules))


def _imports_of(tree: ast.Module, modules: frozenset[str]) -> Iterator[Import]:
    unseen = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for part in ast.walk(statement)
    }
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    inside = {id(part) for function in functions for part in ast.walk(function)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    yield Import(alias.name, id(node) not in inside, ())
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            for module in sorted(submodules):
                yield Import(module, id(node) not in inside, ())
            names = tuple(alias.name for alias in node.names if f"{node.module}.{alias.name}" not in modules)
            if names:
                yield Import(node.module, id(node) not in inside, names)


def room_of(module: str) -> tuple[str, str]:
    """Returns the package and the room in it; '' for the package's own face."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def may_import(importer: str, module: str) -> bool:
    (package, room), (other, wanted) = room_of(importer), room_of(module)
    if package != other:
        return (package, other) in {("tools", "checkpoints"), ("tools", "nets"), ("checkpoints", "nets")}
    if package == "nets":
        return True
    return room == wanted or wanted in {"checkpoints": CHECKPOINTS, "tools": TOOLS}[package][room]


def violations(files: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each import that the rules forbid; it names the file."""
    modules = frozenset(module_of(file) for file in files)
    found = []
    for file, source in files.items():
        importer = module_of(file)
        for module, at_start, names in imports_of(source, modules):
            if not may_import(importer, module):
                found.append(f"{file} imports {module}: {'.'.join(room_of(importer))} must not")
            early = at_start and room_of(module) not in {("tools", "commands"), ("tools", "terminal")}
            if room_of(importer) == ("tools", "commands") and early:
                found.append(f"{file} imports {module} before it runs: --help has to answer at once")
            face = ".".join(room_of(module)).removesuffix(".")
            submodules = {other.rpartition(".")[2] for other in modules if other.startswith(f"{face}.")}
            inside = importer == face or importer.startswith(f"{face}.")
            if (
                module != face
                and face in FACES
                and not inside
                and (shared := {*names} & {*FACES[face].split()} - submodules)
            ):
                found.append(f"{file} imports {min(shared)} from {module}: take it from {face}")
    return found


def circles(files: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each file that imports itself through others."""
    modules = {module_of(file): file for file in files}
    names = frozenset(modules)
    graph = {module: {found.module for found in imports_of(files[modules[module]], names)} for module in modules}
    reached = {module: set(graph[module]) for module in graph}
    for _ in graph:
        grown = {module: seen.union(*(reached[other] for other in seen)) for module, seen in reached.items()}
        if grown == reached:
            break
        reached = grown
    return [f"{modules[module]} imports itself" for module in graph if module in reached[module]]


def strays(files: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each library file that prints, or mentions a command's options."""
    found = []
    for file, source in files.items():
        if PRINTING.fullmatch(file):
            continue
        tree = parsed(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                found.append(f"{file}, line {node.lineno}, prints: return it, and have the command print it")
        for line, text in strings_of(tree):
            # Commands that a sentence quotes have options.
            if re.search(r"(^|\s)--[a-z]", re.sub(r"`[^`]*`|tar --zstd", "", text)):
                found.append(f"{file}, line {line}, speaks of an option: name the argument, as overwrite=True")
    return found


def test_every_import_keeps_the_rules():
    assert violations(sources()) == []


def test_no_file_imports_itself():
    assert circles(sources()) == []


def test_libraries_do_not_print_and_speak_python():
    assert strays(sources()) == []


@pytest.mark.parametrize(
    ("file", "line", "sentence"),
    [
        ("nets/layers.py", "import checkpoints", "nets/layers.py imports checkpoints: nets.layers must not"),
        ("checkpoints/files/reader.py", "from tools import cli", "imports tools.cli: checkpoints.files must not"),
        (
            "checkpoints/files/reader.py",
            "from checkpoints.published.store import locate",
            "imports checkpoints.published.store: checkpoints.files must not",
        ),
        (
            "tools/images/decoding.py",
            "from tools.features import load",
            "imports tools.features: tools.images must not",
        ),
        (
            "tools/features/job.py",
            "def f():\n    from tools.terminal.progress import progress",
            "imports tools.terminal.progress: tools.features must not",
        ),
        ("tools/commands/merge.py", "from tools.features import merge", "before it runs: --help has to answer at once"),
        ("tools/workers/ray.py", "from tools.features.loading import load", "take it from tools.features"),
    ],
)
def test_a_forbidden_import_is_named(file, line, sentence):
    files = sources()
    files[file] += f"\n{line}\n"
    [found] = violations(files)
    assert found.startswith(file)
    assert sentence in found


def test_what_else_is_forbidden_is_named():
    files = sources()
    files["checkpoints/names.py"] += "\ndef f():\n    import checkpoints.patterns\n"
    assert "checkpoints/patterns.py imports itself" in circles(files)
    files["tools/features/job.py"] += '\nprint("done")\nraise ValueError("the folder exists: give --overwrite")\n'
    assert [sentence.partition(":")[0].partition(", ")[2].partition(", ")[2] for sentence in strays(files)] == [
        "prints",
        "speaks of an option",
    ]


def test_faces_have_the_names_of_the_list():
    for face, names in FACES.items():
        assert sorted(importlib.import_module(face).__all__) == names.split(), face


_HELP = """
import sys
from tools.cli import main
try:
    main([*sys.argv[1:], "--help"])
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["", "features", "convert", "time"])
def test_help_imports_neither_tensorflow_nor_numpy(command):
    arguments = [sys.executable, "-c", _HELP, *command.split()]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.startswith("usage: slimnets")
    assert not {"tensorflow", "numpy", "PIL", "tf_slim"} & {*done.stderr.split()}


def test_what_a_worker_imports_first_leaves_tensorflow_alone():
    """TensorFlow must be imported quietly, by ``import_tensorflow``."""
    rooms = "tools.cli, tools.commands, tools.peers.worker, tools.runtime.importing, tools.workers.processes"
    code = f"import sys, {rooms}; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "False\n"


def test_files_and_rooms_stay_small():
    """Allows 400 lines a file and 12 files a room; ``nets`` keeps slim's names, and the commands their arguments."""
    rooms: dict[Path, int] = {}
    for file, source in sources().items():
        if not file.startswith(("nets/", "tools/commands/")):
            assert len(source.splitlines()) <= 400, file
            rooms[Path(file).parent] = rooms.get(Path(file).parent, 0) + 1
    assert {room: count for room, count in rooms.items() if count > 12} == {}

"""``slimnets demo``: does the main job on what ships with slimnets, and shows what its result is good for.

Restores the small network that was trained on handwritten digits, extracts features of digits by other writers,
which it never saw, and lets a nearest-neighbour classifier work on them, beside the same on raw pixels.
"""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tools.commands.nets import print_network

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = ["add"]

_END_POINTS = ("block2", "global_pool", "logits")


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("demo", help="do the main job on the checkpoint and images that ship with slimnets")
    parser.add_argument("--output", default="demo-output", metavar="DIR", help="folder (default demo-output)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from tools.digits import CHECKPOINT, HELD_OUT, digits, errors, nearest
    from tools.features import FeatureExtractor, extract, load
    from tools.images import decode

    folder = _emptied(Path(arguments.output))
    reference = digits()
    with FeatureExtractor(_from_here(CHECKPOINT), _END_POINTS) as extractor:
        print(f"The checkpoint, restored into {extractor.net}:\n\n{extractor.report}\n")
        print("Its end points, any of which can be asked for:\n")
        print_network(extractor.net, as_json=False)
        summary = extract([HELD_OUT], folder / "features", extractor)
        reference_features = extractor(reference.pictures)
    held_out = load(summary.output)
    print(f"\nFeatures of {summary.done} images, in {summary.output}:\n")
    for alias, array in held_out.arrays.items():
        print(f"  {alias + '.npy':<17} {array.dtype} {list(array.shape)}")
    # The name of a held-out file is <row in the data set>_<digit>.png.
    labels = np.array([int(Path(row.path).stem.partition("_")[2]) for row in held_out.index])
    pictures = np.stack([decode(row.path) for row in held_out.index])
    grey = [array[..., 0].reshape(len(array), -1) for array in (pictures, reference.pictures)]
    by_pixels = nearest(*grey)
    by_features = nearest(held_out.arrays["global_pool"], reference_features["global_pool"])
    network = errors(np.argmax(held_out.arrays["logits"], axis=1), labels)
    wrong = np.flatnonzero(reference.labels[by_pixels] != labels)
    print(f"\nWhat they are good for: errors on these {len(labels)} digits, by writers the network never saw\n")
    print(f"  nearest neighbour on raw pixels    {len(wrong):3}")
    print(f"  nearest neighbour on global_pool   {errors(reference.labels[by_features], labels):3}")
    print(f"  the network's own logits           {network:3}")
    picture = folder / "neighbours.png"
    columns = [pictures[wrong], reference.pictures[by_pixels[wrong]], reference.pictures[by_features[wrong]]]
    _sheet(columns).save(picture)
    print(f"\nWhere raw pixels fail (digit, its neighbour by pixels, by features): {picture}")
    return 0


def _from_here(path: Path) -> Path:
    """The path relative to the current folder, where it is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _emptied(folder: Path) -> Path:
    """The folder, without what an earlier run of this program left in it."""
    from tools.errors import InputError
    from tools.features.folder import check_output

    if (folder / "features" / "run.json").is_file():
        shutil.rmtree(folder / "features")
        (folder / "neighbours.png").unlink(missing_ok=True)
    check_output(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The output folder {folder} cannot be made ({error}): name another.") from None
    return folder


def _sheet(rows: "list[np.ndarray]", zoom: int = 6, gap: int = 4) -> "Image.Image":
    """Rows of pictures, uint8 [N, height, width, 3] each, as one picture."""
    import numpy as np
    from PIL import Image

    pictures = np.stack(rows).repeat(zoom, axis=2).repeat(zoom, axis=3)
    framed = np.pad(pictures, [(0, 0), (0, 0), (gap, gap), (gap, gap), (0, 0)], constant_values=96)
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in framed]))

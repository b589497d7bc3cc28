"""``slimnets demo``: extracts features with the shipped checkpoint, and shows what they are good for.

The demo restores the small network that was trained on handwritten digits and extracts features of digits by other
writers. Then it compares a nearest-neighbour classifier on these features with one on raw pixels.
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
    parser = commands.add_parser("demo", help="extract features with the checkpoint and images that ship with slimnets")
    parser.add_argument("--output", default="demo-output", metavar="DIR", help="folder to write (default demo-output)")
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
        reference_features = extractor(reference.images)
    held_out = load(summary.output)
    print(f"\nFeatures of {summary.done} images, in {summary.output}:\n")
    for alias, array in held_out.arrays.items():
        print(f"  {alias + '.npy':<17} {array.dtype} {list(array.shape)}")
    # The name of a held-out file is <row in the data set>_<digit>.png.
    labels = np.array([int(Path(row.path).stem.partition("_")[2]) for row in held_out.index])
    images = np.stack([decode(row.path) for row in held_out.index])
    grey = [array[..., 0].reshape(len(array), -1) for array in (images, reference.images)]
    by_pixels = nearest(*grey)
    by_features = nearest(held_out.arrays["global_pool"], reference_features["global_pool"])
    network = errors(np.argmax(held_out.arrays["logits"], axis=1), labels)
    wrong = np.flatnonzero(reference.labels[by_pixels] != labels)
    print(f"\nWhat they are good for: errors on these {len(labels)} digits, by writers the network never saw\n")
    print(f"  nearest neighbour on raw pixels    {len(wrong):3}")
    print(f"  nearest neighbour on global_pool   {errors(reference.labels[by_features], labels):3}")
    print(f"  the network's own logits           {network:3}")
    sheet = folder / "neighbours.png"
    columns = [images[wrong], reference.images[by_pixels[wrong]], reference.images[by_features[wrong]]]
    _sheet(columns).save(sheet)
    print(f"\nWhere raw pixels fail (digit, its neighbour by pixels, by features): {sheet}")
    return 0


def _from_here(path: Path) -> Path:
    """Returns the path relative to the current folder if it is inside, otherwise unchanged."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _emptied(folder: Path) -> Path:
    """Returns the folder after deleting what an earlier run of the demo left in it."""
    from tools.errors import InputError
    from tools.features.folder import check_output

    if (folder / "features" / "run.json").is_file():
        shutil.rmtree(folder / "features")
        (folder / "neighbours.png").unlink(missing_ok=True)
    check_output(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The output folder {folder} cannot be created ({error}): name another.") from None
    return folder


def _sheet(rows: "list[np.ndarray]", zoom: int = 6, gap: int = 4) -> "Image.Image":
    """Returns one image made of rows of images, each row uint8 [N, height, width, 3]."""
    import numpy as np
    from PIL import Image

    images = np.stack(rows).repeat(zoom, axis=2).repeat(zoom, axis=3)
    framed = np.pad(images, [(0, 0), (0, 0), (gap, gap), (gap, gap), (0, 0)], constant_values=96)
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in framed]))

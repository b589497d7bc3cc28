"""The catalog of published weights: their networks, their input, their address and sha256.

Eleven files are those of slim's README (tensorflow/models, research/slim), which also gives the accuracies; their
sha256 come from guildai/packages, slim/resnet/guild.yml, slim/vgg/guild.yml and slim/inception/guild.yml. Of the other
networks of the table nothing is published. Preprocessing and size are those that the weights were trained and
evaluated with; for v2, slim's own factory has others, which are wrong (tensorflow/models, issues 1497, 2217 and 2855).
``checkpoints/README.md`` tells the origin of the weights that ship with the package.
"""

import difflib
from typing import NamedTuple

from checkpoints.files import Notes

__all__ = ["CATALOG", "CatalogEntry", "get_entry"]

_PREFIX = "http://download.tensorflow.org/models/"


class CatalogEntry(NamedTuple):
    """Weights that are published, or ship with the package.

    key: name in the catalog.
    network: name in the table of networks.
    num_classes: number of classes of the logits, including the background.
    preprocessing, image_size: the input that the weights were trained for.
    top_1, top_5: accuracy on ImageNet's validation images in per cent, single crop; None for weights of other data.
    url, sha256: address and hash of the archive; None if the weights ship with the package.
    checkpoint: name of the checkpoint inside the archive, or inside the package.
    """

    key: str
    network: str
    num_classes: int
    preprocessing: str
    image_size: int
    top_1: float | None
    top_5: float | None
    url: str | None
    sha256: str | None
    checkpoint: str

    @property
    def archive(self) -> str | None:
        """Name of the archive; None if the weights ship with the package."""
        return None if self.url is None else self.url.rpartition("/")[-1]

    @property
    def notes(self) -> Notes:
        """The notes to write beside the checkpoint; slim's networks pad their first pooling as 'SAME'."""
        return Notes(self.network, "SAME", self.preprocessing, self.image_size)


def _of_2016(network: str, top_1: float, top_5: float, sha256: str) -> CatalogEntry:
    url = f"{_PREFIX}{network}_2016_08_28.tar.gz"
    return CatalogEntry(network, network, 1000, "vgg", 224, top_1, top_5, url, sha256, f"{network}.ckpt")


def _of_2017(network: str, top_1: float, top_5: float, sha256: str) -> CatalogEntry:
    url = f"{_PREFIX}{network}_2017_04_14.tar.gz"
    return CatalogEntry(network, network, 1001, "inception", 299, top_1, top_5, url, sha256, f"{network}.ckpt")


def _inception(network: str, image_size: int, top_1: float, top_5: float, sha256: str) -> CatalogEntry:
    entry = _of_2016(network, top_1, top_5, sha256)
    return entry._replace(num_classes=1001, preprocessing="inception", image_size=image_size)


_ENTRIES = (
    _of_2016("resnet_v1_50", 75.2, 92.2, "91a0dc25289e7ef648df304b15f06c43ce6f4446d08eb0168479dd2295101c73"),
    _of_2016("resnet_v1_101", 76.4, 92.9, "5d813fcf5e56e7c9c2483d73b46644394cdbb31f9f4bf7140fb2809f7aa11a19"),
    _of_2016("resnet_v1_152", 76.8, 93.2, "c89b549ada486d9c0db6d90e874a1a652d899f9b541ae9c430fee8251572181d"),
    _of_2017("resnet_v2_50", 75.6, 92.8, "2c5c3a852526d0d6e8a35829d4e50533468baaed834a0046ba430e80982ed57c"),
    _of_2017("resnet_v2_101", 77.0, 93.7, "b324d02f28839d11f382785bdf4444ec3bdccb28e1b691a4f45b8f04370e4191"),
    _of_2017("resnet_v2_152", 77.8, 94.1, "c3ec824f19b4919fc7d069dc3a2a9d0f045f35e843c563c4eeeefbedf4852867"),
    _of_2016("vgg_16", 71.5, 89.8, "d03868e16d063422f4486f442171c895c123fe51d018610a73f5d94abae63582"),
    _of_2016("vgg_19", 71.1, 89.8, "9071fd96f91e261c62378cd073897cf038a278a1fbd6c763a8f9eecf311a3cf8"),
    _inception("inception_v1", 224, 69.8, 89.6, "7a620c430fcaba8f8f716241f5148c4c47c035cce4e49ef02cfbe6cd1adf96a6"),
    _inception("inception_v2", 224, 73.9, 91.8, "3b9d269984402003d8330affc4e1463c0b4cfd536339ad12446a48d72477480a"),
    _inception("inception_v3", 299, 78.0, 93.9, "9430692d3002277fa1e1a94fb82331fe5da68b9afd725c2679c21a0319933228"),
    CatalogEntry(
        key="resnet_v2_tiny_digits",
        network="resnet_v2_tiny",
        num_classes=10,
        preprocessing="inception",
        image_size=32,
        top_1=None,
        top_5=None,
        url=None,
        sha256=None,
        checkpoint="resnet_v2_tiny_digits.ckpt",
    ),
)

CATALOG: dict[str, CatalogEntry] = {entry.key: entry for entry in _ENTRIES}


def get_entry(key: str) -> CatalogEntry:
    """Returns the entry of a key.

    Raises:
      ValueError: for an unknown key; the message names the nearest ones.
    """
    if not isinstance(key, str):
        raise ValueError(f"The key of weights must be a string, and is {key!r}.")
    if key not in CATALOG:
        nearest = difflib.get_close_matches(key, CATALOG)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"there is {', '.join(CATALOG)}."
        raise ValueError(f"Key of weights unknown: {key!r}; {hint}")
    return CATALOG[key]

"""Tests the catalog of published weights.

Classes, accuracies and addresses were typed from slim's README, and the sha256 from guildai/packages
(slim/resnet/guild.yml, slim/vgg/guild.yml, slim/inception/guild.yml).
"""

import pytest

from checkpoints import open_checkpoint
from checkpoints.diagnosis import diagnose, expected_input
from checkpoints.published import CATALOG, CatalogEntry, get_entry
from checkpoints.published.store import locate
from nets.nets_factory import NETWORKS

PUBLISHED = [
    ("resnet_v1_50", "resnet_v1_50_2016_08_28.tar.gz", 1000, "vgg", 224, 75.2, 92.2,
     "91a0dc25289e7ef648df304b15f06c43ce6f4446d08eb0168479dd2295101c73"),
    ("resnet_v1_101", "resnet_v1_101_2016_08_28.tar.gz", 1000, "vgg", 224, 76.4, 92.9,
     "5d813fcf5e56e7c9c2483d73b46644394cdbb31f9f4bf7140fb2809f7aa11a19"),
    ("resnet_v1_152", "resnet_v1_152_2016_08_28.tar.gz", 1000, "vgg", 224, 76.8, 93.2,
     "c89b549ada486d9c0db6d90e874a1a652d899f9b541ae9c430fee8251572181d"),
    ("resnet_v2_50", "resnet_v2_50_2017_04_14.tar.gz", 1001, "inception", 299, 75.6, 92.8,
     "2c5c3a852526d0d6e8a35829d4e50533468baaed834a0046ba430e80982ed57c"),
    ("resnet_v2_101", "resnet_v2_101_2017_04_14.tar.gz", 1001, "inception", 299, 77.0, 93.7,
     "b324d02f28839d11f382785bdf4444ec3bdccb28e1b691a4f45b8f04370e4191"),
    ("resnet_v2_152", "resnet_v2_152_2017_04_14.tar.gz", 1001, "inception", 299, 77.8, 94.1,
     "c3ec824f19b4919fc7d069dc3a2a9d0f045f35e843c563c4eeeefbedf4852867"),
    ("vgg_16", "vgg_16_2016_08_28.tar.gz", 1000, "vgg", 224, 71.5, 89.8,
     "d03868e16d063422f4486f442171c895c123fe51d018610a73f5d94abae63582"),
    ("vgg_19", "vgg_19_2016_08_28.tar.gz", 1000, "vgg", 224, 71.1, 89.8,
     "9071fd96f91e261c62378cd073897cf038a278a1fbd6c763a8f9eecf311a3cf8"),
    ("inception_v1", "inception_v1_2016_08_28.tar.gz", 1001, "inception", 224, 69.8, 89.6,
     "7a620c430fcaba8f8f716241f5148c4c47c035cce4e49ef02cfbe6cd1adf96a6"),
    ("inception_v2", "inception_v2_2016_08_28.tar.gz", 1001, "inception", 224, 73.9, 91.8,
     "3b9d269984402003d8330affc4e1463c0b4cfd536339ad12446a48d72477480a"),
    ("inception_v3", "inception_v3_2016_08_28.tar.gz", 1001, "inception", 299, 78.0, 93.9,
     "9430692d3002277fa1e1a94fb82331fe5da68b9afd725c2679c21a0319933228"),
]  # fmt: skip

SHIPPED = "resnet_v2_tiny_digits"


@pytest.mark.parametrize(
    ("name", "archive", "num_classes", "preprocessing", "image_size", "top_1", "top_5", "sha256"), PUBLISHED
)
def test_published(name, archive, num_classes, preprocessing, image_size, top_1, top_5, sha256):
    assert get_entry(name) == CatalogEntry(
        key=name,
        network=name,
        num_classes=num_classes,
        preprocessing=preprocessing,
        image_size=image_size,
        top_1=top_1,
        top_5=top_5,
        url=f"http://download.tensorflow.org/models/{archive}",
        sha256=sha256,
        checkpoint=f"{name}.ckpt",
    )
    assert get_entry(name).archive == archive


def test_shipped():
    """Compares the shipped checkpoint with checkpoints/README.md and with its own file."""
    entry = get_entry(SHIPPED)
    assert entry == CatalogEntry(
        key=SHIPPED,
        network="resnet_v2_tiny",
        num_classes=10,
        preprocessing="inception",
        image_size=32,
        top_1=None,
        top_5=None,
        url=None,
        sha256=None,
        checkpoint="resnet_v2_tiny_digits.ckpt",
    )
    assert entry.archive is None
    found = diagnose(open_checkpoint(locate(SHIPPED)))
    assert (found.network.name, found.num_classes) == (entry.network, entry.num_classes)
    assert (found.preprocessing, found.image_size) == (entry.preprocessing, entry.image_size)


def test_the_table_is_complete():
    assert list(CATALOG) == [*(row[0] for row in PUBLISHED), SHIPPED]
    assert all(entry.key == key for key, entry in CATALOG.items())


@pytest.mark.parametrize("key", CATALOG)
def test_agrees_with_what_is_told_from_a_file(key):
    entry = CATALOG[key]
    network = NETWORKS[entry.network]
    assert entry.num_classes == network.num_classes
    assert (entry.preprocessing, entry.image_size) == expected_input(network, entry.num_classes)


def test_unknown_key():
    with pytest.raises(ValueError, match=r"^Key of weights unknown: 'resnet_v2_51'; did you mean resnet_v2_50 or "):
        get_entry("resnet_v2_51")
    with pytest.raises(ValueError, match=r"'xyz'; there is resnet_v1_50, resnet_v1_101, .*resnet_v2_tiny_digits\.$"):
        get_entry("xyz")
    with pytest.raises(ValueError, match=r"must be a string, and is 50\.$"):
        get_entry(50)

"""Tests how labels become numbers of classes. The expected numbers are written by hand."""

import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from checkpoints.published import imagenet_labels
from tools.errors import InputError
from tools.evaluation.labelling import number_labels, open_labelled
from tools.images import open_inputs

INT = tf.train.Int64List


def png(shade=0):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256,) * 3).save(stream, "PNG")
    return stream.getvalue()


def folder_of(root, counts):
    """Makes a folder a class, with so many images each; returns the root as a string."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.png").write_bytes(png(i))
    return str(root)


def records(path, labels):
    """Writes a TFRecord file as slim's scripts do; None is a record without a label."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for label in labels:
            feature = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png()]))}
            if label is not None:
                feature["image/class/label"] = tf.train.Feature(int64_list=INT(value=[label]))
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return str(path)


def tar_of(path, labels):
    with tarfile.open(path, "w") as archive:
        for i, label in enumerate(labels):
            for suffix, content in (("png", png()), ("cls", label.encode())):
                member = tarfile.TarInfo(f"{i:04}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return str(path)


def refusal(data, **options):
    with pytest.raises(InputError) as error:
        open_labelled([data], **options)
    return str(error.value)


def test_folders_in_sorted_order(tmp_path):
    data = folder_of(tmp_path / "data", {"dog": 2, "cat": 1, "bird": 1})
    calls = []
    labelled = open_labelled([data], num_classes=3, advance=calls.append)
    assert labelled.classes.tolist() == [0, 1, 2, 2]  # the order of the images is that of their paths
    assert labelled.names == ["bird", "cat", "dog"]
    assert labelled.counts.tolist() == [1, 1, 2]
    assert (labelled.classes.dtype, labelled.offset, calls) == (np.int64, 0, [0, 4])
    assert labelled.said == ("In sorted order, the labels are the classes 0 (bird) to 2 (dog).",)
    assert open_labelled([data]).names == ["bird", "cat", "dog"]


def test_names_of_folders_that_are_numbers_are_numbers(tmp_path):
    data = folder_of(tmp_path / "data", {str(number): 1 for number in range(11)})
    labelled = open_labelled([data])
    assert [labelled.inputs.label(i) for i in range(4)] == ["0", "1", "10", "2"]
    assert labelled.classes.tolist() == [0, 1, 10, *range(2, 10)]
    assert labelled.names == [str(number) for number in range(11)]


@pytest.mark.parametrize("text", ["dog\ncat\nbird\n", "1:cat\n0:dog\n2:bird\n"])
def test_a_file_of_names_in_the_folder_or_elsewhere(tmp_path, text):
    data = folder_of(tmp_path / "data", {"dog": 1, "cat": 1, "bird": 1})
    (tmp_path / "data" / "labels.txt").write_text(text)
    (tmp_path / "other.txt").write_text("cat\nbird\ndog\nfish\n")
    labelled = open_labelled([data])
    assert (labelled.classes.tolist(), labelled.names) == ([2, 1, 0], ["dog", "cat", "bird"])
    other = open_labelled([data], labels=tmp_path / "other.txt", names=["not", "these"])
    assert (other.classes.tolist(), other.names[3]) == ([1, 0, 2], "fish")
    assert other.said == ("1 of 4 classes has no images: fish.",)
    noted = open_labelled([data], names=["bird", "cat", "dog"])
    assert noted.classes.tolist() == [0, 1, 2]


def test_names_that_do_not_fit(tmp_path):
    data = folder_of(tmp_path / "data", {"dog": 1, "cat": 1})
    sentence = refusal(data, names=["dog", "fish"])
    assert sentence == (
        f"The label 'cat' of {data}/cat/0.png is not among the names of the 2 classes, dog, fish: rename the folder, "
        "or give other names as labels=FILE."
    )
    assert "2 classes have names, dog, cat, and the network has 5 classes" in refusal(
        data, names=["dog", "cat"], num_classes=5
    )
    assert "Two classes have the name 'dog'" in refusal(data, names=["dog", "cat", "dog"])
    second = folder_of(tmp_path / "second", {"dog": 1, "cat": 1})
    for folder, text in ((data, "dog\ncat"), (second, "cat\ndog")):
        (tmp_path / folder / "labels.txt").write_text(text)
    with pytest.raises(InputError, match="name different classes: give the file that counts as labels=FILE"):
        open_labelled([data, second])
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="name no class: write one name a line"):
        open_labelled([data], labels=tmp_path / "empty.txt")


def test_more_and_fewer_folders_than_classes(tmp_path):
    data = folder_of(tmp_path / "data", {"dog": 1, "cat": 1, "bird": 1})
    assert refusal(data, num_classes=2) == (
        "The data have 3 classes, bird, cat, dog, and the network 2: leave folders out, or give a checkpoint of so "
        "many classes."
    )
    assert "and nothing says which these are: give labels=FILE" in refusal(data, num_classes=10)


def test_images_without_labels(tmp_path):
    data = folder_of(tmp_path / "data", {"dog": 1, "cat": 1})
    (tmp_path / "data" / "stray.png").write_bytes(png())
    assert refusal(data) == (
        f"1 of 3 images have no label, {data}/stray.png for one: move them into the folder of their class, or leave "
        "them out."
    )
    assert refusal(str(tmp_path / "data" / "dog")).startswith("The images have no labels, ")
    path = records(tmp_path / "a.tfrecord", [1, None])
    assert f"1 of 2 images have no label, {path}[1] for one" in refusal(path)


def test_one_class_and_empty_classes(tmp_path):
    data = folder_of(tmp_path / "data", {"dog": 1})
    assert "All images have the label 'dog', and a classification needs two" in refusal(data)
    assert open_labelled([data], names=["cat", "dog"]).classes.tolist() == [1]
    assert "All images are of one class, dog" in refusal(data, names=["cat", "dog"], empty_allowed=False)
    several = folder_of(tmp_path / "several", {"dog": 1, "cat": 1, "ant": 0, ".hidden": 0})
    labelled = open_labelled([several])
    assert (labelled.classes.tolist(), labelled.names) == ([1, 2], ["ant", "cat", "dog"])
    assert labelled.said[-1] == "1 of 3 classes has no images: ant."
    sentence = refusal(several, empty_allowed=False)
    assert sentence == (
        "1 of 3 classes has no images: ant; add some, or remove the empty folder or the name. If the labels are "
        "numbers that begin above 0, give label_offset=N, where N is the first of them; if they are names that look "
        "like numbers, give a file with all of them as labels=FILE."
    )


def test_imbalance_is_said(tmp_path):
    data = folder_of(tmp_path / "data", {"dog": 2, "cat": 6})
    assert open_labelled([data]).said[-1] == (
        "The classes have different numbers of images: cat 6, dog 2. The recall of each class says more than the "
        "accuracy."
    )


def test_numbers_of_a_tar_archive(tmp_path):
    labelled = open_labelled([tar_of(tmp_path / "a.tar", ["3", "0", "1"])], num_classes=4)
    assert labelled.classes.tolist() == [3, 0, 1]
    assert labelled.said == ("1 of 4 classes has no images: 2.",)
    words = open_labelled([tar_of(tmp_path / "b.tar", ["dog", "cat"])])
    assert (words.classes.tolist(), words.names) == ([1, 0], ["cat", "dog"])


def test_labels_out_of_range(tmp_path):
    path = records(tmp_path / "a.tfrecord", [1, 2, 3])
    assert refusal(path, num_classes=3) == (
        f"The label 3 of {path}[2] is class 3 (label_offset=0), and there are 3 classes, from 0 to 2: give "
        "label_offset=N, or a checkpoint of so many classes."
    )
    labelled = open_labelled([path], num_classes=3, label_offset=1)
    assert (labelled.classes.tolist(), labelled.names) == ([0, 1, 2], ["1", "2", "3"])
    assert labelled.said == ("Labels 1 to 3 become the classes 0 to 2 (label_offset=1).",)
    assert open_labelled([path], num_classes=3, label_offset=1, names=["a", "b", "c"]).names == ["a", "b", "c"]
    assert "is class -1 (label_offset=2)" in refusal(path, label_offset=2)
    assert "is class 1000000000000 " in refusal(records(tmp_path / "b.tfrecord", [0, 10**12]))


def test_records_that_cannot_be_read_have_class_minus_one(tmp_path):
    path = records(tmp_path / "a.tfrecord", [0, 1, 2])
    content = bytearray((tmp_path / "a.tfrecord").read_bytes())
    content[len(content) // 2] ^= 1  # in the second of three records of one length
    (tmp_path / "a.tfrecord").write_bytes(content)
    assert open_labelled([path], num_classes=3).classes.tolist() == [0, -1, 2]


@pytest.mark.parametrize(
    ("labels", "num_classes", "classes", "offset", "sentence"),
    [
        # slim's TFRecord files of ImageNet: 1 to 1000, with 0 for the background.
        (range(1, 1001), 1001, range(1, 1001), 0, "Labels 1 to 1000 are the classes of these numbers (label_offset=0)"),
        (range(1, 1001), 1000, range(1000), 1, "Labels 1 to 1000 become the classes 0 to 999 (label_offset=1)"),
        (range(1000), 1001, range(1, 1001), -1, "Labels 0 to 999 become the classes 1 to 1000 (label_offset=-1)"),
        (range(1000), 1000, range(1000), 0, None),
        ([5, 7], 1001, [5, 7], 0, "Labels 5 to 7 are the classes of these numbers (label_offset=0)"),
        ([0, 7], 1001, [1, 8], -1, "Labels 0 to 7 become the classes 1 to 8 (label_offset=-1)"),
        ([5, 1000], 1000, [4, 999], 1, "Labels 5 to 1000 become the classes 4 to 999 (label_offset=1)"),
        ([5, 7], 1000, [5, 7], 0, None),
    ],
)
def test_1000_and_1001_classes(tmp_path, labels, num_classes, classes, offset, sentence):
    labelled = open_labelled([records(tmp_path / "a.tfrecord", labels)], num_classes=num_classes)
    assert labelled.classes.tolist() == [*classes]
    assert labelled.offset == offset
    assert labelled.names == imagenet_labels(num_classes)
    said = [one for one in labelled.said if "label_offset" in one]
    assert [one.startswith(sentence) for one in said] == ([] if sentence is None else [True])


def test_the_offset_can_be_given(tmp_path):
    path = records(tmp_path / "a.tfrecord", [5, 7])
    labelled = open_labelled([path], num_classes=1000, label_offset=1)
    assert labelled.classes.tolist() == [4, 6]
    assert labelled.said[0] == (
        "Labels 5 to 7 become the classes 4 to 6 (label_offset=1): label 0 would be a background class, which the "
        "network does not have."
    )


@pytest.mark.parametrize("first", ["n01440764", "tench, Tinca tinca", "tench"])
@pytest.mark.parametrize(("num_classes", "background"), [(1000, 0), (1001, 1)])
@pytest.mark.parametrize("noted", [False, True])
def test_names_of_imagenet(tmp_path, first, num_classes, background, noted):
    """Tench is class 0, the panda 388 and the sports car 817 of 1000."""
    data = folder_of(tmp_path / "data", {first: 1, "n02510455": 1, "n04285008": 1})
    labelled = open_labelled([data], num_classes=num_classes, names=imagenet_labels(1000) if noted else None)
    assert {labelled.inputs.label(i): number - background for i, number in enumerate(labelled.classes.tolist())} == {
        first: 0,
        "n02510455": 388,
        "n04285008": 817,
    }
    assert labelled.names[388 + background].startswith("giant panda")
    assert labelled.offset == -background


def test_names_that_imagenet_does_not_have(tmp_path):
    data = folder_of(tmp_path / "data", {"n01440764": 1, "pikachu": 1, "crane": 1})
    assert "The label 'crane' of " in (sentence := refusal(data, num_classes=1000))
    assert "names 2 classes of ImageNet: use the WordNet identifiers, such as n01440764" in sentence
    data = folder_of(tmp_path / "second", {"n01440764": 1, "pikachu": 1})
    assert "'pikachu' of " in (sentence := refusal(data, num_classes=1001))
    assert "names no class of ImageNet" in sentence


def test_a_thousand_other_classes(tmp_path):
    data = tar_of(tmp_path / "data.tar", [f"c{number:03}" for number in range(1000)])
    labelled = open_labelled([data], num_classes=1001)
    assert labelled.classes.tolist() == list(range(1, 1001))
    assert labelled.names[:2] == ["background", "c000"]
    assert labelled.said[1].startswith("Labels 0 to 999 become the classes 1 to 1000 (label_offset=-1)")
    assert open_labelled([data], num_classes=1000).offset == 0
    # A file of slim with 1001 names, and a network without background.
    names = ["background", *(f"c{number:03}" for number in range(1000))]
    without = open_labelled([data], num_classes=1000, names=names)
    assert (without.classes.tolist(), without.names, without.offset) == (list(range(1000)), names[1:], 1)
    within = open_labelled([data], num_classes=1001, names=names)
    assert (within.classes.tolist(), within.names, within.offset) == (list(range(1, 1001)), names, 0)


@pytest.mark.parametrize(
    ("labels", "names", "num_classes", "classes", "offset"),
    [
        ([1, 1000], 1000, 1000, [0, 999], 1),
        ([1, 1000], 1000, 1001, [1, 1000], 0),
        ([0, 999], 1000, 1001, [1, 1000], -1),
        ([1, 1000], 1001, 1000, [0, 999], 1),
        ([1, 7], 1001, 1000, [0, 6], 1),
        ([0, 1000], 1001, 1001, [0, 1000], 0),
    ],
)
def test_numbers_with_names(tmp_path, labels, names, num_classes, classes, offset):
    """Names for 1000 or 1001 classes: the second begin with the background."""
    words = [f"c{number}" for number in range(1, 1001)]
    given = ["nothing", *words] if names == 1001 else words
    labelled = open_labelled([records(tmp_path / "a.tfrecord", labels)], num_classes=num_classes, names=given)
    assert (labelled.classes.tolist(), labelled.offset) == (classes, offset)
    assert labelled.names[-1000:] == words
    assert len(labelled.names) == num_classes


def test_one_string_a_label_is_kept(tmp_path):
    """Reads labels of inputs that were opened before."""
    data = folder_of(tmp_path / "data", {"a": 3, "b": 3})
    labelled = number_labels(open_inputs([data]), num_classes=2)
    assert labelled.classes.tolist() == [0, 0, 0, 1, 1, 1]

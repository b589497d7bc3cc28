"""Compares what ``slimnets show`` writes with the extractor's features, and with formulas that are written here."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nets import endpoint_info, nets_factory
from nets.endpoint_info import UnknownEndPointError
from nets.preprocessing import preprocess
from tests.helpers.browser import Browser
from tests.helpers.processes import run_stopped
from tests.helpers.reference import assign, random_values
from tools.cli import main
from tools.digits import CHECKPOINT, HELD_OUT
from tools.errors import ImageError, InputError
from tools.features import FeatureExtractor
from tools.visualization import grad_cam, show
from tools.visualization.inputs import shown
from tools.visualization.pages.show_page import field_box
from tools.visualization.pictures import COLOURS, blended, coloured
from tools.visualization.showing import usual_end_points

v1 = tf.compat.v1

pytestmark = pytest.mark.filterwarnings("ignore:The weights go with:nets.guards.InferenceWarning")

DIGITS = sorted(HELD_OUT.glob("*.png"))


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def extractor():
    with FeatureExtractor(CHECKPOINT, "logits", image_size=80, batch_size=2, freeze=False) as extractor:
        yield extractor


# Pixels of inputs.

# The network's input for a pixel, by the papers and slim's files.
FORMULAS = {
    "vgg": lambda pixels: pixels - np.array([123.68, 116.78, 103.94]),
    "inception": lambda pixels: pixels / 127.5 - 1,
    "torchvision": lambda pixels: (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    "grayscale": lambda pixels: pixels[..., :1] / 255,
    "cifar": lambda pixels: (pixels - pixels.mean()) / pixels.std(),
    "none": lambda pixels: pixels * 3.0 - 7,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_inputs_are_shown_as_pixels(name):
    pixels = noise(1, 6, 5, 3)
    pixels[0, 0, 0], pixels[0, 5, 4] = 0, 255  # what is stretched reaches from black to white
    if name == "grayscale":
        pixels[..., 1:] = pixels[..., :1]
    assert np.array_equal(shown(FORMULAS[name](pixels.astype(np.float64)), name), pixels)


@pytest.mark.parametrize("name", ["vgg", "inception", "torchvision", "grayscale"])
def test_the_formulas_are_those_of_the_preprocessing(name):
    """One colour stays one colour, whatever is cropped and resized."""
    pixels = np.broadcast_to(
        np.array([200, 200, 200] if name == "grayscale" else [10, 100, 200], np.uint8), [1, 20, 20, 3]
    )
    with tf.Graph().as_default(), v1.Session() as session:
        found = session.run(preprocess(tf.constant(pixels), name, 8))
    np.testing.assert_allclose(found[0, 4, 4], FORMULAS[name](pixels[0, 0, 0].astype(float)), rtol=1e-4, atol=1e-4)
    assert np.abs(shown(found, name).astype(int) - pixels[:, :8, :8]).max() == 0


def test_colours():
    assert np.array_equal(coloured(np.array([0.0, 2.0]), 2.0), COLOURS[[0, -1]])
    lightness = coloured(np.linspace(0, 1, 50), 1.0) @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 0).all()
    assert np.array_equal(coloured(np.array([np.nan, 1.0])), COLOURS[[0, -1]])
    heat = np.zeros([4, 4])
    heat[0, 3] = 5
    found = blended(np.full([8, 8, 3], 100, np.uint8), heat)
    assert found.sum(axis=-1).argmax() == 7  # the upper right corner


# Receptive fields.


@pytest.mark.parametrize("name", ["conv1", "block1", "block2"])
def test_fields_hold_what_a_position_depends_on(tiny_checkpoint, name):
    """Finds by gradients which pixels matter to a position; random weights have no zeros."""
    with FeatureExtractor(tiny_checkpoint, "logits", image_size=80, freeze=False) as extractor:
        (point,) = endpoint_info.describe(extractor.images, extractor.tensors(), [name])
        position = tuple(size // 2 for size in point.shape[1:3])
        with extractor.graph.as_default():
            (gradient,) = v1.gradients(point.tensor[:, position[0], position[1]], extractor.images)
        # Max pooling and ReLU pass gradients to some pixels only. Over many images all pixels of the field have one.
        inputs = np.random.default_rng(0).normal(size=[64, 80, 80, 3]).astype(np.float32)
        matters = (extractor.session.run(gradient, {extractor.images: inputs}) != 0).any(axis=(0, 3))
    top, left, height, width = field_box(point.receptive_field, position)
    rows, columns = (np.flatnonzero(matters.any(axis=axis)) for axis in (1, 0))
    assert (rows.min(), rows.max()) == (max(0, top), min(80, top + height) - 1)
    assert (columns.min(), columns.max()) == (max(0, left), min(80, left + width) - 1)


# Pictures and the page.


def test_maps_are_the_extractors(extractor, tmp_path):
    result = show(DIGITS[:3], extractor, tmp_path / "out", end_points=["block2", "postnorm"], cam=4)
    assert (result.images, result.end_points) == (3, ["block2", "postnorm"])
    assert [number for number, _, _ in result.classes] == [4, 4, 4]
    with FeatureExtractor(CHECKPOINT, ["block2", "predictions"], image_size=80) as other:
        expected = other(DIGITS[:3])
    np.testing.assert_allclose([share for _, _, share in result.classes], expected["predictions"][:, 4], rtol=1e-4)
    page = (tmp_path / "out" / "index.html").read_text()
    for row, path in enumerate(DIGITS[:3]):
        means = expected["block2"][row].mean(axis=(0, 1))
        section = page.split("<section>")[row + 1]
        assert f'<h2 id="image-{row + 1}">{path}</h2>' in section
        found = re.findall(r'alt="block2, channel (\d+), mean ([^"]+)"', section)
        assert [int(number) for number, _ in found] == np.argsort(-means)[:16].tolist()
        np.testing.assert_allclose([float(mean) for _, mean in found], np.sort(means)[::-1][:16], rtol=0.01)
        assert f'alt="Grad-CAM of {path}: class 4, probability' in section
        assert f'alt="The network&#x27;s input for {path}"' in section
    names = {f"{number:04d}-{name}.png" for number in (1, 2, 3) for name in NAMES}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"index.html", *names}
    with Image.open(tmp_path / "out" / "0002-input.png") as picture:
        assert np.array_equal(np.asarray(picture), shown(extractor.preprocess(pixels_of(DIGITS[1])), "inception")[0])
    # The hottest place of the picture is that of the heat map.
    heatmap = grad_cam(extractor, [DIGITS[0]], 4).heatmaps[0]
    with Image.open(tmp_path / "out" / "0001-grad-cam.png") as picture:
        drawn = np.asarray(picture)[:224, :224].astype(float)
    redness = drawn[..., 0] - drawn[..., 2]
    cells = redness[:222, :222].reshape(3, 74, 3, 74).mean(axis=(1, 3))
    assert np.corrcoef(cells.ravel(), heatmap.ravel())[0, 1] > 0.7


NAMES = ("input", "grad-cam", "cam", "fields", "block2", "postnorm")


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))[np.newaxis]


def test_the_command(tmp_path, capfd):
    output = tmp_path / "out"
    arguments = ["show", str(DIGITS[0]), "--checkpoint", str(CHECKPOINT), "--output", str(output)]
    assert main([*arguments, "--cam"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"1437_2\.png +0\.94\d\d +2 +2", out)
    assert out.endswith(f"1 image shown by conv1, pool1, block1, block2: {output}/index.html\n")
    # At 32 pixels the network pools a map of one place, which CAM cannot show.
    assert (output / "0001-grad-cam.png").exists()
    assert not (output / "0001-cam.png").exists()
    assert main(arguments) == 1
    assert "holds earlier results: name another, or replace them with --overwrite" in capfd.readouterr().err
    assert main([*arguments, "--overwrite", "--cam", "7", "--place", "0,1", "--end-points", "block1"]) == 0
    assert re.search(r"0\.0\d+ +7 +7", capfd.readouterr().out)
    page = (output / "index.html").read_text()
    assert "block1: 19x19 at 0, 3" in page
    with pytest.raises(SystemExit) as exit:
        main([*arguments, "--overwrite", "--place", "middle"])
    assert exit.value.code == 2
    assert "argument --place: invalid pair of numbers value: 'middle'" in capfd.readouterr().err
    # Feature maps and gradients are TensorFlow's.
    with pytest.raises(SystemExit) as exit:
        main([*arguments, "--engine", "openvino"])
    assert exit.value.code == 2
    assert "unrecognized arguments: --engine openvino" in capfd.readouterr().err


def test_usual_end_points(extractor):
    assert usual_end_points(extractor) == ["conv1", "pool1", "block1", "block2", "block3", "block4", "postnorm"]


CATS = ["tabby, tabby cat", "tiger, tabby", "sea lion, lion", "lion", *"456789"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"end_points": ["global_pool"]},
            InputError,
            "global_pool is 1x1x512 an image and has no height .*postnorm",
        ),
        ({"end_points": ["predictions"]}, InputError, "predictions is 10 an image and has no height and width"),
        ({"end_points": ["blok3"]}, UnknownEndPointError, "did you mean block3"),
        ({"cam": 10}, InputError, "There is no class 10: resnet_v2_tiny has 10, numbered from 0"),
        ({"cam": "-1"}, InputError, "There is no class -1"),
        ({"cam": "mug"}, InputError, "has no class 'mug': give a number from 0 to 9, or a name, such as 0"),
        ({"cam": "--5"}, InputError, "has no class '--5'"),
        ({"cam": 1.5}, InputError, "cam must be the number or the name of a class, or 'top', and is 1.5"),
        ({"cam": True}, InputError, "cam must be the number or the name of a class, or 'top', and is True"),
        ({"cam": 3, "labels": ["a", "b"]}, InputError, "There are 2 labels for 10 classes: give one for each"),
        (
            {"cam": "tabby", "labels": CATS},
            InputError,
            r"several classes 'tabby': did you mean tabby \(0\) or tabby \(1\)",
        ),
        (
            {"cam": "tabbi", "labels": CATS},
            InputError,
            r"has no class 'tabbi': did you mean tabby \(0\) or tabby \(1\)",
        ),
        ({"cam": "CAT", "labels": CATS}, InputError, r"has no class 'CAT': did you mean tabby cat \(0\)\?"),
        ({"cam": "coffee mag", "labels": ["coffee mug", *"bcdefghij"]}, InputError, "did you mean coffee mug"),
        ({"place": (0.5, 1.5)}, InputError, r"place must be two numbers from 0 to 1, and is \(0\.5, 1\.5\)"),
        ({"place": 0.5}, InputError, "place must be two numbers from 0 to 1, and is 0.5"),
        ({"place": (None, 1)}, InputError, r"place must be two numbers from 0 to 1, and is \(None, 1\)"),
        ({"end_points": ["block1", "resnet_v2_tiny/block1"]}, InputError, "end_points names block1 more than once"),
        ({"images": []}, InputError, "There are no images to show"),
    ],
)
def test_bad_input(extractor, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        show(**{"images": DIGITS[:1], "extractor": extractor, "output": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_images_and_networks_that_cannot_be_shown(extractor, tmp_path, tiny_checkpoint):
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(ImageError, match=r"bad\.png: the file is not an image"):
        show([DIGITS[0], DIGITS[1], tmp_path / "bad.png"], extractor, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"holds other files, such as letter\.txt: name another folder"):
        show(DIGITS[:1], extractor, tmp_path / "full", overwrite=True)
    for place in (tmp_path / ("x" * 300), tmp_path / "full" / "letter.txt" / "out"):
        with pytest.raises(InputError, match=r"cannot be written \(.*\): make room, or name another folder"):
            show(DIGITS[:1], extractor, place, end_points=["block4"])
    # Pictures that were not written by slimnets stay, though their names could be those of results.
    (tmp_path / "trips").mkdir()
    (tmp_path / "trips" / "2023-sea.png").write_bytes(DIGITS[0].read_bytes())
    with pytest.raises(InputError, match=r"trips holds other files, such as 2023-sea\.png: name another folder"):
        show(DIGITS[:1], extractor, tmp_path / "trips", overwrite=True)
    with (
        FeatureExtractor(tiny_checkpoint, "logits", freeze=True) as frozen,
        pytest.raises(ValueError, match="frozen into the graph"),
    ):
        show(DIGITS[:1], frozen, tmp_path / "out")


def test_a_network_whose_end_points_have_other_names(tmp_path, capfd):
    """The command needs no end point of a given name. Its record holds what the page shows."""
    with tf.Graph().as_default(), v1.Session() as session:
        nets_factory.get_network_fn("resnet_cifar_20", 10)(v1.placeholder(tf.float32, [None, 32, 32, 3]))
        assign(session, random_values(v1.global_variables()))
        path = v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
    arguments = ["show", str(DIGITS[0]), "--checkpoint", path, "--output", str(tmp_path / "out"), "--cam", "7"]
    assert main([*arguments, "--net", "resnet_cifar_20", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    with FeatureExtractor(path, "predictions", net="resnet_cifar_20") as extractor:
        expected = extractor([DIGITS[0]])["predictions"][0, 7]
    assert record.pop("images") == [
        {"path": str(DIGITS[0]), "class": 7, "label": "7", "probability": pytest.approx(expected, rel=1e-4)}
    ]
    assert record["page"] == str(tmp_path / "out" / "index.html")
    assert {f"0001-{name.replace('/', '.')}.png" for name in record["end_points"]} < {
        file.name for file in (tmp_path / "out").iterdir()
    }


def test_variables_that_were_excluded(tmp_path):
    """What needs them is refused by name; the usual end points do without them."""
    options = {"image_size": 80, "freeze": False, "exclude": "*block3*"}
    with FeatureExtractor(CHECKPOINT, None, **options) as extractor:
        assert usual_end_points(extractor) == ["conv1", "pool1", "block1", "block2"]
        assert show(DIGITS[:1], extractor, tmp_path / "out").end_points == usual_end_points(extractor)
        words = r"^exclude=\['\*block3\*'\] leaves resnet_v2_tiny/block3/.* without a value, .*: exclude less, or ask"
        for other in ({"cam": "top"}, {"end_points": ["block4"]}):
            with pytest.raises(ValueError, match=words):
                show(DIGITS[:1], extractor, tmp_path / "other", **other)
        with pytest.raises(ValueError, match=words):
            grad_cam(extractor, DIGITS[:1])


def test_a_stopped_command_leaves_nothing(tmp_path):
    arguments = ["show", DIGITS[0], "--checkpoint", CHECKPOINT, "--output", tmp_path / "out"]
    done = run_stopped("tools.visualization.showing", "_write_pictures", *arguments)
    assert done.returncode == 1
    assert done.stderr.endswith("slimnets: interrupted; unfinished work is not kept\n")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_that_is_closed_is_no_fault_of_the_output(extractor, tmp_path):
    def advance(_):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        show(DIGITS[:1], extractor, tmp_path / "out", end_points=["block4"], advance=advance)
    assert list(tmp_path.iterdir()) == []


def test_a_class_by_its_name(extractor, tmp_path):
    labels = ["zero", "one", "two", "Three", *"456789"]
    result = show(DIGITS[:1], extractor, tmp_path / "out", cam="three", labels=labels, end_points=["block4"])
    assert result.classes[0][:2] == (3, "Three")
    assert "class 3, Three, probability" in (tmp_path / "out" / "index.html").read_text()
    # One of several names, as ImageNet's classes have.
    for name, number in {"Tabby Cat": 0, "tiger": 1, "tiger, tabby": 1, "lion": 3}.items():
        result = show(
            DIGITS[:1], extractor, tmp_path / "out", cam=name, labels=CATS, end_points=["block4"], overwrite=True
        )
        assert result.classes[0][0] == number


HOSTILE = "<img src=x onerror=document.title='run'><script>document.title='run'<:script>\"'.png"


@pytest.mark.full
def test_the_page_in_a_browser(extractor, tmp_path):
    paths = [tmp_path / HOSTILE, tmp_path / "b.png"]
    for path, digit in zip(paths, DIGITS, strict=False):
        path.write_bytes(digit.read_bytes())
    labels = ["<b>bold</b>", "</h2><script>document.title='run'</script>", *"23456789"]
    for cam in (0, 1):
        show(paths, extractor, tmp_path / "out", cam=cam, labels=labels, overwrite=True)
        with Browser() as browser:
            for dark in (False, True):
                page = browser.open(tmp_path / "out" / "index.html", dark=dark)
                assert page.run("[...document.querySelectorAll('h2')].map(e => e.textContent)") == list(map(str, paths))
                assert page.run("document.title") == "What resnet_v2_tiny sees in 2 images"
                assert page.run("document.querySelectorAll('script, b').length") == 0
                assert page.run("[...document.images].every(e => e.complete && e.naturalWidth > 0 && e.alt)")
                pictures = page.names("image")
                assert len([name for name in pictures if ", channel " in name]) == 2 * 7 * 16
                assert f"The network's input for {paths[0]}" in pictures
                assert any(name.startswith(f"Receptive fields on the input of {paths[0]}") for name in pictures)
                assert any(name.startswith(f"Grad-CAM of {paths[1]}: class {cam}, {labels[cam]}") for name in pictures)
                # A link of the list leads to its image.
                page.run("document.querySelectorAll('nav a')[1].click()")
                assert page.run("document.getElementById('image-2').getBoundingClientRect().top") < 900
                assert page.requests() == []
                assert page.complaints() == []


@pytest.mark.full
def test_a_page_of_a_hundred_photographs_is_small(tmp_path, tiny_checkpoint):
    import skimage.data

    photographs = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    rng = np.random.default_rng(0)
    crops = []
    for number in range(100):
        photograph = photographs[number % 4]
        top, left = (rng.integers(0, size - 250) for size in photograph.shape[:2])
        crops.append(photograph[top : top + 250, left : left + 250])
    with FeatureExtractor(tiny_checkpoint, "logits", image_size=224, freeze=False) as extractor:
        show(np.stack(crops), extractor, tmp_path / "out", cam="top")
    size = (tmp_path / "out" / "index.html").stat().st_size
    assert 1_000_000 < size < 5_000_000

"""Compares the augmentations with NumPy code, and their random values with the distributions of research/slim."""

import itertools

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from scipy import stats

from nets.augmentation import AUGMENTATIONS, Draws, augment, default_augmentation, draw, largest_size
from nets.preprocessing import PREPROCESSINGS, preprocess
from tests.helpers.numpy_preprocessing import augmented, distorted_boxes
from tests.nets.test_preprocessing import TOLERANCE, noise

# Landscape and portrait, larger and smaller than the sizes.
IMAGES = {
    "chelsea": skimage.data.chelsea(),
    "coffee, portrait": skimage.data.coffee().swapaxes(0, 1),
    "noise 57x43": noise(57, 43, 3),
    "noise 8x8": noise(8, 8, 3),
    "noise 1x7": noise(1, 7, 3),
}
RANDOM = ("cifar", "inception", "vgg")
SWITCHES = ({}, {"flip": False}, {"color": False})

# Smallest probability at which values still count as those of a distribution. The seeds are fixed.
LIKELY = 1e-3


def arrays(draws):
    """Returns the values that an augmentation has, by name."""
    return {name: value for name, value in draws._asdict().items() if value is not None}


def in_a_graph(preprocessing, augmentation, size):
    """Returns a function from an image and a seed to the draws by name, and the results for each of SWITCHES."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int32)], autograph=False
    )
    def compute(image, seed):
        choice = {"preprocessing": preprocessing, "augmentation": augmentation, "size": size, "seed": seed}
        results = [augment(image, **choice, **switches) for switches in SWITCHES]
        return arrays(draw(tf.shape(image), augmentation, size, seed)), results

    return lambda image, seed: tf.nest.map_structure(lambda tensor: tensor.numpy(), compute(image, seed))


# The pixels.


def assert_close(result, expected):
    """Allows the share TOLERANCE of the largest value, since images may be of one colour."""
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("preprocessing", "augmentation", "size"),
    [
        ("vgg", "vgg", 32),
        ("inception", "inception", 32),
        ("inception", "inception", 97),
        ("cifar", "cifar", 32),
        ("inception", "cifar", 32),
        ("grayscale", "cifar", 28),
        ("vgg", "inception", 32),
        ("grayscale", "inception", 28),
        ("torchvision", "vgg", 32),
        ("cifar", "vgg", 32),
    ],
)
def test_equals_numpy(preprocessing, augmentation, size):
    """The draws are the same whatever is left out."""
    compute = in_a_graph(preprocessing, augmentation, size)
    for image, seed in itertools.product(IMAGES.values(), [(0, 0), (0, 1), (7, 12)]):
        draws, results = compute(image, seed)
        for result, switches in zip(results, SWITCHES, strict=True):
            assert_close(result, augmented(image, draws, preprocessing, augmentation, size, **switches))


@pytest.mark.numerical
@pytest.mark.parametrize("brightness_first", [False, True])
@pytest.mark.parametrize(("brightness", "saturation"), [(-32 / 255, 0.5), (-32 / 255, 1.5), (32 / 255, 1.5), (0, 1)])
def test_colours_of_inception_at_the_ends(brightness, saturation, brightness_first):
    """Brightness makes values below 0 and above 1, which the saturation takes in before they are clipped."""
    image = noise(40, 30, 3)
    image[:10] //= 20
    image[10:20, :, 1] = 0
    image[20:25] = 128
    draws = Draws(
        box=np.array([3, 2, 35, 25]),
        flip=np.array(True),
        brightness=np.float32(brightness),
        brightness_first=np.array(brightness_first),
        saturation=np.float32(saturation),
    )
    for preprocessing in ("inception", "vgg"):
        choice = {"preprocessing": preprocessing, "augmentation": "inception", "size": 33}
        result = augment(image, draws=draws, **choice).numpy()
        assert_close(result, augmented(image, arrays(draws), **choice))


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_none_is_the_preprocessing(preprocessing):
    image = noise(32, 32, 3) if preprocessing == "none" else noise(45, 70, 3)
    expected = preprocess(image[np.newaxis], preprocessing, 32)[0].numpy()
    choice = {"preprocessing": preprocessing, "augmentation": "none", "size": 32}
    assert np.array_equal(augment(image, **choice), expected)
    assert np.array_equal(augment(image, seed=[3, 4], flip=False, color=False, **choice), expected)
    assert arrays(draw(image.shape, "none", 32, [3, 4])) == {}


@pytest.mark.parametrize("augmentation", RANDOM)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (300, 1, 3)])
def test_smallest_images(augmentation, shape):
    """Even the smallest images have a result, at the smallest size too."""
    for preprocessing, size in (("inception", 32), ("cifar", 1)):
        choice = {"preprocessing": preprocessing, "augmentation": augmentation, "size": size}
        result = augment(noise(*shape), seed=[0, 0], **choice).numpy()
        assert result.shape == (size, size, 3)
        assert np.isfinite(result).all()


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_static_shape(augmentation):
    for preprocessing, channels in (("vgg", 3), ("grayscale", 1)):
        with tf.Graph().as_default():
            image = tf.compat.v1.placeholder(tf.uint8, [None, None, None] if channels == 3 else [None, None, 3])
            choice = {"preprocessing": preprocessing, "augmentation": augmentation, "size": 24}
            result = augment(image, seed=tf.compat.v1.placeholder(tf.int64, [2]), **choice)
            if augmentation != "none" or channels == 1:
                assert result.shape.as_list() == [24, 24, channels]
            assert result.dtype == tf.float32


# Threads and order.


@pytest.mark.parametrize("augmentation", RANDOM)
def test_an_image_depends_on_its_place_alone(augmentation):
    """The same seed and place give the same bits, whatever the threads and the order; other places give others."""
    image = IMAGES["noise 57x43"]
    choice = {"preprocessing": "vgg", "augmentation": augmentation, "size": 16}

    @tf.autograph.experimental.do_not_convert
    def one(place):
        return place, augment(image, seed=[9, place], **choice)

    def results(order, threads):
        dataset = tf.data.Dataset.from_tensor_slices(np.array(order, np.int64))
        dataset = dataset.map(one, num_parallel_calls=threads, deterministic=False)
        return {int(place): result.tobytes() for place, result in dataset.as_numpy_iterator()}

    places = list(range(40))
    expected = results(places, threads=1)
    assert len(set(expected.values())) == len(places)
    assert results(places[:6:-1], threads=4) == {place: expected[place] for place in places[7:]}
    assert augment(image, seed=[9, 5], **choice).numpy().tobytes() == expected[5]
    draws = draw(image.shape, augmentation, 16, [9, 5])
    assert augment(image, draws=draws, **choice).numpy().tobytes() == expected[5]
    assert augment(image, seed=[8, 5], **choice).numpy().tobytes() != expected[5]


# The distributions.

COUNT = 2500


def many(function):
    """Returns what a function of the place returns, for the places from 0 on."""

    @tf.function(autograph=False)
    def all_of_them():
        signature = tf.nest.map_structure(lambda tensor: tensor.dtype, function(tf.constant(0)))
        return tf.map_fn(function, tf.range(COUNT), fn_output_signature=signature)

    return tf.nest.map_structure(lambda tensor: tensor.numpy(), all_of_them())


def draw_many(shape, augmentation, size):
    return many(lambda place: arrays(draw(shape, augmentation, size, tf.stack([1, place]))))


def assert_uniform(values, least, most):
    assert stats.kstest(values, stats.uniform(least, most - least).cdf).pvalue > LIKELY
    assert least <= values.min() <= values.max() <= most


def assert_uniform_whole(values, least, most):
    """Asserts that whole numbers are uniform, ends included."""
    counts = np.bincount(values - least, minlength=most - least + 1)
    assert len(counts) == most - least + 1
    assert stats.chisquare(counts).pvalue > LIKELY


def assert_share(values, share):
    assert stats.binomtest(int(values.sum()), len(values), share).pvalue > LIKELY


def assert_independent(*columns):
    """Asserts that no two of the values are correlated, nor with those of the next place."""
    columns = np.array(columns, np.float64)
    columns = np.concatenate([columns[:, 1:], columns[:, :-1]])
    correlations = np.corrcoef(columns)[~np.eye(len(columns), dtype=bool)]
    # One of 100 normal values is farther than 5 deviations once in 10,000 times.
    assert np.abs(correlations).max() < 5 / np.sqrt(COUNT)


def test_draws_of_vgg():
    """At 224 the shorter side is uniform from 256 to 512, and the crop over all places in the scaled image."""
    draws = draw_many((300, 400), "vgg", 224)
    assert sorted(draws) == ["box", "flip", "shorter_side"]
    shorter, (top, left, height, width) = draws["shorter_side"], draws["box"].T
    assert_uniform_whole(shorter, 256, 512)
    assert_share(draws["flip"], 0.5)
    assert {*height, *width} == {224}
    # Whole numbers from 0 to n, and a random part of 1, are uniform from 0 to n + 1.
    part = np.random.default_rng(0).random([2, COUNT])
    longer = np.rint(np.float32(400) * (shorter.astype(np.float32) / np.float32(300)))
    vertical, horizontal = (top + part[0]) / (shorter - 224 + 1), (left + part[1]) / (longer - 224 + 1)
    assert_uniform(vertical, 0, 1)
    assert_uniform(horizontal, 0, 1)
    assert_independent(shorter, vertical, horizontal, draws["flip"])


def test_shorter_sides_at_another_size():
    """The range goes with the size: at 32 it is 256 * 32 / 224 = 36.6 to 512 * 32 / 224 = 73.1."""
    assert_uniform_whole(draw_many((30, 30), "vgg", 32)["shorter_side"], 37, 73)


@pytest.mark.parametrize(("size", "padding"), [(32, 4), (96, 12)])
def test_draws_of_cifar(size, padding):
    draws = draw_many((32, 32), "cifar", size)
    assert sorted(draws) == ["box", "brightness", "contrast", "flip"]
    top, left, height, width = draws["box"].T
    assert {*height, *width} == {size}
    assert_uniform_whole(top, 0, 2 * padding)
    assert_uniform_whole(left, 0, 2 * padding)
    assert_share(draws["flip"], 0.5)
    assert_uniform(draws["brightness"], np.float32(-63 / 255), np.float32(63 / 255))
    assert_uniform(draws["contrast"], np.float32(0.2), np.float32(1.8))
    assert_independent(top, left, draws["flip"], draws["brightness"], draws["contrast"])


def test_draws_of_inception():
    draws = draw_many((300, 400, 3), "inception", 224)
    assert sorted(draws) == ["box", "brightness", "brightness_first", "flip", "saturation"]
    assert_share(draws["flip"], 0.5)
    assert_share(draws["brightness_first"], 0.25)
    assert_uniform(draws["brightness"], np.float32(-32 / 255), np.float32(32 / 255))
    assert_uniform(draws["saturation"], 0.5, 1.5)
    assert_independent(draws["box"][:, 2], *(values for name, values in draws.items() if name != "box"))


def stateful_box(shape):
    """Returns a box of the op that research/slim uses, with its arguments there."""
    begin, extent, _ = tf.raw_ops.SampleDistortedBoundingBoxV2(
        image_size=[*shape, 3],
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.1,
        seed=3,
        seed2=4,
        aspect_ratio_range=[0.75, 1.33],
        area_range=[0.05, 1.0],
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


@pytest.mark.parametrize("shape", [(300, 400), (300, 30), (8, 8), (1, 50)])
def test_boxes_of_inception(shape):
    """Area, aspect ratio and place are those of slim's stateful op, and of NumPy code for large images."""
    boxes = draw_many(shape, "inception", 224)["box"]
    references = [many(lambda _: stateful_box(shape))]
    if min(shape) > 100:  # the op rounds in its own way, which shows in small images
        references.append(distorted_boxes(np.random.default_rng(0), *shape, COUNT))
    for reference in references:
        for values, expected in zip(measures(boxes, shape), measures(reference, shape), strict=True):
            assert stats.ks_2samp(values, expected).pvalue > LIKELY
    assert (boxes >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= shape).all()
    whole = (boxes == [0, 0, *shape]).all(axis=1)
    # One row high, no box of such an aspect ratio has a tenth of the area.
    assert whole.all() == (shape == (1, 50))
    area, aspect, _, _ = (values[~whole] for values in measures(boxes, shape))
    rounding = 0.5 / boxes[~whole, 2]  # of the width
    assert (area >= 0.1).all()
    assert (aspect >= 0.75 - rounding).all()
    assert (aspect <= 1.33 + rounding).all()


def measures(boxes, shape):
    """Returns area, aspect ratio, and the place of the centre."""
    top, left, height, width = boxes.T
    return height * width / np.prod(shape), width / height, top + height / 2, left + width / 2


# Names and bad input.


def test_default_augmentations():
    assert {name: default_augmentation(name, 32) for name in PREPROCESSINGS} == {
        "cifar": "cifar",
        "grayscale": "none",
        "inception": "cifar",
        "none": "none",
        "torchvision": "none",
        "vgg": "cifar",
    }
    assert {name: default_augmentation(name, 224) for name in PREPROCESSINGS} == {
        "cifar": "cifar",
        "grayscale": "none",
        "inception": "inception",
        "none": "none",
        "torchvision": "none",
        "vgg": "vgg",
    }
    with pytest.raises(ValueError, match="Unknown preprocessing 'imagenet': there is cifar, "):
        default_augmentation("imagenet", 224)


@pytest.mark.parametrize(
    ("preprocessing", "augmentation", "size", "expected"),
    [
        ("vgg", "none", 224, (256, 341)),
        ("vgg", "vgg", 224, (512, 683)),
        ("inception", "vgg", 112, (256, 341)),
        ("vgg", "inception", 224, (300, 400)),
        ("inception", "cifar", 224, (300, 400)),
        ("inception", "cifar", 320, (400, 400)),
        ("vgg", "cifar", 320, (400, 488)),
    ],
)
def test_largest_size(preprocessing, augmentation, size, expected):
    """A 300x400 image: 512 * 400 / 300 = 682.7; at 320 the padding is 40, and vgg scales to 366 x 488."""
    assert largest_size(preprocessing, augmentation, size, 300, 400) == expected


REFUSALS = {
    "another augmentation": ({"augmentation": "mixup"}, "Unknown augmentation 'mixup': there is cifar, inception, "),
    "no augmentation": ({"augmentation": None}, "Unknown augmentation None: there is cifar, "),
    "another preprocessing": ({"preprocessing": "imagenet"}, "Unknown preprocessing 'imagenet'"),
    "any numbers": (
        {"preprocessing": "none"},
        "'vgg' needs images, and preprocessing 'none' .* use augmentation 'none'",
    ),
    "no size": ({"size": 0}, "image size must be at least 1, and is 0"),
    "half a pixel": ({"size": 8.5}, "image size must be a whole number of at least 1, and is 8.5"),
    "a batch": (
        {"image": noise(1, 8, 8, 3)},
        r"image must be \[height, width, channels\], and has shape \(1, 8, 8, 3\)",
    ),
    "floats": ({"image": np.zeros([8, 8, 3], np.float32)}, "'vgg' takes uint8 images, .* given float32"),
    "a flip that is text": ({"flip": "no"}, "flip must be True or False, and is 'no'"),
    "colour as a number": ({"color": 0.5}, "color must be True or False, and is 0.5"),
    "no seed": ({"seed": None}, "requires seed or draws, and got neither"),
    "seed and draws": ({"draws": Draws()}, "requires seed or draws, and got both"),
    "one number": ({"seed": 3}, "seed must be two integers, int32 or int64, and is 3"),
    "three numbers": ({"seed": [1, 2, 3]}, r"seed must be two integers, int32 or int64, and is \[1, 2, 3\]"),
    "a seed of floats": ({"seed": [1.0, 2.0]}, r"seed must be two integers, int32 or int64, and is \[1.0, 2.0\]"),
    "a seed of text": ({"seed": "17"}, "seed must be two integers, int32 or int64, and is '17'"),
    "no draws": (
        {"seed": None, "draws": Draws()},
        "have no values, and augmentation 'vgg' needs box, flip, shorter_side",
    ),
    "other draws": (
        {"seed": None, "draws": Draws(box=[0] * 4, flip=True)},
        "The draws have box, flip, and augmentation",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case):
    arguments, message = REFUSALS[case]
    legal = {"image": noise(8, 8, 3), "preprocessing": "vgg", "augmentation": "vgg", "size": 32, "seed": [0, 0]}
    with pytest.raises(ValueError, match=message):
        augment(**{**legal, **arguments})


def test_drawing_refuses():
    with pytest.raises(ValueError, match="Unknown augmentation 'mixup'"):
        draw([8, 8], "mixup", 32, [0, 0])
    with pytest.raises(ValueError, match="image size must be at least 1, and is -1"):
        draw([8, 8], "none", -1, [0, 0])

"""What the signatures of an export take, what they answer, and what they refuse."""

from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf

from tfp_smvi.config import Kind, LikelihoodName, ModelConfig
from tfp_smvi.data.values import to_float
from tfp_smvi.export.signatures import decoder_part, describe_signatures, encoder_part
from tfp_smvi.models.vae import VAE

SHAPE = (8, 6, 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)
PNGS = [tf.io.encode_png(image).numpy() for image in PIXELS]
# Another order of the same float32 sums, and 1/255 in place of a division: values here are of the
# order of 1.
TOLERANCE = 1e-5


def make_model(shape: tuple[int, ...] = SHAPE, likelihood: LikelihoodName = "bernoulli") -> VAE:
    num_categories = 5 if likelihood == "categorical" else None
    config = ModelConfig(
        likelihood=likelihood, num_categories=num_categories, latent_dim=3, hidden_sizes=(16,)
    )
    return VAE(config, shape)


MODEL = make_model()
SIGNATURES = encoder_part(MODEL, "intensities").signatures


def ask(signature: str, value: Any) -> dict[str, np.ndarray]:
    """Asks a signature of MODEL's encoder."""
    return {
        key: output.numpy() for key, output in SIGNATURES[signature](tf.constant(value)).items()
    }


def assert_features_of(answers: dict[str, np.ndarray], pixels: np.ndarray) -> None:
    posterior = MODEL.encode(tf.constant(to_float(pixels)))
    assert answers.keys() == {"mean", "stddev"}
    np.testing.assert_allclose(answers["mean"], posterior.mean(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(answers["stddev"], posterior.stddev(), rtol=0, atol=TOLERANCE)


def test_inputs_and_outputs_have_names_dtypes_and_a_free_batch_size() -> None:
    outputs = {name: {"dtype": "float32", "shape": [None, 3]} for name in ("mean", "stddev")}
    images = {"shape": [None, 8, 6, 1]}
    described = {name: spec.to_json() for name, spec in describe_signatures(SIGNATURES).items()}
    assert described == {
        "serving_default": {
            "inputs": {"images": images | {"dtype": "float32"}},
            "outputs": outputs,
        },
        "uint8": {"inputs": {"images": images | {"dtype": "uint8"}}, "outputs": outputs},
        "encoded_image": {
            "inputs": {"image_bytes": {"dtype": "string", "shape": [None]}},
            "outputs": outputs,
        },
    }


@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_signature_gives_the_features_of_the_model(count: int) -> None:
    pixels = PIXELS[:count]
    assert_features_of(ask("serving_default", to_float(pixels)), pixels)
    assert_features_of(ask("uint8", pixels), pixels)
    assert_features_of(ask("encoded_image", np.array(PNGS[:count], object).astype("S")), pixels)


def test_grey_levels_of_the_other_forms_of_a_png_are_the_same() -> None:
    colour, opaque = np.repeat(PIXELS[0], 3, -1), np.full((*SHAPE[:2], 1), 255, np.uint8)
    images = [colour, np.concatenate([colour, opaque], -1), np.concatenate([PIXELS[0], opaque], -1)]
    images.append(PIXELS[0].astype(np.uint16) * 257)
    assert_features_of(
        ask("encoded_image", [tf.io.encode_png(image).numpy() for image in images]), PIXELS[[0] * 4]
    )


def test_a_jpeg_is_read_as_tensorflow_decodes_it() -> None:
    jpeg = tf.io.encode_jpeg(PIXELS[0]).numpy()
    assert_features_of(ask("encoded_image", [jpeg]), tf.io.decode_jpeg(jpeg).numpy()[None])


def test_a_model_of_colours_takes_grey_and_colour_images() -> None:
    model = make_model((4, 4, 3), "gaussian")
    signature = encoder_part(model, "intensities").signatures["encoded_image"]
    grey = np.random.default_rng(1).integers(0, 256, (4, 4, 1), np.uint8)
    pixels = np.stack([np.repeat(grey, 3, -1), np.roll(np.repeat(grey, 3, -1), 1, 0)])
    answers = signature(
        tf.constant([tf.io.encode_png(grey).numpy(), tf.io.encode_png(pixels[1]).numpy()])
    )
    expected = model.encode(tf.constant(to_float(pixels))).mean()
    np.testing.assert_allclose(answers["mean"], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-6, 1.0 + 1e-6, 255.0])
def test_values_that_are_no_intensities_are_refused(value: float) -> None:
    images = to_float(PIXELS)
    images[3, 2, 1] = value
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"x must be intensities in \[0, 1\], without NaN"
    ):
        ask("serving_default", images)


@pytest.mark.parametrize("signature", ["serving_default", "uint8"])
@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3), (6, 8, 1), (2, 8, 6, 1)])
def test_another_shape_is_refused(signature: str, shape: tuple[int, ...]) -> None:
    images = np.zeros((2, *shape), "float32" if signature == "serving_default" else "uint8")
    message = r"Shape of tensor images .* is not compatible with expected shape \[\?,8,6,1\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ask(signature, images)


GIF = b"GIF89a\x06\x00\x08\x00\x80\x00\x00" + bytes(20)
BMP = b"BM" + bytes(60)
LARGE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
    + (60000).to_bytes(4, "big") * 2
    + b"\x08\x00\x00\x00\x00"
    + bytes(8)
)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "must hold a PNG or a JPEG image.*number of bytes given is: *. .0"),
        (b"no image", "must hold a PNG or a JPEG image"),
        (GIF, "must hold a PNG or a JPEG image"),
        (BMP, "must hold a PNG or a JPEG image"),
        (PNGS[0][:20], "must hold a PNG or a JPEG image"),
        (PNGS[0][:60], "Invalid PNG data, size 60"),
        (PNGS[0][:-30] + bytes(30), "Invalid PNG data"),
        (b"\xff\xd8\xff", "Invalid JPEG data, size 3"),
        (tf.io.encode_jpeg(PIXELS[0]).numpy()[:300], "Invalid JPEG data"),
        (
            tf.io.encode_png(PIXELS[0][:7]).numpy(),
            r"must be 8 pixels high and 6 wide; .* given are:\] \[7 6\]",
        ),
        (
            tf.io.encode_jpeg(PIXELS[0][:, :5]).numpy(),
            r"must be 8 pixels high and 6 wide; .* \[8 5\]",
        ),
        # Were it decoded, it would need 3.6 GB.
        (LARGE, r"must be 8 pixels high and 6 wide; .* given are:\] \[60000 60000\]"),
    ],
)
def test_bytes_that_are_no_image_of_this_size_are_refused(image: bytes, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ask("encoded_image", [PNGS[0], image])


def test_real_values_need_only_be_finite() -> None:
    model = make_model((5,), "gaussian")
    part = encoder_part(model, "real")
    assert part.left_out.keys() == {"uint8", "encoded_image"}
    (signature,) = part.signatures.values()
    x = np.random.default_rng(2).normal(0, 100, (3, 5)).astype(np.float32)
    np.testing.assert_allclose(
        signature(tf.constant(x))["mean"], model.encode(tf.constant(x)).mean(), rtol=1e-5
    )
    x[1, 2] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="x must be finite numbers"):
        signature(tf.constant(x))


@pytest.mark.parametrize("shape", [(12,), (3, 4, 2)])
def test_what_no_image_file_holds_is_not_asked_for_as_one(shape: tuple[int, ...]) -> None:
    part = encoder_part(make_model(shape), "intensities")
    assert list(part.signatures) == ["serving_default", "uint8"]
    assert part.left_out == {"encoded_image": f"no PNG or JPEG image has the shape {list(shape)}"}


@pytest.mark.parametrize("likelihood", get_args(LikelihoodName))
def test_the_decoder_gives_the_parameters_of_its_likelihood(likelihood: LikelihoodName) -> None:
    model = make_model(likelihood=likelihood)
    (signature,) = decoder_part(model).signatures.values()
    z = tf.random.stateless_normal([4, 3], [0, 1])
    answers, expected = signature(z), model.likelihood.parameters(model.decode(z).distribution)
    assert list(answers) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value, rtol=0, atol=TOLERANCE)
    with pytest.raises(tf.errors.InvalidArgumentError, match="latent must be finite numbers"):
        signature(tf.fill([2, 3], np.inf))


@pytest.mark.parametrize("value", [-1.0, 0.5, np.nan, np.inf, 5.0])
@pytest.mark.parametrize("likelihood", ["poisson", "categorical"])
def test_values_that_are_no_counts_are_refused(likelihood: LikelihoodName, value: float) -> None:
    part = encoder_part(make_model((6,), likelihood), "counts")
    assert part.left_out.keys() == {"uint8", "encoded_image"}
    (signature,) = part.signatures.values()
    x = np.arange(5, dtype=np.float32)[:, None] + np.zeros(6, np.float32)
    assert np.isfinite(signature(tf.constant(x))["mean"]).all()
    x[1, 2] = value
    if likelihood == "poisson" and value == 5.0:
        assert np.isfinite(signature(tf.constant(x))["mean"]).all()
        return
    values = (
        "counts, whole numbers of at least 0"
        if likelihood == "poisson"
        else ("categories, whole numbers from 0 to 4")
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"x must be {values}, without"):
        signature(tf.constant(x))


@pytest.mark.parametrize(
    ("kind", "likelihood"),
    [("intensities", "bernoulli"), ("real", "gaussian"), ("counts", "negative_binomial")],
)
def test_missing_entries_are_taken_where_the_model_knows_them(
    kind: Kind, likelihood: LikelihoodName
) -> None:
    config = ModelConfig(likelihood=likelihood, latent_dim=3, hidden_sizes=(16,), missing=True)
    model = VAE(config, (6,))
    signature = encoder_part(model, kind).signatures["serving_default"]
    x = np.ones((4, 6), np.float32)
    x[:2, 3] = x[0] = np.nan
    answers, posterior = signature(tf.constant(x)), model.encode(tf.constant(x))
    np.testing.assert_allclose(answers["mean"], posterior.mean(), rtol=0, atol=TOLERANCE)
    # A missing entry is no zero.
    zeros = signature(tf.constant(np.nan_to_num(x)))["mean"]
    assert np.abs(zeros - answers["mean"])[:2].max() > 1e-3
    x[3, 3] = -np.inf
    with pytest.raises(tf.errors.InvalidArgumentError, match="or NaN if missing; others are"):
        signature(tf.constant(x))

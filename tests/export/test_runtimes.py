"""Exports as ONNX and TFLite files: which signatures have them, and that the answers agree."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from tests.support import runs
from tests.support.errors import refused
from tests.support.forked import run_program
from tests.support.runs import ReferenceRun
from tfp_smvi.config import FormatName, ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.export import standalone
from tfp_smvi.export.card import ModelCard
from tfp_smvi.export.check import CHECKSUMS, check_export, write_checksums
from tfp_smvi.export.formats import MODEL_CARD
from tfp_smvi.export.runtimes import add_formats, check_formats
from tfp_smvi.export.signatures import Part, decoder_part, encoder_part
from tfp_smvi.models.vae import VAE

# The same float32 sums in another order; features and parameters are of the order of 1.
TOLERANCE = 3e-6
SHAPE = (8, 8, 1)
FORMATS: tuple[FormatName, ...] = ("onnx", "tflite")
pytestmark = pytest.mark.filterwarnings(r"ignore:[\s]*Warning. tf.lite.Interpreter is deprecated")


@pytest.fixture(scope="module", autouse=True)
def forked_programs() -> Iterator[None]:
    """Forks the processes that convert and check, with TensorFlow loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standalone, "subprocess", SimpleNamespace(run=run_program))
        yield


def save(signatures: Any, folder: Path, variables: Any = ()) -> Path:
    module = tf.Module()
    module.weights = variables
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def ask(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The answers of a file, by ONNX Runtime or the TFLite interpreter."""
    if path.suffix == ".tflite":
        return tf.lite.Interpreter(str(path)).get_signature_runner(path.stem)(**inputs)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def inputs_of(name: str, config: ModelConfig, part: Part) -> dict[str, np.ndarray]:
    """Five inputs of a signature."""
    rng = np.random.default_rng(0)
    (spec,) = tf.nest.flatten(part.signatures[name].structured_input_signature)
    shape = (5, *spec.shape[1:])
    if spec.name == "latent":
        return {"latent": rng.standard_normal(shape).astype(np.float32)}
    x = rng.integers(0, 256 if spec.dtype == tf.uint8 else 2, shape)
    if config.missing:
        x = np.where(rng.random(shape) < 0.5, x, np.nan)
    return {"images": x.astype(spec.dtype.as_numpy_dtype)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig("bernoulli", latent_dim=3, architecture="conv", hidden_sizes=(16,)),
        ModelConfig("negative_binomial", latent_dim=3, hidden_sizes=(16,), missing=True),
        ModelConfig("categorical", latent_dim=3, hidden_sizes=(16,), num_categories=3),
    ],
    ids=lambda config: f"{config.likelihood}-{config.architecture}",
)
def test_answers_agree_with_tensorflow(config: ModelConfig, tmp_path: Path) -> None:
    """A layer that is converted wrongly, or NaN that are lost, would differ by 0.1 and more."""
    model = VAE(config, SHAPE, seed=0)
    kind: Any = "intensities" if config.likelihood == "bernoulli" else "counts"
    for number, part in enumerate((encoder_part(model, kind), decoder_part(model))):
        folder = save(part.signatures, tmp_path / str(number), part.variables)
        specs = add_formats(folder, FORMATS)
        for name in {*part.signatures} - {"encoded_image"}:
            inputs = inputs_of(name, config, part)
            expected = part.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
            for spec in specs.values():
                # Of any batch size.
                for count in (5, 1):
                    some = {key: value[:count] for key, value in inputs.items()}
                    answers = ask(folder / spec.files[name], some)
                    assert answers.keys() == expected.keys()
                    for key, value in answers.items():
                        np.testing.assert_allclose(
                            value, expected[key][:count], rtol=TOLERANCE, atol=TOLERANCE
                        )


@pytest.mark.parametrize(
    ("posterior", "operations"), [("flow", "StatelessRandom"), ("full", "MatrixDiagPart")]
)
def test_a_richer_posterior_goes_to_onnx_and_not_to_tflite(
    posterior: Any, operations: str, tmp_path: Path
) -> None:
    """TFLite has no operation for the fixed draws, nor for the diagonal of the covariance."""
    config = ModelConfig(
        "poisson", latent_dim=2, hidden_sizes=(8,), posterior=posterior, flow_layers=1
    )
    part = encoder_part(VAE(config, SHAPE, seed=0), "counts")
    folder = save(part.signatures, tmp_path / "1", part.variables)
    (spec,) = add_formats(folder, ("onnx",)).values()
    inputs = inputs_of("serving_default", config, part)
    answers = ask(folder / spec.files["serving_default"], inputs)
    expected = part.signatures["serving_default"](images=tf.constant(inputs["images"]))
    for key, value in answers.items():
        np.testing.assert_allclose(value, expected[key], rtol=TOLERANCE, atol=TOLERANCE)
    with pytest.raises(SMVIError, match=f"as tflite .TFLite has no operations {operations}"):
        add_formats(folder, ("tflite",))


def test_a_signature_without_its_operations_is_left_out_and_log1p_is_exact(tmp_path: Path) -> None:
    """ONNX has no log1p: log(1 + x) instead would be 0 at x = 1e-9."""

    def concrete(function: Any) -> Any:
        return tf.function(lambda x: {"y": function(x)}).get_concrete_function(
            tf.TensorSpec([None], tf.float32, "x")
        )

    functions = {"log1p": concrete(tf.math.log1p), "bessel": concrete(tf.math.bessel_i0)}
    specs = add_formats(save(functions, tmp_path / "1"), FORMATS)
    x = np.array([0, 1e-9, -1e-7, 1e-4, -0.5, 0.3, 7, 1e9], np.float32)
    for name, spec in specs.items():
        assert spec.files == {"log1p": f"{name}/log1p.{name}"}
        runtime = {"onnx": "ONNX", "tflite": "TFLite"}[name]
        assert spec.left_out == {"bessel": f"{runtime} has no operations BesselI0"}
        answer = ask(tmp_path / "1" / spec.files["log1p"], {"x": x})["y"]
        # TFLite rounds the sum; what it computes is not ours.
        if name == "onnx":
            np.testing.assert_allclose(answer, np.log1p(x), rtol=1e-6)


@pytest.fixture(scope="module")
def published(reference: ReferenceRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference run, exported by the command line in both formats."""
    output = tmp_path_factory.mktemp("models")
    options = ("--output", str(output), "--model-name", "m", "--format", "onnx")
    assert runs.call("export", str(reference.run_dir), *options, "--format", "tflite") == 0
    return output / "m" / "1"


def test_an_export_in_formats_has_their_files_and_names_them(published: Path) -> None:
    card = ModelCard.from_json(json.loads((published / MODEL_CARD).read_text()))
    files = {path.relative_to(published).as_posix() for path in published.rglob("*")}
    assert card.formats.keys() == {*FORMATS}
    for name, spec in card.formats.items():
        signatures = {"serving_default", "uint8"}
        assert spec.files == {key: f"{name}/{key}.{name}" for key in sorted(signatures)}
        assert {*spec.files.values()} == {file for file in files if file.startswith(f"{name}/")}
        assert "only TensorFlow has the operations" in spec.left_out["encoded_image"]
        assert all(file in (published / CHECKSUMS).read_text() for file in spec.files.values())
    check_export(published)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_answers_otherwise_is_found_and_named(
    name: str, published: Path, tmp_path: Path
) -> None:
    """Here one whose weights are those of another seed."""
    folder = Path(shutil.copytree(published, tmp_path / "1"))
    config = ModelConfig("bernoulli", latent_dim=4, hidden_sizes=(32, 32))
    part = encoder_part(VAE(config, SHAPE, seed=9), "intensities")
    other = save(part.signatures, tmp_path / "other", part.variables)
    add_formats(other, (name,))
    shutil.copy(other / name / f"uint8.{name}", folder / name)
    with pytest.raises(SMVIError, match=f"{name}/uint8.{name} differs from its SHA-256"):
        check_export(folder)
    (folder / CHECKSUMS).unlink()
    write_checksums(folder)
    with pytest.raises(SMVIError, match=rf"{name}/uint8.{name}: (mean|stddev) differs by"):
        check_export(folder)


def test_the_command_says_what_is_left_out_and_what_is_beside(
    reference: ReferenceRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--output", str(tmp_path), "--model-name", "m", "--no-verify", "--format", "onnx")
    assert runs.call("export", str(reference.run_dir), *options, "--format", "onnx") == 0
    out, err = capsys.readouterr()
    assert "Beside it: onnx/serving_default.onnx, onnx/uint8.onnx.\n" in out
    assert err == (
        "The signature encoded_image is not written as onnx: it takes files, and only TensorFlow "
        "has the operations that decode them.\n"
    )


def test_a_format_that_nobody_knows_is_refused() -> None:
    with refused("formats", "coreml"):
        check_formats(["coreml"], verify=True)


def test_what_a_format_needs_is_said_before_any_work(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a check of a version that has such files; TFLite is a part of TensorFlow."""
    missing: set[str] = set()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name not in missing or None)
    for package, verify in (("tf2onnx", False), ("onnxruntime", True)):
        missing = {package}
        with pytest.raises(SMVIError, match=rf"{package}.*pip install 'tfp-smvi\[onnx\]'"):
            check_formats(["onnx"], verify=verify)
        assert check_formats(["tflite", "tflite"], verify=verify) == ("tflite",)
    assert check_formats(["onnx"], verify=False) == ("onnx",)
    with pytest.raises(SMVIError, match="onnxruntime"):
        check_export(published)


def test_a_converter_that_is_killed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = SimpleNamespace(returncode=-9, stdout="", stderr="noise")
    monkeypatch.setattr(standalone, "subprocess", SimpleNamespace(run=lambda *_, **__: killed))
    with pytest.raises(SMVIError, match=r"process that wrote them was killed by SIGKILL"):
        add_formats(tmp_path, ("onnx",))

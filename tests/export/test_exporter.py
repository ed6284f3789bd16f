"""Exports: what is in them, who can read them and agrees, and what damage is found."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import openvino
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tests.support import c_api, runs
from tests.support.errors import refused
from tests.support.forked import run_program
from tests.support.runs import ReferenceRun
from tfp_smvi.config import ModelConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.data import Dataset, load_dataset
from tfp_smvi.export import exporter as export_module
from tfp_smvi.export import standalone, standalone_check
from tfp_smvi.export.card import ModelCard
from tfp_smvi.export.check import (
    CHECKSUMS,
    check_export,
    find_damage,
    find_wrong_answer,
    write_checksums,
)
from tfp_smvi.export.exportable import check_precision
from tfp_smvi.export.exporter import ExportResult, export_run
from tfp_smvi.export.formats import FORMAT, MODEL_CARD, find_weakness
from tfp_smvi.export.signatures import encoder_part
from tfp_smvi.export.standalone_check import find_mistake
from tfp_smvi.export.stored_weights import HalfWeights
from tfp_smvi.models import products
from tfp_smvi.models.vae import VAE
from tfp_smvi.runs.loading import load_run
from tfp_smvi.serving.encoders import LocalEncoder
from tfp_smvi.training.loop import fit

# Another order of the same float32 sums; features and probabilities are of the order of 1.
TOLERANCE = 1e-5
WEIGHTS = "variables/variables.data-00000-of-00001"
FILES = {
    *(
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.index",
        WEIGHTS,
    ),
    *("assets.extra/tf_serving_warmup_requests", "model_card.json", CHECKSUMS),
}


class Exported(NamedTuple):
    """The exports of the reference run, its model, and images in the forms for the encoder."""

    run_dir: Path
    encoder: ExportResult
    decoder: ExportResult
    model: VAE
    images: np.ndarray
    pixels: np.ndarray


@pytest.fixture(scope="module", autouse=True)
def forked_checks() -> Iterator[None]:
    """Forks the processes that check an export, with TensorFlow loaded.

    That one which loads it itself gives the same is a test of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standalone, "subprocess", SimpleNamespace(run=run_program))
        yield


@pytest.fixture(scope="module")
def exported(
    reference: ReferenceRun, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    output = tmp_path_factory.mktemp("exported")
    encoder, decoder = export_run(reference.run_dir, output=output, part="both")
    # Digits have 17 grey levels, which fit into 8 bits.
    pixels = np.rint(digits.test.images(range(50)) * 255).astype(np.uint8)
    images = pixels.astype(np.float32) / np.float32(255)
    return Exported(
        reference.run_dir, encoder, decoder, load_run(reference.run_dir).model, images, pixels
    )


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    """A copy of the encoder's export, to be damaged."""
    return Path(shutil.copytree(exported.encoder.path, tmp_path / "m" / "1"))


def features(model: VAE, images: np.ndarray) -> dict[str, np.ndarray]:
    posterior = model.encode(tf.constant(images))
    return {"mean": posterior.mean().numpy(), "stddev": posterior.stddev().numpy()}


def requests(exported: Exported) -> dict[str, dict[str, Any]]:
    """The inputs of each of the encoder's signatures."""
    return {
        "serving_default": {"images": exported.images},
        "uint8": {"images": exported.pixels},
        "encoded_image": {
            "image_bytes": [tf.io.encode_png(image).numpy() for image in exported.pixels]
        },
    }


def assert_close(answers: Any, expected: dict[str, np.ndarray]) -> None:
    assert answers.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(answers[name], value, rtol=0, atol=TOLERANCE, err_msg=name)


def test_layout_is_that_of_tf_serving(exported: Exported) -> None:
    for path, card in (exported.encoder, exported.decoder):
        assert path.parent.parent == exported.encoder.path.parent.parent
        assert path.name == "1"
        assert {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} == FILES
        assert json.loads((path / "model_card.json").read_text()) == {
            "version": 1,
            **card.to_json(),
        }
        assert {p.name for p in path.parent.iterdir()} == {"1"}
    assert exported.encoder.path.parent.name == "digits-lam0.5-seed0"
    assert exported.decoder.path.parent.name == "digits-lam0.5-seed0-decoder"


@pytest.mark.parametrize("signature", ["serving_default", "uint8", "encoded_image"])
def test_tensorflow_s_c_api_reads_the_encoder_and_agrees(
    exported: Exported, signature: str
) -> None:
    """The C++ loader and session that TF Serving uses, without Python and with XLA off."""
    inputs = requests(exported)[signature]
    one = {name: value[:1] for name, value in inputs.items()}
    none = {name: value[:0] for name, value in inputs.items()}
    answers = c_api.run_export(exported.encoder.path, signature, inputs, one, none)
    for answer, count in zip(answers, (50, 1, 0), strict=True):
        assert_close(answer, features(exported.model, exported.images[:count]))


def test_tensorflow_s_c_api_reads_the_decoder_and_agrees(exported: Exported) -> None:
    z = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    (answer,) = c_api.run_export(exported.decoder.path, "serving_default", {"latent": z})
    assert_close(answer, {"probabilities": exported.model.decode(tf.constant(z)).mean().numpy()})


def test_a_server_is_told_what_is_wrong_with_a_request(exported: Exported) -> None:
    """A session checks no shapes by itself: [2, 4, 16, 1] has as many values as two images."""
    nan = exported.images.copy()
    nan[3] = np.nan
    other_shape = exported.images.reshape(-1, 4, 16, 1)
    values = (
        {"images": images}
        for images in (nan, 255 * exported.images, other_shape, exported.images[0])
    )
    answers = c_api.run_export(exported.encoder.path, "serving_default", *values)
    assert all(isinstance(answer, str) for answer in answers)
    for answer in answers[:2]:
        assert "x must be intensities in [0, 1], without NaN" in answer
    for answer in answers[2:]:
        assert "is not compatible with expected shape [?,8,8,1]" in answer
    garbled = {"image_bytes": [b"\x89PNG\r\n\x1a\n" + bytes(50)]}
    large = {"image_bytes": [tf.io.encode_png(np.zeros((9, 8, 1), np.uint8)).numpy()]}
    text = {"image_bytes": [b"https://example.org/0.png"]}
    answers = c_api.run_export(exported.encoder.path, "encoded_image", garbled, large, text)
    assert "image_bytes must hold a PNG or a JPEG image" in answers[0]
    assert (
        "images must be 8 pixels high and 8 wide; height and width given are:] [9 8]" in answers[1]
    )
    assert "image_bytes must hold a PNG or a JPEG image" in answers[2]


def test_openvino_reads_both_and_agrees(exported: Exported) -> None:
    """An independent reader; of the encoder it reads serving_default."""
    core, options = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    z = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    for folder, value, expected in (
        (exported.encoder.path, exported.images, features(exported.model, exported.images)),
        (
            exported.decoder.path,
            z,
            {"probabilities": exported.model.decode(tf.constant(z)).mean().numpy()},
        ),
    ):
        answers = core.compile_model(core.read_model(str(folder)), "CPU", options)({0: value})
        assert_close({key.any_name: answer for key, answer in answers.items()}, expected)


def saved_model_cli(*arguments: str) -> str:
    process = run_program(
        [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_saved_model_cli_agrees_and_finds_nothing_to_fear(
    exported: Exported, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", exported.images)
    folder = ("--dir", str(exported.encoder.path))
    how = ("--tag_set", "serve", "--signature_def", "serving_default", "--outdir", str(tmp_path))
    saved_model_cli("run", *folder, *how, "--inputs", f"images={tmp_path / 'images.npy'}")
    answers = {name: np.load(tmp_path / f"{name}.npy") for name in ("mean", "stddev")}
    assert_close(answers, features(exported.model, exported.images))
    assert "does not contain the default denylisted ops" in saved_model_cli("scan", *folder)


def test_graph_has_no_python_no_compiled_function_and_no_reduced_precision(
    exported: Exported,
) -> None:
    """Custom ops are excluded by the C API, which knows none."""
    for path in (exported.encoder.path, exported.decoder.path):
        model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        (graph,) = [meta.graph_def for meta in model.meta_graphs]
        nodes = [
            *graph.node,
            *(node for function in graph.library.function for node in function.node_def),
        ]
        assert len(nodes) > 50
        assert not {node.op for node in nodes} & {
            "PyFunc",
            "PyFuncStateless",
            "EagerPyFunc",
            "XlaLaunch",
        }
        attributes = [
            *(node.attr for node in nodes),
            *(function.attr for function in graph.library.function),
        ]
        assert not any(
            attribute["_XlaMustCompile"].b
            for attribute in attributes
            if "_XlaMustCompile" in attribute
        )
        types = {value.type for attribute in attributes for value in attribute.values()}
        assert not types & {tf.bfloat16.as_datatype_enum, tf.float16.as_datatype_enum}


def test_warm_up_asks_every_signature_and_holds_the_models_answers(exported: Exported) -> None:
    for path, card in (exported.encoder, exported.decoder):
        signatures = tf.saved_model.load(str(path)).signatures
        records = tf.data.TFRecordDataset(str(path / "assets.extra" / "tf_serving_warmup_requests"))
        logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
        assert len(logs) <= 1000
        assert [log.predict_log.request.model_spec.signature_name for log in logs] == list(
            card.signatures
        )
        for log in logs:
            assert log.WhichOneof("log_type") == "predict_log"
            request, response = log.predict_log.request, log.predict_log.response
            assert request.model_spec.name == path.parent.name
            inputs = {
                key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()
            }
            answers = signatures[request.model_spec.signature_name](**inputs)
            assert_close(
                answers, {key: tf.make_ndarray(value) for key, value in response.outputs.items()}
            )


def test_card_says_what_the_model_is(exported: Exported) -> None:
    card = exported.encoder.card
    assert (card.lam, card.lam_reached, card.epochs, card.step) == (0.5, 0.5, 4, 176)
    assert card.metrics is not None
    assert card.metrics.test.to_json() == runs.records(exported.run_dir)[-1]["test"]
    config = json.loads((exported.run_dir / "config.json").read_text())["config"]
    assert card.config == config
    assert card.data.fingerprint == load_run(exported.run_dir).data_fingerprint
    assert card.data.licence == "CC BY 4.0"
    assert card.versions["tensorflow"] == tf.__version__
    assert card.evaluation is None
    assert (card.part, exported.decoder.card.part) == ("encoder", "decoder")


def test_card_is_read_back_from_its_file(exported: Exported) -> None:
    for path, card in (exported.encoder, exported.decoder):
        values = json.loads((path / MODEL_CARD).read_text())
        assert ModelCard.from_json(values) == card
        assert list(values) == ["version", *card.to_json()]


def test_card_has_the_evaluation_of_this_state_of_the_run_and_of_no_other(
    exported: Exported, tmp_path: Path
) -> None:
    run_dir, notes = Path(shutil.copytree(exported.run_dir, tmp_path / "run")), list[str]()
    results = {"splits": {"test": {"elbo": {"mean": -20.0}}}, "bracket": {}, "warnings": []}
    config = json.loads((run_dir / "config.json").read_text())
    state = {
        "config": config["config"],
        "step": 176,
        "data_fingerprint": config["data"]["fingerprint"],
    }

    def card_with(evaluation: Any) -> ModelCard:
        (run_dir / "evaluation.json").write_text(json.dumps(evaluation))
        ((_, card),) = export_run(
            run_dir, output=tmp_path, part="decoder", verify=False, note=notes.append
        )
        return card

    assert card_with({**results, "run": state}).evaluation == results
    assert notes == []
    assert card_with({**results, "run": state | {"step": 132}}).evaluation is None
    assert "is of another state of the run" in notes[-1]
    assert card_with([]).evaluation is None
    assert "cannot be read" in notes[-1]


def test_a_decoder_alone_has_the_name_that_is_given(exported: Exported, tmp_path: Path) -> None:
    options: Any = {"output": tmp_path, "part": "decoder", "verify": False}
    ((path, _),) = export_run(exported.run_dir, model_name="mine", version=7, **options)
    assert path == tmp_path / "mine" / "7"
    ((path, _),) = export_run(exported.run_dir, **options)
    assert path == tmp_path / "digits-lam0.5-seed0-decoder" / "1"


def test_features_are_float32_whatever_the_training_was(digits: Dataset, tmp_path: Path) -> None:
    fit(runs.config(precision="bfloat16", epochs=1), digits, tmp_path / "run")
    ((path, _),) = export_run(tmp_path / "run", output=tmp_path, verify=False)
    images = digits.test.images(range(20))
    answers = tf.saved_model.load(str(path)).signatures["serving_default"](
        images=tf.constant(images)
    )
    # Seen with bfloat16's 8 bits, these features would be off by 0.01.
    assert_close(answers, features(load_run(tmp_path / "run").model, images))


def test_products_in_bfloat16_leave_the_features_within_a_hundredth(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the length of a mean, as users of features compare them."""
    ((path, card),) = export_run(exported.run_dir, output=tmp_path, precision="bfloat16")
    assert (card.products, exported.encoder.card.products) == ("bfloat16", "float32")
    assert card.signatures == exported.encoder.card.signatures
    expected = features(exported.model, exported.images)
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: False)
    with pytest.warns(UserWarning, match="does not multiply bfloat16 numbers"):
        encoder = LocalEncoder(path)
    for name, (images,) in {
        key: value.values() for key, value in requests(exported).items()
    }.items():
        for key, found in encoder.encode(name, images)._asdict().items():
            length = np.linalg.norm(expected[key], axis=1)
            difference = np.linalg.norm(found - expected[key], axis=1) / length
            assert 0 < difference.max() < 0.01, (name, key)


def test_an_encoder_of_convolutions_has_no_products_in_bfloat16() -> None:
    model = VAE(ModelConfig("bernoulli", architecture="conv", latent_dim=2), (8, 8, 1))
    run: Any = SimpleNamespace(model=model)
    check_precision(run, "both", ("onnx",), "float32", "float32")
    with refused("precision", "bfloat16"):
        check_precision(run, "encoder", (), "bfloat16", "float32")


def test_weights_in_float16_take_half_of_the_bytes_and_answer_as_the_rounded_model(
    exported: Exported, tmp_path: Path
) -> None:
    encoder, decoder = export_run(exported.run_dir, output=tmp_path, part="both", weights="float16")
    assert (encoder.card.precision, exported.encoder.card.precision) == ("float16", "float32")
    assert encoder.card.signatures == exported.encoder.card.signatures
    model = rounded(exported.model)
    (answer,) = c_api.run_export(encoder.path, "uint8", requests(exported)["uint8"])
    assert_close(answer, features(model, exported.images))
    z = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    answer = tf.saved_model.load(str(decoder.path)).signatures["serving_default"](latent=z)
    assert_close(answer, {"probabilities": model.decode(tf.constant(z)).mean().numpy()})
    for half, whole in ((encoder, exported.encoder), (decoder, exported.decoder)):
        sizes = [(folder / WEIGHTS).stat().st_size for folder in (half.path, whole.path)]
        assert 0.5 < sizes[0] / sizes[1] < 0.6  # the names of the weights are in both


def test_all_networks_of_a_flow_have_weights_in_float16() -> None:
    """Those of the posterior take part when its moments are asked for, after the encoder."""
    config = ModelConfig("bernoulli", architecture="conv", posterior="flow", latent_dim=2)
    model, x = VAE(config, (8, 8, 1)), tf.zeros([3, 8, 8, 1])
    part = encoder_part(HalfWeights(model), "intensities")
    assert {variable.dtype for variable in part.variables} == {tf.uint16}
    answer = part.signatures["serving_default"](images=x)
    posterior = rounded(model).encode(x)
    assert_close(answer, {"mean": posterior.mean(), "stddev": posterior.stddev()})


def test_what_cannot_be_in_float16_is_one_line() -> None:
    model = VAE(ModelConfig("bernoulli", hidden_sizes=(3,), latent_dim=2), (2, 2))
    run: Any = SimpleNamespace(model=model)
    check_precision(run, "encoder", ("onnx",), "float32", "float32")
    with refused("weights", "float16"):
        check_precision(run, "encoder", ("onnx",), "float32", "float16")
    with refused("weights", "float16"):
        check_precision(SimpleNamespace(model=object()), "encoder", (), "float32", "float16")
    HalfWeights(model)
    model.named_variables["encoder/hidden_0/kernel"].assign(tf.fill([4, 3], 65520.0))
    with refused("weights", "float16"):
        HalfWeights(model)


def rounded(model: VAE) -> VAE:
    """A copy whose weights are those of float16."""
    twin = model.copy()
    for variable in twin.named_variables.values():
        variable.assign(variable.numpy().astype(np.float16).astype(np.float32))
    return twin


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "signatures"),
    [
        ("grey levels", {"serving_default", "uint8", "encoded_image"}),
        ("intensities", {"serving_default", "uint8", "encoded_image"}),
        ("real", {"serving_default"}),
        ("lost", {"serving_default"}),
        ("lost and not recorded", {"serving_default"}),  # as by version 0.1.0
    ],
)
def test_signatures_of_ones_own_data_follow_their_values(
    values: str, signatures: set[str], tmp_path: Path
) -> None:
    """Grey levels as input make sense only where the model has seen intensities."""
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    if values != "grey levels":
        x = (x / 255 if values == "intensities" else x - 100.0).astype(np.float32)
    file = tmp_path / "my images.npz"
    np.savez(file, x_train=x, x_test=x)
    config = dataclasses.replace(
        runs.config(epochs=1),
        data=dataclasses.replace(runs.CONFIG.data, dataset=str(file)),
        model=ModelConfig("gaussian", latent_dim=2, hidden_sizes=(8,)),
    )
    # Of raw numbers, with a warning.
    fit(config, load_dataset(str(file)), tmp_path / "run", reporter=runs.Recorder())
    if values.startswith("lost"):
        file.unlink()
    if values == "lost and not recorded":
        recorded = json.loads((tmp_path / "run" / "config.json").read_text())
        del recorded["data"]["kind"]
        (tmp_path / "run" / "config.json").write_text(json.dumps(recorded))
        runs.believe_config(tmp_path / "run")
    notes = list[str]()
    verify = values == "real"  # the others are as digits
    ((path, card),) = export_run(
        tmp_path / "run", output=tmp_path, verify=verify, note=notes.append
    )
    assert path.parent.name == "my-images-lam0.5-seed0"
    assert card.signatures.keys() == signatures
    assert (card.data.name, card.config["data"]) == ("my images.npz", {"dataset": "my images.npz"})
    left_out = [line for line in notes if line.startswith("The signature ")]
    assert len(left_out) == 3 - len(signatures)
    assert any(line.startswith("Cannot tell") for line in notes) == (
        values == "lost and not recorded"
    )


def test_an_export_that_answers_otherwise_than_the_model_is_not_published(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = export_module._decoder_examples

    def slightly_wrong(model: VAE) -> Any:
        found = examples(model)
        found["serving_default"].outputs["probabilities"][2, 1, 1] += 3e-5
        return found

    monkeypatch.setattr(export_module, "_decoder_examples", slightly_wrong)
    # In this process, which saves two others; their use is tested below.
    monkeypatch.setattr(export_module, "find_wrong_answer", find_mistake)
    with pytest.raises(SMVIError, match="signature serving_default: probabilities differs"):
        export_run(exported.run_dir, output=tmp_path, part="both")
    assert list(tmp_path.glob("*/*")) == []


def flip(path: Path, position: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


def test_a_whole_export_is_whole(exported: Exported) -> None:
    assert find_damage(exported.encoder.path) == []
    check_export(exported.encoder.path)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_flipped_or_missing_byte_of_any_file_is_found_and_the_file_named(
    name: str, copied: Path
) -> None:
    file, whole = copied / name, (copied / name).read_bytes()
    rng = np.random.default_rng()
    for position in (0, len(whole) - 1, *rng.integers(len(whole), size=20)):
        flip(file, position, int(rng.integers(1, 256)))
        assert any(CHECKSUMS in line for line in find_damage(copied))
        with pytest.raises(SMVIError, match=rf"{copied} is damaged: .*{re.escape(name)}\b"):
            check_export(copied)
        file.write_bytes(whole)
    file.write_bytes(whole[:-1])
    assert any(name in line for line in find_damage(copied))
    file.unlink()
    assert f"{name} is missing" in find_damage(copied)


def test_a_missing_folder_a_stranger_and_a_link_are_found(copied: Path) -> None:
    (copied / "notes.txt").write_text("mine")
    assert find_damage(copied) == [f"notes.txt is not in {CHECKSUMS}"]
    (copied / "notes.txt").unlink()
    (copied / "variables").rename(copied.parent / "aside")
    with pytest.raises(SMVIError, match=r"variables/variables\.data-00000-of-00001 is missing"):
        check_export(copied)
    (copied / "variables").symlink_to(copied.parent / "aside")
    assert f"variables is not in {CHECKSUMS}" in find_damage(copied)


@pytest.mark.parametrize("damage", ["weights", "graph", "answers"])
def test_damage_under_fresh_checksums_is_found_by_loading(damage: str, copied: Path) -> None:
    if damage == "weights":
        flip(copied / "variables" / "variables.data-00000-of-00001", 1000)
    elif damage == "graph":
        (copied / "saved_model.pb").write_bytes(b"\xff" * 100)
    else:
        (copied / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"")
    (copied / CHECKSUMS).unlink()
    write_checksums(copied)
    with pytest.raises(SMVIError, match="does not answer as recorded") as caught:
        check_export(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_process_that_verifies_does_not_know_the_package(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tfp_smvi that cannot be imported is in its way as little as one that can.

    It waits for the folder, and looks at the files when it gets it.
    """
    stub = copied.parent / "stub"
    stub.mkdir()
    (stub / "tfp_smvi.py").write_text("raise SystemExit('tfp_smvi was imported')")
    monkeypatch.setenv("PYTHONPATH", str(stub))
    monkeypatch.setattr(standalone, "subprocess", subprocess)
    with standalone.started_early(standalone_check):
        flip(copied / "variables" / "variables.data-00000-of-00001", 1000)
        # No other process is started.
        answer = SimpleNamespace(CompletedProcess=subprocess.CompletedProcess)
        monkeypatch.setattr(standalone, "subprocess", answer)
        assert "Checksum does not match" in str(find_wrong_answer(copied))


def test_a_process_that_nobody_asked_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    class Noted(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    namespace = SimpleNamespace(Popen=Noted, PIPE=subprocess.PIPE)
    monkeypatch.setattr(standalone, "subprocess", namespace)
    with pytest.raises(SMVIError), standalone.started_early(standalone_check):
        raise SMVIError("the export failed")
    (process,) = started
    assert process.returncode == -signal.SIGKILL


def test_a_folder_that_is_no_export_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with refused("path", str(path)):
            check_export(path)


def test_an_export_of_version_0_1_should_be_made_again() -> None:
    """Its encoded_image takes the size of an image from where the header of the PNG should be."""
    folder = Path(__file__).parents[1] / "files/version_0_1/saved_models/digits/1"
    with pytest.warns(UserWarning, match="export the run again"):
        LocalEncoder(folder)


def test_a_new_export_has_the_format_of_this_version(exported: Exported, copied: Path) -> None:
    """And a card that cannot be read says nothing of a version."""
    assert exported.encoder.card.format == FORMAT
    assert find_weakness(exported.encoder.path) is None
    for content in (b"{", b"[]", b"[" * 100_000, b'{"format": 1}', b"\xff"):
        (copied / MODEL_CARD).write_bytes(content)
        assert find_weakness(copied) is None

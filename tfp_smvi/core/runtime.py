"""What the process runs on: threads, precision and compilation."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import JSONObject, Record

__all__ = [
    "compiled",
    "environment",
    "num_threads",
    "numerics_unchecked",
    "require_float32",
    "require_no_tape",
    "require_one_device",
    "set_threads",
    "tf32_products",
    "uses_gpu",
    "uses_xla",
]

_PACKAGES = ("tfp-smvi", "tensorflow", "tensorflow-probability", "keras", "numpy")


def set_threads(threads: int | None) -> None:
    """Sets the threads of each operation; None leaves it to TensorFlow, which takes one per core.

    Raises:
        SMVIError: TensorFlow is already running, and its threads can no longer be set.
    """
    if threads is None:
        return
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise SMVIError(
            "the number of threads must be set before TensorFlow's first operation."
        ) from error


def require_float32() -> None:
    """Makes sure that what follows runs eagerly, and in the dtypes that it states.

    Takes TensorFloat-32 off in this process, which TensorFlow takes for float32 products on GPUs:
    it has the 10 bits of mantissa of float16.

    Raises:
        SMVIError: TensorFlow builds a graph, or rewrites all graphs of this process to a lower
            precision.
    """
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise SMVIError(
            "models are trained and loaded eagerly, and TensorFlow builds a graph here",
            remedy="call this outside of tf.Graph and tf.function, and without "
            "tf.compat.v1.disable_eager_execution",
        )
    tf.config.experimental.enable_tensor_float_32_execution(False)
    options = tf.config.optimizer.get_experimental_options()
    for name, value in options.items():
        if name.startswith("auto_mixed_precision") and value:
            raise SMVIError(
                f"TensorFlow's option {name} is on: it takes sums out of float32, too, and the "
                "numbers would be wrong",
                remedy=f'switch it off: tf.config.optimizer.set_experimental_options({{"{name}": '
                "False}})",
            )


@contextlib.contextmanager
def tf32_products(wanted: bool) -> Iterator[None]:
    """Lets a GPU multiply float32 matrices in TensorFloat-32 meanwhile, if wanted."""
    import tensorflow as tf

    switch = tf.config.experimental.enable_tensor_float_32_execution
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    switch(wanted)
    try:
        yield
    finally:
        switch(before)


def require_one_device() -> None:
    """Raises SMVIError inside the scope of a distribution strategy."""
    import tensorflow as tf

    if tf.distribute.has_strategy():
        raise SMVIError(
            "training runs on one device, and this is the scope of a distribution strategy "
            f"({type(tf.distribute.get_strategy()).__name__})",
            remedy="call fit outside of the scope",
        )


def require_no_tape() -> None:
    """Raises SMVIError where a tape or an accumulator of the caller records what TensorFlow does.

    It would keep the operations of all steps in memory, and the second derivatives that it asks for
    do not exist.
    """
    from tensorflow.python.eager import record  # TensorFlow has no public question for it

    if record.could_possibly_record():
        raise SMVIError(
            "training takes gradients of its own, and a tf.GradientTape or ForwardAccumulator "
            "records here",
            remedy="call fit outside of it",
        )


@contextlib.contextmanager
def numerics_unchecked() -> Iterator[None]:
    """Suspends tf.debugging.enable_check_numerics where NaN and infinity have a meaning.

    The log density of the impossible is -inf, TFP marks what is not computed yet with NaN, and a
    trajectory that diverges is rejected. Works for eager operations and while a graph is traced.
    """
    import tensorflow as tf

    checked = False
    with tf.init_scope():  # eagerly, also while a graph is traced: TensorFlow has no getter
        try:
            tf.math.log(-1.0)
        except tf.errors.InvalidArgumentError:
            checked = True
            tf.debugging.disable_check_numerics()
    try:
        yield
    finally:
        if checked:
            tf.debugging.enable_check_numerics()


def compiled(function: Callable[..., Any], *, reduce_retracing: bool = False) -> Any:
    """Returns an estimator as a graph, with XLA on a GPU, through which no gradient passes.

    On a CPU XLA took 0.86 of the chains' time on one machine and 1.2 on another (results/ais.md),
    and has to be compiled first.

    Args:
        function: takes and returns tensors; NaN and infinity may have a meaning in it.
        reduce_retracing: whether the shapes of its arguments vary.
    """
    import tensorflow as tf

    from tfp_smvi.core.graphs import forget

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with numerics_unchecked():
            results = function(*arguments)
        forget(tf.compat.v1.get_default_graph())
        return results

    return tf.function(
        traced,
        jit_compile=uses_gpu(),
        autograph=False,
        reduce_retracing=reduce_retracing,
    )


def uses_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def uses_xla(mode: str) -> bool:
    """Whether the training step is compiled with XLA: by default only on a GPU.

    On a CPU oneDNN's kernels are faster than XLA's, which take 1.1 to 2 times as long for the step.
    """
    return uses_gpu() if mode == "auto" else mode == "on"


@dataclass(frozen=True)
class Machine(Record):
    """The machine that a run or a result was made on.

    Attributes:
        platform: the operating system and its version.
        processor: the processor's architecture.
        gpus: the names of the GPUs.
        threads: the threads of each operation.
        hostname: the name of the machine; "" in files that do not record it. It changes no bits.
        tf32: whether GPUs round the factors of float32 products to TensorFloat-32. Training steps
            of the precision "tf32" do so whatever it says.
    """

    platform: str
    processor: str
    gpus: tuple[str, ...]
    threads: int
    hostname: str = field(default="", compare=False)
    tf32: bool = False

    def to_json(self) -> JSONObject:
        """Returns the fields as JSON values, without what is not known or of a GPU that is none."""
        values = super().to_json()
        if not self.hostname:
            del values["hostname"]
        if not self.gpus:
            del values["tf32"]
        return values


@dataclass(frozen=True)
class Environment(Record):
    """What may change the bits of a run.

    Attributes:
        versions: the versions of Python and of the packages that matter, by name.
        machine: the machine.
    """

    versions: Mapping[str, str]
    machine: Machine


def environment() -> Environment:
    """Describes this process: versions, machine and threads."""
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in devices]
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return Environment(
        versions={"python": platform.python_version(), **versions},
        machine=Machine(
            platform=platform.platform(),
            processor=platform.machine(),
            gpus=tuple(str(details.get("device_name", "unknown")) for details in gpus),
            threads=num_threads(),
            hostname=socket.gethostname(),
            tf32=bool(gpus) and tf.config.experimental.tensor_float_32_execution_enabled(),
        ),
    )


def num_threads() -> int:
    """The threads of each operation, as TensorFlow takes them: set, in a variable, or its cores."""
    import tensorflow as tf

    variable = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    given = tf.config.threading.get_intra_op_parallelism_threads()
    return given or (int(variable) if variable.isdecimal() else 0) or os.cpu_count() or 1

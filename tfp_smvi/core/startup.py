"""How TensorFlow is loaded: quietly, and for a command without what no command uses."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator

__all__ = ["quiet_import", "quiet_tensorflow", "uncollected"]

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def quiet_tensorflow() -> None:
    """Imports TensorFlow, and Keras on it, without start-up chatter; errors still show.

    The native library writes to the file descriptor before it reads any setting, so the descriptor
    itself is redirected while it loads. For commands: Keras does without what no command uses.
    """
    os.environ.setdefault(_LEVEL, "2")
    # Importing TensorFlow imports Keras, which reads it then: the user's own choice of a backend is
    # not for us.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _silenced_stderr(), uncollected(), _hidden("matplotlib", "pandas", "sklearn"):
        # First: if it finds TensorFlow loaded, it loads all its experiments and Keras layers, too.
        import tensorflow_probability  # noqa: F401

        # isort: split
        import tensorflow as tf

        # Precisions that are not asked for by name are float32 (TFP warns of others).
        tf.config.experimental.enable_tensor_float_32_execution(False)
        # Initializes the devices, which complains of a missing GPU driver.
        tf.config.list_physical_devices("GPU")


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Keeps TensorFlow's start-up chatter out of programs and notebooks that load it meanwhile.

    If TensorFlow is loaded already, or TF_CPP_MIN_LOG_LEVEL asks for its messages, this does
    nothing. Unlike `quiet_tensorflow` it leaves the choice of Keras's backend to the user.
    """
    if "tensorflow" in sys.modules or os.environ.get(_LEVEL, "2") in ("0", "1"):
        yield
        return
    os.environ.setdefault(_LEVEL, "2")
    with _silenced_stderr():
        yield
        if tf := sys.modules.get("tensorflow"):
            # Initializes the devices, which complains of a missing GPU driver.
            tf.config.list_physical_devices("GPU")


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Redirects file descriptor 2 to nowhere; Python's own errors are raised and so not lost."""
    try:
        saved = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextlib.contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Lets packages look as if they were not installed, to what is imported meanwhile.

    Keras imports scikit-learn, matplotlib and pandas, where it finds them, for wrappers, galleries
    and tables. That was a third of the time in which TensorFlow loads.
    """
    hidden = [name for name in packages if name not in sys.modules]
    # None makes Python raise ModuleNotFoundError.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Suspends the collection of garbage.

    Imports make a million objects that stay; to search them again and again took a fifth of the
    time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()

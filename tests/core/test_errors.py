"""What is wrong, said in one line."""

import pytest
import tensorflow as tf

from tfp_smvi.core.errors import plain_reason


def test_tensorflow_s_words_around_a_reason_are_dropped() -> None:
    """TensorFlow packs a reason in three ways: in eager code, in a graph and in an assertion."""
    with pytest.raises(tf.errors.NotFoundError) as caught:
        tf.io.read_file("/no/such/file")
    assert "function_node" in str(caught.value)
    assert plain_reason(caught.value) == "/no/such/file; No such file or directory"

    @tf.function(autograph=False)
    def fail(name: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(
            [tf.debugging.Assert(size > 3, ["must be in [3, 9]; given is:", size])]
        ):
            return tf.io.read_file(name)

    with pytest.raises(tf.errors.NotFoundError) as caught:
        fail(tf.constant("/no/such/file"), tf.constant(5))
    assert plain_reason(caught.value) == "/no/such/file; No such file or directory"
    with pytest.raises(tf.errors.InvalidArgumentError) as invalid:
        fail(tf.constant("/no/such/file"), tf.constant(2))
    assert plain_reason(invalid.value) == "must be in [3, 9]; given is: 2"


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (ValueError("  one\ntwo"), "one"),
        (MemoryError(), "MemoryError"),
        (OSError(28, "No space left on device", "file"), "No space left on device"),
        (OSError("no strerror"), "no strerror"),
        (SyntaxWarning("no end", (2, 0)), "no end"),
        (KeyError("there is no item 'a'"), "there is no item 'a'"),
        ("", "no reason given"),
        ("x" * 400, "x" * 297 + "..."),
        ("[Errno 5] Input/output error", "[Errno 5] Input/output error"),
    ],
)
def test_any_other_reason_is_one_line_of_some_length(reason: object, line: str) -> None:
    assert plain_reason(reason) == line

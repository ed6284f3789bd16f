"""One training step as this package, PyTorch and JAX take it, and parts of it alone.

All take the same step: the objective with its score, clipping and Adam. `difference` shows that
their losses and gradients are those of this package.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from peers import (
    jax_compiled,
    jax_gradient,
    torch_compiled,
    torch_eager,
    torch_gradient,
    torch_parameters,
)
from step import CLIP, LAM, RATE, Arrays, Task, Turn, seconds


def tensorflow_quietly(threads: int) -> Any:
    """TensorFlow with a number of threads."""
    from tfp_smvi.core.runtime import set_threads
    from tfp_smvi.core.startup import quiet_tensorflow

    quiet_tensorflow()
    set_threads(threads)
    import tensorflow as tf

    return tf


def this_package(task: Task) -> Turn:
    """The package's own step, on one batch in memory."""
    tf = tensorflow_quietly(task.threads)
    from tfp_smvi.config import TrainConfig
    from tfp_smvi.training.trainer import Trainer

    config = TrainConfig(
        lam=LAM, precision=task.precision, clip_norm=CLIP, lam_warmup_steps=0, learning_rate=RATE
    )
    trainer = Trainer(_model(task), config, 468)
    batches = iter(tf.data.Dataset.from_tensors(_pictures(task)).repeat())
    return lambda steps: seconds(lambda: trainer.train(batches, steps)) / steps


def _model(task: Task) -> Any:
    from tfp_smvi.config import ModelConfig
    from tfp_smvi.models.vae import VAE

    sizes = {"latent_dim": task.latent, "hidden_sizes": (task.hidden, task.hidden)}
    return VAE(ModelConfig(likelihood="bernoulli", **sizes), _pictures(task).shape[1:])


def _pictures(task: Task) -> np.ndarray:
    return task.images().reshape(task.batch, -1, 28, 1)


def gradients_of_this_package(task: Task) -> Arrays:
    """The loss and its gradients."""
    tf = tensorflow_quietly(task.threads)
    from tfp_smvi.objectives.smvi import smvi_objective

    model = _model(task)
    for variable, value in zip(model.trainable_variables, task.weights(), strict=True):
        variable.assign(value)
    reduced, x = model.with_products(task.precision), _pictures(task)
    with tf.GradientTape() as tape:
        q = reduced.encode(x)
        z = q.mean() + q.stddev() * task.noise()
        terms = smvi_objective(q, model.prior, lambda z: reduced.decode(z).log_prob(x), LAM, z)
        loss = -tf.reduce_mean(terms.objective)
    return [t.numpy() for t in (loss, *tape.gradient(loss, model.trainable_variables))]


def bare_products(task: Task) -> Turn:
    """Only the step's matrix products, each on separate operands that are not transposed."""
    tf = tensorflow_quietly(task.threads)

    def operand(*shape: int) -> Any:
        return tf.Variable(tf.cast(tf.random.normal(shape), task.precision))

    operands = [(operand(m, k), operand(k, n)) for m, k, n in task.products().elements()]

    @tf.function
    def run(steps: Any) -> Any:
        total = tf.zeros([], task.precision)
        for _ in tf.range(steps):
            # One element of each product is added up, so that no product is optimized away and no
            # step skipped.
            total += tf.add_n([tf.matmul(a, b)[0, 0] for a, b in operands]) + 0.0 * total
        return total

    return lambda steps: seconds(lambda: run(tf.constant(steps)).numpy()) / steps


def bare_optimizer(task: Task) -> Turn:
    """Only Adam's pass over all weights and gradients, in float32."""
    tf = tensorflow_quietly(task.threads)
    from tf_keras.optimizers.legacy import Adam

    variables = [tf.Variable(value) for value in task.weights()]
    gradients = [tf.Variable(1e-3 * value) for value in task.weights()]
    optimizer = Adam(RATE)
    optimizer._create_all_weights(variables)

    @tf.function
    def run(steps: Any) -> None:
        for _ in tf.range(steps):
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

    return lambda steps: seconds(lambda: run(tf.constant(steps))) / steps


def difference(name: str, task: Task) -> float:
    """The largest relative difference of a loss or gradient from this package's, by its norm."""
    if name == "jax":
        loss, gradients = jax_gradient(task)(task.weights(), task.images(), task.noise())
        results = [np.asarray(t) for t in (loss, *gradients)]
    else:
        import torch

        inputs = (torch.from_numpy(task.images()), torch.from_numpy(task.noise()))
        gradients, loss = torch_gradient(task)(torch_parameters(task), *inputs)
        results = [loss.numpy(), *(g.numpy().T for g in gradients)]
    own = gradients_of_this_package(task)
    pairs = zip(results, own, strict=True)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)


def keep_to_cores(threads: int) -> None:
    """Restricts this process to as many cores, as JAX takes all that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


MAKERS: dict[str, Callable[[Task], Turn]] = {
    "tfp_smvi": this_package,
    "torch": torch_eager,
    "torch.compile": torch_compiled,
    "jax": jax_compiled,
    "products": bare_products,
    "adam": bare_optimizer,
}

"""The training step in PyTorch and in JAX."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from step import CLIP, EPSILON, FLOOR, LAM, RATE, Task, Turn, seconds


def torch_loss(
    parameters: Sequence[Any], x: Any, noise: Any, score_of: Callable, bf16: bool
) -> Any:
    """The loss, with the score by `score_of`: (f: z -> (sum, values), z) -> (gradient, values)."""
    import torch
    from torch.nn import functional

    def network(layers: Sequence[Any], x: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            x = functional.silu(functional.linear(x, layers[0], layers[1]))
            x = functional.silu(functional.linear(x, layers[2], layers[3]))
            return functional.linear(x, layers[4], layers[5]).float()

    def log_joint(z: Any) -> Any:
        logits = network(parameters[6:], z)
        reconstruction = (x * logits - functional.softplus(logits)).sum(-1)
        return (reconstruction - 0.5 * (z**2).sum(-1)).sum(), reconstruction

    mean, h = network(parameters[:6], x).chunk(2, -1)
    stddev = functional.softplus(h + math.log(math.e - 1.0)) + FLOOR
    z = mean + stddev * noise
    score, reconstruction = score_of(log_joint, z)
    divergence = ((score + (z - mean) / stddev**2) ** 2).sum(-1)
    kl = (0.5 * (mean**2 + stddev**2 - 1.0) - stddev.log()).sum(-1)
    return -(reconstruction - kl - LAM * divergence).mean()


def torch_parameters(task: Task) -> list[Any]:
    """The weights as PyTorch has them: kernels are [outputs, inputs]."""
    import torch

    torch.set_num_threads(task.threads)
    return [torch.from_numpy(np.ascontiguousarray(w.T)) for w in task.weights()]


def score_by_tape(function: Callable, z: Any) -> Any:
    """The score in eager PyTorch."""
    import torch

    total, values = function(z)
    return torch.autograd.grad(total, z, create_graph=True)[0], values


def torch_eager(task: Task) -> Turn:
    """PyTorch, eager, with its fused Adam and its clipping."""
    import torch

    parameters = [p.requires_grad_() for p in torch_parameters(task)]
    adam = torch.optim.Adam(parameters, RATE, eps=EPSILON, fused=True)
    x, bf16 = torch.from_numpy(task.images()), task.precision == "bfloat16"

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        noise = torch.randn(task.batch, task.latent)
        torch_loss(parameters, x, noise, score_by_tape, bf16).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()

    return lambda steps: seconds(lambda: [step() for _ in range(steps)]) / steps


def torch_gradient(task: Task) -> Callable:
    """(parameters, x, noise) -> gradients and loss, by torch.func."""
    import torch

    def score_of(function: Callable, z: Any) -> Any:
        return torch.func.grad(function, has_aux=True)(z)

    def loss(parameters: Sequence[Any], x: Any, noise: Any) -> Any:
        return torch_loss(parameters, x, noise, score_of, task.precision == "bfloat16")

    return torch.func.grad_and_value(loss)


def torch_compiled(task: Task) -> Turn:
    """PyTorch, the gradients and clipping in one compiled function, then its fused Adam."""
    import torch

    parameters, gradient = torch_parameters(task), torch_gradient(task)
    adam = torch.optim.Adam(parameters, RATE, eps=EPSILON, fused=True)
    x = torch.from_numpy(task.images())

    @torch.compile
    def clipped(parameters: list[Any], x: Any, noise: Any) -> list[Any]:
        gradients = gradient(parameters, x, noise)[0]
        norm = torch.sqrt(sum((g * g).sum() for g in gradients))
        factor = torch.clamp(CLIP / norm, max=1.0)
        return [g * factor for g in gradients]

    def step() -> None:
        noise = torch.randn(task.batch, task.latent)
        for parameter, g in zip(parameters, clipped(parameters, x, noise), strict=True):
            parameter.grad = g
        adam.step()

    return lambda steps: seconds(lambda: [step() for _ in range(steps)]) / steps


def jax_gradient(task: Task) -> Callable:
    """(parameters, x, noise) -> loss and gradients, by JAX."""
    import jax
    from jax import numpy as jnp

    dtype = jnp.bfloat16 if task.precision == "bfloat16" else jnp.float32

    def network(layers: Sequence[Any], x: Any) -> Any:
        for i in (0, 2, 4):
            x = jnp.dot(x.astype(dtype), layers[i].astype(dtype)) + layers[i + 1].astype(dtype)
            x = jax.nn.silu(x) if i < 4 else x
        return x.astype(jnp.float32)

    def loss(parameters: Sequence[Any], x: Any, noise: Any) -> Any:
        def log_joint(z: Any) -> Any:
            logits = network(parameters[6:], z)
            reconstruction = (x * logits - jax.nn.softplus(logits)).sum(-1)
            return (reconstruction - 0.5 * (z**2).sum(-1)).sum(), reconstruction

        mean, h = jnp.split(network(parameters[:6], x), 2, -1)
        stddev = jax.nn.softplus(h + math.log(math.e - 1.0)) + FLOOR
        z = mean + stddev * noise
        score, reconstruction = jax.grad(log_joint, has_aux=True)(z)
        divergence = ((score + (z - mean) / stddev**2) ** 2).sum(-1)
        kl = (0.5 * (mean**2 + stddev**2 - 1.0) - jnp.log(stddev)).sum(-1)
        return -(reconstruction - kl - LAM * divergence).mean()

    return jax.value_and_grad(loss)


def jax_compiled(task: Task) -> Turn:
    """JAX: the whole step, with Optax, in one function compiled by XLA."""
    import jax
    import optax

    adam = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE, eps=EPSILON))
    gradient, x = jax_gradient(task), jax.numpy.asarray(task.images())

    def step(parameters: Any, state: Any, key: Any) -> Any:
        key, now = jax.random.split(key)
        noise = jax.random.normal(now, (task.batch, task.latent))
        updates, state = adam.update(gradient(parameters, x, noise)[1], state, parameters)
        return optax.apply_updates(parameters, updates), state, key

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))
    parameters = [jax.numpy.asarray(w) for w in task.weights()]
    now = (parameters, adam.init(parameters), jax.random.key(0))

    def take(steps: int) -> None:
        nonlocal now
        for _ in range(steps):
            now = compiled(*now)
        jax.block_until_ready(now)

    return lambda steps: seconds(lambda: take(steps)) / steps

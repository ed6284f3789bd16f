"""TFP's stock recipe for annealed importance sampling, and how its errors compare with ours."""

import argparse
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from turns import JSON, Turn, alternate, medians, seed

from tfp_smvi.config import BLOCK_SIZE, AISConfig, EvaluateConfig
from tfp_smvi.core.estimates import Estimate, estimate
from tfp_smvi.evaluation.estimator import BlockEstimator
from tfp_smvi.inference.weights import sum_weights
from tfp_smvi.models.vae import VAE

TOLERANCE = 0.1  # nats
TARGET_ACCEPTANCE = AISConfig().target_acceptance_rate
# In units of z, whose prior has scale 1. The narrowest dimensions of the posterior need the
# smallest one.
STOCK_STEP_SIZES = tuple(0.4 / 2 ** (k / 2) for k in range(13))
STOCK_PILOT_CHAINS = 4


def reference_settings(options: argparse.Namespace) -> AISConfig:
    """The settings of the long run that estimates are compared with."""
    return AISConfig(num_temperatures=options.reference_temperatures, num_leapfrog_steps=10)


class StockRecipe:
    """The recipe of TFP's documentation: prior, linear path, one step size, stock kernel."""

    def __init__(self, model: VAE, x: tf.Tensor) -> None:
        """Traces nothing yet."""
        self.model, self.x = model, x
        self.acceptance = tf.Variable(0.0)
        self._run = tf.function(self._anneal, autograph=False)

    def __call__(
        self,
        num_temperatures: int,
        step_size: float,
        number: int,
        num_chains: int = AISConfig().num_chains,
    ) -> tuple[np.ndarray, float]:
        """Estimates of log p(x), float64 [BLOCK_SIZE], and the mean acceptance rate."""
        self.acceptance.assign(0.0)
        estimates = self._run(
            tf.constant(num_temperatures),
            tf.constant(step_size, tf.float32),
            seed(number),
            num_chains,
        )
        return estimates.numpy().astype(np.float64), float(self.acceptance) / num_temperatures

    def tune(self, num_temperatures: int, start: int) -> int:
        """Index in STOCK_STEP_SIZES whose acceptance rate is nearest to the target."""
        misses: dict[int, float] = {}

        def miss(place: int) -> float:
            if place not in misses:
                _, rate = self(num_temperatures, STOCK_STEP_SIZES[place], 5, STOCK_PILOT_CHAINS)
                misses[place] = rate - TARGET_ACCEPTANCE
            return misses[place]

        # The rate grows as the step size falls, which is the order of the list.
        place = start
        while miss(place) < 0.0 and place < len(STOCK_STEP_SIZES) - 1:
            place += 1
        while miss(place) > 0.0 and place > 0:
            place -= 1
        candidates = range(max(place - 1, 0), min(place + 2, len(STOCK_STEP_SIZES)))
        return min(candidates, key=lambda candidate: abs(miss(candidate)))

    def _anneal(
        self, num_temperatures: tf.Tensor, step_size: tf.Tensor, seed: tf.Tensor, num_chains: int
    ) -> tf.Tensor:
        acceptance = self.acceptance

        class Counting(tfp.mcmc.HamiltonianMonteCarlo):
            """The stock kernel, which records its acceptance rate."""

            def one_step(self, *arguments: Any, **named: Any) -> Any:
                state, results = super().one_step(*arguments, **named)
                rate = tf.exp(tf.minimum(results.log_accept_ratio, 0.0))
                acceptance.assign_add(tf.reduce_mean(tf.where(tf.math.is_nan(rate), 0.0, rate)))
                return state, results

        prior = tfp.distributions.BatchBroadcast(self.model.prior, [BLOCK_SIZE])
        _, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
            num_steps=num_temperatures,
            proposal_log_prob_fn=prior.log_prob,
            target_log_prob_fn=lambda z: self.model.log_joint(self.x, z),
            # A tensor that does not remember its noise (docs/annealed-importance-sampling.md).
            current_state=tf.identity(prior.sample(num_chains, seed=seed)),
            make_kernel_fn=lambda log_prob_fn: Counting(
                log_prob_fn, step_size=step_size, num_leapfrog_steps=AISConfig().num_leapfrog_steps
            ),
            seed=tf.random.fold_in(seed, 1),
        )
        return sum_weights(log_weights).log_mean()


def within(error: JSON) -> bool:
    """Whether a mean error is within the tolerance."""
    return error["mean"] is not None and abs(error["mean"]) <= TOLERANCE


def first_within(rows: list[JSON]) -> JSON | None:
    """The shortest path that is within the tolerance together with all longer ones."""
    shortest_row = None
    for row in reversed(rows):
        if not within(row["error"]):
            break
        shortest_row = row
    return shortest_row


def _doubled(first: int, last: int) -> list[int]:
    """The numbers first, 2 * first, ... up to last, which is the end of the list."""
    lengths = [first]
    while lengths[-1] < last:
        lengths.append(min(2 * lengths[-1], last))
    return lengths


def _reference(model: VAE, x: tf.Tensor, options: argparse.Namespace) -> tuple[np.ndarray, JSON]:
    """log p(x) of each image by the longest path, and its mean."""
    settings = EvaluateConfig(ais=reference_settings(options))
    estimates = BlockEstimator(model, settings).annealed(x, seed(2))
    values = estimates["log_likelihood"].astype(np.float64)
    mean = estimate(values, estimates["log_likelihood_error"]).to_json()
    print(f"reference: Monte Carlo error {mean['monte_carlo_error']:.3f} nat", flush=True)
    return values, mean


def compare_recipes(model: VAE, x: tf.Tensor, options: argparse.Namespace) -> JSON:
    """Compares the errors by length of the path, and then the times."""
    reference, mean = _reference(model, x, options)
    result: JSON = {"reference": mean}
    ours, runs = _errors_of_ours(model, x, reference, options)
    chosen = first_within(ours)
    timed = (chosen or ours[-1])["temperatures"]
    stock, default = StockRecipe(model, x), AISConfig().num_temperatures
    short = options.stock_temperatures
    seconds = alternate(
        {
            "ours": runs[timed],
            "ours at the defaults": runs[default],
            "stock": lambda: stock(short, STOCK_STEP_SIZES[-1], 3),
        },
        options.rounds,
    )
    # A transition of the stock chain takes the same time in a long path and in a short one.
    per_temperature = medians(seconds)["stock"] / short
    lengths = _doubled(short, int(options.stock_budget / per_temperature))
    equal = max(round(medians(seconds)["ours at the defaults"] / per_temperature), 1)
    rows = _errors_of_stock(stock, sorted({*lengths, equal}), reference)
    for row in rows:
        row["seconds"] = row["temperatures"] * per_temperature
    reached = first_within(rows)
    last = reached or rows[-1]
    ratio = None if chosen is None else last["seconds"] / medians(seconds)["ours"]
    times = medians(seconds)
    at_equal_time = next(row for row in rows if row["temperatures"] == equal)
    result |= {
        "ours": ours,
        "stock": rows,
        "seconds": {name: times[name] for name in ("ours", "ours at the defaults")},
        "seconds_of_a_stock_temperature": per_temperature,
        "ours_within": None if chosen is None else chosen["temperatures"],
        "stock_within": None if reached is None else reached["temperatures"],
        "stock_at_the_time_of_the_defaults": at_equal_time,
        "ratio_of_times": ratio,
        "ratio_is_a_lower_bound": reached is None,
    }
    print(_summary(result), flush=True)
    return result


def _errors_of_ours(
    model: VAE, x: tf.Tensor, reference: np.ndarray, options: argparse.Namespace
) -> tuple[list[JSON], dict[int, Turn]]:
    """The errors by number of temperatures, other settings at the defaults, and the runs."""
    rows, runs = [], {}
    for count in sorted({*options.temperatures, AISConfig().num_temperatures}):
        estimator = BlockEstimator(model, EvaluateConfig(ais=AISConfig(num_temperatures=count)))

        def run(estimator: BlockEstimator = estimator) -> np.ndarray:
            return estimator.annealed(x, seed(3))["log_likelihood"].astype(np.float64)

        runs[count] = run
        error = estimate(run() - reference)
        rows.append({"temperatures": count, "error": error.to_json()})
        print(
            f"ours, {count} temperatures: error {error} nat",
            flush=True,
        )
    return rows, runs


def _errors_of_stock(stock: StockRecipe, lengths: list[int], reference: np.ndarray) -> list[JSON]:
    """The errors by number of temperatures, each with its own step size; tuning is not timed."""
    rows, place = [], len(STOCK_STEP_SIZES) // 2
    for length in lengths:
        place = stock.tune(length, place)
        estimates, rate = stock(length, STOCK_STEP_SIZES[place], 4)
        row = {
            "temperatures": length,
            "step_size": STOCK_STEP_SIZES[place],
            "acceptance_rate": rate,
        }
        error = estimate(estimates - reference)
        rows.append(row | {"error": error.to_json()})
        print(
            f"stock, {length} temperatures, step size {row['step_size']:.3f}, "
            f"acceptance {rate:.2f}: "
            f"error {error} nat",
            flush=True,
        )
    return rows


def _summary(result: JSON) -> str:
    """The result in words."""
    equal, seconds = result["stock_at_the_time_of_the_defaults"], result["seconds"]
    lines = [
        f"within {TOLERANCE} nat: "
        f"ours with {result['ours_within']} temperatures ({seconds['ours']:.1f} s), "
        f"stock with {result['stock_within']} of up to {result['stock'][-1]['temperatures']} "
        f"({result['stock'][-1]['seconds']:.0f} s)",
        f"at the {seconds['ours at the defaults']:.1f} s of the defaults: stock error "
        f"{Estimate.from_json(equal['error'])} nat",
    ]
    if result["ratio_of_times"] is not None:
        bound = "at least " if result["ratio_is_a_lower_bound"] else ""
        lines.append(f"ratio of times: {bound}{result['ratio_of_times']:.1f}")
    return "\n".join(lines)

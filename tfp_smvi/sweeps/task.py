"""The task of one run of a sweep: its stages, one after the other, in a separate process.

A separate process gives each run its own TensorFlow and threads, and keeps the others alive if it
dies. The task emits the events of `sweeps.orders`.
"""

from pathlib import Path

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError
from tfp_smvi.core.runtime import set_threads
from tfp_smvi.core.startup import quiet_tensorflow
from tfp_smvi.engines.base import Context, Task
from tfp_smvi.storage.locks import hold_folder
from tfp_smvi.sweeps.orders import Order, StageBegun, StageEnded, emit
from tfp_smvi.sweeps.stages import STAGES

__all__ = ["LOG", "make_task", "run_stages"]

# What the libraries of a run's process print, in the run directory.
LOG = "sweep.log"
# How long to wait until the process of a killed sweep has saved and ended.
LOCK_SECONDS = 60.0


def make_task(name: str, order: Order) -> Task:
    """Makes the task that carries out an order."""
    function = f"{__name__}:{run_stages.__name__}"
    return Task(name, function, order.to_json(), str(Path(order.run_dir) / LOG))


def run_stages(context: Context, **arguments: object) -> None:
    """Does the stages of an order, which is given as its JSON object."""
    order = Order.from_json(arguments)
    busy = SMVIError("another process of a sweep works on it", remedy="wait for its end")
    # Held until this process ends.
    with hold_folder(
        Path(order.run_dir),
        busy=busy,
        remedy=RUN_AGAIN,
        timeout=LOCK_SECONDS,
        name=".sweep.lock",
    ):
        quiet_tensorflow()
        set_threads(order.threads)
        for name in order.stages:
            emit(context, StageBegun(name))
            STAGES[name].run(order, context)
            emit(context, StageEnded())

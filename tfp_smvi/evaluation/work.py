"""The work of an evaluation: an engine runs the blocks that are missing, or those of a shard."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from tfp_smvi.core.errors import RUN_AGAIN, SMVIError, explain_write_errors
from tfp_smvi.core.reporters import EvaluationReporter
from tfp_smvi.engines.base import Engine, Event, Task
from tfp_smvi.engines.completion import complete_all
from tfp_smvi.engines.local import ThisProcess
from tfp_smvi.evaluation.blocks import Block, Shard, share
from tfp_smvi.evaluation.session import EvaluationSession
from tfp_smvi.storage.atomic import sweep_partials

__all__ = ["complete", "writing"]


@contextlib.contextmanager
def writing(session: EvaluationSession, *reports: str) -> Iterator[None]:
    """Writes results and reports, beside other processes that share the work.

    Args:
        session: the run.
        reports: the names of the reports to write in the run directory.

    Raises:
        SMVIError: something cannot be written.
    """
    with explain_write_errors(f"to {session.run_dir}", f"the blocks are kept: {RUN_AGAIN}"):
        for folder in session.folder.iterdir() if session.folder.exists() else ():
            sweep_partials(folder)
        for report in reports:
            sweep_partials(session.run_dir, f"{report}.*")
        yield


def complete(
    session: EvaluationSession,
    blocks: Sequence[Block],
    engine: Engine,
    reporter: EvaluationReporter,
    *,
    shard: Shard | None = None,
    merge: bool = False,
) -> bool:
    """Computes and saves the blocks that are not done yet, or those of a shard.

    Args:
        session: the run.
        blocks: the work.
        engine: runs the tasks.
        reporter: receives progress updates.
        shard: the only part to do.
        merge: computes nothing.

    Returns:
        Whether all results exist: not after a shard.

    Raises:
        SMVIError: a result cannot be written, a task failed, a result to merge is missing, or the
            engine cannot load the model.
    """
    if merge:
        _require_done(session, blocks)
        return True
    if session.subject.outside is not None and not isinstance(engine, ThisProcess):
        raise SMVIError(
            "cannot load a model that has no run",
            field="engine",
            remedy="leave it out, and share the work by {shard}",
        )
    session.folder.mkdir(parents=True, exist_ok=True)
    engine.require(session.folder)
    session.subject.keep()
    part = list(blocks) if shard is None else share(blocks, shard)
    done = [block for block in part if session.is_done(block)]
    reporter.begin(len(part), _total_cost(part), _total_cost(done))
    left = [block for block in part if block not in done]
    costs = {session.task(block).name: block.cost for block in left}

    def tasks() -> Iterator[Task]:
        for block in left:
            task = session.task(block)
            if session.is_done(block):  # another process has done it meanwhile
                reporter.advance(costs[task.name])
            else:
                yield task

    def handle(event: Event) -> None:
        if event.kind == "exit":
            reporter.advance(costs[event.task])

    complete_all(engine, tasks(), handle, messages=reporter)
    _require_done(session, part)
    return shard is None


def _require_done(session: EvaluationSession, blocks: Sequence[Block]) -> None:
    """Raises an SMVIError that says which results are missing, if any are."""
    missing = [block for block in blocks if not session.is_done(block)]
    if missing:
        first = missing[0]
        raise SMVIError(
            f"{len(missing)} of {len(blocks)} results are missing, the first of them {first.kind} "
            f"of {first.data} block {first.index}",
            remedy="run all shards with the same settings, or run without {merge} to compute them"
            "; on different processors, give all the same {leapfrog_precision}",
        )


def _total_cost(blocks: Iterable[Block]) -> float:
    return sum(block.cost for block in blocks)

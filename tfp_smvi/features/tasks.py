"""The tasks of an extraction by an engine: each leaves some pieces beside the file of features.

The caller of `extract_features` holds the lock, and alone writes the file from the pieces.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError
from tfp_smvi.core.records import JSONObject
from tfp_smvi.engines.base import Context, Engine, Event, Task
from tfp_smvi.engines.completion import Messages, complete_all
from tfp_smvi.engines.recipes import Recipe
from tfp_smvi.features.files import FeatureFile
from tfp_smvi.features.pieces import Piece
from tfp_smvi.features.sources import ImageSource
from tfp_smvi.features.work import Batch, Work, compute, prepare
from tfp_smvi.serving.encoders import Encoder, FunctionEncoder

__all__ = ["Recipes", "encode_pieces", "find_recipes", "run_tasks"]

# The most tasks: a process takes seconds to load a model.
NUM_TASKS = 128


class Recipes(NamedTuple):
    """How other processes open the examples and load the model."""

    source: Recipe
    encoder: Recipe


def find_recipes(source: ImageSource, encoder: Encoder) -> Recipes:
    """Finds how other processes make a source and an encoder: by their attribute `recipe`.

    Raises:
        SMVIError: one of them has none.
    """
    recipes = []
    for value, remedy in (
        (source, "give a source of open_images"),
        (encoder, "give a LocalEncoder, a RefinedEncoder or one of connect"),
    ):
        recipe = getattr(value, "recipe", None)
        if not isinstance(recipe, Recipe):
            raise SMVIError(
                f"cannot make a {type(value).__name__} in other processes, as it has no recipe",
                field="engine",
                remedy=f"{remedy}, or leave it out",
            )
        recipes.append(recipe)
    return Recipes(*recipes)


def run_tasks(
    engine: Engine,
    recipes: Recipes,
    config: FeaturesConfig,
    file: FeatureFile,
    advance: Callable[[int], None],
    messages: Messages,
) -> None:
    """Lets an engine compute the missing pieces.

    Left over are pieces with examples that a server refuses: it may merge the requests of several
    tasks, and refuse good examples along with bad ones.

    Args:
        engine: runs the tasks.
        recipes: how tasks open the examples and load the model.
        config: how requests to the model are made.
        file: the file of features, which this process has opened.
        advance: is called with a number of further examples that are done.
        messages: receives the notes and the warnings.

    Raises:
        SMVIError: a task failed, or left no piece.
    """
    missing = file.missing()
    count = -(-len(missing) // NUM_TASKS)
    refused: set[int] = set()

    def tasks() -> Iterator[Task]:
        for start in range(0, len(missing), count):
            yield _task(recipes, config, file, missing[start : start + count])

    def handle(event: Event) -> None:
        if event.kind == "encoded":
            advance(int(event.values["images"]))
        elif event.kind == "refused":
            refused.add(int(event.values["piece"]))

    if missing:
        engine.require(file.folder)
        complete_all(engine, tasks(), handle, messages=messages)
    if lost := {*file.missing()} - refused:
        raise SMVIError(
            f"a task has ended and left no piece {min(lost)} in {file.folder}",
            remedy="give a folder that all processes of the engine share",
        )


def _task(
    recipes: Recipes, config: FeaturesConfig, file: FeatureFile, numbers: Sequence[int]
) -> Task:
    return Task(
        name=f"pieces {numbers[0]} to {numbers[-1]}",
        function=f"{__name__}:{encode_pieces.__name__}",
        arguments={
            "source": recipes.source.to_json(),
            "encoder": recipes.encoder.to_json(),
            "config": config.to_json(),
            "output": str(file.path.absolute()),
            "begun": file.begun(),
            "numbers": list(numbers),
        },
    )


def encode_pieces(
    context: Context,
    source: JSONObject,
    encoder: JSONObject,
    config: JSONObject,
    output: str,
    begun: Mapping[str, object],
    numbers: Sequence[int],
) -> None:
    """Computes pieces and saves them: the function of a task.

    It emits an event "encoded" with the number of images for each, or "refused" with the number of
    the piece.

    Args:
        context: the process that it runs in.
        source: the recipe of the examples.
        encoder: the recipe of the model.
        config: the JSON of a `FeaturesConfig`.
        output: the file of features.
        begun: the settings that the file was begun with.
        numbers: the numbers of the pieces.

    Raises:
        SMVIError: the examples or the model cannot be loaded here or are not those of the file, or
            as `compute`.
    """
    key = json.dumps([source, encoder, config, begun], sort_keys=True)
    work = _open_work(key)
    file = FeatureFile(Path(output), work.source.num_images)
    file.join(work.settings)
    for number in numbers:
        start, stop = file.span(number)
        try:
            compute(work, file, [number], lambda num_images: None, _work_alone(work))
        except _RefusedError:
            context.emit("refused", piece=number)
        else:
            context.emit("encoded", images=stop - start)


class _RefusedError(Exception):
    """A server has refused examples beside those of other tasks."""


def _work_alone(work: Work) -> Callable[[Batch], Piece]:
    if isinstance(work.encoder, FunctionEncoder):
        return work.encode_by_halves

    def refuse(batch: Batch) -> Piece:
        raise _RefusedError

    return refuse


@functools.lru_cache(maxsize=1)
def _open_work(key: str) -> Work:
    """Opens examples and a model; a process may do many tasks of the same extraction."""
    source, encoder, config, _ = json.loads(key)
    return prepare(
        Recipe.from_json(source).make(),
        Recipe.from_json(encoder).make(),
        FeaturesConfig.from_json(config),
    )

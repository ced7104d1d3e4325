"""Processors that work on one item at a time: most tasks without a model. Says what every such task would say again.

A task gives a function of one item; here it becomes a `Processor`: parameters checked once a batch, each item announced and timed, and
whatever it raises made the result of the item it belongs to.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from medallion_defs.core.errors import ConfigurationError, MedallionError, UnexpectedError, describe_invalid
from medallion_defs.core.timing import Timer
from medallion_defs.labeling.contract import ProcessingResult, Processor, TaskContext, WorkItem

P = TypeVar("P", bound=BaseModel)


def item_processor(parameters_model: type[P], process_item: Callable[[WorkItem, P, TaskContext], BaseModel]) -> Processor:
    """Return the processor of a task whose work on one item is `process_item`.

    The processor raises `ConfigurationError` when the profile's parameters do not fit `parameters_model`.
    """

    def process(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
        parameters = _check_parameters(parameters_model, context)
        for item in items:
            context.begin(item)
            timer = Timer()
            try:
                output = process_item(item, parameters, context).model_dump(mode="json")
            except MedallionError as error:
                yield ProcessingResult(item.task_id, error=error, duration_ms=timer.seconds * 1000)
            except BaseException as error:  # noqa: BLE001 - a library may raise anything; it is this item's, and no other's
                yield ProcessingResult(item.task_id, error=UnexpectedError.of(error), duration_ms=timer.seconds * 1000)
            else:
                yield ProcessingResult(item.task_id, output=output, duration_ms=timer.seconds * 1000)

    return process


def _check_parameters(parameters_model: type[P], context: TaskContext) -> P:
    try:
        return parameters_model.model_validate(dict(context.parameters))
    except ValidationError as error:
        raise ConfigurationError(
            f"The profile's parameters do not fit the task: {describe_invalid(error)}. Change 'parameters' in its prompt.json."
        ) from error

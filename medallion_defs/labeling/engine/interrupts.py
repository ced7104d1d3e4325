"""What ends a worker from outside, told apart from what a task's own code or its libraries raise."""

import dagster as dg


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal or Dagster ended the work. A panic of a library in Rust is not: it is not an `Exception` either."""
    return isinstance(error, KeyboardInterrupt | dg.DagsterExecutionInterruptedError)

"""Work without memory on a cluster of Ray: tasks that go out, and what comes of each."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from gemma_metamon.cluster.connecting import n_processors
from gemma_metamon.errors import GemmaMetamonError

Task = TypeVar("Task")
Done = TypeVar("Done")

WAITING_EACH = 2
"""So many tasks are with each processor: it works on one while the next is on its way."""


def _do(work: Callable[[Task], Done], task: Task) -> Done:
    return work(task)


def on_nodes(work: Callable[[Task], Done], tasks: Iterator[Task]) -> Iterator[Done]:
    """What comes of each task, as they are done; no more are taken at a time than keep the processors busy.

    A task of a node that is lost goes to another, and what comes of it comes once.

    Args:
        work: a function that the nodes can import.
        tasks: pickled for them.

    Raises:
        GemmaMetamonError: what `work` raised, or a task that was lost with its node again and again.
    """
    remote, there = ray.remote(_do), ray.put(work)  # which goes to each node once
    at_once = WAITING_EACH * n_processors()
    waiting = [remote.remote(there, task) for task in islice(tasks, at_once)]
    try:
        while waiting:
            finished, waiting = ray.wait(waiting, num_returns=1)
            for ref in finished:
                yield ray.get(ref)
            waiting += [remote.remote(there, task) for task in islice(tasks, len(finished))]
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        first = str(error).strip().partition("\n")[0]
        raise GemmaMetamonError(
            f"the cluster lost a task and could not do it again ({first}); run the same command again: "
            "what is finished is kept"
        ) from error
    finally:
        for ref in waiting:
            ray.cancel(ref, force=True)

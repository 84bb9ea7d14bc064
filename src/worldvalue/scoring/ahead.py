"""Episodes that are decoded before they are asked for, while a model is at work on others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from worldvalue.types import DataError, Episode, EpisodeSource

DECODERS = 4
"""Threads at most. Each makes its frames smaller with as many threads of torch's as there are, so that on a machine of
many cores more of them would stand in each other's way."""

Opened = Episode | DataError
"""An episode, or why it cannot be opened."""


def opened_ahead(
    source: EpisodeSource, groups: Iterable[Sequence[int]], decoded: Callable[[Episode], Episode]
) -> Iterator[list[Opened]]:
    """The episodes of one group after the other, decoded by threads; those of the next one are on their way already.

    Two groups are in memory at a time. There are no more threads than torch computes with on a CPU; decoding
    leaves Python's lock to others.

    Args:
        source: the dataset.
        groups: positions of their episodes in it.
        decoded: makes the same episode with its pictures in memory; runs in other threads.

    Yields:
        A group. An episode that cannot be decoded comes as it is: who asks for its pictures meets the same error.
    """
    pool = ThreadPoolExecutor(min(DECODERS, torch.get_num_threads()), thread_name_prefix="decode")
    on_their_way: deque[list[Future[Opened]]] = deque()
    try:
        for group in groups:
            opened = [_opened(source, position) for position in group]
            on_their_way.append([pool.submit(_decoded, episode, decoded) for episode in opened])
            if len(on_their_way) > 1:
                yield [one.result() for one in on_their_way.popleft()]
        for last in on_their_way:
            yield [one.result() for one in last]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _opened(source: EpisodeSource, position: int) -> Opened:
    try:
        return source[position]
    except DataError as error:
        return error


def _decoded(opened: Opened, decoded: Callable[[Episode], Episode]) -> Opened:
    if isinstance(opened, DataError):
        return opened
    try:
        return decoded(opened)
    except DataError:
        return opened

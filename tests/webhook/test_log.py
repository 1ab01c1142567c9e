"""The log where standard output is a pipe, as a container's is: read by somebody else, at his pace or no longer."""

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

from webhook import log


@contextmanager
def piped() -> Iterator[int]:
    """The reading end of a pipe that is our standard output. No fixture: pytest sets it anew before each test."""
    reads, writes = os.pipe()
    with open(writes, "wb", 0) as output, mock.patch.object(sys, "stdout", output):  # noqa: PTH123  a descriptor
        yield reads


def test_lines_of_several_threads_are_whole() -> None:
    def write(letter: str) -> None:
        for _ in range(50):
            log.event("test", **dict.fromkeys(("name", "owner", "line"), "\x01" * 499 + letter))

    def read() -> bytes:
        text = b""
        while some := os.read(reader, 3000):
            time.sleep(0.0002)  # more slowly than they write: the pipe is full
            text += some
        return text

    with ThreadPoolExecutor() as threads:
        with piped() as reader:
            text = threads.submit(read)
            assert list(threads.map(write, "abcd")) == [None] * 4
        lines = [json.loads(line) for line in text.result().splitlines()]
    os.close(reader)
    assert len(lines) == 200
    assert all(line["name"] == line["owner"] == line["line"] for line in lines)


def test_nobody_fails_for_a_line_that_is_lost() -> None:
    with piped() as reader:
        os.set_blocking(sys.stdout.fileno(), False)
        for _ in range(1000):
            log.event("full", line="x" * 400)
        os.close(reader)
        log.event("closed")

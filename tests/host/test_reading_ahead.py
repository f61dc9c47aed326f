"""A reader guesses how many bytes come next; a wrong guess must not matter."""

import socket
import threading
from itertools import product

import pytest

from vfab.protocols.hostwire import BULK_MIN, Message, Reply
from vfab.sdk.transport import FrameReader, FrameWriter

SMALL, LONGER, LARGE = Reply(1, 7), Reply(70_000, "x" * 300), Reply(2, b"\x01" * (BULK_MIN + 5))
LARGER = Reply(90_000, {"frame": b"\x02" * 200_000, "more": b"\x03" * BULK_MIN})


@pytest.mark.parametrize("messages", list(product([SMALL, LONGER, LARGE, LARGER], repeat=3)))
def test_messages_of_any_size_follow_each_other_in_any_order(messages: tuple[Message, ...]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer, reader = FrameWriter(theirs), FrameReader(ours)

        def write() -> None:
            for message in messages * 2:
                writer.write(message)

        thread = threading.Thread(target=write)
        thread.start()
        assert [reader.read() for _ in messages * 2] == list(messages * 2)
        thread.join()


def test_one_at_a_time_after_a_large_one_the_guess_is_too_small_and_nothing_is_lost() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer, reader = FrameWriter(theirs), FrameReader(ours)
        for message in (LARGE, SMALL, LONGER, LARGE, LONGER, SMALL):
            thread = threading.Thread(target=writer.write, args=(message,))
            thread.start()
            assert reader.read() == message
            thread.join()

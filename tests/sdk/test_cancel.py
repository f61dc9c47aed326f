"""Cancel tokens."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

from vfab.model.errors import Cancelled, TimeoutExceeded
from vfab.sdk.cancel import CancelToken


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_a_token_without_end_never_complains() -> None:
    token = CancelToken()
    token.check()
    assert not token.cancelled
    assert token.remaining_s() is None
    assert token.remaining_s(3.0) == 3.0


def test_a_deadline_counts_down_and_is_told() -> None:
    token = CancelToken(1000.0)
    assert 999.0 < (token.remaining_s() or 0) <= 1000.0
    assert token.remaining_s(5.0) == 5.0
    token = CancelToken(1e-9)
    with pytest.raises(TimeoutExceeded):
        while True:
            token.check()
    assert token.remaining_s() == 0.0


def test_a_cancel_is_seen_however_one_looks() -> None:
    for look_first in (True, False):
        token = CancelToken()
        called: list[int] = []
        if look_first:
            assert not readable(token.fileno())
            token.when_cancelled(lambda called=called: called.append(1))
        token.cancel()
        token.cancel()
        assert token.cancelled
        assert readable(token.fileno())
        if not look_first:
            token.when_cancelled(lambda called=called: called.append(1))
        assert called == [1]
        with pytest.raises(Cancelled):
            token.check()
        token.close()


def test_a_call_that_is_over_binds_nobody_and_keeps_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    token = CancelToken(1e-9)
    token.fileno()
    token.close()
    token.close()
    token.cancel()
    assert token.closed
    assert not token.cancelled
    token.check()
    assert token.remaining_s() is None
    assert token.fileno() == -1
    assert len(list(Path("/proc/self/fd").iterdir())) == before

"""Arguments of a driver's methods may be called whatever their author likes, also as what a call itself is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hosting import rig

ODD = {"timeout_s": 1, "on_progress": 2, "method": 3, "args": [4], "kwargs": {"a": 5}}
SOURCE = """
class D(BaseDriver):
    @command
    def take(self, timeout_s, on_progress, method, args, kwargs):
        self.progress(done=1)
        return [timeout_s, on_progress, method, args, kwargs]
"""


def test_arguments_of_a_call_and_of_an_operation_may_have_the_names_of_its_own(tmp_path: Path) -> None:
    async def go() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(SOURCE)
            await device.connect()
            for call in (device.call_with, device.operate_with):
                heard: list[object] = []
                assert await call("take", (), ODD, timeout_s=20.0, on_progress=heard.append) == list(ODD.values())
                assert await call("take", (1, 2), {k: ODD[k] for k in ("method", "args", "kwargs")}) == list(
                    ODD.values()
                )
                assert heard == [{"done": 1}]
            channel = await device.open_channel()
            try:
                assert channel.call_with("take", (), ODD, timeout_s=20.0) == list(ODD.values())
            finally:
                channel.close()

    asyncio.run(go())

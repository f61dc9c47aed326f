"""Calls to a driver in another process: one at a time, many in flight, from asyncio, with a large reply."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vfab.apps.bench.client import (
    BARE,
    GRPC,
    GRPC_AIO,
    IN_FLIGHT,
    NOT_CONFINED,
    OURS,
    PYRO,
    RPYC,
    STREAMS,
    TANGO,
    Client,
)
from vfab.apps.bench.findings import Session
from vfab.apps.bench.measure import median

__all__ = ["KEYS", "run"]

REMEDY = "pip install 'vfab[bench]'"
_NOTE = (
    "{} sets of fresh processes, half of them with both ends on one core; of each candidate the placement counts that "
    "suits it better: where the system happens to put a pair of processes makes a factor of five"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """How one figure is measured.

    Attributes:
        method: what a caller is told to do.
        callers: the candidates.
        each: calls in one turn.
        rounds: turns of each candidate in one sitting, quick and full.
        warm: calls that do not count, before.
    """

    method: str
    callers: tuple[str, ...]
    each: int
    rounds: tuple[int, int]
    warm: int = 50


FIGURES = {
    "call_us": Figure("nop", (OURS, NOT_CONFINED, BARE, PYRO, RPYC, GRPC, TANGO), 100, (8, 20)),
    "reply_1mib_us": Figure("blob", (OURS, BARE, PYRO, RPYC, GRPC, TANGO), 10, (4, 8)),
    "calls_per_s_64": Figure("many", (OURS, PYRO, RPYC, GRPC, TANGO), 20 * IN_FLIGHT, (2, 6), IN_FLIGHT),
    "call_async_us": Figure("later", (OURS, STREAMS, GRPC_AIO), 100, (8, 20)),
}
KEYS = tuple(FIGURES)

Taken = dict[tuple[str, str], dict[bool, list[float]]]
"""Samples by key and by the name of who made them, then by whether both ends ran on one core."""


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`."""
    taken: Taken = {}
    wanted = {key: figure for key, figure in FIGURES.items() if key in session.wanted}
    sittings = session.many(2, 6)
    for number in range(sittings):
        session.say(f"{', '.join(wanted)}: processes {number + 1} of {sittings}")
        folder = session.folder / f"calls-{number}"
        folder.mkdir()
        with ExitStack() as stack:
            together = number % 2 == 1
            clients = _clients(session, folder, wanted, together, stack)
            for key, figure in wanted.items():
                for name, samples in _take_turns(session, figure, clients).items():
                    taken.setdefault((key, name), {}).setdefault(together, []).extend(samples)
    for (key, name), placements in taken.items():
        peer = None if name == OURS else name
        if key == "calls_per_s_64":
            session.findings.number(key, max(placements.values(), key=median), peer)
        else:
            session.findings.distribution(key, min(placements.values(), key=median), peer)
    session.findings.notes[", ".join(wanted)] = _NOTE.format(sittings)


def _clients(
    session: Session, folder: Path, wanted: dict[str, Figure], together: bool, stack: ExitStack
) -> dict[str, Client]:
    found: dict[str, Client] = {}
    for name in dict.fromkeys(name for figure in wanted.values() for name in figure.callers):
        try:
            found[name] = stack.enter_context(Client(name, folder, together=together))
        except ImportError as error:
            session.findings.lacks(_shown(name), f"it is not installed: {error}", REMEDY)
        except RuntimeError as error:
            if name in {OURS, NOT_CONFINED}:
                raise
            session.findings.lacks(_shown(name), str(error), "What it printed before says why.")
    return found


def _take_turns(session: Session, figure: Figure, clients: dict[str, Client]) -> dict[str, list[float]]:
    candidates = [(_shown(name), clients[name], figure.method) for name in figure.callers if name in clients]
    if figure.method == "many" and PYRO in clients:
        candidates.append((f"{PYRO}, 64 in one batch", clients[PYRO], "batch"))
    taken: dict[str, list[float]] = {name: [] for name, _, _ in candidates}
    for _, client, method in candidates:
        client.turn(method, figure.warm)
    for _ in range(session.many(*figure.rounds)):
        for name, client, method in candidates:
            taken[name] += client.turn(method, figure.each)
    return taken


def _shown(name: str) -> str:
    return GRPC if name == GRPC_AIO else name

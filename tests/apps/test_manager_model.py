"""The manager against a model of seed 002's states: any sequence of operations, with a real host."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from apps.manager_home import device, make_home
from vfab import DeviceDriverManager, DeviceState
from vfab.apps.manager_results import Result
from vfab.model.lifecycle import PUBLIC_TRANSITIONS

S = DeviceState
NUMBERS = itertools.count(1)


class Shared:
    """One manager for all examples; each example has a device of its own."""

    manager: DeviceDriverManager


class ManagerMachine(RuleBasedStateMachine):
    """The model: where the device must be, and which operations must be refused there."""

    def __init__(self) -> None:
        super().__init__()
        self.device = device(next(NUMBERS))
        self.state = S.UNKNOWN
        self.settled = True
        self.deaths = 0

    def took(self, answer: Result, legal: bool, then: DeviceState) -> None:
        if legal:
            assert answer.ok, answer
            self.state, self.settled = then, True
            assert answer["state"] == then.value
        else:
            assert answer["error"]["code"] == "illegal_transition", answer
            self.settled = True

    @rule()
    def initialize(self) -> None:
        legal = self.state in {S.UNKNOWN, S.DISCONNECTED, S.INITIALIZED}
        self.took(Shared.manager.initialize_device("echo", self.device), legal, S.INITIALIZED)

    @rule()
    def connect(self) -> None:
        self.took(Shared.manager.connect_device("echo", self.device), self.state is not S.ERROR, S.CONNECTED)

    @rule()
    def echo(self) -> None:
        answer = Shared.manager.execute_command("echo", "echo", {"value": 1}, self.device)
        self.took(answer, self.state is S.CONNECTED, S.CONNECTED)

    @precondition(lambda self: self.settled)
    @rule()
    def tea(self) -> None:
        answer = Shared.manager.execute_command("echo", "tea", None, self.device)
        self.took(answer, self.state not in {S.UNKNOWN, S.DISCONNECTED}, self.state)

    @rule()
    def mistake(self) -> None:
        answer = Shared.manager.execute_command("echo", "echo", {"nonsense": 1}, self.device)
        if self.state is S.CONNECTED:
            assert answer["error"]["code"] == "bad_configuration"
            self.settled = True
        else:
            self.took(answer, False, self.state)

    @rule()
    def fail(self) -> None:
        answer = Shared.manager.execute_command("echo", "fail", None, self.device)
        if self.state is S.CONNECTED:
            assert answer["error"]["code"] == "hardware_error"
            self.state, self.settled = S.ERROR, True
        else:
            self.took(answer, False, self.state)

    @precondition(lambda self: self.deaths < 5 and self.state is S.CONNECTED)
    @rule()
    def die(self) -> None:
        answer = Shared.manager.execute_command("echo", "die", None, self.device)
        assert answer["error"]["code"] == "host_died"
        self.deaths += 1
        self.settled = False  # it comes back by itself; the next operation waits for that

    @rule()
    def reset(self) -> None:
        legal = self.state not in {S.UNKNOWN, S.DISCONNECTED}
        then = S.INITIALIZED if self.state is S.ERROR else self.state
        self.took(Shared.manager.reset_device("echo", self.device), legal, then)

    @rule()
    def close(self) -> None:
        self.took(Shared.manager.close_device("echo", self.device), self.state is not S.UNKNOWN, S.DISCONNECTED)

    @invariant()
    def it_is_where_the_model_says(self) -> None:
        if self.settled:
            assert Shared.manager.get_device_state("echo", self.device) is self.state

    @invariant()
    def its_story_has_legal_transitions_only(self) -> None:
        for line in Shared.manager.get_device_story("echo", self.device):
            old, _, new = line.partition(" -")[0], "", line.rpartition("> ")[2]
            assert S(new) in PUBLIC_TRANSITIONS[S(old)], line

    def teardown(self) -> None:
        Shared.manager.close_device("echo", self.device)


@pytest.fixture(scope="module", autouse=True)
def _manager() -> Iterator[None]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        Shared.manager = stack.enter_context(DeviceDriverManager(make_home(Path(folder)).env))
        yield


def test_any_sequence_of_operations_leads_where_the_model_says() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    limits = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(ManagerMachine, settings=limits)

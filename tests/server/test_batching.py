"""Batches, deadlines and the bounded queue, with an engine that tests hold in their hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("fastapi")

from greffon.server.batching import Answer, Batcher
from greffon.server.engines import Outputs
from greffon.server.limits import ServerLimits
from greffon.server.problems import Problem


class Gate:
    """An engine that waits until it is let go, and remembers its batches. A picture's first level is its answer."""

    def __init__(self, *, free: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.entered = 0
        self.open = threading.Event()
        if free:
            self.open.set()

    def run(self, pictures: np.ndarray, *, maps: bool = False) -> Outputs:
        self.entered += 1
        self.open.wait(10)
        numbers = [int(one[0, 0, 0]) for one in pictures]
        self.batches.append(numbers)
        if 13 in numbers:
            raise RuntimeError("thirteen")
        rows = np.array([[number / 100, 1 - number / 100] for number in numbers], np.float32)
        return Outputs(rows, np.ones((len(numbers), 2, 1, 1), np.float32) if maps else None)


def picture(number: int) -> np.ndarray:
    return np.full((2, 2, 3), number, np.uint8)


def numbers(answers: list[Answer]) -> list[int]:
    return [round(100 * one.probabilities[0]) for one in answers]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


def test_what_gathers_runs_together_and_everybody_gets_his_own() -> None:
    async def main() -> None:
        gate = Gate(free=False)
        batcher = Batcher(gate, ServerLimits(batch=4))

        async def one(*wanted: int) -> list[int]:
            with batcher.admit(len(wanted)) as due:
                return numbers(await batcher.run([picture(n) for n in wanted], due))

        first = asyncio.create_task(one(1))
        await until(lambda: gate.entered == 1)
        others = [asyncio.create_task(one(*wanted)) for wanted in ((2, 3), (4,), (5, 6, 7))]
        await until(lambda: batcher.admitted == 7)
        gate.open.set()
        assert await first == [1]
        assert [await other for other in others] == [[2, 3], [4], [5, 6, 7]]
        assert gate.batches == [[1], [2, 3, 4, 5], [6, 7]]
        assert batcher.admitted == 0
        batcher.stop()

    asyncio.run(main())


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def main() -> None:
        batcher = Batcher(Gate(), ServerLimits(queue=3))
        with batcher.admit(2):
            with pytest.raises(Problem) as stop, batcher.admit(2):
                raise AssertionError("let in")
            assert (stop.value.status, stop.value.kind) == (429, "busy")
            assert int(stop.value.headers["Retry-After"]) >= 1
            with batcher.admit(1):
                assert batcher.admitted == 3
        with batcher.admit(3):
            pass
        with pytest.raises(Problem, match="too-many-images"), batcher.admit(4):
            raise AssertionError("let in")
        batcher.stop()

    asyncio.run(main())


def test_who_would_come_too_late_is_refused_at_once() -> None:
    async def main() -> None:
        batcher = Batcher(Gate(), ServerLimits(deadline=10))
        batcher.measured(1.0)  # one image a second: 6 fill six tenths of the deadline
        with batcher.admit(6), pytest.raises(Problem, match="busy"), batcher.admit(1):
            raise AssertionError("let in")
        with pytest.raises(Problem, match="send 6 at a time"), batcher.admit(7):
            raise AssertionError("let in")
        batcher.stop()

    asyncio.run(main())


def test_a_deadline_that_has_passed_is_told_and_not_run() -> None:
    async def main() -> None:
        now = [100.0]
        gate = Gate(free=False)
        batcher = Batcher(gate, ServerLimits(deadline=5), clock=lambda: now[0])
        with batcher.admit(2) as due:
            assert due == 105
            first = asyncio.create_task(batcher.run([picture(1)], due))
            await until(lambda: gate.entered == 1)
            second = asyncio.create_task(batcher.run([picture(2)], due))
            await until(lambda: len(batcher._jobs) == 1)
            now[0] = 105.5
            gate.open.set()
            assert numbers(await first) == [1]
            with pytest.raises(Problem, match="out-of-time"):
                await second
        assert gate.batches == [[1]]
        batcher.stop()

    asyncio.run(main())


def test_the_patient_come_after_the_others() -> None:
    async def main() -> None:
        gate = Gate(free=False)
        batcher = Batcher(gate, ServerLimits(batch=2, deadline=5, patience=50))
        with batcher.admit(1) as due:
            first = asyncio.create_task(batcher.run([picture(1)], due))
            await until(lambda: gate.entered == 1)
            with batcher.admit(3, patient=True) as later, batcher.admit(2) as soon:
                assert later - soon > 40
                slow = asyncio.create_task(batcher.run([picture(n) for n in (7, 8, 9)], later, patient=True))
                await until(lambda: len(batcher._patient) == 3)
                quick = asyncio.create_task(batcher.run([picture(n) for n in (2, 3)], soon, maps=True))
                await until(lambda: len(batcher._jobs) == 2)
                gate.open.set()
                assert numbers(await slow) == [7, 8, 9]
                assert all(one.maps is not None for one in await quick)
                await first
        assert gate.batches == [[1], [2, 3], [7, 8], [9]]
        batcher.stop()

    asyncio.run(main())


def test_an_engine_that_raises_costs_its_batch_alone_and_is_told() -> None:
    async def main() -> None:
        told: list[Exception] = []
        batcher = Batcher(Gate(), ServerLimits(batch=1), fault=told.append)
        with batcher.admit(2) as due:
            with pytest.raises(Problem, match="fault"):
                await batcher.run([picture(13)], due)
            assert numbers(await batcher.run([picture(12)], due)) == [12]
        assert [str(error) for error in told] == ["thirteen"]
        batcher.stop()

    asyncio.run(main())


def test_who_has_gone_is_not_run_and_stopping_answers_who_waits() -> None:
    async def main() -> None:
        gate = Gate(free=False)
        batcher = Batcher(gate, ServerLimits(batch=1))
        with batcher.admit(3) as due:
            tasks = [asyncio.create_task(batcher.run([picture(n)], due)) for n in (1, 2, 3)]
            await until(lambda: len(batcher._jobs) == 2)
            tasks[1].cancel()
            await asyncio.sleep(0)
            gate.open.set()
            await asyncio.to_thread(batcher.stop)
            assert numbers(await tasks[2]) == [3]
            assert gate.batches == [[1], [3]]
            with pytest.raises(Problem, match="stopping"):
                await batcher.run([picture(4)], due)

    asyncio.run(main())


def test_the_cost_follows_what_is_measured() -> None:
    async def main() -> None:
        batcher = Batcher(Gate(), ServerLimits())
        batcher.measured(1.0)
        assert batcher.cost == 1.0
        batcher.measured(2.0)
        assert batcher.cost == pytest.approx(1.5)
        batcher.measured(1.0)
        assert batcher.cost == pytest.approx(1.45)
        began = time.perf_counter()
        batcher.stop()
        assert time.perf_counter() - began < 2

    asyncio.run(main())

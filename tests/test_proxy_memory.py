"""What the proxy remembers, and how much it asks at once."""

import asyncio

from kubewitness.capture.proxy.memory import Memory


def minute(_: object) -> float:
    return 60.0


async def answered(value: object) -> object:
    return value


def test_answers_that_say_no_do_not_push_others_out() -> None:
    async def run() -> None:
        memory: Memory[object] = Memory(minute, limit=10)
        await memory.get(b"good", lambda: answered("ann"))
        for number in range(100):
            await memory.get(b"bad %d" % number, lambda: answered(None))

        assert len(memory) == 11
        assert await memory.get(b"good", lambda: answered("another")) == "ann"

    asyncio.run(run())


def test_only_so_many_questions_are_under_way_at_once() -> None:
    async def run() -> None:
        memory: Memory[bool] = Memory(minute)
        going, most, gate = 0, 0, asyncio.Event()

        async def ask() -> bool:
            nonlocal going, most
            going += 1
            most = max(most, going)
            await gate.wait()
            going -= 1
            return True

        waiting = [asyncio.ensure_future(memory.get(b"%d" % n, ask)) for n in range(500)]
        while going < 64:
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*waiting)
        assert most == 64

    asyncio.run(run())


def test_a_question_that_nobody_waits_for_any_more_is_given_up() -> None:
    async def run() -> None:
        memory: Memory[bool] = Memory(minute)
        ended = asyncio.Event()

        async def ask() -> bool:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return True

        waiting = [asyncio.ensure_future(memory.get(b"key", ask)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert not ended.is_set()
        for each in waiting[1:]:
            each.cancel()
        await ended.wait()
        assert await memory.get(b"key", lambda: asyncio.sleep(0, result=True)) is True

    asyncio.run(run())


def test_a_question_that_fails_when_nobody_waits_says_nothing() -> None:
    said: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: said.append(told))
        memory: Memory[bool] = Memory(minute)

        async def ask() -> bool:
            await asyncio.sleep(0)
            raise ValueError

        waiting = asyncio.ensure_future(memory.get(b"key", ask))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(run())
    assert said == []

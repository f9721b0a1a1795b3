"""The examples, run as they say, in a real server."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from asgi_server import EXAMPLES, Server, serving

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def summary(server: Server) -> list[tuple[str, str, str, int, str]]:
    return [
        (
            event["verb"],
            event["requestURI"],
            event["stage"],
            event["responseStatus"]["code"],
            event["user"].get("username", ""),
        )
        for event in server.events
    ]


def test_each_is_listed_short_and_says_how_to_run_it() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for name in NAMES:
        source = (EXAMPLES / f"{name}.py").read_text()
        assert f"[{name}.py]({name}.py)" in text
        assert len(source.splitlines()) <= 40
        assert f"python examples/{name}.py" in (ast.get_docstring(ast.parse(source)) or "")


@pytest.mark.parametrize("name", NAMES)
def test_each_audits_and_answers_with_the_id(name: str, tmp_path: Path) -> None:
    with serving(name, EXAMPLES, tmp_path) as server:
        _, audit_id, _ = server.ask("/nothing-here?x=1", headers={"Audit-ID": "mine"})

    assert audit_id == "mine"
    assert summary(server) == [
        ("get", "/nothing-here?x=1", "ResponseComplete", 404, "system:anonymous")
    ]
    assert server.events[0]["sourceIPs"] == ["127.0.0.1"]


def test_starlette(tmp_path: Path) -> None:
    async def echo(session: aiohttp.ClientSession) -> object:
        async with session.ws_connect(server.url("/echo"), headers={"X-Name": "bob"}) as socket:
            await socket.send_str("hello")
            return await socket.receive_str()

    with serving("starlette_app", EXAMPLES, tmp_path) as server:
        assert server.ask("/things", headers={"X-Name": "alice"})[0] == 200
        assert server.run(echo) == "hello"

    assert summary(server) == [
        ("get", "/things", "ResponseComplete", 200, "alice"),
        ("get", "/echo", "ResponseStarted", 101, "bob"),
        ("get", "/echo", "ResponseComplete", 101, "bob"),
    ]


def test_fastapi(tmp_path: Path) -> None:
    def post(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return server.ask("/things", method="POST", json={"name": "a"}, headers=headers)[0]

    with serving("fastapi_app", EXAMPLES, tmp_path) as server:
        assert [post("good"), post("bad")] == [201, 401]

    assert summary(server) == [
        ("post", "/things", "ResponseComplete", 201, "alice"),
        ("post", "/things", "ResponseStarted", 401, ""),
    ]
    assert server.events[0]["requestObject"] == {"name": "a"}
    assert server.events[0]["responseObject"] == {"id": 1, "name": "a"}
    assert "attempted: bearer" in server.events[1]["responseStatus"]["message"]


def test_litestar(tmp_path: Path) -> None:
    with serving("litestar_app", EXAMPLES, tmp_path) as server:
        assert server.ask("/things")[2] == "[7]"
        assert server.ask("/things/7", method="DELETE")[0] == 204

    assert summary(server)[1][:4] == ("delete", "/things/7", "ResponseComplete", 204)
    assert server.events[1]["annotations"] == {"example.com/deleted": "thing 7"}


def test_django(tmp_path: Path) -> None:
    with serving("django_app", EXAMPLES, tmp_path, "--no-proxy-headers") as server:
        headers = {"X-Remote-User": "alice", "X-Forwarded-For": "203.0.113.9"}
        assert server.ask("/things", headers=headers)[0] == 200

    assert summary(server) == [("get", "/things", "ResponseComplete", 200, "alice")]
    assert server.events[0]["sourceIPs"] == ["203.0.113.9", "127.0.0.1"]


def test_quart(tmp_path: Path) -> None:
    with serving("quart_app", EXAMPLES, tmp_path) as server:
        assert server.ask("/things/7", method="PUT", json={"a": 1})[0] == 200

    assert server.events[0]["requestObject"] == {"a": 1}
    assert server.events[0]["responseObject"] == {"a": 1, "id": 7}


def test_many_at_once_have_each_their_events(tmp_path: Path) -> None:
    async def many(session: aiohttp.ClientSession) -> set[str]:
        async def one(number: int) -> str:
            body: dict[str, Any] = {"name": str(number)}
            headers = {"Authorization": "Bearer good"}
            async with session.post(server.url("/things"), json=body, headers=headers) as response:
                assert (await response.json())["name"] == str(number)
                return response.headers["Audit-Id"]

        return set(await asyncio.gather(*map(one, range(200))))

    with serving("fastapi_app", EXAMPLES, tmp_path) as server:
        ids = server.run(many)

    assert len(ids) == len(server.events) == 200
    assert {event["auditID"] for event in server.events} == ids
    assert all(
        event["requestObject"]["name"] == event["responseObject"]["name"] for event in server.events
    )

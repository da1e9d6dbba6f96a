"""What can be enqueued is described well enough to call it."""

import httpx
from starlette.requests import Request

from service.api.paging import page


async def test_a_function_shows_what_it_takes_and_gives(api: httpx.AsyncClient) -> None:
    function = (await api.get("/v1/functions/divide")).json()
    assert list(function) == [
        "name",
        "doc",
        "queue",
        "timeout",
        "max_attempts",
        "result_ttl",
        "input_schema",
        "output_schema",
        "links",
        "workers",
    ]
    assert (function["name"], function["doc"], function["queue"]) == ("divide", "Divide `a` by `b`.", "default")
    assert (function["timeout"], function["max_attempts"], function["result_ttl"]) == (5.0, 1, 86_400.0)
    assert function["input_schema"]["required"] == ["a"]
    assert function["input_schema"]["properties"]["b"]["default"] == 1
    assert function["output_schema"] == {"type": "number"}


async def test_a_list_has_pages(api: httpx.AsyncClient) -> None:
    whole = (await api.get("/v1/functions")).json()
    assert [function["name"] for function in whole["data"]] == ["divide", "login", "wait_for_ever"]
    assert (whole["has_more"], whole["next_cursor"]) == (False, None)

    names: list[str] = []
    page = (await api.get("/v1/functions?limit=2")).json()
    assert page["has_more"] is True
    names += [function["name"] for function in page["data"]]
    page = (await api.get("/v1/functions", params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert (page["has_more"], page["next_cursor"]) == (False, None)
    assert [*names, page["data"][0]["name"]] == ["divide", "login", "wait_for_ever"]


def test_large_limits_are_clamped() -> None:
    request = Request({"type": "http", "query_string": b"limit=100000", "headers": []})
    answer = page(request, {f"{number:04}": number for number in range(600)})
    assert (len(answer["data"]), answer["has_more"]) == (500, True)


async def test_limits_are_checked(api: httpx.AsyncClient) -> None:
    for parameter, value in (("limit", "0"), ("limit", "-1"), ("limit", "x"), ("limit", "9" * 30), ("cursor", "?")):
        answer = await api.get("/v1/functions", params={parameter: value})
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, parameter)


async def test_an_unknown_function(api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/functions/divde")
    assert (answer.status_code, answer.json()["did_you_mean"]) == (404, "divide")

"""The OpenAPI document is one that programs are made from: valid, complete, typed per function, and kept in docs/."""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import httpx
import jsonschema_rs
import pytest
import schemathesis
from pydantic import BaseModel, Field

from service import bootstrap
from service.api.components import Components
from service.api.docstrings import read_docstring
from service.api.document import as_text
from service.app import create_app
from service.engine import Catalogue, Context, Function, job
from service.settings import Settings
from tests.api.conftest import instead_of_jobs

COMMITTED = Path(__file__).parents[2] / "docs/openapi.json"
PREFIX = "#/components/schemas/"


class Parcel(BaseModel):
    """What is sent."""

    grams: int


class Problem(BaseModel):
    """Named like one of our own shapes."""

    what: str


class Cat(BaseModel):
    kind: Literal["cat"]
    parcel: Parcel


class Dog(BaseModel):
    kind: Literal["dog"]


class Tree(BaseModel):
    children: "list[Tree]" = []


class Liquids:
    class Parcel(BaseModel):
        litres: float


@job(name="shop.send")
async def send(ctx: Context, parcel: Parcel, note: str = "none") -> Problem:
    """Send a parcel
    to a customer.

    It is weighed first.

    Example:
        >>> await send(
        ...     ctx,
        ...     parcel={"grams": 5},
        ... )
        {'what': 'nothing'}

    Nothing is sent twice.
    """
    return Problem(what=f"{ctx.job_id} {parcel} {note}")


@job()
async def weigh(parcel: Parcel, pet: Annotated[Cat | Dog, Field(discriminator="kind")], tree: Tree) -> int:
    return parcel.grams + len(f"{pet}{tree}")


@job()
async def pour(parcel: Liquids.Parcel, at_most: float = math.inf) -> Liquids.Parcel | None:
    """Pour it.

    >>> await pour({"litres": "many"})
    >>> await weigh(1, 2, 3)
    >>> await pour(parcel={"litres": 1.5})
    """
    return parcel if parcel.litres < at_most else None


@job(name="job")
async def job_() -> None:
    """Its operation would be named as another is."""


Make = Callable[..., dict[str, Any]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """The document of an API with these functions."""

    def document(*functions: Callable[..., Any]) -> dict[str, Any]:
        instead_of_jobs(monkeypatch, Catalogue.of(*functions))
        return create_app(Settings.load()).openapi()

    return document


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for member in cast("dict[str, object]", value).values():
            yield from references(member)
    elif isinstance(value, list):
        for member in cast("list[object]", value):
            yield from references(member)
    elif isinstance(value, str) and value.startswith("#/"):
        yield value


def test_the_document_is_valid_openapi_and_so_are_its_schemas(make: Make) -> None:
    for document in (make(send, weigh, pour, job_), create_app(Settings.load()).openapi()):
        schemathesis.openapi.from_dict(document).validate()
        for name, schema in document["components"]["schemas"].items():
            assert jsonschema_rs.meta.is_valid(schema), name


def test_it_holds_no_loose_ends(make: Make) -> None:
    document = make(send, weigh, pour, job_)
    names = [operation["operationId"] for operation in operations(document)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    schemas = set(document["components"]["schemas"])
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in schemas)

    used: set[str] = set()
    left = [document["paths"]]
    while left:
        new = {found.removeprefix(PREFIX) for found in references(left.pop())} - used
        used |= new
        left.extend(document["components"]["schemas"][name] for name in new)
    assert used == schemas
    json.dumps(document, allow_nan=False)


def test_every_function_has_a_path_with_its_own_types(make: Make) -> None:
    document = make(send, weigh, pour, job_)
    schemas = document["components"]["schemas"]
    assert [path for path in document["paths"] if path.startswith("/v1/functions/") and path.endswith("/jobs")] == [
        "/v1/functions/job/jobs",
        "/v1/functions/pour/jobs",
        "/v1/functions/shop.send/jobs",
        "/v1/functions/weigh/jobs",
    ]
    operation = document["paths"]["/v1/functions/shop.send/jobs"]["post"]
    assert operation["operationId"] == "enqueue_shop_send"
    assert "path" not in {parameter["in"] for parameter in operation["parameters"]}
    assert operation["security"][0] == {"key": ["enqueue"]}

    request = schemas["ShopSendRequest"]
    assert (request["required"], request["additionalProperties"]) == (["input"], False)
    assert request["properties"]["input"] == {"$ref": f"{PREFIX}ShopSendInput"}
    generic = schemas["JobRequest"]["properties"].keys() - {"function", "args"}
    assert request["properties"].keys() == generic
    assert schemas["ShopSendInput"]["required"] == ["parcel"]
    assert schemas["ShopSendInput"]["properties"]["note"]["default"] == "none"
    assert schemas["ShopSendResult"]["properties"]["what"]["type"] == "string"
    outcome = operation["responses"]["200"]["content"]["application/json"]["schema"]["allOf"][1]
    assert {"$ref": f"{PREFIX}ShopSendResult"} in outcome["properties"]["result"]["anyOf"]


def test_names_of_a_function_do_not_take_those_of_the_api(make: Make) -> None:
    document = make(job_)
    schemas = document["components"]["schemas"]
    assert document["paths"]["/v1/jobs"]["post"]["operationId"] == "enqueue_job"
    assert document["paths"]["/v1/functions/job/jobs"]["post"]["operationId"] == "enqueue_job_2"
    assert schemas["JobRequest"]["required"] == ["function"]
    assert (schemas["JobJobRequest"]["required"], schemas["JobInput"]["properties"]) == ([], {})


def test_types_of_one_name_stay_apart_and_equal_ones_are_one(make: Make) -> None:
    schemas = make(send, weigh, pour)["components"]["schemas"]

    def parcel_of(schema: str) -> dict[str, Any]:
        return schemas[schemas[schema]["properties"]["parcel"]["$ref"].removeprefix(PREFIX)]

    assert set(parcel_of("PourInput")["properties"]) == {"litres"}
    assert set(parcel_of("ShopSendInput")["properties"]) == {"grams"}
    shared = {schemas[name]["properties"]["parcel"]["$ref"] for name in ("ShopSendInput", "WeighInput")}
    assert shared == {f"{PREFIX}ShopSendParcel"}
    assert "status" in schemas["Problem"]["properties"]
    assert [name for name in schemas if name.endswith("Parcel")] == ["Parcel", "ShopSendParcel"]


def test_what_refers_to_a_type_follows_it(make: Make) -> None:
    """A type within a type, one that holds itself, and the names in a discriminator."""
    schemas = make(pour, weigh)["components"]["schemas"]
    pet = schemas["WeighInput"]["properties"]["pet"]
    assert pet["discriminator"]["mapping"] == {"cat": f"{PREFIX}Cat", "dog": f"{PREFIX}Dog"}
    assert schemas["Cat"]["properties"]["parcel"] == {"$ref": f"{PREFIX}WeighParcel"}
    assert schemas["Tree"]["properties"]["children"]["items"] == {"$ref": f"{PREFIX}Tree"}


def test_a_type_that_differs_only_in_what_it_holds_is_another() -> None:
    schemas: dict[str, Any] = {}
    components = Components(schemas)
    for owner, leaf in (("One", "integer"), ("Two", "string")):
        box = {"$ref": "#/$defs/Box"}
        definitions = {"Box": {"properties": {"leaf": {"$ref": "#/$defs/Leaf"}}}, "Leaf": {"type": leaf}}
        components.add(f"{owner}Input", {"properties": {"box": box}, "$defs": definitions}, owner)
    assert schemas["OneInput"]["properties"]["box"] == {"$ref": f"{PREFIX}Box"}
    assert schemas["TwoInput"]["properties"]["box"] == {"$ref": f"{PREFIX}TwoBox"}
    assert schemas["TwoBox"]["properties"]["leaf"] == {"$ref": f"{PREFIX}TwoLeaf"}
    assert (schemas["Leaf"], schemas["TwoLeaf"]) == ({"type": "integer"}, {"type": "string"})


def test_the_docstring_is_the_description(make: Make) -> None:
    document = make(send, weigh, pour)
    operation = document["paths"]["/v1/functions/shop.send/jobs"]["post"]
    assert operation["summary"] == "Send a parcel to a customer"
    text = "It is weighed first.\n\nNothing is sent twice.\n\nEnqueues `shop.send`."
    assert operation["description"] == text
    assert document["paths"]["/v1/functions/weigh/jobs"]["post"]["summary"] == "Enqueue weigh"


def test_examples_come_from_the_docstring(make: Make) -> None:
    document = make(send, weigh, pour)
    schemas = document["components"]["schemas"]
    body = document["paths"]["/v1/functions/shop.send/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert [example["value"] for example in body["examples"].values()] == [{"input": {"parcel": {"grams": 5}}}]
    assert schemas["ShopSendInput"]["examples"] == [{"parcel": {"grams": 5}}]
    assert schemas["ShopSendResult"]["examples"] == [{"what": "nothing"}]
    # Of those of `pour`, one does not fit the function and one is of another function.
    assert schemas["PourInput"]["examples"] == [{"parcel": {"litres": 1.5}}]
    assert "examples" not in schemas["PourResult"]


def functions() -> tuple[Function, ...]:
    return tuple(bootstrap.load_catalogue(Settings.load()))


@pytest.mark.parametrize("function", functions(), ids=lambda function: function.name)
def test_examples_of_our_own_functions_can_be_enqueued(function: Function) -> None:
    assert len(read_docstring(function).examples) == function.doc.count(">>> ")


def test_the_committed_copy_is_the_document() -> None:
    document = create_app(Settings.load()).openapi()
    again = "the API has changed: run `./run openapi > docs/openapi.json` and commit it"
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == document, again
    assert COMMITTED.read_text(encoding="utf-8") == as_text(document), again


async def test_a_body_made_by_the_document_is_enqueued(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    path = "/v1/functions/divide/jobs"
    schema = document["components"]["schemas"]["DivideRequest"]
    body = {"input": {"a": 6, "b": 3}, "priority": 1, "delay": "1h"}
    jsonschema_rs.validate({**schema, "components": document["components"]}, body)
    made = await api.post(path, json=body)
    assert (made.status_code, made.json()["function"], made.json()["priority"]) == (202, "divide", 1)
    assert (await api.delete(made.json()["links"]["self"])).status_code == 204

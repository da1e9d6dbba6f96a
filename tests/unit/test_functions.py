"""From a signature to a schema: what `@job` makes of a function."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from service.engine import Catalogue, Context, FunctionNotRegistered, InvalidInput, job
from service.engine.functions import Function, required_spec, spec_of


class Size(Enum):
    SMALL = "small"


class Address(BaseModel):
    street: str


@job(name="shop.ship", timeout="90s")
async def ship(ctx: Context, to: Address, *, size: Size = Size.SMALL, at: datetime | None = None) -> str:
    """Ship a parcel."""
    return f"{ctx.job_id} {to.street} {size} {at}"


@job(executor="process", memory="512M")
def resize() -> None: ...


def shipping() -> Function:
    spec = spec_of(ship)
    assert spec is not None
    return spec


def test_the_signature_is_the_schema() -> None:
    schema = shipping().input_schema()
    assert set(schema["properties"]) == {"to", "size", "at"}
    assert schema["required"] == ["to"]
    assert schema["additionalProperties"] is False
    assert shipping().output_schema() == {"type": "string"}
    assert (shipping().name, shipping().timeout, shipping().doc) == ("shop.ship", 90.0, "Ship a parcel.")


def test_arguments_arrive_as_the_types_that_the_signature_asks_for() -> None:
    arguments = shipping().validate({"to": {"street": "Elm"}, "size": "small"})
    assert arguments == {"to": Address(street="Elm"), "size": Size.SMALL}
    assert shipping().to_wire(arguments) == {"to": {"street": "Elm"}, "size": "small"}


def test_positional_arguments_are_named_by_the_signature() -> None:
    assert shipping().bind([{"street": "Elm"}], {"size": "small"}) == {"to": {"street": "Elm"}, "size": "small"}
    with pytest.raises(InvalidInput, match="/args/1"):
        shipping().bind([{}, "small"], {})
    with pytest.raises(InvalidInput, match="/input/to"):
        shipping().bind([{}], {"to": {}})


def test_a_problem_points_at_its_place() -> None:
    with pytest.raises(InvalidInput) as refusal:
        shipping().validate({"to": {"street": 1}, "_job_id": "mine", "a/b": 1})
    assert {problem.pointer for problem in refusal.value.problems} == {
        "/input/to/street",
        "/input/_job_id",
        "/input/a~1b",
    }


def test_a_result_may_be_annotated_with_anything() -> None:
    @job()
    async def count() -> Annotated[int, {"unit": "parcels"}]:
        return 1

    assert required_spec(count).result_as_json(1) == b"1"


def test_what_cannot_be_called_by_name_cannot_be_a_job() -> None:
    with pytest.raises(TypeError, match="returns its result"):

        @job()
        def generates() -> Any:
            yield 1

    with pytest.raises(TypeError, match="name every parameter"):

        @job()
        async def variadic(*args: Any) -> None:
            del args

    with pytest.raises(ValueError, match="function"):
        job(name="not a name")(ship)


def test_where_a_function_runs_follows_from_how_it_is_written() -> None:
    @job()
    async def waits() -> None: ...

    @job()
    def computes() -> None: ...

    assert (required_spec(waits).executor, required_spec(computes).executor) == ("loop", "thread")
    assert (required_spec(resize).executor, required_spec(resize).memory) == ("process", 512 << 20)


def test_what_a_child_process_cannot_find_is_refused() -> None:
    with pytest.raises(TypeError, match="top of a module"):

        @job(executor="process")
        def hidden() -> None: ...

    with pytest.raises(TypeError, match="executor='process' alone"):

        @job(memory="512M")
        def unlimited() -> None: ...


def test_a_catalogue_knows_each_name_once() -> None:
    @job(name="shop.ship")
    async def other() -> None: ...

    with pytest.raises(ValueError, match="two functions"):
        Catalogue.of(ship, other)
    with pytest.raises(FunctionNotRegistered, match=r"did you mean 'shop.ship'"):
        Catalogue.of(ship).get("shop.shop")


def test_the_functions_of_this_project_are_found() -> None:
    import jobs

    assert {"hello", "summarize_csv", "sweep_files"} <= {function.name for function in Catalogue.from_package(jobs)}

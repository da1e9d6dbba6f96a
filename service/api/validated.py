"""Parsed bodies as the models that describe them."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.api.problems import field_problem, validation_problem

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], body: Any) -> Model:
    """`body` as `model`. Raises Problem with a pointer to each thing that does not fit; it never shows the input."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise validation_problem(error.errors(include_url=False, include_context=False, include_input=False)) from None


def validated_or_empty(model: type[Model], body: Any) -> Model:
    """The same, where no body is the same as an empty object."""
    if body is not None and not isinstance(body, dict):
        raise field_problem("", "the body is a JSON object, or nothing", "object_type")
    return validated(model, {} if body is None else body)

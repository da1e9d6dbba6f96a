"""Names that say that their value is a secret, however people write them."""

import re
from typing import Any

import pytest

from service.engine import REDACTED, Hidden, redact

SECRET = """
    password db_password PASSWORD DB-PASSWORD userPassword accesstoken ACCESS_TOKEN access.token accessToken tokens
    x-api-key Api-Key api_key apiKey APIKey apikey API_KEYS secret client_secret clientSecret aws_secret_access_key
    authorization Authorization Proxy-Authorization cookie Cookie set-cookie session user_session sessionId
    privateKey private_key credentials AwsCredential passwd pwd DB_PWD passphrase password2 oauth2Token
"""
OPEN = """
    key keys primary_key keyboard monkey token_count tokenize password_length secretary authorized cookie_banner
    session_count passed author apikeyed public_key user name _ 1
"""


@pytest.mark.parametrize("name", SECRET.split())
def test_a_name_of_a_secret(name: str) -> None:
    assert redact({name: "x"}) == {name: REDACTED}


@pytest.mark.parametrize("name", OPEN.split())
def test_a_name_of_something_else(name: str) -> None:
    assert redact({name: "x"}) == {name: "x"}


def test_it_is_found_however_deep_and_left_in_the_value_itself() -> None:
    value: Any = {"a": [{"Api-Key": [1], "b": Hidden("s")}], 1: {"pwd": None}, "x" * 100_000 + "_token": 1}
    shown = redact(value)
    assert shown["a"] == [{"Api-Key": REDACTED, "b": REDACTED}]
    assert shown[1] == {"pwd": REDACTED}
    assert re.fullmatch(r"x+_token", list(shown)[-1])
    assert shown[list(shown)[-1]] == REDACTED
    assert value["a"][0]["Api-Key"] == [1]

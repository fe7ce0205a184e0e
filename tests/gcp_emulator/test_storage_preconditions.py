"""A write that must not happen does not: who relies on generations would lose another's data."""

from __future__ import annotations

import pytest

from gcp_emulator.storage_errors import NotModified, StorageError
from gcp_emulator.storage_preconditions import Preconditions, Version

_NOTHING = Version()
_THERE = Version(7, 3)


@pytest.mark.parametrize(
    ("query", "now", "holds"),
    [
        ({}, _NOTHING, True),
        ({}, _THERE, True),
        ({"ifGenerationMatch": "0"}, _NOTHING, True),
        ({"ifGenerationMatch": "0"}, _THERE, False),
        ({"ifGenerationMatch": "7"}, _THERE, True),
        ({"ifGenerationMatch": "7"}, _NOTHING, False),
        ({"ifGenerationMatch": "8"}, _THERE, False),
        ({"ifGenerationNotMatch": "0"}, _NOTHING, False),
        ({"ifGenerationNotMatch": "0"}, _THERE, True),
        ({"ifGenerationNotMatch": "7"}, _THERE, False),
        ({"ifMetagenerationMatch": "3"}, _THERE, True),
        ({"ifMetagenerationMatch": "4"}, _THERE, False),
        ({"ifMetagenerationNotMatch": "3"}, _THERE, False),
        ({"ifGenerationMatch": "7", "ifMetagenerationMatch": "4"}, _THERE, False),
    ],
)
def test_a_change_happens_only_where_all_that_was_asked_holds(query: dict[str, str], now: Version, holds: bool) -> None:
    if holds:
        Preconditions.of(query).check(now)
        return
    with pytest.raises(StorageError) as raised:
        Preconditions.of(query).check(now)
    assert (raised.value.status, raised.value.reason) == (412, "conditionNotMet")


def test_a_reader_that_has_it_already_is_told_so() -> None:
    with pytest.raises(NotModified):
        Preconditions.of({"ifGenerationNotMatch": "7"}).check_read(_THERE)
    with pytest.raises(StorageError):
        Preconditions.of({"ifGenerationMatch": "8"}).check_read(_THERE)


def test_the_conditions_of_a_source_are_apart() -> None:
    query = {"ifSourceGenerationMatch": "7", "ifGenerationMatch": "0"}
    Preconditions.of(query, "ifSource").check(_THERE)
    Preconditions.of(query).check(_NOTHING)


@pytest.mark.parametrize("value", ["", "-1", "x", "1.0", "٣"])
def test_what_is_no_number_is_no_condition(value: str) -> None:
    with pytest.raises(StorageError) as raised:
        Preconditions.of({"ifGenerationMatch": value})
    assert raised.value.body()["error"]["errors"][0]["location"] == "ifGenerationMatch"

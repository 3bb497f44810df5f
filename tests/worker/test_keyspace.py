"""Which errors of a server mean that it does not serve, in the words of all versions."""

import pytest

from worker.keyspace import tells_of_trouble

AFTER = " script: 6b818461879b7ea953a81ab9ad7aaeca1590b7ab, on @user_script:1."
BEFORE = "Error running script (call to f_1028a5dba704e1d8a01fd96efeba25bb78f62df2): @user_script:4: @user_script: 4: "

TROUBLES = (
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOREPLICAS Not enough good replicas to write.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
)
MISTAKES = (
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "BUSYGROUP Consumer Group name already exists",
    "ERR value is not an integer or out of range",
    "user_script:4: attempt to compare nil with number",
    "user_script:4: no such state: READONLY",
)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_is_known_from_every_version(trouble: str) -> None:
    assert tells_of_trouble(trouble)
    assert tells_of_trouble(trouble + AFTER)
    assert tells_of_trouble(f"{BEFORE}-{trouble} ")
    assert tells_of_trouble(f"ERR {BEFORE}-{trouble} ")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_script_does_wrong_is_no_trouble(mistake: str) -> None:
    assert not tells_of_trouble(mistake)
    assert not tells_of_trouble(mistake + AFTER)
    assert not tells_of_trouble(f"ERR {BEFORE}{mistake}")

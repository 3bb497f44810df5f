"""Settings: where values come from, what is refused and how, what may be shown, and the file of keys."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.settings import InvalidKeyFile, InvalidSettings, Settings, load_api_keys, read_api_keys

SECRET = "open-sesame-42"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the person who runs the tests reaches them, and no test touches that person's files."""
    for variable in [name for name in os.environ if name.upper().startswith(("REINMAX_", "XDG_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_defaults_follow_the_platform(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.redis_url is None
    assert settings.data_dir == tmp_path / ".local/share/reinmax"
    assert settings.state_dir == tmp_path / ".local/state/reinmax"
    assert settings.artifacts_url == str(settings.state_dir / "artifacts")
    assert settings.api_keys_file == settings.state_dir / "api-keys"
    assert (settings.host, settings.port, settings.is_on_loopback) == ("127.0.0.1", 8000, True)
    assert (settings.lease_s, settings.cancel_grace_s, settings.log_level) == (15, 30, "info")


def test_xdg_folders_move_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", "relative/ones/are/to/be/ignored")
    assert Settings().state_dir == tmp_path / "state/reinmax"
    assert Settings().data_dir == tmp_path / ".local/share/reinmax"


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("REINMAX_REDIS_URL", "rediss://:pw@example.org:6380/1", "redis_url", "rediss://:pw@example.org:6380/1"),
        ("REINMAX_URL", "https://train.example.org/", "url", "https://train.example.org"),
        ("REINMAX_PORT", "0", "port", 0),
        ("REINMAX_LEASE_S", "2.5", "lease_s", 2.5),
        ("REINMAX_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("REINMAX_KEEP_DAYS", "0.5", "keep_days", 0.5),
        ("REINMAX_KEEP_JOBS", "", "keep_jobs", None),
        ("REINMAX_REPLICAS", "1", "replicas", 1),
        ("REINMAX_LOG_LEVEL", "", "log_level", "info"),
        ("REINMAX_ARTIFACTS_URL", "s3://bucket/folder", "artifacts_url", "s3://bucket/folder"),
        ("REINMAX_DATA_MIRROR", "/a https://b/c,\n/d ", "data_mirror", ("/a", "https://b/c", "/d")),
    ],
)
def test_variables_are_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(Settings(), field) == expected


def test_folders_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REINMAX_DATA_DIR", "~/sets")
    monkeypatch.setenv("REINMAX_STATE_DIR", "state")
    assert Settings().data_dir == tmp_path / "sets"
    assert Settings().artifacts_url == str(tmp_path / "state/artifacts")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_told_from_the_world(host: str, expected: bool) -> None:
    assert Settings(host=host).is_on_loopback is expected


@pytest.mark.parametrize(
    ("variable", "value", "expectation"),
    [
        ("REINMAX_PORT", "tcp://10.0.0.7:80", "integer"),
        ("REINMAX_PORT", "65536", "less than or equal to 65535"),
        ("REINMAX_LEASE_S", "0", "greater than or equal to 0.5"),
        ("REINMAX_LEASE_S", "nan", "finite"),
        ("REINMAX_CHECKPOINT_INTERVAL_S", "0", "greater than 0"),
        ("REINMAX_CANCEL_GRACE_S", "-1", "greater than or equal to 0"),
        ("REINMAX_KEEP_DAYS", "0", "greater than 0"),
        ("REINMAX_KEEP_JOBS", "0", "greater than or equal to 1"),
        ("REINMAX_REPLICAS", "0", "greater than or equal to 1"),
        ("REINMAX_LOG_LEVEL", "loud", "'debug', 'info'"),
        ("REINMAX_REDIS_URL", "http://example.org", "redis://"),
        ("REINMAX_REDIS_URL", "redis://example.org:99999", "range"),
    ],
)
def test_a_bad_value_is_answered_with_variable_value_expectation_and_remedy(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expectation: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as refusal:
        Settings()
    message = str(refusal.value)
    assert message.startswith(f"{variable} is '{value}': ")
    assert expectation in message
    assert message.endswith("Correct the variable, or unset it for the default.")


def test_all_mistakes_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINMAX_PORT", "web")
    monkeypatch.setenv("REINMAX_LEASE_S", "long")
    with pytest.raises(InvalidSettings) as refusal:
        Settings()
    assert [line.split()[0] for line in str(refusal.value).splitlines()] == ["REINMAX_PORT", "REINMAX_LEASE_S"]


def test_an_unknown_argument_is_answered_with_the_fields_that_exist() -> None:
    with pytest.raises(InvalidSettings, match=r"no field 'prot'.*port"):
        Settings.model_validate({"prot": 1})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REINMAX_API_KEYS", f"{SECRET},short"),
        ("REINMAX_REDIS_URL", f"http://:{SECRET}@example.org"),
        ("REINMAX_REDIS_URL", f":{SECRET}@example.org:6379"),
        ("REINMAX_REDIS_URL", f"redis://:{SECRET}@[example.org:6379"),
    ],
)
def test_a_refused_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings, match=f"^{variable} is ") as refusal:
        Settings()
    assert SECRET not in str(refusal.getrepr(style="long"))


def test_overview_lists_every_variable_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINMAX_LEASE_S", "9")
    monkeypatch.setenv("REINMAX_PORT", "")
    overview = {setting.variable: setting for setting in Settings(host="localhost").overview()}
    assert len(overview) == len(Settings.model_fields)
    assert all(setting.description.endswith(".") for setting in overview.values())
    assert overview["REINMAX_LEASE_S"][1:3] == ("9.0", "environment")
    assert overview["REINMAX_HOST"][1:3] == ("localhost", "argument")
    assert overview["REINMAX_PORT"][1:3] == ("8000", "default")
    assert overview["REINMAX_REDIS_URL"][1:3] == ("none", "default")


def test_a_child_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINMAX_REDIS_URL", "redis://ignored:1")
    parent = Settings(redis_url=None, api_keys=["first-key-1", "second-key-2"], data_mirror="/a https://b/c", port=0)
    for variable, value in parent.for_child().items():
        monkeypatch.setenv(variable, value)
    assert Settings() == parent


def test_nothing_shown_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINMAX_API_KEYS", f"{SECRET},{SECRET}-2")
    monkeypatch.setenv("REINMAX_REDIS_URL", f"redis://user:{SECRET}/@@example.org:6379/0")
    monkeypatch.setenv("REINMAX_DATA_MIRROR", f"/folder https://me:{SECRET}@example.org/data")
    settings = Settings(redis_url=f"redis://:{SECRET}@example.org:6379/0")
    overview = {setting.variable: setting.value for setting in settings.overview()}
    assert overview["REINMAX_REDIS_URL"] == "redis://***@example.org:6379/0"
    assert overview["REINMAX_DATA_MIRROR"] == "/folder https://***@example.org/data"
    assert SECRET not in str(overview)
    assert SECRET not in repr(settings.model_copy(update={"data_mirror": ()}))


def test_keys_of_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINMAX_API_KEYS", "first-key-1, second-key-2")
    settings = Settings()
    assert [key.get_secret_value() for key in load_api_keys(settings)] == ["first-key-1", "second-key-2"]
    assert not settings.api_keys_file.exists()


def test_a_missing_key_file_is_made_once_and_for_its_owner_only() -> None:
    settings = Settings()
    assert read_api_keys(settings) == ()
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: load_api_keys(settings), range(8)))
    assert found == {read_api_keys(settings)}
    assert settings.api_keys_file.stat().st_mode & 0o777 == 0o600
    assert list(settings.state_dir.iterdir()) == [settings.api_keys_file]


def test_a_key_file_holds_one_key_a_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("first-key-1\n\n  second-key-2\r\n")
    assert [key.get_secret_value() for key in load_api_keys(Settings(api_keys_file=file))] == [
        "first-key-1",
        "second-key-2",
    ]


@pytest.mark.parametrize(("text", "finding"), [("", "empty"), ("two words\n", "visible ASCII")])
def test_a_key_file_without_a_proper_key_is_refused(tmp_path: Path, text: str, finding: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(InvalidKeyFile, match=f"REINMAX_API_KEYS_FILE names {file}.*{finding}.*remove it"):
        load_api_keys(Settings(api_keys_file=file))


def test_a_key_file_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidKeyFile, match=r"cannot be made: .*dangling.*set REINMAX_API_KEYS"):
        load_api_keys(Settings(api_keys_file=tmp_path / "dangling" / "keys"))


def test_a_key_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyFile, match="Is a directory"):
        load_api_keys(Settings(api_keys_file=tmp_path))


def test_settings_load_without_torch_and_without_a_redis_client() -> None:
    program = "import sys, worker.settings; print(*{'torch', 'redis', 'celery', 'numpy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""

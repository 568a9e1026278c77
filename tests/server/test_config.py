"""The server's configuration: what wins, what is refused and in which words, and its texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wherry.server import config, users_hashes
from wherry.server.config_lines import key_lines
from wherry.server.config_reading import all_keys, parse_size
from wherry.server.config_text import documentation

ROOT = Path(__file__).parents[2]


def problems(tmp_path: Path, text: str, **sources: Any) -> list[str]:
    file = tmp_path / "wherry.toml"
    file.write_text(text)
    with pytest.raises(config.ConfigError) as caught:
        config.load(file, **sources)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem).replace(f"{file}, ", "") for problem in caught.value.problems]


def loaded(tmp_path: Path, text: str, **sources: Any) -> config.Config:
    file = tmp_path / "wherry.toml"
    file.write_text(text)
    return config.load(file, **sources).config


def test_without_anything_it_is_the_defaults() -> None:
    assert config.load().config == config.Config()


def test_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "wherry.toml"
    file.write_text("[limits]\nframe_max = 5000\nchannel_max = 5\nheartbeat_seconds = 5\n")
    environment = {"WHERRY_LIMITS_FRAME_MAX": "6000", "WHERRY_LIMITS_CHANNEL_MAX": "6"}
    result = config.load(file, environment=environment, flags={"limits.frame_max": "7000"})
    limits = result.config.limits
    assert limits.frame_max == 7000
    assert limits.channel_max == 6
    assert limits.heartbeat_seconds == 5
    assert limits.handshake_seconds == 10
    assert result.sources["limits.frame_max"] == "command line"
    assert result.sources["limits.channel_max"] == "environment variable WHERRY_LIMITS_CHANNEL_MAX"
    assert result.sources["limits.heartbeat_seconds"] == f"{file}, line 4"


def test_a_flag_of_none_takes_a_setting_back(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'directory = "x"', flags={"directory": None}).directory is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1048576", 1048576),
        ("16 MiB", 16 << 20),
        ("50MB", 50_000_000),
        ("1.5 kB", 1500),
        ("2gib", 2 << 30),
        ("0.4", 0.4),
    ],
)
def test_sizes(text: str, expected: float) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "MiB", "1 MB B", "-1", "1e3", "1 TB", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:5672", ("127.0.0.1", 5672)),
        ("[::1]:0", ("::1", 0)),
        ("*:5672", ("", 5672)),
        ("broker.example:65535", ("broker.example", 65535)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert config.parse_address(text) == expected


@pytest.mark.parametrize("text", ["localhost", ":5672", "::1:5672", "a:70000", "a:", "a:-1", "a:٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        config.parse_address(text)


def test_every_problem_is_found_and_named_with_its_line(tmp_path: Path) -> None:
    text = """
durabilty = "always"
frame_max = 3

[limits]
frame_max = 7
conections_max = 3
channel_max = [
  1,
]

[amqp]
listeners = ["localhost"]

[log]
level = "loud"
"""
    environment = {"WHERRY_LIMITS_HEARTBEAT_SECONDS": "soon"}
    assert problems(tmp_path, text, environment=environment, flags={"qqq": "1"}) == [
        "line 2: durabilty: there is no such key; did you mean durability?",
        "line 3: frame_max: there is no such key; did you mean limits.frame_max?",
        "line 6: limits.frame_max: expected int >= 4096; allowed: 4096 to 16777216",
        "line 7: limits.conections_max: there is no such key; did you mean limits.connections_max?",
        "line 8: limits.channel_max: expected int, got list; allowed: 1 to 65535",
        "line 13: amqp.listeners: 'localhost' is not host:port",
        "line 16: log.level: invalid enum value 'loud';"
        ' allowed: "debug" or "info" or "warning" or "error"',
        "environment variable WHERRY_LIMITS_HEARTBEAT_SECONDS: limits.heartbeat_seconds:"
        " expected int, got text; allowed: 0 to 65535",
        "command line: qqq: there is no such key; docs/configuration.md lists all keys",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limits = 3", "line 1: limits: is a table: write [limits] and its keys below"),
        ("[limit]\n", "line 1: limit: there is no such key; did you mean limits?"),
        ("a = ", "line 1: is not TOML: Invalid value"),
        ('\n\n[log]\nlevel = "info', "line 4: is not TOML: "),
        ("users = 3", "line 1: users: is a list of tables: write [[users]]"),
        ('amqp.tls_listeners = ["*:5671"]', "line 1: amqp.tls_listeners: needs tls.certificate"),
        ('[tls]\nkey = "k"', "line 2: tls.key: needs tls.certificate beside it"),
        ('[tls]\nverify = "peer"', 'line 2: tls.verify: "peer" needs tls.ca'),
        ('stomp.websocket_path = "ws"', "line 1: stomp.websocket_path: 'ws' is no path of a URL"),
        (
            'stomp.websocket_origins = ["a.b"]',
            "line 1: stomp.websocket_origins: 'a.b' is no origin",
        ),
        ('stomp.websocket_tls_listeners = ["*:1"]', "line 1: stomp.websocket_tls_listeners: needs"),
        ('stomp.tls_listeners = ["*:1"]', "line 1: stomp.tls_listeners: needs tls.certificate"),
        (
            "amqp.listeners = []\nstomp.listeners = []",
            "line 1: amqp.listeners: is empty, and so",
        ),
        ('auth.mechanisms = ["EXTERNAL"]', "line 1: auth.mechanisms: EXTERNAL needs tls.verify"),
        ('auth.mechanisms = ["CRAM"]', "line 1: auth.mechanisms: invalid enum value 'CRAM' (item"),
        (
            "limits.connections_per_user_max = 0",
            "line 1: limits.connections_per_user_max: expected 1 to 1000000000; allowed: 1 to 1",
        ),
        ('directory = ""', "line 1: directory: an empty path"),
        ("memory.watermark = inf", "line 1: memory.watermark: a size is less than 8 EiB"),
        ("memory.watermark = 1e30", "line 1: memory.watermark: a size is less than 8 EiB"),
        ('disk.free_bytes_min = "9999999999 GiB"', "line 1: disk.free_bytes_min: a size is less"),
    ],
)
def test_a_problem(tmp_path: Path, text: str, expected: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.removeprefix(str(tmp_path / "wherry.toml: ")).startswith(expected)


def test_problems_of_users_never_repeat_their_values(tmp_path: Path) -> None:
    text = """
[[users]]
name = "both"
password = "hush"
password_hash = "hush"
[[users]]
name = "neither"
[[users]]
password = "hush"
[[users]]
name = "wrong"
password = 12345
[[users]]
name = "empty"
password = ""
[[users]]
name = "typo"
pasword = "hush"
permissions = [{ vhost = "/", wrte = "x" }, { vhost = 3 }]
"""
    found = problems(tmp_path, text)
    assert found == [
        "line 2: users.password: user 'both' needs either password or password_hash",
        "line 6: users.password: user 'neither' needs either password or password_hash",
        "line 8: users.name: is missing",
        "line 12: users.password: expected text | null, got int",
        "line 15: users.password: of user 'empty' is empty: an empty password never logs in",
        "line 18: users.pasword: there is no such key; did you mean password?",
        "line 19: users.permissions.wrte: there is no such key; did you mean write?",
        "line 19: users.permissions.vhost: expected text, got int",
    ]


def test_what_is_wrong_with_a_user_is_told_with_its_line(tmp_path: Path) -> None:
    text = """
[[users]]
name = "hashed"
password_hash = "hush"

[[users]]
name = "tagged"
password = "hush"
tags = ["a,b"]

[[users]]
name = "permitted"
password = "hush"
permissions = [
  { vhost = "/", write = "(" },
]
"""
    found = problems(tmp_path, text)
    assert found == [
        "line 4: users.password_hash: of user 'hashed': the password hash is not one of argon2",
        "line 9: users.tags: of user 'tagged': tag 'a,b': a comma separates tags",
        "line 14: users.permissions.write: of user 'permitted':"
        " '(' is no regular expression: unclosed group",
    ]


def test_users_are_no_option() -> None:
    with pytest.raises(config.ConfigError, match=r"users: stands in a file: write \[\[users\]\]"):
        config.load(flags={"users": "3"})


def test_users(tmp_path: Path) -> None:
    text = """
[[users]]
name = "shop"
password = "hush"
tags = ["monitoring"]

[[users]]
name = "limited"
password_hash = "HASH"
[[users.permissions]]
vhost = "v"
read = ""
"""
    text = text.replace("HASH", users_hashes.hash_password("hush"))
    shop, limited = loaded(tmp_path, text).users
    assert (shop.name, shop.password, shop.tags) == ("shop", "hush", ("monitoring",))
    assert shop.permissions == (config.InlinePermission(vhost="/"),)
    assert limited.permissions == (config.InlinePermission(vhost="v", read=""),)
    assert "hush" not in repr(shop)


def test_variables_that_are_no_settings_are_only_told() -> None:
    environment = {
        "WHERRY_PORT": "tcp://10.0.0.1:5672",
        "WHERRY_LOG_LEVL": "info",
        "WHERRY_URL": "amqp://",
        "WHERRY_DIRECTORY": "",
        "PATH": "",
    }
    result = config.load(environment=environment)
    assert result.config == config.Config()
    assert result.warnings == (
        "environment variable WHERRY_PORT is no setting",
        "environment variable WHERRY_LOG_LEVL is no setting; did you mean WHERRY_LOG_LEVEL?",
    )


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    with pytest.raises(config.ConfigError, match="cannot be read: No such file"):
        config.load(absent)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff")
    with pytest.raises(config.ConfigError, match="is not UTF-8 text, at byte 0"):
        config.load(binary)
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(config.ConfigError, match="over 1 MiB"):
        config.load(large)


def test_lines_of_keys() -> None:
    text = '''# comment
a = 1
b.c = """
[not.a.table]
x = 1
"""
[t]  # comment

"quoted key" = [
  "]", # ]
  { inner = 1 },
]
[[list]]
k = { m = 1, n = { o = 2 } }
[[list]]
k = 1
[list.sub]
z = 1
[[list.deep]]
[[list.deep]]
y = 1
'''
    assert key_lines(text) == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 3,
        ("t",): 7,
        ("t", "quoted key"): 9,
        ("t", "quoted key", 1): 9,
        ("t", "quoted key", 1, "inner"): 9,
        ("list",): 13,
        ("list", 0): 13,
        ("list", 0, "k"): 14,
        ("list", 0, "k", "m"): 14,
        ("list", 0, "k", "n"): 14,
        ("list", 0, "k", "n", "o"): 14,
        ("list", 1): 15,
        ("list", 1, "k"): 16,
        ("list", 1, "sub"): 17,
        ("list", 1, "sub", "z"): 18,
        ("list", 1, "deep"): 19,
        ("list", 1, "deep", 0): 19,
        ("list", 1, "deep", 1): 20,
        ("list", 1, "deep", 1, "y"): 21,
    }


def test_every_default_is_allowed_and_every_limit_is_kept() -> None:
    defaults = config.Config()
    for key in all_keys():
        if key.kind == "tables":
            continue
        value: Any = defaults
        for name in key.path:
            value = getattr(value, name)
        if value is not None:
            given = list(value) if isinstance(value, tuple) else value
            assert config.load(flags={key.name: given}).config == defaults
        for bound, beyond in ((key.meta.ge, -1), (key.meta.le, 1)):
            if bound is None:
                continue
            config.load(flags={key.name: bound})
            with pytest.raises(config.ConfigError, match=key.name):
                config.load(flags={key.name: bound + beyond})


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    text = 'directory = "d\\"\\u007f"\n[memory]\nwatermark = "1 GiB"\n[amqp]\nlisteners = ["*:1"]\n'
    file = tmp_path / "wherry.toml"
    file.write_text(text)
    result = config.load(file)
    printed = config.to_toml(result.config, result.sources)
    assert f'listeners = ["*:1"]  # {file}, line 5' in printed
    assert loaded(tmp_path, printed) == result.config


def test_passwords_are_not_printed() -> None:
    user = config.InlineUser(name="shop", password="hush")
    printed = config.to_toml(config.Config().replace(users=(user,)))
    assert "hush" not in printed
    assert 'name = "shop"' in printed


def test_where_the_parts_of_a_data_directory_are() -> None:
    memory = config.Config()
    assert memory.users_path() is None
    assert memory.control_path() is None
    disk = config.Config(directory="/d")
    assert disk.users_path() == "/d/users.json"
    assert disk.control_path() == "/d/control.sock"
    assert config.Config(control=config.Control(socket="/s")).control_path() == "/s"
    off = config.Config(directory="/d", control=config.Control(enabled=False))
    assert off.control_path() is None


def test_limits_for_the_sessions() -> None:
    limits = config.Limits(connections_per_user_max=3).of_sessions()
    assert limits["connections_per_user_max"] == 3
    assert limits["frame_max"] == 131072
    # A limit that is off is not there, so that `channel_max` alone lets a client have all channels.
    assert limits.keys().isdisjoint(
        {
            "verifications_max",
            "handshakes_max",
            "connections_per_virtual_host_max",
            "channels_per_connection_max",
        }
    )


def test_the_watermark_in_bytes() -> None:
    assert config.Memory(watermark=1 << 30).bytes_max() == 1 << 30
    assert 0 < config.Memory(watermark=0.25).bytes_max() <= config.Memory(watermark=0.5).bytes_max()


def test_the_documentation_is_the_schema() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text()
    assert written == documentation(), "run python -m wherry.server.config_text"
    for key in all_keys():
        assert f"`{key.name}`" in written or key.kind == "tables"


def test_the_example_in_the_documentation_is_valid(tmp_path: Path) -> None:
    example = documentation().split("```toml\n")[1].split("```")[0]
    assert loaded(tmp_path, example).limits.message_bytes_max == 64 << 20


def test_importing_wherry_does_not_import_it() -> None:
    code = (
        "import sys, wherry; print([m for m in ('msgspec', 'wherry.server') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

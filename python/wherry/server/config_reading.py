"""From a TOML file, the environment and the command line to a `Config`.

The command line wins over the environment, the environment over the file, the file over the
defaults. Everything that is wrong is found in one go, and each problem says where it is, what is
wrong, what is allowed, and which key was probably meant.

Environment variables that begin with WHERRY_ but are no key are named in `Loaded.warnings` only:
container platforms make such variables for a service of that name (`WHERRY_PORT`).
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args, get_origin

import msgspec

from wherry.server.config_schema import Config, InlineUser, Loaded, parse_address
from wherry.server.config_table import Meta, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from wherry.server.config_lines import Path as KeyPath

__all__ = ["ConfigError", "Key", "Problem", "all_keys", "parse_size", "read"]

# A configuration is written by hand; a larger file is some other file.
FILE_BYTES_MAX = 1 << 20

# Read by `wherry` itself, not keys of the configuration.
OTHER_VARIABLES = frozenset({"WHERRY_CONFIG", "WHERRY_URL", "WHERRY_USER_PASSWORD"})

PLAIN_WORDS = {"array": "list", "object": "table", "str": "text", "bool": "true or false"}

# What msgspec checks beside the type.
BOUNDS = ("gt", "ge", "le", "min_length", "max_length")

# Of what may be absent; larger counts than this are typing errors.
COUNT_MAX = 10**9

# The engine counts bytes in 63 bits.
SIZE_MAX = 1 << 63

# What needs no escaping.
WEB_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")

UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}


def _near(name: str, known: Iterable[str], count: int, cutoff: float) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, list(known), count, cutoff)


class Problem(NamedTuple):
    """One thing that is wrong."""

    where: str
    """File and line, variable, or option."""
    key: str
    """The key, with its table."""
    text: str
    """What is wrong and what is allowed."""

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.key}: {self.text}" if self.key else f"{self.where}: {self.text}"
        )


class ConfigError(Exception):
    """The configuration cannot be used. Its text has a line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Key(NamedTuple):
    """A setting: where it stands and what it takes."""

    path: tuple[str, ...]
    """Tables and name."""
    type: Any
    """Its type."""
    default: Any
    """Its default."""
    meta: Meta
    """Range and description."""

    @property
    def name(self) -> str:
        """As in a TOML file: `limits.frame_max`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its environment variable; tables of tables have none."""
        return "" if self.kind == "tables" else "WHERRY_" + "_".join(self.path).upper()

    @property
    def kind(self) -> str | None:
        """How text is read."""
        return self.meta.kind


def fields_of(schema: type[Table]) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each field."""
    for name, hint in schema.__annotations__.items():
        yield name, hint, getattr(schema, name)


def is_table(hint: Any) -> bool:
    """Whether a field of this type is a table of the file."""
    return isinstance(hint, type) and issubclass(hint, Table)


@cache
def all_keys(schema: type[Any] = Config, prefix: tuple[str, ...] = ()) -> tuple[Key, ...]:
    """Every key of a table, in the order of the schema."""
    keys: list[Key] = []
    for name, hint, default in fields_of(schema):
        path = (*prefix, name)
        if is_table(hint):
            keys += all_keys(hint, path)
            continue
        assert get_origin(hint) is Annotated, path
        inner, meta = get_args(hint)
        keys.append(Key(path=path, type=inner, default=default, meta=meta))
    return tuple(keys)


def parse_size(text: str) -> float:
    """Bytes of a number with a unit (kB, MB, GB, KiB, MiB, GiB), or of a plain number.

    Raises:
        ValueError: it is neither.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    factor = UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"'{text}' is no size: write a number of bytes, or one with kB, MB, GB, KiB, MiB or GiB"
        )
    value = float(match[1]) * factor
    return int(value) if value.is_integer() else value


def convert(key: Key, value: Any, *, text: bool) -> Any:
    """A value in the key's own type. `text`: it comes from the environment or the command line.

    Raises:
        ValueError: it is not allowed; the message says what is.
    """
    if text and isinstance(value, str) and get_origin(key.type) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if key.kind == "size" and isinstance(value, str):
        value = parse_size(value)
    try:
        result = msgspec.convert(value, _with_bounds(key), strict=not text)
    except msgspec.ValidationError as error:
        raise ValueError(_plain(str(error))) from None
    if key.kind == "addresses":
        for address in result:
            parse_address(address)
    if key.kind == "origins":
        from wherry.server._origins import check_listed

        for origin in result:
            check_listed(origin)
    if key.kind == "web path" and not WEB_PATH.fullmatch(result):
        raise ValueError(f"'{result}' is no path of a URL: write /ws, or /a/b")
    if key.kind == "size" and not result < SIZE_MAX:  # nor is infinity
        raise ValueError("a size is less than 8 EiB")
    if key.kind == "count" and result is not None and not 1 <= result <= COUNT_MAX:
        raise ValueError(f"expected 1 to {COUNT_MAX}")
    if key.kind in ("file", "path") and result == "":
        raise ValueError("an empty path")
    return result


def _with_bounds(key: Key) -> Any:
    """The key's type as msgspec takes it."""
    bounds = {name: getattr(key.meta, name) for name in BOUNDS}
    return Annotated[key.type, msgspec.Meta(**bounds)]


def _plain(text: str) -> str:
    """msgspec's message in the words of a TOML file."""
    text = re.sub(r" - at `\$\[(\d+)\]`", lambda m: f" (item {int(m[1]) + 1})", text)
    text = re.sub(r" - at `\$\.?", " - at `", text)
    text = text.replace("`", "")
    for theirs, ours in PLAIN_WORDS.items():
        text = re.sub(rf"\b{theirs}\b", ours, text)
    return text[0].lower() + text[1:]


def allowed(key: Key) -> str:
    """What a key takes, in words."""
    meta = key.meta
    words = " or ".join(f'"{word}"' for word in _literals(key.type))
    if words:
        return words
    if key.kind == "count":
        return f"1 to {COUNT_MAX}"
    low = meta.ge if meta.ge is not None else meta.gt
    if low is None and meta.le is None:
        return ""
    above = "above " if meta.gt is not None else ""
    if meta.le is None:
        return f"{above}{low}" if above else f"at least {low}"
    return f"{above}{low} to {meta.le}"


def _literals(hint: Any) -> tuple[str, ...]:
    arguments = get_args(hint)
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return tuple(arguments)
    return next((found for part in arguments if (found := _literals(part))), ())


class _Reading:
    """One loading: gathers values, where they came from, and problems."""

    def __init__(self) -> None:
        self.keys = {key.path: key for key in all_keys()}
        self.values: dict[tuple[str, ...], Any] = {}
        self.sources: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.text = ""
        self.file = ""
        self.lines: dict[KeyPath, int] | None = None

    def at(self, path: KeyPath) -> str:
        """File and line of a key."""
        if self.lines is None:
            from wherry.server.config_lines import key_lines

            self.lines = key_lines(self.text)
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.file}, line {self.lines[path]}" if path else self.file

    def wrong(self, where: str, key: str, text: str) -> None:
        self.problems.append(Problem(where, key, text))

    def set(self, key: Key, value: Any, where: str, *, text: bool) -> None:
        try:
            self.values[key.path] = convert(key, value, text=text)
        except ValueError as error:
            limits = allowed(key)
            self.wrong(where, key.name, f"{error}" + (f"; allowed: {limits}" if limits else ""))
            return
        self.sources[key.name] = where

    # The file

    def read_file(self, file: str | os.PathLike[str]) -> None:
        # Loaded here, as the rest that only some starts need: without a file it is not read.
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib

        self.file = str(file)
        try:
            if os.stat(file).st_size > FILE_BYTES_MAX:
                self.wrong(self.file, "", "over 1 MiB: this is not a configuration")
                return
            with open(file, encoding="utf-8", newline="") as opened:
                self.text = opened.read().replace("\r\n", "\n")
            tree = tomllib.loads(self.text)
        except OSError as error:
            self.wrong(self.file, "", f"cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            self.wrong(self.file, "", f"is not UTF-8 text, at byte {error.start}")
        except tomllib.TOMLDecodeError as error:
            text = str(error)
            match = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", text)
            line = match[1] if match and match[1] else str(len(self.text.splitlines()))
            text = text.replace(match[0], "") if match else text
            self.wrong(f"{self.file}, line {line}", "", f"is not TOML: {text}")
        else:
            self.walk(tree, ())

    def walk(self, tree: dict[str, Any], prefix: tuple[str, ...]) -> None:
        for name, value in tree.items():
            path = (*prefix, name)
            key = self.keys.get(path)
            if key is None and self.is_table(path):
                if isinstance(value, dict):
                    self.walk(value, path)
                else:
                    text = f"is a table: write [{'.'.join(path)}] and its keys below"
                    self.wrong(self.at(path), ".".join(path), text)
            elif key is None:
                self.unknown(path)
            elif key.kind == "tables":
                self.values[path] = self.users(value)
                self.sources[key.name] = self.file
            else:
                self.set(key, value, self.at(path), text=False)

    def is_table(self, path: tuple[str, ...]) -> bool:
        return any(known[: len(path)] == path for known in self.keys if len(known) > len(path))

    def unknown(self, path: tuple[str, ...]) -> None:
        self.wrong(self.at(path), ".".join(path), "there is no such key" + self.hint(path))

    def hint(self, path: tuple[str, ...]) -> str:
        """The key that was probably meant."""
        name = ".".join(path)
        names = {known: ".".join(known) for known in self.keys}
        tables = {".".join(known[:-1]) for known in self.keys if len(known) > 1}
        same = [full for known, full in names.items() if known[-1] == path[-1]]
        near = same or _near(name, [*names.values(), *tables], 1, 0.6)
        if not near:
            last = {known[-1]: full for known, full in names.items()}
            near = [last[n] for n in _near(path[-1], last, 1, 0.75)]
        return f"; did you mean {near[0]}?" if near else "; docs/configuration.md lists all keys"

    def users(self, value: Any) -> tuple[InlineUser, ...]:
        if not isinstance(value, list) or not all(isinstance(user, dict) for user in value):
            self.wrong(self.at(("users",)), "users", "is a list of tables: write [[users]]")
            return ()
        users: list[InlineUser] = []
        for place, table in enumerate(value):
            user = self.table(InlineUser, table, ("users", place))
            if user is None:
                continue
            if not user.name:
                self.wrong(self.at(("users", place)), "users.name", "is missing")
            elif (user.password is None) == (user.password_hash is None):
                self.wrong(
                    self.at(("users", place)),
                    "users.password",
                    f"user '{user.name}' needs either password or password_hash",
                )
            elif user.password == "":
                text = f"of user '{user.name}' is empty: an empty password never logs in"
                self.wrong(self.at(("users", place, "password")), "users.password", text)
            elif any(user.name == other.name for other in users):
                self.wrong(self.at(("users", place)), "users.name", f"'{user.name}' is there twice")
            else:
                users.append(user)
                self.check_user(user, ("users", place))
        return tuple(users)

    def check_user(self, user: InlineUser, place: KeyPath) -> None:
        """What only the modules of users can tell: patterns, hashes, names."""
        from wherry._errors import InvalidArgument
        from wherry.server import users_hashes, users_records
        from wherry.server.permissions import check_pattern

        checks: list[tuple[str, KeyPath, Callable[[], object]]] = [
            ("name", ("name",), partial(users_records.check_name, "user", user.name)),
            (
                "password_hash",
                ("password_hash",),
                partial(users_hashes.check_hash, users_hashes.ARGON2, user.password_hash or ""),
            ),
            ("tags", ("tags",), partial(users_records.checked_tags, user.tags)),
        ]
        for number, permission in enumerate(user.permissions):
            for name in ("configure", "write", "read"):
                path: KeyPath = ("permissions", number, name)
                pattern = partial(check_pattern, getattr(permission, name))
                checks.append((f"permissions.{name}", path, pattern))
        for key, path, check in checks:
            try:
                check()
            except InvalidArgument as error:  # noqa: PERF203 - each problem is told
                text = f"of user '{user.name}': {error}"
                self.wrong(self.at((*place, *path)), f"users.{key}", text)

    def table(self, schema: Any, value: dict[str, Any], path: KeyPath) -> Any:
        """A table of a list of tables; None with problems noted. Its values are not repeated in
        messages, as there are passwords among them.
        """
        keys = {key.path[0]: key for key in all_keys(schema)}
        values: dict[str, Any] = {}
        before = len(self.problems)
        for name, item in value.items():
            place = (*path, name)
            full = ".".join(part for part in place if isinstance(part, str))
            key = keys.get(name)
            if key is None:
                near = _near(name, keys, 1, 0.6)
                text = f"; did you mean {near[0]}?" if near else f"; allowed: {', '.join(keys)}"
                self.wrong(self.at(place), full, "there is no such key" + text)
            elif name == "permissions" and isinstance(item, list):
                inner = get_args(key.type)[0]
                if not all(isinstance(entry, dict) for entry in item):
                    self.wrong(self.at(place), full, "is a list of tables")
                    continue
                values[name] = tuple(
                    self.table(inner, entry, (*place, number)) for number, entry in enumerate(item)
                )
            else:
                try:
                    values[name] = convert(key, item, text=False)
                except ValueError as error:
                    self.wrong(self.at(place), full, str(error))
        return schema(**values) if len(self.problems) == before else None

    # The environment and the command line

    def read_environment(self, environment: Mapping[str, str]) -> None:
        variables = {key.variable: key for key in self.keys.values() if key.variable}
        for name, value in environment.items():
            if not name.startswith("WHERRY_") or name in OTHER_VARIABLES or value == "":
                continue
            key = variables.get(name)
            if key is not None:
                self.set(key, value, f"environment variable {name}", text=True)
                continue
            near = _near(name, variables, 1, 0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.warnings.append(f"environment variable {name} is no setting{hint}")

    def read_flags(self, flags: Mapping[str, Any]) -> None:
        for name, value in flags.items():
            path = tuple(name.split("."))
            key = self.keys.get(path)
            if key is not None and key.kind == "tables":
                self.wrong("command line", name, "stands in a file: write [[users]] there")
            elif key is None:
                self.wrong("command line", name, "there is no such key" + self.hint(path))
            elif value is None:  # an option that takes a setting back, such as --memory
                self.values[path] = None
                self.sources[name] = "command line"
            else:
                self.set(key, value, "command line", text=isinstance(value, str))

    # All together

    def config(self) -> Config:
        config: Config = _built(Config, (), self.values)
        return config

    def check_together(self, config: Config) -> None:
        """What no key alone can tell."""

        def wrong(name: str, text: str) -> None:
            self.wrong(self.sources.get(name, "configuration"), name, text)

        tls = config.tls
        secure = {
            "amqp.tls_listeners": config.amqp.tls_listeners,
            "stomp.tls_listeners": config.stomp.tls_listeners,
            "stomp.websocket_tls_listeners": config.stomp.websocket_tls_listeners,
        }
        for name, addresses in secure.items():
            if addresses and tls.certificate is None:
                wrong(name, "needs tls.certificate and tls.key")
        if (tls.certificate is None) != (tls.key is None):
            there, absent = ("certificate", "key") if tls.key is None else ("key", "certificate")
            wrong(f"tls.{there}", f"needs tls.{absent} beside it")
        if tls.verify != "none" and tls.ca is None:
            wrong("tls.verify", f'"{tls.verify}" needs tls.ca, the authorities to trust')
        plain = (config.amqp.listeners, config.stomp.listeners, config.stomp.websocket_listeners)
        if not any(plain) and not any(secure.values()):
            wrong("amqp.listeners", "is empty, and so are all others: nobody could connect")
        if "EXTERNAL" in config.auth.mechanisms and tls.verify == "none":
            wrong("auth.mechanisms", 'EXTERNAL needs tls.verify = "peer" or "require"')


def _built(schema: type[Table], prefix: tuple[str, ...], values: dict[tuple[str, ...], Any]) -> Any:
    arguments = {}
    for name, hint, _ in fields_of(schema):
        path = (*prefix, name)
        if is_table(hint):
            arguments[name] = _built(hint, path, values)
        elif path in values:
            arguments[name] = values[path]
    return schema(**arguments)


def read(
    file: str | os.PathLike[str] | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> Loaded:
    """See `config.load`.

    Args:
        flags: by key (`limits.frame_max`); text is read as in the environment. None sets a key that
            may be absent to absent.
    """
    reading = _Reading()
    if file is not None:
        reading.read_file(file)
    reading.read_environment(environment)
    reading.read_flags(flags)
    if not reading.problems:
        config = reading.config()
        reading.check_together(config)
    if reading.problems:
        raise ConfigError(reading.problems)
    return Loaded(config, reading.sources, tuple(reading.warnings))

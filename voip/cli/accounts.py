"""`--account FILE`: accounts as a file has them, and their passwords from where that says."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from voip.account import Account
from voip.cli.options import first_line
from voip.cli.run import warn
from voip.errors import ConfigError

__all__ = ["AccountFiles", "check_alone", "read_accounts"]

AccountFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--account", metavar="F", help="File of accounts (TOML), instead of one; several: again."
    ),
]

MAX_FILE_BYTES: Final = 1 << 20
_TABLES: Final = "a table [[account]] for each: uri = ..., password_file = ..."
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "uri": (str,),
    "auth_user": (str,),
    "display_name": (str,),
    "proxy": (str, list),
    "expires_s": (int,),
    "transport": (str,),
    "register": (bool,),
}
_SECRETS: Final = ("password", "password_file", "password_env")


def check_alone(files: Sequence[Path] | None, **others: object) -> None:
    """Raise `ConfigError` where accounts are in files, and one is given beside them."""
    given = [name for name, value in others.items() if value]
    if files and given:
        option = f"--{given[0].replace('_', '-')}"
        raise ConfigError(f"--account, and {option} beside it", hint="write it into the file")


def read_accounts(files: Sequence[Path]) -> list[Account]:
    """Read the accounts of all files; raises `ConfigError`, which tells no secret."""
    return [account for path in files for account in _read(path)]


def _read(path: Path) -> list[Account]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is longer than {MAX_FILE_BYTES} bytes", hint=_TABLES)
        tables = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text", hint="TOML") from None
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at [^)]*\)$", str(error))  # the rest may show what is written there
        raise ConfigError(f"{path} is no TOML {where[0] if where else ''}".rstrip()) from None
    accounts = tables.pop("account", None)
    if tables or not isinstance(accounts, list) or not accounts:
        name = next(iter(tables), None)
        if name in _KINDS or name in _SECRETS:
            raise ConfigError(
                f"{path}: {name!r} belongs to no account", hint="write [[account]] above it"
            )
        wrong = "no account is there" if name is None else f"{name!r} is nothing known"
        raise ConfigError(f"{path}: {wrong}", hint=_TABLES)
    return [_account(path, number, table) for number, table in enumerate(accounts, 1)]


def _account(path: Path, number: int, table: Any) -> Account:
    where = f"{path}, account {number}"
    if not isinstance(table, dict) or not isinstance(table.get("uri"), str):
        raise ConfigError(f"{where} has no uri", hint='uri = "sip:alice@pbx.example"')
    for name, value in table.items():
        kinds = (str,) if name in _SECRETS else _KINDS.get(name)
        if kinds is None:
            raise ConfigError(
                f"{where}: {name!r} is nothing known", hint=", ".join((*_KINDS, *_SECRETS))
            )
        if type(value) not in kinds or (
            isinstance(value, list) and not all(isinstance(one, str) for one in value)
        ):
            raise ConfigError(f"{where}: {name} is not of the right kind", hint=_kind(kinds))
    settings = {name: value for name, value in table.items() if name in _KINDS}
    return Account(**settings, password=_password(path, where, table))


def _password(path: Path, where: str, table: dict[str, str]) -> str | None:
    """Find the password where the table says; without a word there it is VOIP_PASSWORD."""
    given = [name for name in _SECRETS if name in table]
    if len(given) > 1:
        raise ConfigError(f"{where}: {' and '.join(given)}", hint="one of them")
    match given:
        case ["password"]:
            if path.stat().st_mode & 0o077:
                warn(f"warning: others can read {path}, which has a password: chmod 600")
            return table["password"]
        case ["password_file"]:
            return first_line(path.parent / table["password_file"])
        case ["password_env"]:
            name = table["password_env"]
            if name not in os.environ:
                raise ConfigError(f"{where}: there is no {name} in the environment")
            return os.environ[name]
        case _:
            return os.environ.get("VOIP_PASSWORD") or None


def _kind(kinds: tuple[type, ...]) -> str:
    names = {str: "a string", list: "a list of strings", int: "a number", bool: "true or false"}
    return " or ".join(names[kind] for kind in kinds)

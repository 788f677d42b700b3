"""`--account FILE`: several accounts of one command, and secrets that nobody sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from voip_program import SECRETS, Done, PbxThread

from voip import Softphone
from voip.account import Account
from voip.cli.accounts import read_accounts
from voip.errors import ConfigError

Voip = Callable[..., Done]


def write(path: Path, *tables: str, mode: int = 0o600) -> Path:
    path.write_text("".join(f"[[account]]\n{table}\n" for table in tables))
    path.chmod(mode)
    return path


def table(pbx: PbxThread, user: str, more: str = "") -> str:
    return f'uri = "{pbx.uri(user)}"\npassword = "{SECRETS[user]}"\n{more}'


def test_several_accounts_of_several_files_are_registered(
    voip: Voip, pbx: PbxThread, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text(SECRETS["1002"] + "\n")
    first = write(tmp_path / "first.toml", table(pbx, "1001", "expires_s = 60"))
    by_file = f'uri = "{pbx.uri("1002")}"\npassword_file = "secret.txt"'
    second = write(tmp_path / "second.toml", by_file)
    done = voip("register", "--account", first, "--account", second, "--once", "--json")
    assert (done.status, done.stderr) == (0, "")
    assert done.json == {
        "registered": True,
        "accounts": [
            {"uri": pbx.uri("1001"), "registered": True, "expires_s": 60, "error": None},
            {"uri": pbx.uri("1002"), "registered": True, "expires_s": 300, "error": None},
        ],
    }
    assert pbx.contacts("1001") and pbx.contacts("1002")


def test_one_that_is_refused_is_said_and_the_others_are_registered(
    voip: Voip, pbx: PbxThread, tmp_path: Path
) -> None:
    wrong = f'uri = "{pbx.uri("1002")}"\npassword = "no-such-secret"'
    file = write(tmp_path / "two.toml", table(pbx, "1001"), wrong)
    done = voip("register", "--account", file, "--once")
    assert (done.status, done.stdout) == (1, f"registered {pbx.uri('1001')} for 300 s\n")
    assert f"{pbx.uri('1002')} is not registered: 401 twice: wrong password" in done.stderr
    assert "no-such-secret" not in done.stdout + done.stderr
    assert pbx.contacts("1001")
    done = voip("register", "--account", file, "--once", "--json")
    assert (done.status, done.complaint) == (1, "not all accounts are registered")
    assert (done.json["registered"], done.json["error"]) == (False, done.complaint)


def test_calls_for_each_of_the_accounts_are_answered(
    voip: Voip, pbx: PbxThread, tmp_path: Path
) -> None:
    async def both() -> None:
        for user, known in before.items():
            while set(pbx.server.contacts(user)) <= known:
                await asyncio.sleep(0.01)
        uri, password = pbx.uri("1001"), SECRETS["1001"]
        async with Softphone(uri, password=password, register=False) as phone:
            for user in ("1001", "1002"):
                async with await phone.dial(user):
                    await asyncio.sleep(0.1)

    file = write(tmp_path / "two.toml", table(pbx, "1001"), table(pbx, "1002"))
    before = {user: set(pbx.contacts(user)) for user in ("1001", "1002")}
    called = pbx.soon(both())
    done = voip(
        "answer",
        "--bind",
        "127.0.0.1:0",
        "--account",
        file,
        "--calls",
        "2",
        "--timeout",
        "20",
        "--json",
    )
    called(10.0)
    assert (done.status, done.json["answered"]) == (0, 2)


def test_an_account_has_all_that_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAROL", "christmas")
    monkeypatch.setenv("VOIP_PASSWORD", "for the others")
    file = write(
        tmp_path / "all.toml",
        'uri = "sip:carol@work.example"\npassword_env = "CAROL"\nauth_user = "c"\n'
        'display_name = "Carol"\nproxy = ["sip:a.example", "sip:b.example"]\nexpires_s = 120\n'
        'transport = "tls"\nregister = false',
        'uri = "dave@work.example"\nproxy = "sip:a.example"',
    )
    assert read_accounts([file]) == [
        Account(
            "sip:carol@work.example", "christmas", "c", "Carol", ("sip:a.example", "sip:b.example"),
            120, "tls", register=False,
        ),
        Account("dave@work.example", "for the others", proxy="sip:a.example"),
    ]  # fmt: skip


def test_a_password_that_others_can_read_earns_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.toml", 'uri = "a@b.example"\npassword = "hush"', mode=0o644)
    assert read_accounts([file])[0].password == "hush"
    said = capsys.readouterr().err
    assert said == f"voip: warning: others can read {file}, which has a password: chmod 600\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no account is there"),
        ("account = 3", "no account is there"),
        ('uri = "a@b"', r"'uri' belongs to no account \(write \[\[account\]\] above it\)"),
        ("password = 'hush'\n[[account]]\nuri = 'a@b'", "'password' belongs to no account"),
        ("url = 'a@b'", "'url' is nothing known"),
        ("[[account]]\nauth_user = 'a'", "account 1 has no uri"),
        ("[[account]]\nuri = 'a@b'\npasword = 'hush'", "'pasword' is nothing known"),
        ("[[account]]\nuri = 'a@b'\npassword = ['hush']", "password is not of the right kind"),
        ("[[account]]\nuri = 'a@b'\nexpires_s = true", "expires_s is not of the right kind"),
        ("[[account]]\nuri = 'a@b'\nproxy = [1]", "proxy is not of the right kind"),
        (
            "[[account]]\nuri = 'a@b'\npassword = 'hush'\npassword_env = 'X'",
            "password and password_env",
        ),
        ("[[account]]\nuri = 'a@b'\npassword_env = 'X_NOT'", "no X_NOT in the environment"),
        ("[[account]]\nuri = 'a@b'\npassword_file = 'gone'", "cannot read"),
        ("[[account]]\npassword = 'hush\n", r"is no TOML \(at "),
        ("[[account]]\nuri = 'sip:a:hush@b'", "a password in a URI"),
        ("\xff", "no TOML"),
        ("#" + "x" * (1 << 20), "is longer than"),
    ],
)
def test_what_cannot_be_read_is_said_without_the_secret(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=says) as refused:
        read_accounts([file])
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--auth-user", "x"], "--account, and --auth-user beside it"),
        (["--proxy", "sip:x"], "--account, and --proxy beside it"),
        (["--password-file", "x"], "--account, and --password-file beside it"),
    ],
)
def test_nothing_of_one_account_is_said_beside_files(
    voip: Voip, tmp_path: Path, more: list[str], says: str
) -> None:
    file = write(tmp_path / "a.toml", 'uri = "a@b.example"')
    for command in (["register"], ["answer", "--bind", "127.0.0.1:0"]):
        done = voip(*command, "--account", file, *more)
        assert (done.status, done.complaint) == (1, f"{says} (write it into the file)")


def test_one_account_or_files_of_them(voip: Voip, tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", 'uri = "a@b.example"')
    for arguments in ([], ["sip:a@b.example", "--account", file]):
        assert voip("register", *arguments).status == 2
    done = voip("answer", "--from", "sip:a@b.example", "--account", file)
    assert done.complaint == "--account, and --from beside it (write it into the file)"

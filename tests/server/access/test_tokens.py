"""Keys and tokens: what is made is read, and nothing else is."""

from __future__ import annotations

import base64
import json
import stat
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from earshot.codec.errors import UsageError
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.server.access.access import Access, server_key
from earshot.server.access.keys import Key, default_key_file, key_of, read_key
from earshot.server.access.tokens import Tokens, expiry
from earshot.server.core.grants import EVERYONE, Grants
from earshot.server.settings import Settings

SECRET = "correct horse battery staple and more"
PRIVATE = Ed25519PrivateKey.generate()
PEM = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PUBLIC_PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ADA = Grants("den", "Ada", moderate=True, expires_s=expiry(86_400), id="a1")


def code_of(tokens: Tokens, token: str) -> CloseCode:
    with pytest.raises(ProtocolError) as refusal:
        tokens.read(token)
    assert token not in str(refusal.value) or not token
    return refusal.value.code


@pytest.mark.parametrize(("signs", "reads"), [(SECRET.encode(), SECRET.encode()), (PEM, PEM), (PEM, PUBLIC_PEM)])
def test_what_is_made_is_read(signs: bytes, reads: bytes) -> None:
    token = Tokens(key_of(signs, "")).make(ADA)
    assert Tokens(key_of(reads, "")).read(token) == ADA
    made = Tokens(key_of(signs, "")).make(Grants("den"))
    first, second = Tokens(key_of(reads, "")).read(made), Tokens(key_of(signs, "")).read(made)
    assert first == second
    assert len(first.id) == 12


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("material", [SECRET.encode(), PEM], ids=["HS256", "EdDSA"])
def test_tokens_that_do_not_count(material: bytes) -> None:
    tokens = Tokens(key_of(material, ""))
    good = tokens.make(ADA)
    head, body, signature = good.split(".")
    changed = part(ADA.claims() | {"operate": True})
    other = Tokens(Key("HS256", b"x" * 32)).make(ADA)
    for forged in (
        "",
        "nonsense",
        "a.b.c",
        f"{head}.{body}.",
        f"{head}.{changed}.{signature}",
        f"{part({'alg': 'none'})}.{body}.",
        other,
        jwt.encode(ADA.claims(), "y" * 64, "HS512"),
        good + "x" * 3000,
        "ü" * 40,
    ):
        assert code_of(tokens, forged) == CloseCode.NOT_INVITED, forged[:80]


def test_a_public_key_is_no_secret() -> None:
    """The classic fault: a token signed with HS256, and the public key as the secret."""
    readers = Tokens(key_of(PUBLIC_PEM, ""))
    secret = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(ADA.claims())}"
    signature = base64.urlsafe_b64encode(secret.sign(signed.encode(), PUBLIC_PEM)).rstrip(b"=").decode()
    assert code_of(readers, f"{signed}.{signature}") == CloseCode.NOT_INVITED


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": int(time.time()) - 1}, CloseCode.TOKEN_EXPIRED),
        ({"nbf": int(time.time()) + 86_400}, CloseCode.NOT_INVITED),
        ({"exp": "soon"}, CloseCode.NOT_INVITED),
        ({"exp": 1e400}, CloseCode.NOT_INVITED),
        ({"room": 7}, CloseCode.NOT_INVITED),
    ],
)
def test_claims_that_refuse(claims: dict[str, object], code: CloseCode) -> None:
    tokens = Tokens(key_of(SECRET.encode(), ""))
    assert code_of(tokens, jwt.encode({"room": "den"} | claims, SECRET, "HS256")) == code


def test_keys_that_cannot_be_used() -> None:
    for material, said in ((b"short", "at least 32"), (b"-----BEGIN PRIVATE KEY-----\nxx", "Ed25519"), (b"", "32")):
        with pytest.raises(UsageError, match=said):
            Tokens(key_of(material, "key"))
    with pytest.raises(UsageError, match="public key"):
        Tokens(key_of(PUBLIC_PEM, "")).make(ADA)
    assert SECRET not in repr(key_of(SECRET.encode(), ""))


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = default_key_file()
    with pytest.raises(UsageError, match="No such file"):
        read_key(file)
    made = read_key(file, make=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_key(file, make=True) == made == server_key(Settings(tokens=True))


def test_what_settings_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)
    assert server_key(Settings()) is None
    for settings in (Settings(token_key_file=file), Settings(token_key=SECRET)):  # type: ignore[arg-type]
        access = Access.of(settings)
        assert (access.has_key, access.everyone) == (True, False)
        assert SECRET not in repr(settings)
        with pytest.raises(ProtocolError) as refusal:
            access.grants(None)
        assert refusal.value.code == CloseCode.NOT_INVITED
    monkeypatch.setenv("EARSHOT_TOKEN_KEY", "")
    assert server_key(Settings()) is None, "an empty variable, as compose files make them"
    assert Access.of(Settings()).grants("anything") == EVERYONE
    both = Access.of(Settings(token_key=SECRET, open=True))  # type: ignore[arg-type]
    assert both.grants(None) == EVERYONE
    with pytest.raises(ProtocolError):
        both.grants("forged")

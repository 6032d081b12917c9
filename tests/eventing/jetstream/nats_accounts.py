"""Credentials as an operator of NATS gives them out: keys, tokens signed with them, files."""

import base64
import hashlib
import secrets
from pathlib import Path

import nkeys
import orjson


def credentials(folder: Path) -> tuple[str, Path]:
    """What a nats-server's configuration needs, and the credentials file of one of its users."""
    operator, account, user = (_pair(kind) for kind in (_OPERATOR, _ACCOUNT, _USER))
    system = _pair(_ACCOUNT)
    unlimited = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    limits = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1}
    limits |= {"exports": -1, "wildcards": True}
    of_operator = _token(operator, operator, {"type": "operator", "version": 2})
    says = {"type": "account", "version": 2}
    of_account = _token(account, operator, {**says, "limits": limits | unlimited})
    of_system = _token(system, operator, {**says, "limits": limits})
    user_limits = {"subs": -1, "data": -1, "payload": -1}
    of_user = _token(user, account, {"type": "user", "version": 2, **user_limits})
    file = folder / "user.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    names = [each.public_key.decode() for each in (account, system)]
    config = (
        f"operator: {of_operator}\nsystem_account: {names[1]}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {names[0]}: {of_account}, {names[1]}: {of_system} }}\n"
    )
    return config, file


_OPERATOR, _ACCOUNT = nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT
_USER = nkeys.PREFIX_BYTE_USER


def _pair(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), kind))


def _token(subject: nkeys.KeyPair, issuer: nkeys.KeyPair, says: dict[str, object]) -> str:
    claims = {
        "iat": 1_700_000_000,
        "iss": issuer.public_key.decode(),
        "name": says["type"],
        "sub": subject.public_key.decode(),
        "nats": says,
    }
    digest = hashlib.new("sha512_256", orjson.dumps(claims)).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = _encoded(orjson.dumps({"typ": "JWT", "alg": "ed25519-nkey"}))
    signed = f"{head}.{_encoded(orjson.dumps(claims))}"
    return f"{signed}.{_encoded(issuer.sign(signed.encode()))}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")

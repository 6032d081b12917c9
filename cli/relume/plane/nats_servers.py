"""The NATS servers that a gateway is told, and its credentials for them."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from relume.base.errors import InvalidInput

SCHEMES = ("nats", "tls", "ws", "wss")
PORT = 4222


class BadServers(InvalidInput):
    """The servers or the credentials cannot be used; the message names the option and the fix."""

    reason = "bad-nats"


@dataclass(frozen=True, slots=True)
class NatsServers:
    """Checked when it is made. Raises BadServers.

    `replicas` is on how many servers each stream is kept.
    """

    urls: tuple[str, ...]
    credentials: Path | None = None
    replicas: int = 3

    def __post_init__(self) -> None:
        if not self.urls:
            raise BadServers("--nats: name the NATS servers, such as --nats nats://nats:4222")
        for url in self.urls:
            try:
                parts = urlsplit(url)
                usable = parts.scheme in SCHEMES and parts.hostname and (parts.port or PORT) > 0
            except ValueError:
                usable = False
            if not usable:
                raise BadServers(f"--nats {self.hidden(url)}: write nats://HOST:PORT")
        if self.credentials is not None:
            try:
                with self.credentials.open("rb"):
                    pass
            except OSError as error:
                raise BadServers(
                    f"--nats-creds {self.credentials}: {error.strerror or error}"
                ) from None

    @property
    def shown(self) -> str:
        """The servers without what is secret in their URLs."""
        return ", ".join(map(self.hidden, self.urls))

    @staticmethod
    def hidden(url: str) -> str:
        """A URL without the token, or the name and password, in front of its host."""
        scheme, separator, rest = url.partition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"

"""Personal data is replaced before the model and restored after it.

The values never leave in an event: what stands for what is kept in JetStream's key-value store,
under a hash of the event's `correlationid`, which models and functions copy from event to event.
An event without one gets the hash of its source and id.
"""

import asyncio
import hashlib
import logging
import re
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from . import recognizers as rules
from .events import Answer, EventFunction, HttpAnswer, Refusal, answer_id, text_of
from .mapping import Placeholders, each_text, field_values, has_placeholder, text_length
from .settings import ConfigError, Settings, load_settings
from .store import Store

FIELDS = frozenset({"redact", "restore", "regions", "fields", "patterns", "keep_days", "max_chars"})
BUCKET = "relume-redact"
KIND = re.compile(r"[A-Z]+")
_ATTEMPTS = 10


def new() -> "Redact":
    return Redact()


class Redact(EventFunction):
    name = "redact"

    def start(self, cfg: dict[str, str]) -> None:
        super().start(cfg)
        settings = load_settings(cfg, "redact.yaml", FIELDS)
        self._redact = _texts(settings, "redact")
        self._restore = _texts(settings, "restore")
        self._fields = _texts(settings, "fields")
        self._max_chars = settings.read("max_chars", int, 20_000)
        self._recognizers = recognizers_of(settings)
        url = cfg.get("NATS_URL")
        if not url:
            raise ConfigError("NATS_URL is not set; it names the nats-server that keeps mappings")
        self._store = Store(url, BUCKET, settings.read("keep_days", int, 7) * 86_400)
        logging.info("redacting %s, restoring %s", list(self._redact), list(self._restore))

    async def answer(self, request: CloudEvent) -> Answer:
        data: Any = request.get_data()
        if isinstance(data, bytes):
            raise Refusal("invalid-data", "the data must be text or JSON", "data")
        type_ = request.get_type()
        if (out := self._redact.get(type_)) is not None:
            return await self._redacted(request, data, out)
        if (out := self._restore.get(type_)) is not None:
            return await self._restored(request, data, out)
        raise Refusal("unknown-type", f"redact.yaml names no type {type_}", "type")

    async def _redacted(self, request: CloudEvent, data: Any, out: str) -> Answer:
        correlation = text_of(request, "correlationid") or answer_id("", request, "correlation")
        known = rules.known_values(field_values(data, self._fields))
        found = (rules.placeholders, known, *self._recognizers)
        key = _key(correlation)
        if (length := text_length(data)) > self._max_chars:
            told = f"the texts have {length} characters, and max_chars is {self._max_chars}"
            raise Refusal("text-too-long", told, "data")
        for _ in range(_ATTEMPTS):
            entry = await self._store.get(key)
            given = Placeholders() if entry is None else Placeholders.unpack(entry.value)
            before = given.pack()
            # In a thread, because rows of digits take the telephone rules a while.
            clean = await asyncio.to_thread(_redact, data, given, found)
            # The mapping is stored before the event leaves, so that every placeholder that is out
            # can be restored; a repeated delivery finds it and gives the same placeholders.
            stored = (
                given.pack() == before
                or (entry is None and await self._store.create(key, given.pack()))
                or (
                    entry is not None
                    and await self._store.update(key, given.pack(), entry.revision)
                )
            )
            if stored:
                return _answer(request, clean, out, {"correlationid": correlation})
        raise HttpAnswer(503, "store-busy", "the mapping of this correlation is written to", 1)

    async def _restored(self, request: CloudEvent, data: Any, out: str) -> Answer:
        if not has_placeholder(data):
            return _answer(request, data, out)
        correlation = text_of(request, "correlationid")
        if correlation is None:
            raise Refusal("no-correlation", "the event has no correlationid", "correlationid")
        entry = await self._store.get(_key(correlation))
        if entry is None:
            raise Refusal("mapping-gone", "the mapping is not there any more, or never was")
        return _answer(request, each_text(data, Placeholders.unpack(entry.value).restore), out)


def recognizers_of(settings: Settings) -> tuple[rules.Recognizer, ...]:
    """The rules of the library and those of the configuration, which are asked first."""
    own = []
    for kind, pattern in _texts(settings, "patterns").items():
        if not KIND.fullmatch(kind):
            raise ConfigError(f"{settings.file}: patterns.{kind}: a kind is written in capitals")
        try:
            own.append(rules.written(re.compile(pattern), kind))
        except re.error as error:
            raise ConfigError(f"{settings.file}: patterns.{kind}: {error}") from None
    regions = settings.read("regions", list, [])
    standing = (rules.emails, rules.ibans, rules.cards, rules.social_security, rules.ip_addresses)
    return (*own, *standing, rules.phones(regions), rules.names)


def _texts(settings: Settings, name: str) -> dict[str, str]:
    value = settings.read(name, dict, {})
    if not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise ConfigError(f"{settings.file}: {name} must map texts to texts")
    return value


def _redact(data: Any, given: Placeholders, found: tuple[rules.Recognizer, ...]) -> Any:
    return each_text(data, lambda text: given.redact(text, rules.find(text, found)))


def _answer(
    request: CloudEvent, data: Any, out: str, attributes: dict[str, str] | None = None
) -> Answer:
    content_type = request.get_datacontenttype() or "application/json"
    return Answer(out, data, content_type, attributes=attributes or {})


def _key(correlation: str) -> str:
    return hashlib.sha256(correlation.encode()).hexdigest()

"""The rules of one proxy; runs on Python 3.9."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_mcp.proxy.hosts import (
    Address,
    Host,
    allows,
    is_permitted_private,
    is_public,
    parse_host,
)


@dataclass(frozen=True)
class Upstream:
    """An upstream proxy. Its password is not part of the policy; each connection supplies it."""

    host: str
    port: int
    tls: bool = False


@dataclass(frozen=True)
class Policy:
    """The hosts that sessions may reach through a proxy.

    Only hosts in ``private`` may have private addresses. Connections to the ``provider`` have
    their own slots and lookups.
    """

    provider: tuple[Host, ...] = ()
    allowed: tuple[Host, ...] = ()
    private: tuple[Host, ...] = ()
    http: Upstream | None = None
    https: Upstream | None = None
    direct: tuple[str, ...] = ()
    """Entries of NO_PROXY: hosts that bypass the upstream proxies."""

    def serves_model(self, name: str, port: int) -> bool:
        return allows(self.provider, name, port)

    def permits(self, name: str, port: int) -> bool:
        return allows((*self.provider, *self.allowed, *self.private), name, port)

    def accepts(self, address: Address, name: str, port: int) -> bool:
        """Whether a permitted host may have this address."""
        if is_public(address):
            return True
        return allows(self.private, name, port) and is_permitted_private(address)

    def upstream(self, name: str, port: int, *, tunnel: bool) -> Upstream | None:
        through = self.https if tunnel else self.http
        return None if through is None or self._goes_directly(name, port) else through

    def _goes_directly(self, name: str, port: int) -> bool:
        for entry in self.direct:
            if entry == "*":
                return True
            bare, _, digits = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
            suffix = bare.lower().lstrip("*").lstrip(".").strip("[]")
            if digits and digits != str(port):
                continue
            if suffix and (name == suffix or name.endswith(f".{suffix}")):
                return True
        return False

    def to_json(self) -> str:
        """Equal policies yield equal text."""

        def upstream(value: Upstream | None) -> list[Any] | None:
            return None if value is None else [value.host, value.port, value.tls]

        fields = {
            "provider": sorted(set(map(str, self.provider))),
            "allowed": sorted(set(map(str, self.allowed))),
            "private": sorted(set(map(str, self.private))),
            "http": upstream(self.http),
            "https": upstream(self.https),
            "direct": sorted(set(self.direct)),
        }
        return json.dumps({key: value for key, value in fields.items() if value}, sort_keys=True)


def from_json(text: str) -> Policy:
    """The policy that ``to_json`` wrote; ValueError for any other text."""
    try:
        return _policy(json.loads(text))
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError("the policy is malformed") from error


def _policy(fields: Mapping[str, Any]) -> Policy:
    def texts(key: str) -> tuple[str, ...]:
        found = fields.get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError(f"{key} is malformed")
        return tuple(found)

    def hosts(key: str) -> tuple[Host, ...]:
        found = tuple(parse_host(each, addresses=True) for each in texts(key))
        if None in found:
            raise ValueError(f"{key} is malformed")
        return tuple(each for each in found if each is not None)

    def upstream(key: str) -> Upstream | None:
        return Upstream(*fields[key]) if key in fields else None

    return Policy(
        provider=hosts("provider"),
        allowed=hosts("allowed"),
        private=hosts("private"),
        http=upstream("http"),
        https=upstream("https"),
        direct=texts("direct"),
    )


def split_direct(text: str) -> tuple[str, ...]:
    """The entries of a NO_PROXY."""
    return tuple(entry for entry in re.split(r"[\s,]+", text) if entry)

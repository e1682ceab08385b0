"""The install links in the documents add the entry that ``install`` adds."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from claude_mcp.clients.known import CLIENTS, ENTRY

REPOSITORY = Path(__file__).parents[3]
COMMAND = ["claude-mcp", "serve"]


def link(page: str, beginning: str) -> str:
    (found,) = re.findall(re.escape(beginning) + r"[^\s)]*", (REPOSITORY / page).read_text())
    return str(found)


def given(url: str, name: str) -> str:
    (value,) = parse_qs(urlsplit(url).query, strict_parsing=True)[name]
    return value


def test_links_for_cursor() -> None:
    for url in (
        link("README.md", "https://cursor.com/en/install-mcp?"),
        link("docs/cursor.md", "cursor://anysphere.cursor-deeplink/mcp/install?"),
    ):
        config = json.loads(base64.b64decode(given(url, "config"), validate=True))
        assert (given(url, "name"), config) == (ENTRY, CLIENTS["cursor"].entry(COMMAND))


def test_links_for_vs_code() -> None:
    entry = CLIENTS["vscode"].entry(COMMAND)
    url = link("README.md", "https://vscode.dev/redirect/mcp/install?")
    assert (given(url, "name"), json.loads(given(url, "config"))) == (ENTRY, entry)
    _, _, described = link("docs/cursor.md", "vscode:mcp/install?").partition("?")
    assert json.loads(unquote(described)) == {"name": ENTRY, **entry}

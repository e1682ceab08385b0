"""What a program can learn from the engine before it has imported what it works with.

``begin`` lets the engine work while the program still starts. The rule: only a plain answer
counts. Whatever is unusual is left to ``registry``, which takes over the calls that have begun.
"""

from __future__ import annotations

from typing import Final

from claude_mcp.config import Config
from claude_mcp.engine import ahead, questions
from claude_mcp.engine.address import KUBERNETES
from claude_mcp.engine.ahead import Begun
from claude_mcp.engine.answer import check_daemon, check_version, dialect_of, parse_version
from claude_mcp.engine.environment import engine_environment
from claude_mcp.engine.naming import first_program
from claude_mcp.errors import EngineError
from claude_mcp.sessions.marks import SESSION

PATIENCE_SECONDS: Final = 1.0
"""How long an engine may take to answer at once."""


def begin(config: Config) -> Begun | None:
    """Ask the engine for its version, which every use of it begins with; not Kubernetes."""
    if config.engine == KUBERNETES:
        return None
    environment = engine_environment(config.environment)
    program = first_program(config.engine, environment)
    return ahead.begin(questions.version_argv(program), environment)


def end() -> None:
    """Give up the calls that have begun and that nobody has taken over."""
    ahead.discard_all()


def finds_nothing(config: Config) -> bool:
    """Whether there is no session at all; False if that is not certain.

    It takes as long as one engine call. If there are sessions, the engine begins to describe them.
    ``end`` must follow, whatever the answer.
    """
    version = begin(config)
    if version is None:
        return False
    program, environment = version.argv[0], version.environment
    listing = ahead.begin(questions.list_ids_argv(program, SESSION), environment)
    if listing is None or not _succeeds(listing):
        return False
    ids = listing.out.value().decode("utf-8", "replace").split()
    if ids:
        ahead.begin(questions.inspect_argv(program, ids), environment)
        return False
    return _succeeds(version) and _is_usable(version)


def _succeeds(begun: Begun) -> bool:
    try:
        return begun.finish(PATIENCE_SECONDS) == 0
    except ahead.Late:
        return False


def _is_usable(version: Begun) -> bool:
    """Whether it is an engine that sessions can use, and no service on another machine."""
    answer = parse_version(version.out.value().decode("utf-8", "replace"), effective_uid=0)
    if answer is None or not answer.daemon_answers or answer.remote:
        return False
    try:
        check_daemon(answer, version.argv[0], version.environment)
        check_version(dialect_of(answer), answer.version)
    except EngineError:
        return False
    return True

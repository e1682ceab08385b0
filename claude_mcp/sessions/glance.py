"""What a program can learn from the engine before it has imported what it works with.

``begin`` lets the engine work while the program still starts. The rule: only a plain answer
counts. Whatever is unusual is left to ``registry``, which takes over the calls that have begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from claude_mcp.config import Config
from claude_mcp.engine import ahead, questions
from claude_mcp.engine.address import KUBERNETES
from claude_mcp.engine.ahead import Begun
from claude_mcp.engine.answer import check_daemon, check_version, dialect_of, parse_version
from claude_mcp.engine.environment import engine_environment
from claude_mcp.engine.naming import first_program
from claude_mcp.errors import EngineError
from claude_mcp.sessions.marks import SESSION

if TYPE_CHECKING:
    from claude_mcp.engine.answer import Answer
    from claude_mcp.sessions.outcomes import Listed

PATIENCE_SECONDS: Final = 1.0
"""How long an engine may take to answer at once."""


def begin(config: Config) -> Begun | None:
    """Ask the engine for its version, which every use of it begins with; not Kubernetes."""
    if config.engine == KUBERNETES:
        return None
    environment = engine_environment(config.environment, config.login)
    program = first_program(config.engine, environment)
    return ahead.begin(questions.version_argv(program), environment)


def end() -> None:
    """Give up the calls that have begun and that nobody has taken over."""
    ahead.discard_all()


def sessions(config: Config, *, ask: bool) -> list[Listed] | None:
    """All sessions, as ``Sessions.list`` has them; None if that takes more than a plain answer.

    It takes as long as two engine calls, or one if there is no session. With ``ask``, a running
    session must be asked, so the engine only begins to describe them. ``end`` must follow, whatever
    the answer.
    """
    version = begin(config)
    if version is None:
        return None
    program, environment = version.argv[0], version.environment
    listing = ahead.begin(questions.list_ids_argv(program, SESSION), environment)
    if listing is None or not _succeeds(listing):
        return None
    ids = _text(listing).split()
    if not ids:
        return [] if _succeeds(version) and _usable(version) else None
    described = ahead.begin(questions.inspect_argv(program, ids), environment)
    if ask or described is None:
        return None
    return _listed(config, version, described)


def _listed(config: Config, version: Begun, described: Begun) -> list[Listed] | None:
    """None if a session must be removed, or compared with what it was created with."""
    from claude_mcp.engine.described import parse_inspect
    from claude_mcp.sessions.labels import sessions_of
    from claude_mcp.sessions.outcomes import Listed
    from claude_mcp.sessions.session import Status, is_over, oldest_first

    answer = _usable(version) if _succeeds(version) else None
    if answer is None or not _succeeds(described):
        return None
    try:
        found = sessions_of(parse_inspect(_text(described)), config.owner)
    except EngineError:
        return None
    if any(is_over(each) or (each.restarted and each.status is Status.RUNNING) for each in found):
        return None
    engine = config.engine_name or dialect_of(answer).name
    return [Listed(session, engine) for session in oldest_first(found)]


def _text(begun: Begun) -> str:
    return begun.out.value().decode("utf-8", "replace")


def _succeeds(begun: Begun) -> bool:
    try:
        return begun.finish(PATIENCE_SECONDS) == 0
    except ahead.Late:
        return False


def _usable(version: Begun) -> Answer | None:
    """What the engine is, if sessions can use it and it is no service on another machine."""
    answer = parse_version(_text(version), effective_uid=0)
    if answer is None or not answer.daemon_answers or answer.remote:
        return None
    try:
        check_daemon(answer, version.argv[0], version.environment)
        check_version(dialect_of(answer), answer.version)
    except EngineError:
        return None
    return answer

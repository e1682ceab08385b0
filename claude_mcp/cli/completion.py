"""The command `completion`: scripts that let a shell complete our command line.

Commands and options stand in the script. Only the names of sessions are asked for, when a session
is to be named.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from claude_mcp.cli.grammar import ALIASES, COMMANDS
from claude_mcp.cli.parser import command_parser
from claude_mcp.cli.running import within
from claude_mcp.cli.terminal import write
from claude_mcp.config import Config
from claude_mcp.errors import ClaudeMcpError, UsageError

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions

NAMES: Final = "names"
"""Prints the sessions' names, one a line; for the scripts."""

BASH: Final = r"""# Completion of claude-mcp for bash: eval "$(claude-mcp completion bash)"
_claude_mcp() {
    local word=${COMP_WORDS[COMP_CWORD]} command= options= sessions= name i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --engine | --engine-host | --config) ((i++)) ;;
            -*) ;;
            *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    COMPREPLY=()
    case $command in
        '') options='@GLOBALS@'; [[ $word == -* ]] || options='@COMMANDS@' ;;
@CASES@
    esac
    if [[ -z $command || $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    elif [[ -n $sessions ]]; then
        while IFS= read -r name; do
            [[ $name == "$word"* ]] && COMPREPLY+=("$(printf %q "$name")")
        done < <(claude-mcp completion names 2>/dev/null)
    fi
}
complete -o default -F _claude_mcp claude-mcp
"""

ZSH: Final = r"""#compdef claude-mcp
# Completion of claude-mcp for zsh: eval "$(claude-mcp completion zsh)"
_claude_mcp() {
    local word=$words[CURRENT] command= options= sessions= i
    for ((i = 2; i < CURRENT; i++)); do
        case $words[i] in
            --engine | --engine-host | --config) ((i++)) ;;
            -*) ;;
            *) command=$words[i]; break ;;
        esac
    done
    case $command in
        '') options='@GLOBALS@'; [[ $word == -* ]] || options='@COMMANDS@' ;;
@CASES@
    esac
    if [[ -z $command || $word == -* ]]; then
        compadd -- ${=options}
    elif [[ -n $sessions ]]; then
        compadd -- ${(f)"$(claude-mcp completion names 2>/dev/null)"}
        _files
    else
        _files
    fi
}
compdef _claude_mcp claude-mcp
"""

FISH: Final = r"""# Completion of claude-mcp for fish: claude-mcp completion fish | source
complete -c claude-mcp -n __fish_use_subcommand -f -a '@COMMANDS@'
"""


def completion(arguments: argparse.Namespace, config: Config) -> int:
    match arguments.shell:
        case "bash":
            write(_script(BASH))
        case "zsh":
            write(_script(ZSH))
        case "fish":
            write(_fish())
        case "names":
            return _names(config)
        case shell:
            raise UsageError(f"There is no completion for {shell!r}.", hint="bash, zsh or fish.")
    return 0


def _names(config: Config) -> int:
    async def work(sessions: Sessions) -> list[str]:
        return [each.session.name for each in await sessions.list(ask=False)]

    try:
        names = within(config, work)
    except ClaudeMcpError:
        return 1  # a message would appear in the middle of somebody's command line
    write("".join(f"{name}\n" for name in names if name.isprintable()))
    return 0


def _options(command: str) -> list[str]:
    return sorted({option for option in command_parser(command).options if option != "-h"})


def _takes_sessions(command: str) -> bool:
    actions = command_parser(command)._actions
    return any(each.metavar == "SESSION" or each.dest == "source" for each in actions)


def _globals() -> list[str]:
    return ["--engine", "--engine-host", "--config", "--debug", "--help", "--version"]


def _words() -> str:
    return " ".join([*COMMANDS, *ALIASES])


def _spellings(command: str) -> list[str]:
    return [command, *(alias for alias, name in ALIASES.items() if name == command)]


def _script(template: str) -> str:
    """For the shells whose ``case`` is the same."""
    cases = []
    for command in COMMANDS:
        sessions = " sessions=1;" if _takes_sessions(command) else ""
        cases.append(
            f"        {' | '.join(_spellings(command))}){sessions} "
            f"options='{' '.join(_options(command))}' ;;"
        )
    return (
        template.replace("@GLOBALS@", " ".join(_globals()))
        .replace("@COMMANDS@", _words())
        .replace("@CASES@", "\n".join(cases))
    )


def _fish() -> str:
    lines = [FISH.replace("@COMMANDS@", _words()).rstrip("\n")]
    for command in COMMANDS:
        here = f"-n '__fish_seen_subcommand_from {' '.join(_spellings(command))}'"
        for option in _options(command):
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"complete -c claude-mcp {here} {kind}")
        if _takes_sessions(command):
            lines.append(f"complete -c claude-mcp {here} -a '(claude-mcp completion names)'")
    return "\n".join(lines) + "\n"

"""The command `completion`: scripts that let a shell complete our command line.

Commands, options and known words stand in the script. Only the names of sessions are asked for,
when a session is to be named.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from claude_mcp.cli.flags import Parser
from claude_mcp.cli.grammar import ALIASES, COMMANDS
from claude_mcp.cli.images import ACTIONS
from claude_mcp.cli.parser import command_parser, global_parser
from claude_mcp.cli.running import within
from claude_mcp.cli.terminal import write
from claude_mcp.clients.known import CLIENTS
from claude_mcp.config import Config
from claude_mcp.errors import ClaudeMcpError, UsageError

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions

NAMES: Final = "names"
"""Prints the sessions' names, one a line; for the scripts."""

SHELLS: Final = ("bash", "zsh", "fish")

BASH: Final = r"""# Completion of claude-mcp for bash: eval "$(claude-mcp completion bash)"
_claude_mcp() {
    local word=${COMP_WORDS[COMP_CWORD]} command= flags= choices= sessions= name i
    local -a globals=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            @VALUED@)
                name=${COMP_WORDS[i]}
                ((i++))
                [[ ${COMP_WORDS[i]} != = ]] || ((i++))
                globals+=("$name=${COMP_WORDS[i]}")
                ;;
            -*) ;;
            *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    COMPREPLY=()
    ((i <= COMP_CWORD)) || return 0  # the value of an option before the command
    case $command in
        '') flags='@GLOBALS@' choices='@COMMANDS@' ;;
@CASES@
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    elif [[ -n $choices ]]; then
        COMPREPLY=($(compgen -W "$choices" -- "$word"))
    elif [[ -n $sessions ]]; then
        while IFS= read -r name; do
            [[ $name == "$word"* ]] && COMPREPLY+=("$(printf %q "$name")")
        done < <(claude-mcp ${globals[@]+"${globals[@]}"} completion names 2>/dev/null)
    fi
}
complete -o default -F _claude_mcp claude-mcp
"""

ZSH: Final = r"""#compdef claude-mcp
# Completion of claude-mcp for zsh: eval "$(claude-mcp completion zsh)"
_claude_mcp() {
    local word=$words[CURRENT] command= flags= choices= sessions= i
    local -a globals
    for ((i = 2; i < CURRENT; i++)); do
        case $words[i] in
            @VALUED@)
                globals+=($words[i] $words[i+1])
                ((i++))
                ;;
            @VALUED_SO@) globals+=($words[i]) ;;
            -*) ;;
            *) command=$words[i]; break ;;
        esac
    done
    if ((i > CURRENT)); then  # the value of an option before the command
        _files
        return
    fi
    case $command in
        '') flags='@GLOBALS@' choices='@COMMANDS@' ;;
@CASES@
    esac
    if [[ $word == -* ]]; then
        compadd -- ${=flags}
    elif [[ -n $choices ]]; then
        compadd -- ${=choices}
    elif [[ -n $sessions ]]; then
        compadd -- ${(f)"$(claude-mcp $globals completion names 2>/dev/null)"} || _files
    else
        _files
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _claude_mcp "$@"  # from a file named _claude-mcp in $fpath
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _claude_mcp claude-mcp
fi
"""

FISH: Final = r"""# Completion of claude-mcp for fish: claude-mcp completion fish | source
function __claude_mcp_words
    # The options before the command, then the command; nothing while the value of one is written
    set -l value no
    for word in (commandline -opc)[2..]
        echo -- $word
        if test $value = yes
            set value no
        else if contains -- $word @VALUED@
            set value yes
        else if not string match -q -- '-*' $word
            return
        end
    end
    return 1
end
function __claude_mcp_command
    set -l words (__claude_mcp_words)
    and echo -- $words[-1]
end
function __claude_mcp_is
    contains -- "$(__claude_mcp_command)" $argv
end
function __claude_mcp_first
    # Whether the command is yet to come
    set -l words (__claude_mcp_words)
    and return 1
    not contains -- "$words[-1]" @VALUED@
end
function __claude_mcp_sessions
    set -l words (__claude_mcp_words)
    claude-mcp $words[1..-2] completion names 2>/dev/null
end
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
            raise UsageError(
                f"There is no completion for {shell!r}.", hint=f"There are {', '.join(SHELLS)}."
            )
    return 0


def _names(config: Config) -> int:
    async def work(sessions: Sessions) -> list[str]:
        listed = await sessions.list(ask=False)
        names = Counter(each.session.name for each in listed)
        return [
            # The same name on several engines means none of them.
            name if names[name] == 1 else f"{each.engine}/{name}"
            for each in listed
            for name in [each.session.name]
        ]

    try:
        names = within(config, work)
    except ClaudeMcpError:
        return 1  # a message would appear in the middle of somebody's command line
    write("".join(f"{name}\n" for name in names if name.isprintable()))
    return 0


def _options(command: str) -> list[str]:
    return sorted({option for option in command_parser(command).options if option != "-h"})


def _places(command: str) -> list[str]:
    """What a command takes besides options, by its names in the help."""
    actions = command_parser(command)._actions
    return [str(each.metavar) for each in actions if not each.option_strings]


def _takes_sessions(command: str) -> bool:
    return not {"SESSION", "SRC"}.isdisjoint(_places(command))


def _takes_files(command: str) -> bool:
    return not {"PROJECT", "PATH", "COMMAND", "SRC", "DST"}.isdisjoint(_places(command))


def _choices(command: str) -> Iterable[str]:
    """The words that a command takes first, where these are known."""
    return {
        "image": ACTIONS,
        "install": CLIENTS,
        "uninstall": CLIENTS,
        "config": ("set", "unset"),
        "completion": SHELLS,
    }.get(command, ())


def _globals() -> list[str]:
    return [option for option in global_parser().options if option.startswith("--")]


def _valued() -> list[str]:
    """The options before the command that take a value."""
    actions = global_parser()._actions
    return [name for each in actions if each.nargs is None for name in each.option_strings]


def _words() -> str:
    return " ".join([*COMMANDS, *ALIASES])


def _spellings(command: str) -> list[str]:
    return [command, *(alias for alias, name in ALIASES.items() if name == command)]


def _script(template: str) -> str:
    """For the shells whose ``case`` is the same."""
    cases = []
    for command in COMMANDS:
        sessions = " sessions=1" if _takes_sessions(command) else ""
        choices = f" choices='{' '.join(_choices(command))}'" if _choices(command) else ""
        cases.append(
            f"        {' | '.join(_spellings(command))}) "
            f"flags='{' '.join(_options(command))}'{choices}{sessions} ;;"
        )
    return (
        template.replace("@GLOBALS@", " ".join(_globals()))
        .replace("@VALUED@", " | ".join(_valued()))
        .replace("@VALUED_SO@", " | ".join(f"{name}=*" for name in _valued()))
        .replace("@COMMANDS@", _words())
        .replace("@CASES@", "\n".join(cases))
    )


def _fish() -> str:
    lines = [FISH.rstrip("\n").replace("@VALUED@", " ".join(_valued()))]
    everywhere = {each.dest for each in global_parser()._actions if each.option_strings}
    lines += [f"complete -c claude-mcp{option}" for option in _fish_options(global_parser(), set())]
    for name in (*COMMANDS, *ALIASES):
        about = _fish_word(COMMANDS[ALIASES.get(name, name)][0])
        lines.append(f"complete -c claude-mcp -n __claude_mcp_first -f -a {name} -d {about}")
    for command in COMMANDS:
        here = f"complete -c claude-mcp -n '__claude_mcp_is {' '.join(_spellings(command))}'"
        lines += [
            f"{here}{option}" for option in _fish_options(command_parser(command), everywhere)
        ]
        files = "" if _takes_files(command) else " -f"
        if _choices(command):
            lines.append(f"{here}{files} -a '{' '.join(_choices(command))}'")
        elif _takes_sessions(command):
            lines.append(f"{here}{files} -a '(__claude_mcp_sessions)'")
    return "\n".join(lines) + "\n"


def _fish_options(parser: Parser, without: set[str]) -> Iterator[str]:
    for action in parser._actions:
        if action.option_strings and action.dest not in without:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in action.option_strings
            )
            value = "" if action.nargs == 0 else " -r"
            yield f" {names}{value} -d {_fish_word(action.help or '')}"


def _fish_word(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

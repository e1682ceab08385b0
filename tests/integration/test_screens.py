"""What each command shows, compared with what was recorded: in a pipe and on three terminals.

The recordings are in ``screens``, one file for each scene. ``CLAUDE_MCP_RECORD=1`` writes them;
read the difference before you commit it. What differs from run to run is replaced, and so is the
space between columns, which is looked at separately.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from messages_standin import Standin

from claude_mcp.cli.drawing import width
from claude_mcp.engine.docker_cli import DockerCliEngine
from tests.engine_fixtures import RUN_SECONDS, Bare, environment_with, runner
from tests.peers import script
from tests.snapshots import git
from tests.terminals import Terminal, terminal

RECORDINGS = Path(__file__).parent / "screens"
WIDTHS = (60, 80, 160)
ROWS = 120
PIPE = "pipe"
COMMAND_ID = "2b1f6a52-9f0c-4a4e-8a3e-6c5d1a7d1d55"

ANSWER = """\
## The cause

The total is computed with **floats**, and `a + b` is not `c`, so the comparison in `shop/cart.py` \
never holds.

- first *point*
- second point, which is so long that it needs a second row on a terminal of sixty columns

```python
assert total == c
```"""
YES = script({"say": "Yes."})
PROMPT = "Why does the test fail?\n" + script(
    {"say": "I look at the tests first."},
    {"tool": "Bash", "input": {"command": "ls; cat nothing"}},
    {"say": ANSWER},
)

PROGRAM = [sys.executable, "-m", "claude_mcp"]

DIGITS = r"(?:[0-9a-f]\n?)"
UUID = rf"{DIGITS}{{8}}-\n?(?:{DIGITS}{{4}}-\n?){{3}}{DIGITS}{{11}}[0-9a-f]"
"""Also one that goes on in the next row."""
UNITS = "s|min|h|d|seconds?|minutes?|hours?|days?|weeks?"
REPLACED: tuple[tuple[str, str], ...] = (
    (UUID, "UUID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "MOMENT"),
    (r"(?m)^\d+ MOMENT", "N MOMENT"),
    (rf"(in )?(\d+|About an?) ({UNITS}) ago|(?<= )in \d+ ({UNITS})\b", "AGO"),
    (r"\b[0-9a-f]{12,64}\b", "ID"),
    (r"\b[0-9a-f]{10}\b", "COMMIT"),
    (r"\d+(\.\d+)? ?(B|[kKMG]i?B)\b", "SIZE"),
    (r"(?<!\w)\d+(\.\d+)?%", "N%"),
    (r"\b\d+(\.\d+)? ms\b|\b\d+\.\d s\b", "TIME"),
    (r"\$\d+\.\d{4}", "COST"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\b\d+(\.\d+)+([-+~][\w.+~-]*)?(?!\w)", "VERSION"),
)


@dataclass(frozen=True)
class Scene:
    """A command and what to do with it. ``SESSION`` stands for the session, ``NEW`` for one that
    has another name in each form, ``PROJECT`` for the project, and ``SCRATCH`` for a directory."""

    words: str
    short: bool = False
    """Whether it is part of each run."""
    keys: tuple[tuple[str, str], ...] = ()
    """What to wait for on a terminal, and what to type then."""
    environment: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False
    """Whether only one may be played at a time."""
    forms: tuple[str, ...] = (PIPE, *map(str, WIDTHS))
    counts: bool = False
    """Whether its numbers differ from run to run."""
    only: str = ""
    """What is shown depends on what else there is on the engine or the machine: lines with this
    have to be there, and are recorded if it failed."""


SCENES = {
    "list": Scene("list --quick", short=True, only="SESSION"),
    "show": Scene("show SESSION", short=True),
    "stats": Scene("stats SESSION", short=True, counts=True),
    "prompt": Scene(f"prompt SESSION {shlex.quote(PROMPT)}", short=True, alone=True),
    "turns": Scene("turns SESSION --limit 3", short=True),
    "commands": Scene("commands SESSION"),
    "command": Scene(f"command SESSION {COMMAND_ID}"),
    "stop-command": Scene(f"stop-command SESSION {COMMAND_ID}"),
    "exec": Scene("exec SESSION 'echo said; echo wrong >&2; exit 3'"),
    "turn": Scene("turn SESSION"),
    "turn-follow": Scene("turn SESSION --follow"),
    "cancel": Scene("cancel SESSION"),
    "respond": Scene("respond SESSION nothing --allow"),
    "credentials": Scene("credentials SESSION"),
    "changes": Scene("changes SESSION"),
    "changes-full": Scene("changes SESSION --full"),
    "discard": Scene("discard SESSION never.txt"),
    "logs": Scene("logs SESSION --tail 1"),
    "copy-in": Scene("copy --force PROJECT/cart.py SESSION:/tmp/"),
    "copy-out": Scene("copy --force SESSION:/workspace/cart.py SCRATCH/"),
    "create": Scene("create PROJECT --name NEW"),
    "destroy": Scene("destroy NEW"),
    "run": Scene(f"run PROJECT --name NEW --apply none {shlex.quote(YES)}", alone=True),
    "apply": Scene("apply SESSION --branch taken-FORM --commit 'Taken over'", alone=True),
    "watch": Scene("watch", keys=(("SESSION", "q"),), only="SESSION|terminal"),
    "attach": Scene("attach SESSION", forms=(PIPE,)),
    "shell": Scene(
        "shell SESSION", keys=((r"/workspace[$#]", "exit\r"),), only="workspace|terminal"
    ),
    "image-check": Scene("image check"),
    "image-list": Scene("image list", only="IMAGE|claude-code-custom"),
    "install": Scene("install", environment={"HOME": "SCRATCH"}),
    "uninstall": Scene("uninstall cursor", environment={"HOME": "SCRATCH"}),
    "config": Scene("config", environment={"HOME": "SCRATCH"}),
    "doctor": Scene("doctor", only="exists"),
    "unknown": Scene("show no-such-session", only="^claude-mcp:"),
    "misspelt": Scene("promt SESSION hello"),
    "serve": Scene("serve", keys=(("serving MCP", "\x04"),)),
    "completion": Scene("completion tcsh"),
    "prune": Scene("prune --dry-run", only="no sessions to remove|expired|broken"),
    "version": Scene("--version"),
}


@dataclass(frozen=True)
class Stage:
    """Where the scenes are played: one session with a clone, a command and a change."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    session: str
    project: Path
    scratch: Path

    def filled(self, text: str, form: str) -> str:
        new = f"{self.session[:-1]}{form[0]}"
        for word, value in (
            ("SESSION", self.session), ("NEW", new), ("PROJECT", str(self.project)),
            ("SCRATCH", str(self.scratch)), ("FORM", form),
        ):  # fmt: skip
            text = text.replace(word, value)
        return text

    def known(self, text: str, form: str) -> str:
        """The text with the words of the scenes for what is this stage's own."""
        new = f"{self.session[:-1]}{form[0]}"
        for word, value in (
            ("SCRATCH", str(self.scratch)), ("PROJECT", str(self.project)),
            ("SESSION", self.session), ("NEW", new), ("taken-FORM", f"taken-{form}"),
        ):  # fmt: skip
            text = text.replace(value, word)
        return text


@pytest.fixture(scope="module")
def stage(engine: DockerCliEngine, standin: Standin) -> Iterator[Stage]:
    # Names, paths and commits are always the same, because lines are broken at a width.
    root = Path(f"/tmp/it-screens-{engine.dialect.name[:6]}-{os.geteuid() % 10_000:04}")
    shutil.rmtree(root, ignore_errors=True)
    project, scratch = root / "shop", root / "away"
    for directory in (root, project, scratch):
        directory.mkdir()
    git(project, "init", "-q", "-b", "main")
    (project / "cart.py").write_text("total = 0.1 + 0.2\n")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "first")
    (root / "gitconfig").write_text("[user]\n\tname = Some Body\n\temail = some@body\n")
    environment = {
        **environment_with(standin),
        "GIT_CONFIG_GLOBAL": str(root / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "COLORTERM": "",
    }
    argv = [*PROGRAM, f"--engine={engine.program}"]
    cli, name, bare = runner(argv, environment), "it-screens-", Bare(engine)
    session = f"{name}s"
    made_here = [f"{name}{form}" for form in ("s", "p", *(str(each)[0] for each in WIDTHS))]
    try:
        for each in made_here:  # a run that was killed may have left them
            bare.remove_all(each)
        made = cli("create", str(project), "--name", session, "--workspace", "clone")
        assert made.returncode == 0, made.stderr
        change = "printf 'a\\nb\\n' >new.txt; echo '# total' >>cart.py"
        assert cli("exec", "--command-id", COMMAND_ID, session, change).returncode == 0
        for _ in range(5):  # no list of turns shows more
            assert cli("prompt", session, PROMPT).returncode == 0
        yield Stage(argv, environment, session, project, scratch)
    finally:
        for each in made_here:
            bare.remove_all(each)
        shutil.rmtree(root)


def play(stage: Stage, scene: Scene, forms: Sequence[str]) -> dict[str, str]:
    """What the command shows in each form, all of them played at once."""
    if scene.alone and len(forms) > 1:
        return {form: play(stage, scene, (form,))[form] for form in forms}
    shown = {}
    with ExitStack() as stack:
        started: dict[str, Terminal | subprocess.Popen[str]] = {}
        for form in forms:
            words = shlex.split(stage.filled(scene.words, form))
            environment = {
                **stage.environment,
                **{name: stage.filled(each, form) for name, each in scene.environment.items()},
            }
            if form == PIPE:
                started[form] = stack.enter_context(
                    subprocess.Popen(
                        [*stage.argv, *words],
                        env=environment, text=True, stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    )
                )  # fmt: skip
                continue
            columns = int(form)
            started[form] = stack.enter_context(
                terminal([*stage.argv, *words], environment, columns=columns, rows=ROWS)
            )
        for form, one in started.items():
            shown[form] = _shown(stage, scene, form, one)
    return shown


def _shown(stage: Stage, scene: Scene, form: str, one: Terminal | subprocess.Popen[str]) -> str:
    if not isinstance(one, Terminal):
        out, err = one.communicate(timeout=RUN_SECONDS)
        text, code = f"{out}-- stderr --\n{err}", one.returncode
    else:
        for sign, keys in scene.keys:
            found = re.compile(stage.filled(sign, form))
            one.until(lambda text, found=found: bool(found.search(text)))  # type: ignore[misc]
            before = one.text
            one.type(keys)
        code = one.wait()
        text = one.text if not scene.keys else before
        assert all(width(line) <= int(form) for line in text.splitlines())
        assert_aligned(text)
    text = normal(stage.known(text, form), scene.counts)
    if scene.only:
        lines = [line for line in text.splitlines() if re.search(scene.only, line)]
        assert lines, text
        text = "\n".join([*lines, ""]) if code else ""
    return f"exit code {code}\n{text}"


def assert_aligned(text: str) -> None:
    """Below each head of a table, which is all in capitals, a column begins in each row."""
    lines = text.splitlines()
    for at, head in enumerate(lines):
        words = head.strip().split("  ")
        if len(words) < 3 or head != head.upper() or not re.search("[A-Z]", head):
            continue
        starts = [each.start() for each in re.finditer(r"(?<=  )\S|^\S", head)]
        for line in lines[at + 1 :]:
            if not line or "  " not in line:
                break
            if all(character.isascii() for character in line):
                assert all(line[start - 1 : start] in (" ", "") for start in starts if start), line


def normal(text: str, counts: bool) -> str:
    for pattern, word in REPLACED:
        text = re.sub(pattern, word, text)
    if counts:
        text = re.sub(r"(?<![\w-])\d+(?![\w-])", "N", text)
    lines = (re.sub(r"(?<=\S) {2,}", "  ", line.rstrip()) for line in text.splitlines())
    return "\n".join(lines).rstrip() + "\n"


def recorded(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    parts = re.split(r"^=== (.+)\n", path.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def compare(name: str, engine: str, shown: Mapping[str, str]) -> None:
    """With the recording for this engine, or else the one for all."""
    path = RECORDINGS / f"{name}.txt"
    before = recorded(path)
    titles = {form: form if form == PIPE else f"{form} columns" for form in shown}
    if os.environ.get("CLAUDE_MCP_RECORD"):
        for form, text in shown.items():
            title = titles[form]
            if title in before and before[title] != text and engine != "docker":
                title = f"{title}, {engine}"
            before[title] = text
        path.write_text("".join(f"=== {title}\n{text}" for title, text in before.items()))
        return
    for form, text in shown.items():
        title = titles[form]
        assert text == before.get(f"{title}, {engine}", before.get(title)), f"{name}, {title}"


pytestmark = [pytest.mark.xdist_group("screens"), pytest.mark.per_engine]
"""There is one session for all of them, of a fixed name."""


def _case(name: str) -> object:
    measures = name in ("show", "stats")
    return pytest.param(name, marks=[pytest.mark.cgroups] if measures else [])


@pytest.mark.parametrize("name", [_case(name) for name, scene in SCENES.items() if scene.short])
def test_what_is_seen_most_is_as_it_was_recorded(
    stage: Stage, engine: DockerCliEngine, name: str
) -> None:
    compare(name, engine.dialect.name, play(stage, SCENES[name], (PIPE, "60")))


@pytest.mark.stress
@pytest.mark.parametrize("name", [_case(name) for name in SCENES])
def test_every_command_is_as_it_was_recorded(
    stage: Stage, engine: DockerCliEngine, name: str
) -> None:
    compare(name, engine.dialect.name, play(stage, SCENES[name], SCENES[name].forms))


@pytest.mark.once
@pytest.mark.parametrize("kind", ["NO_COLOR", "dumb", "latin-1"])
def test_a_terminal_without_colors_cursor_or_unicode_gets_what_it_can_show(
    stage: Stage, kind: str
) -> None:
    environment = dict(stage.environment)
    if kind == "NO_COLOR":
        environment["NO_COLOR"] = "1"
    elif kind == "latin-1":
        environment["PYTHONIOENCODING"] = "latin-1"
    words = ["prompt", stage.session, script({"say": "**Two** points …\n\n- one\n> said"})]
    term = "dumb" if kind == "dumb" else "xterm"
    with terminal([*stage.argv, *words], environment, columns=60, kind=term) as shown:
        assert shown.wait() == 0
    styles = re.findall(rb"\x1b\[[0-9;]*m", shown.written)
    answer = {
        "NO_COLOR": ["**Two** points …", "", "- one", "> said"],
        "dumb": ["**Two** points …", "**Two** points …", "", "- one", "> said"],
        "latin-1": ["Two points ~", "", "* one", "| said"],
    }[kind]
    assert shown.text.splitlines()[:-1] == answer
    assert bool(styles) is (kind == "latin-1")
    assert (b"\x1b" in shown.written) is (kind != "dumb")

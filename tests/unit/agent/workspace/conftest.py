"""A workspace with a real git, and its checkpoints."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from claude_mcp.agent.workspace import changes
from claude_mcp.agent.workspace import checkpoints as checkpoints_module
from claude_mcp.agent.workspace.checkpoints import Checkpoint, Checkpoints

GENEROUS_SECONDS = 100.0


class Project:
    """A workspace, and the checkpoints of it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "workspace"
        self.path.mkdir()
        self.home = directory / "home"
        self.home.mkdir()
        self.state = directory / "state"
        self.state.mkdir()
        self.checkpoints = Checkpoints(str(self.state), str(self.path))

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run git as somebody in the session would; returns its output without the line's end."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_AUTHOR_NAME": "Somebody",
            "GIT_AUTHOR_EMAIL": "somebody@example.com",
            "GIT_COMMITTER_NAME": "Somebody",
            "GIT_COMMITTER_EMAIL": "somebody@example.com",
            "GIT_CONFIG_NOSYSTEM": "1",
            # Otherwise newer versions leave a process that goes on in the repository.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "maintenance.auto",
            "GIT_CONFIG_VALUE_0": "false",
        }
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments],
            cwd=cwd or self.path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return os.fsdecode(done.stdout).rstrip("\n")

    def commit(self, **contents: str) -> str:
        """Make a repository, if there is none, and commit files; returns the commit."""
        if not (self.path / ".git").exists():
            self.git("init", "-q", "-b", "main")
        for name, content in contents.items():
            self.write(name, content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")
        return self.git("rev-parse", "HEAD")

    def write(self, name: str, content: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        return path

    def take(self, label: str) -> Checkpoint:
        taken = self.checkpoints.take(label, GENEROUS_SECONDS)
        assert taken.checkpoint is not None, taken.reason
        return taken.checkpoint

    def shadow(self, *arguments: str) -> str:
        """Git on the shadow repository, without what it may borrow."""
        return self.git("--git-dir", str(self.state / "checkpoints.git"), *arguments)

    def names(self, label: str) -> list[str]:
        """The paths that a checkpoint holds."""
        tree = self.take(label).tree
        listing = self.shadow("ls-tree", "-r", "-z", "--name-only", tree)
        return [name for name in listing.split("\0") if name]

    def content(self, label: str, name: str) -> str:
        return self.shadow("cat-file", "blob", f"refs/checkpoints/{label}:{name}")

    def files(self, git: bool = False) -> dict[str, object]:
        """Everything in the workspace with mode and content, with or without its ``.git``."""
        found: dict[str, object] = {}
        for directory, names, others in os.walk(self.path):
            if not git and ".git" in names:
                names.remove(".git")
            for name in (*others, *names):
                path = os.path.join(directory, name)
                status = os.lstat(path)
                content: object = None
                if os.path.islink(path):
                    content = os.readlink(path)
                elif os.path.isfile(path):
                    content = Path(path).read_bytes()
                key = os.path.relpath(path, self.path)
                if git or not os.path.isdir(path) or os.path.islink(path):
                    times = status.st_mtime_ns if git else 0
                    found[key] = (status.st_mode, times, content)
        return found


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git has its time on a busy machine, unless a test says otherwise."""
    monkeypatch.setattr(checkpoints_module, "TAKE_SECONDS", GENEROUS_SECONDS)
    monkeypatch.setattr(changes, "SUMMARY_SECONDS", GENEROUS_SECONDS)
    for method in (Checkpoints.take, Checkpoints.now):
        monkeypatch.setattr(method, "__defaults__", (GENEROUS_SECONDS,))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)

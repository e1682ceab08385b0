"""Git on the shadow repository, with the workspace as its working tree."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from claude_mcp.agent.workspace import repository
from claude_mcp.agent.workspace.git import Git
from claude_mcp.agent.workspace.repository import Repository
from claude_mcp.agent.workspace.shadow import Shadow


class ShadowGit:
    """``lock`` is the descriptor of the shadow's lock while it is held."""

    def __init__(self, shadow: Shadow, workspace: str) -> None:
        self.shadow, self.workspace = shadow, workspace
        self.lock: int | None = None
        self._view_lock = threading.Lock()

    def repository(self) -> Repository | None:
        """The workspace's own repository."""
        return repository.find(self.workspace)

    def __call__(
        self,
        *,
        borrowing: bool,
        literal: bool = True,
        variables: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        locked: bool = False,
    ) -> Git:
        """Git on the shadow repository; ``borrowing`` also reads the objects of the workspace's.

        Without it, everything that is added is written to the shadow, so that a ``gc`` in the
        workspace takes nothing from a checkpoint. With ``literal``, paths are no patterns. With
        ``locked``, the lock, which must be held, lasts until git has ended.
        """
        source, excludes = self.repository(), os.devnull
        paths = {"GIT_DIR": self.shadow.path, "GIT_WORK_TREE": self.workspace}
        if literal:
            paths["GIT_LITERAL_PATHSPECS"] = "1"
        if source is not None:
            own = os.path.join(source.common, "info/exclude")
            excludes = own if os.path.isfile(own) else excludes
        if source is not None and borrowing:
            paths["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = _quoted(source.objects)
            shallow = os.path.join(source.common, "shallow")
            if os.path.isfile(shallow):
                paths["GIT_SHALLOW_FILE"] = shallow
        return Git(
            {**paths, **(variables or {})},
            {"core.excludesFile": excludes, **(settings or {})},
            self.lock if locked else None,
        )

    def with_index_of(self, source: Repository) -> Git:
        """Git that sees HEAD and index of the workspace's repository, and writes neither.

        It obeys the attributes and the configuration of the shadow repository.
        """
        with self._view_lock:
            view = self.shadow.make_view(source.head().commit)
        variables = {
            "GIT_DIR": view,
            "GIT_INDEX_FILE": source.index_file,
            "GIT_OPTIONAL_LOCKS": "0",
        }
        return self(borrowing=True, variables=variables)


def _quoted(path: str) -> str:
    """A path in a variable that lists several, in which ``:`` and quotes are special."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'

"""What Claude Code is started with: its argv, its environment and its secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from claude_mcp.agent.network import instance_role
from claude_mcp.agent.network.relay import Relays
from claude_mcp.agent.store.state import State
from claude_mcp.agent.turns import interactive, mcp_servers
from claude_mcp.agent.turns.live import write_files
from claude_mcp.agent.turns.turn import NO_OPTIONS, TurnOptions
from claude_mcp.claude import invocation, providers
from claude_mcp.contract.handover import Handover
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.settings import ASK, Settings

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Egress


class Startup:
    """``handover`` is another object whenever new credentials or MCP servers were taken."""

    def __init__(
        self,
        settings: Settings,
        environment: dict[str, str],
        state: State,
        egress: Egress | None,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._state = state
        self._egress = egress
        self._relays = Relays()
        self.handover = Handover()

    @property
    def configured(self) -> bool:
        credentials = self.handover.credentials
        return credentials is not None and bool(credentials.credential)

    @property
    def mcp_config(self) -> Mapping[str, object] | None:
        servers = self.handover.mcp_servers
        return None if servers is None else servers.mcp_config

    def take(self, handover: Handover) -> None:
        """Keep what it has; what it lacks stays as it was."""
        credentials, servers = handover
        if credentials is not None:
            for value in credentials.secret_values:
                redactor.add(value)
            if self._egress is not None:
                self._egress.set_proxies(credentials.proxies)
        if servers is not None:
            for value in servers.mcp_secret_values:
                redactor.add(value)
        before = self.handover
        self.handover = Handover(
            before.credentials if credentials is None else credentials,
            before.mcp_servers if servers is None else servers,
        )

    def command(
        self, options: TurnOptions, resume: str | None, *, interactive: bool = False
    ) -> tuple[tuple[str, ...], dict[str, str], providers.Credentials]:
        """Claude Code's argv, its environment, and its secrets, which are in neither."""
        settings, credentials = self._settings, self.handover.credentials
        assert credentials is not None, "Claude Code is started only with credentials"
        provider = providers.handed_over(
            credentials, settings.model, settings.small_fast_model, instance_role.COMMAND
        )
        argv = invocation.claude_argv(
            invocation.Invocation(
                resume=resume,
                model=options.model or self._default_model(resume),
                permission_mode="ask" if settings.permission_mode == ASK else "bypass",
                tools=None if options.tools is None else tuple(options.tools),
                max_turns=options.max_turns,
                max_budget_usd=options.max_budget_usd,
                json_schema=options.output_schema,
                trust_project=settings.trust_project,
                append_system_prompt=settings.append_system_prompt,
                mcp_config_path=mcp_servers.write(self.mcp_config),
                interactive=interactive,
            )
        )
        environment = invocation.claude_environment(
            provider, os.getuid(), self._environment, trust_project=settings.trust_project
        )
        if self._egress is None:
            environment.update(self._relays.without_passwords(credentials.proxies))
        return argv, environment, providers.credentials(provider, credentials.custom_headers)

    def lent(self, conversation: str | None) -> dict[str, Any]:
        """What starts Claude Code on a terminal; the secrets are among it, for its pipes."""
        argv, environment, secrets = self.command(NO_OPTIONS, conversation, interactive=True)
        write_files(secrets)
        interactive.prepare(environment, secrets)
        return {
            "argv": argv,
            "environment": {**environment, **secrets.environment},
            "descriptors": secrets.descriptors,
            "files": [(file.name, file.variable) for file in secrets.files if file.variable],
        }

    def _default_model(self, resume: str | None) -> str | None:
        """The session's model; None leaves the choice to Claude Code and the project.

        Claude Code resumes a conversation with its last model, even if only one turn used that.
        """
        model = self._settings.model
        if model is None and resume is not None and resume == self._state.other_model:
            return invocation.DEFAULT_MODEL
        return model

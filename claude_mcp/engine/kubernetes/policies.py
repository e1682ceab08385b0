"""The NetworkPolicies of pods in the cluster: found, created again, removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from claude_mcp.engine.engine import ContainerNotFound
from claude_mcp.engine.kubernetes import argv as build
from claude_mcp.engine.kubernetes import described, marks, policy
from claude_mcp.engine.kubernetes.argv import Argv, Place
from claude_mcp.engine.kubernetes.failures import TITLE
from claude_mcp.engine.spec import Traffic
from claude_mcp.errors import EngineError, ungrouped

LEFT_SECONDS: Final = 300.0
"""The age from which a policy without a pod is not one whose pod is about to be created."""
LIMIT: Final = "limit what a session reaches"
"""Completes "Kubernetes could not ..."."""


@dataclass(frozen=True, slots=True)
class PodPolicies:
    """``run`` returns what a call prints, ``get`` the pods of these names."""

    place: Place
    run: Callable[[Argv], Awaitable[str]]
    create: Callable[[policy.Manifest], Awaitable[None]]
    get: Callable[[Sequence[str], str], Awaitable[list[described.Pod]]]

    async def ensure(self, id: str, traffic: Traffic) -> bool:
        """Make sure that a pod has its policy and no other one; False if it had not.

        Raises:
            ContainerNotFound: it has not, and there is no such pod.
            EngineError: another policy of the namespace allows something.
        """
        own, others = await self._found(id)
        for each in others:
            if policy.widens(each):
                raise EngineError(
                    f"The NetworkPolicy {each['metadata']['name']} of the namespace allows pods "
                    "more than a limited session may have: policies add up.",
                    hint="Give sessions a namespace without policies that allow something, or "
                    "choose the network 'open'.",
                )
        mine = [each for each in own if policy.id_of(each) == id]
        intact = [policy.is_intact(each, id, traffic) for each in mine] == [True]
        if intact and mine == own:
            return True
        pods = await self.get([marks.pod_name(id)], LIMIT)
        if id not in [each.container.id for each in pods]:
            raise ContainerNotFound(f"{TITLE} has no container {id}.")
        # The pods of the others are gone: this one has their name.
        outdated = {policy.id_of(each) for each in own} - ({id} if intact else set())
        if outdated:
            await self.run(build.remove_policies_argv(self.place, *sorted(outdated)))
        if not intact:
            await self.create(policy.policy(id, traffic))
        return intact

    async def _found(self, id: str) -> tuple[list[policy.Manifest], list[policy.Manifest]]:
        """Those of a pod and of earlier ones of its name, and those that are not ours."""
        found: dict[str | None, list[policy.Manifest]] = {}

        async def read(of: str | None) -> None:
            found[of] = policy.parse(await self.run(build.policies_argv(self.place, of)))

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, id)
                tasks.start_soon(read, None)
        return found[id], found[None]

    async def remove_leftovers(self, ids: Callable[[], Awaitable[list[str]]]) -> None:
        """Remove old policies whose pod is none of ``ids``, which is asked afterwards."""
        found = policy.parse(await self.run(build.policies_argv(self.place, ours=True)))
        old = policy.older_than(found, LEFT_SECONDS)
        if old and (left := old - {*await ids()}):
            await self.run(build.remove_policies_argv(self.place, *sorted(left)))

"""``image``: builds, fetches, lists and checks session images."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from claude_mcp.cli import render
from claude_mcp.cli.line import LINE
from claude_mcp.cli.running import follow, watched, within
from claude_mcp.cli.terminal import for_terminal, talk, write, write_json
from claude_mcp.config import Config
from claude_mcp.errors import UsageError

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions

ACTIONS: Final = ("build", "pull", "list", "check")
ENGINE_EXIT_CODE: Final = 5
SERVER: Final = "server"
SERVER_IMAGE: Final = "claude-mcp-server:latest"


def image(arguments: argparse.Namespace, config: Config) -> int:
    action = arguments.action
    if action not in ACTIONS:
        raise UsageError(f"There is no 'image {action}'.", hint=f"There are {', '.join(ACTIONS)}.")
    server = arguments.target == SERVER
    if action != "build" and (arguments.base or arguments.extra_ca or arguments.rebuild or server):
        raise UsageError("--base, --extra-ca, --rebuild and --target go with 'image build' only.")
    if action == "list" and arguments.image:
        raise UsageError("'image list' takes no image.")
    name = arguments.image or (SERVER_IMAGE if server else config.image)
    live = watched(arguments) and LINE.possible() and not arguments.verbose
    certificates = list(map(os.path.abspath, arguments.extra_ca))

    async def work(sessions: Sessions) -> int:
        from claude_mcp.sessions import images

        engine = await sessions.engine()
        match action:
            case "build":
                code = await images.build(
                    engine,
                    {**config.environment, **config.login},
                    name,
                    target=arguments.target,
                    base=arguments.base,
                    certificates=certificates,
                    rebuild=arguments.rebuild,
                    verbose=arguments.verbose,
                    progress=follow(arguments) if live else None,
                    say=talk,
                )
                return code and ENGINE_EXIT_CODE
            case "pull":
                return (await engine.pull(name)) and ENGINE_EXIT_CODE
            case "list":
                found = await images.listed(engine)
                here = await engine.image_exists(config.image)
                if arguments.json:
                    rows = [asdict(each) for each in found]
                    write_json({"images": rows, "configured": config.image, "isThere": here})
                else:
                    write(render.images(found))
                    if not here:
                        talk(
                            f"{config.image}, which sessions use, is not there: "
                            "build it with 'claude-mcp image build'."
                        )
                return 0
            case _:
                contents = await images.check(engine, name)
                if arguments.json:
                    write_json(
                        {
                            "image": contents.image,
                            "programs": contents.programs,
                            "missing": list(contents.missing),
                            "unavailable": list(contents.unavailable),
                        }
                    )
                else:
                    write(for_terminal(render.contents(contents)))
                return ENGINE_EXIT_CODE if contents.missing else 0

    return within(config, work, interrupted="interrupted; the image is as it was")

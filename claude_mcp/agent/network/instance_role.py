"""Prints the AWS credentials of the machine's instance role for the AWS SDK inside Claude Code.

It runs as the SDK's `credential_process`, which starts it again whenever they expire.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from claude_mcp.claude.providers import ROLE_FILE
from claude_mcp.contract import places

COMMAND = (
    "python3 -I -S -c 'import sys; "
    f'sys.path.insert(0, "{places.ARCHIVE_PATH}"); '
    "from claude_mcp.agent.network.instance_role import main; main()'"
)
ROLE_PATH = places.RUN_DIRECTORY + "/" + ROLE_FILE
ECS = "http://169.254.170.2"
EC2 = "http://169.254.169.254"
ROLES = "/latest/meta-data/iam/security-credentials/"
REQUEST_SECONDS = 5.0
TOKEN_SECONDS = "300"


def ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str:
    import urllib.request  # slow to import, and the agent itself needs only COMMAND

    request = urllib.request.Request(url, headers=dict(headers), method=method)
    # No proxy, which would answer with its own machine's role.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=REQUEST_SECONDS) as answer:
        return str(answer.read().decode())


def credentials(role: Mapping[str, str]) -> dict[str, Any]:
    """The credentials in the format of a `credential_process`; ``role`` says which service to ask.

    Raises:
        OSError, ValueError, KeyError: it does not answer with credentials.
    """
    url = role.get("fullUri") or (ECS + role["relativeUri"] if "relativeUri" in role else None)
    if url is not None:
        token = role.get("token")
        given = json.loads(ask(url, {"Authorization": token} if token else {}))
    else:
        service = role.get("endpoint") or EC2
        wanted = {"X-aws-ec2-metadata-token-ttl-seconds": TOKEN_SECONDS}
        token = ask(f"{service}/latest/api/token", wanted, "PUT")
        headers = {"X-aws-ec2-metadata-token": token}
        name = ask(service + ROLES, headers).split("\n")[0].strip()
        given = json.loads(ask(service + ROLES + name, headers))
    return {
        "Version": 1,
        "AccessKeyId": given["AccessKeyId"],
        "SecretAccessKey": given["SecretAccessKey"],
        "SessionToken": given["Token"],
        "Expiration": given["Expiration"],
    }


def main() -> None:
    try:
        with open(ROLE_PATH, encoding="utf-8") as file:
            role = json.load(file)
        printed = json.dumps(credentials(role))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(
            f"cannot get the credentials of this machine's role: {type(error).__name__}: {error}"
        )
    sys.stdout.write(printed + "\n")

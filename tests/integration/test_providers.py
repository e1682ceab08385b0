"""Cloud providers with the real Claude Code; the stand-in answers only what a known key proves."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from cloud_standin import (
    AwsKey,
    CloudStandin,
    Known,
    RsaKey,
    google_account,
    service_account,
)
from messages_standin import Request, Standin

from claude_mcp.config import Config, load
from claude_mcp.engine.engine import Engine
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.results import TurnResult, TurnStatus
from tests.argv_sampler import ArgvSampler
from tests.restricted import own_address

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = pytest.mark.once

TAG = secrets.token_hex(8)
OWN_KEYS = {
    "region": "ap-own-1",
    "accessKeyId": f"AKIAOWN{TAG}",
    "secretAccessKey": f"own/secret+{TAG}",
    "sessionToken": f"own-session-token-{TAG}",
}
SERVER_KEY = f"AKIASERVER{TAG}"
SERVER_SECRET = f"server/secret+{TAG}"
SERVER_TOKEN = f"server-session-token-{TAG}"
ROLE_KEY = f"ASIAROLE{TAG}"
BEARER = f"own-bearer-{TAG}"
FOUNDRY_OWN, FOUNDRY_SERVER = f"own-foundry-{TAG}", f"server-foundry-{TAG}"
GOOGLE_TOKEN = f"metadata-token-{TAG}"
OWN_RSA, SERVER_RSA = RsaKey.new(), RsaKey.new()
OWN_ACCOUNT, SERVER_ACCOUNT = f"own-{TAG}@standin.example", f"server-{TAG}@standin.example"
OWN_GOOGLE = service_account(OWN_ACCOUNT, OWN_RSA)
SERVER_GOOGLE = service_account(SERVER_ACCOUNT, SERVER_RSA)

KNOWN = Known(
    aws_keys={
        OWN_KEYS["accessKeyId"]: AwsKey(OWN_KEYS["secretAccessKey"], OWN_KEYS["sessionToken"]),
        SERVER_KEY: AwsKey(SERVER_SECRET, SERVER_TOKEN),
        ROLE_KEY: AwsKey(f"role-secret-{TAG}", f"role-token-{TAG}"),
    },
    bearer_tokens=frozenset({BEARER}),
    google_keys={OWN_ACCOUNT: OWN_RSA, SERVER_ACCOUNT: SERVER_RSA},
    foundry_keys=frozenset({FOUNDRY_OWN, FOUNDRY_SERVER}),
    role=ROLE_KEY,
    google_token=GOOGLE_TOKEN,
)
SECRETS = (
    OWN_KEYS["accessKeyId"],
    OWN_KEYS["secretAccessKey"],
    OWN_KEYS["sessionToken"],
    SERVER_KEY,
    SERVER_SECRET,
    SERVER_TOKEN,
    ROLE_KEY,
    f"role-secret-{TAG}",
    BEARER,
    FOUNDRY_OWN,
    FOUNDRY_SERVER,
    GOOGLE_TOKEN,
    json.loads(OWN_GOOGLE)["private_key"][40:90],
    json.loads(SERVER_GOOGLE)["private_key"][40:90],
)
SHOW = (
    "env; cat $AWS_SHARED_CREDENTIALS_FILE $AWS_CONFIG_FILE $GOOGLE_APPLICATION_CREDENTIALS "
    "</dev/null; ls /proc/self/fd/*/ </dev/null; true"
)
SHOWING = "standin: " + json.dumps([{"tool": "Bash", "input": {"command": SHOW}}, {"say": "shown"}])
LIMITED = f'standin: [{{"fail": 429, "reset": {2**31}}}]'
LIMIT_ENDS = "2038-01-19T03:14:08Z"


@pytest.fixture
def cloud() -> Iterator[CloudStandin]:
    with CloudStandin(KNOWN, host="0.0.0.0") as running:
        yield running


@pytest.fixture
def environ(cloud: CloudStandin, environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A server that has credentials for every cloud."""
    google = tmp_path / "google.json"
    google.write_text(SERVER_GOOGLE)
    address = f"http://127.0.0.1:{cloud.port}"
    return {
        **environ,
        "AWS_REGION": "eu-server-1",
        "AWS_ACCESS_KEY_ID": SERVER_KEY,
        "AWS_SECRET_ACCESS_KEY": SERVER_SECRET,
        "AWS_SESSION_TOKEN": SERVER_TOKEN,
        "ANTHROPIC_BEDROCK_BASE_URL": address,
        "CLOUD_ML_REGION": "eu-server-2",
        "ANTHROPIC_VERTEX_PROJECT_ID": "the-server-s",
        "GOOGLE_APPLICATION_CREDENTIALS": str(google),
        "ANTHROPIC_VERTEX_BASE_URL": f"{address}/v1",
        "ANTHROPIC_FOUNDRY_API_KEY": FOUNDRY_SERVER,
        "ANTHROPIC_FOUNDRY_BASE_URL": f"{address}/anthropic",
    }


@dataclass(frozen=True)
class Case:
    asked: ProviderRequest
    proof: Callable[[Request], str]
    """Whose request it is, and where it went."""
    expected: str


def aws(request: Request) -> str:
    """Key id and region that signed a request."""
    scheme, _, rest = request.headers["authorization"].partition(" ")
    scope = rest.split(",")[0].removeprefix("Credential=").split("/")
    return rest if scheme == "Bearer" else f"{scope[0]} {scope[2]}"


def google(request: Request) -> str:
    token = request.headers["authorization"].removeprefix("Bearer ")
    _, _, _, project, _, region, *_ = request.path.split("/")
    return f"{google_account(token) or token} {project} {region}"


def foundry(request: Request) -> str:
    return request.headers.get("api-key") or request.headers["x-api-key"]


def asked(provider: str, **options: str) -> ProviderRequest:
    return ProviderRequest(provider, options)


CASES = {
    "bedrock, its own keys": Case(
        asked("bedrock", **OWN_KEYS), aws, f"{OWN_KEYS['accessKeyId']} ap-own-1"
    ),
    "bedrock, its own bearer token": Case(
        asked("bedrock", bearerToken=BEARER, model="a.model-of-my-own"), aws, BEARER
    ),
    "bedrock, the server's keys": Case(
        ProviderRequest(use_bedrock=True, arguments={"awsRegion": "us-own-2"}),
        aws,
        f"{SERVER_KEY} us-own-2",
    ),
    "vertex, its own account": Case(
        asked("vertex", credentials=OWN_GOOGLE, projectId="mine", region="global"),
        google,
        f"{OWN_ACCOUNT} mine global",
    ),
    "vertex, the server's account": Case(
        asked("vertex"), google, f"{SERVER_ACCOUNT} the-server-s eu-server-2"
    ),
    "foundry, its own key": Case(asked("foundry", apiKey=FOUNDRY_OWN), foundry, FOUNDRY_OWN),
    "foundry, the server's key": Case(asked("foundry"), foundry, FOUNDRY_SERVER),
}


def model_calls(standin: Standin) -> list[Request]:
    return [each for each in standin.requests if each.method == "POST" and each.prompts]


async def prompt(sessions: Sessions, name: str, text: str = "hello") -> TurnResult:
    turn = await turns.prompt(await sessions.open(name), text)
    assert (turn.status, turn.error) == (TurnStatus.COMPLETED, None)
    return turn


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_request_is_signed_with_the_right_credential_that_no_command_sees(
    case: Case,
    cloud: CloudStandin,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
) -> None:
    with ArgvSampler(*SECRETS) as sampler:
        async with open_sessions(load(environ, engine=engine.program)) as sessions:
            request = CreateRequest(str(project), session_name=name, provider=case.asked)
            created = await create(sessions, request)
            await prompt(sessions, name, SHOWING)
            shell = await commands.run(await sessions.open(name), SHOW)
            inspected = bare("inspect", created.session.container_id)
            _, log = await commands.logs(await sessions.open(name))
            await sessions.destroy(name)
    calls = model_calls(cloud)
    assert {case.proof(each) for each in calls} == {case.expected}
    models = {each.model for each in calls}
    own_model = case.asked.options.get("model")
    assert models == {own_model} if own_model else all(models)
    [bash] = calls[-1].tool_results
    assert "CLAUDECODE=1" in bash
    for where, text in {
        "Claude's Bash": bash,
        "a command": shell.stdout + shell.stderr,
        "inspect": inspected,
        "log": "\n".join(log),
        "created": repr(created) + repr(request),
    }.items():
        assert [each for each in SECRETS if each in text] == [], where
    assert sampler.rounds > 5
    assert sampler.found == set()


async def test_two_sessions_at_once_use_each_its_own(
    cloud: CloudStandin,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
) -> None:
    other = f"{name}-other"
    async with open_sessions(load(environ, engine=engine.program)) as sessions:

        async def use(called: str, case: Case) -> None:
            request = CreateRequest(str(project), session_name=called, provider=case.asked)
            await create(sessions, request)
            for number in range(3):
                await prompt(sessions, called, f"{called}: {number}")

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(use, name, CASES["bedrock, its own keys"])
                tasks.start_soon(use, other, CASES["bedrock, the server's keys"])
        finally:
            for each in (name, other):
                bare.remove_all(each)
    signed = {
        (each.prompts[-1].partition(":")[0], aws(each))
        for each in model_calls(cloud)
        if each.prompts[-1].startswith(name)
    }
    assert signed == {
        (name, f"{OWN_KEYS['accessKeyId']} ap-own-1"),
        (other, f"{SERVER_KEY} us-own-2"),
    }


async def test_a_profile_of_the_host_is_used_without_its_files(
    cloud: CloudStandin,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
    tmp_path: Path,
    bare: Bare,
) -> None:
    own = OWN_KEYS
    file = tmp_path / "aws-credentials"
    file.write_text(
        f"[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = other\n"
        f"[work]\naws_access_key_id = {own['accessKeyId']}\n"
        f"aws_secret_access_key = {own['secretAccessKey']}\n"
        f"aws_session_token = {own['sessionToken']}\n"
    )
    config = tmp_path / "aws-config"
    config.write_text("[profile work]\nregion = eu-profile-1\n")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        del environ[variable]
    del environ["AWS_REGION"]
    environ |= {
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "AWS_PROFILE": "work",
        "AWS_SHARED_CREDENTIALS_FILE": str(file),
        "AWS_CONFIG_FILE": str(config),
    }
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        await prompt(sessions, name)
        inspected = bare("inspect", created.session.container_id)
        await sessions.destroy(name)
    assert created.session.provider == "bedrock"
    assert {aws(each) for each in model_calls(cloud)} == {f"{own['accessKeyId']} eu-profile-1"}
    assert str(file) not in inspected


def without(environ: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}


async def test_the_role_of_the_machine_is_asked_of_its_metadata_service(
    cloud: CloudStandin,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
) -> None:
    environ = without(environ, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{cloud.port}"
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        request = CreateRequest(str(project), session_name=name, provider=asked("bedrock"))
        created = await create(sessions, request)
        await prompt(sessions, name)
        await sessions.destroy(name)
    assert created.warnings[0].startswith("No AWS credentials were given")
    assert {aws(each) for each in model_calls(cloud)} == {f"{ROLE_KEY} eu-server-1"}


async def test_the_account_of_the_machine_is_asked_of_its_metadata_service(
    cloud: CloudStandin,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
) -> None:
    environ = without(environ, "GOOGLE_APPLICATION_CREDENTIALS")
    environ["GCE_METADATA_HOST"] = f"127.0.0.1:{cloud.port}"
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        request = CreateRequest(str(project), session_name=name, provider=asked("vertex"))
        await create(sessions, request)
        await prompt(sessions, name)
        await sessions.destroy(name)
    expected = f"{GOOGLE_TOKEN} the-server-s eu-server-2"
    assert {google(each) for each in model_calls(cloud)} == {expected}


async def test_after_a_restart_the_servers_credentials_go_to_the_sessions_own_place(
    cloud: CloudStandin,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
) -> None:
    environ["CLAUDE_CODE_USE_VERTEX"] = "1"  # another provider than the session's
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        request = CreateRequest(
            str(project), session_name=name, provider=CASES["bedrock, the server's keys"].asked
        )
        created = await create(sessions, replace(request, model="a.model"))
        bare("restart", "--time=1", created.session.container_id)
        turn = await prompt(sessions, name)
        await sessions.destroy(name)
    assert turn.result == "ok: hello"
    assert {(aws(each), each.model) for each in model_calls(cloud)} == {
        (f"{SERVER_KEY} us-own-2", "a.model")
    }


HELPERS = ("awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh", "apiKeyHelper")


@pytest.mark.parametrize("name_of_case", [each for each in CASES if "its own" in each])
async def test_a_projects_settings_move_neither_the_requests_nor_the_credentials(
    name_of_case: str,
    cloud: CloudStandin,
    standin: Standin,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
) -> None:
    elsewhere = f"http://{engine.dialect.host_alias}:{standin.port}"
    variables = {
        **dict.fromkeys(
            (
                "ANTHROPIC_BEDROCK_BASE_URL",
                "ANTHROPIC_VERTEX_BASE_URL",
                "ANTHROPIC_FOUNDRY_BASE_URL",
                "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
                "HTTP_PROXY",
            ),
            elsewhere,
        ),
        **dict.fromkeys(("AWS_REGION", "CLOUD_ML_REGION"), "elsewhere-1"),
        **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"), "other"),
        "ANTHROPIC_VERTEX_PROJECT_ID": "another",
    }
    helpers = {each: f"touch /workspace/{each}-ran" for each in HELPERS}
    (project / ".claude").mkdir()
    settings = project / ".claude" / "settings.json"
    settings.write_text(json.dumps({**helpers, "env": variables}))
    case = CASES[name_of_case]
    before = standin.count
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        request = CreateRequest(str(project), session_name=name, provider=case.asked)
        await create(sessions, request)
        await prompt(sessions, name)
        await sessions.destroy(name)
    assert {case.proof(each) for each in model_calls(cloud)} == {case.expected}
    assert standin.since(before) == ()
    assert sorted(each.name for each in project.iterdir()) == [".claude"]


@pytest.mark.parametrize("kind", ["apiKey", "authToken", "oauthToken"])
async def test_a_session_has_a_gateway_of_its_own_with_a_credential_of_its_own(
    kind: str, standin: Standin, engine: Engine, environ: dict[str, str], project: Path, name: str
) -> None:
    sentinel = f"own-{kind}-{TAG}"
    environ |= {"ANTHROPIC_BASE_URL": "http://192.0.2.1:1", "CLAUDE_CODE_USE_BEDROCK": "1"}
    options = {kind: sentinel, "baseUrl": f"http://127.0.0.1:{standin.port}"}
    before = standin.count
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        provider = ProviderRequest("anthropic", options)
        await create(sessions, CreateRequest(str(project), session_name=name, provider=provider))
        if kind == "oauthToken":  # only a subscription has a usage limit with an end
            limited = await turns.prompt(await sessions.open(name), LIMITED)
            assert (limited.status, limited.retry_at) == (TurnStatus.FAILED, LIMIT_ENDS)
        await prompt(sessions, name, SHOWING)
        shell = await commands.run(await sessions.open(name), SHOW)
        await sessions.destroy(name)
    calls = [each for each in standin.since(before) if each.prompts]
    header = "x-api-key" if kind == "apiKey" else "authorization"
    expected = sentinel if kind == "apiKey" else f"Bearer {sentinel}"
    assert {each.headers.get(header) for each in calls} == {expected}
    [bash] = calls[-1].tool_results
    assert "CLAUDECODE=1" in bash
    assert sentinel not in bash + shell.stdout + shell.stderr


async def test_a_turn_that_the_provider_refuses_says_why_while_it_runs(
    sessions: Sessions, project: Path, name: str
) -> None:
    wrong = {**OWN_KEYS, "accessKeyId": "AKIANOBODYKNOWS"}
    request = CreateRequest(str(project), session_name=name, provider=asked("bedrock", **wrong))
    await create(sessions, request)
    running = await turns.prompt(await sessions.open(name), "hello", wait_seconds=0)
    refused = "HTTP 403, no known credential signs this request"
    with anyio.fail_after(60):
        while not running.notes:
            running = await turns.follow(
                await sessions.open(name), cursor=running.cursor, wait_seconds=5
            )
    assert running.status is TurnStatus.RUNNING
    (note,) = running.notes
    assert f"The provider fails: {refused}. Retry " in note
    assert "the turn ends within about " in note
    read = await turns.follow(await sessions.open(name), cursor=0, wait_seconds=0)
    retries = [event.text for event in read.events if event.kind == "api_retry"]
    assert retries[0].startswith("API retry 1 of 10")
    assert retries[0].endswith(f": {refused}")
    await turns.interrupt(await sessions.open(name))


async def test_custom_headers_reach_the_gateway_and_no_command(
    standin: Standin, engine: Engine, environ: dict[str, str], project: Path, name: str, bare: Bare
) -> None:
    token = f"gateway-{TAG}"
    environ |= {"ANTHROPIC_CUSTOM_HEADERS": f"X-Gateway-Token: {token}\nX-Team: blue"}
    before = standin.count
    with ArgvSampler(token) as sampler:
        async with open_sessions(load(environ, engine=engine.program)) as sessions:
            created = await create(sessions, CreateRequest(str(project), session_name=name))
            await prompt(sessions, name, SHOWING)
            shell = await commands.run(await sessions.open(name), SHOW)
            inspected = bare("inspect", created.session.container_id)
            _, log = await commands.logs(await sessions.open(name))
            await sessions.destroy(name)
    calls = [each for each in standin.since(before) if each.prompts]
    assert {each.headers.get("x-gateway-token") for each in calls} == {token}
    [bash] = calls[-1].tool_results
    assert "CLAUDECODE=1" in bash
    assert token not in bash + shell.stdout + shell.stderr + inspected + "".join(log)
    assert sampler.found == set()


async def test_a_gateway_where_nothing_answers_is_told_of_at_once(
    config: Config, project: Path, name: str
) -> None:
    """Claude Code would try it again for three minutes."""
    # Nothing listens on port 9 of this machine, as seen from a container.
    nowhere = replace(config, base_url=f"http://{own_address()}:9")
    async with open_sessions(nowhere) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        (warning,) = [each for each in created.warnings if "Nothing answers at" in each]
        assert "Connection refused" in warning
        await sessions.destroy(created.session.id)

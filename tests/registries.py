"""Package registries of one tiny package each, for sessions that reach the world through a proxy.

Static files on one server over HTTP and over HTTPS: an index for pip and uv, a registry for npm, a
repository for apt, one for git, a file for curl. The rule: what is served differs from run to run,
and a command that did not end up with just that fails.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import io
import json
import os
import random
import secrets
import shlex
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

NAMES = (
    "pypi.example.org",
    "npm.example.org",
    "apt.example.org",
    "git.example.org",
    "files.example.org",
)
TOOLS = ("pip", "uv", "npm", "apt", "apt-https", "git", "curl", "curl-http")
_DEB_PACKAGES = ("sample", "sample-data", "sample-doc")
"""Several, as apt asks for the next before it has the one before."""
_OPENSSL_CONFIG = """\
[req]
prompt = no
distinguished_name = name
[name]
CN = Test registries
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class Request(NamedTuple):
    """What arrived; `host` is the header, with its port."""

    host: str
    method: str
    path: str


class _Handler(SimpleHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        self.server.requests.append(Request(self.headers["host"] or "", self.command, self.path))
        return True

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(
        self, served: Path, requests: list[Request], tls: ssl.SSLContext | None = None
    ) -> None:
        self._served = served
        self.requests = requests
        super().__init__(("0.0.0.0", 0), _Handler)
        if tls is not None:
            # The handshake is left to the thread of its connection: who is silent holds up nobody.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def finish_request(self, request: Any, client_address: Any) -> None:
        _Handler(request, client_address, self, directory=str(self._served))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or does not like the certificate is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Registries:
    """`with Registries(tmp_path) as registries: ... registries.commands("/workspace/ca.pem")`.

    `names` are the hosts of pip and uv, npm, apt, git and curl, in this order; the certificate is
    good for any further ones too. curl's file has `size` bytes.
    """

    def __init__(
        self, directory: Path, names: Sequence[str] = NAMES, *, size: int = 1_000_000
    ) -> None:
        self._names = names
        self._served = directory / "served"
        self._served.mkdir(parents=True)
        self.ca = directory / "ca.pem"
        self.text = secrets.token_hex(16)
        """What each package holds."""
        self.requests: list[Request] = []
        """What arrived, oldest first; the servers' threads append to it."""
        self._write_git_repository()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*_make_certificates(directory, names))
        self._servers = [
            _Server(self._served, self.requests),
            _Server(self._served, self.requests, tls),
        ]
        self._threads: list[threading.Thread] = []
        self._write_wheel()
        self._write_npm_package()
        self._write_deb_packages()
        self._file_digest = self._write("file", random.Random(self.text).randbytes(size))

    @property
    def http_port(self) -> int:
        return int(self._servers[0].server_address[1])

    @property
    def https_port(self) -> int:
        return int(self._servers[1].server_address[1])

    def __enter__(self) -> Registries:
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def url(self, name: str, path: str, scheme: str = "https") -> str:
        port = self.https_port if scheme == "https" else self.http_port
        return f"{scheme}://{name}:{port}/{path}"

    def commands(self, ca: str) -> dict[str, str]:
        """For each of TOOLS what a shell in a session runs; `ca` is our CA's file in there.

        They write to a new directory in /tmp only, try once, and take the proxy from the variables.
        """
        pypi, npm, _, git, files = self._names[:5]
        ca = shlex.quote(ca)
        fetch = f"curl --silent --show-error --fail --cacert {ca} --output"
        imported = "PYTHONPATH=$d/lib python3 -c 'import sample_package as s; print(s.TEXT)'"
        required = "cd $d && node -p 'require(\"sample-package\")'"
        whole = f'echo "{self._file_digest}  $d/file" | sha256sum --check --quiet'
        # Not every image has pip, and it runs from an archive too. It takes --cert only where the
        # image sets no REQUESTS_CA_BUNDLE.
        steps = {
            "pip": f"""{fetch} $d/pip.zip {self.url(pypi, "pip.zip")} &&
                REQUESTS_CA_BUNDLE={ca} python3 $d/pip.zip/pip install --target $d/lib
                --cert {ca} --retries 0 --no-cache-dir --disable-pip-version-check
                --index-url {self.url(pypi, "simple")} sample_package &&
                {self._is_text(imported)}""",
            "uv": f"""SSL_CERT_FILE={ca} UV_HTTP_RETRIES=0 UV_PYTHON_DOWNLOADS=never
                uv --no-config --cache-dir $d/cache pip install --target $d/lib --python python3
                --index-url {self.url(pypi, "simple")} sample_package &&
                {self._is_text(imported)}""",
            "npm": f"""npm install --prefix $d --cache $d/cache --cafile {ca} --fetch-retries 0
                --no-audit --no-fund --no-update-notifier
                --registry {self.url(npm, "npm/")} sample-package &&
                {self._is_text(required)}""",
            "apt": self._apt(ca, "http"),
            "apt-https": self._apt(ca, "https"),
            "git": f"""git -c http.sslCAInfo={ca} clone --quiet
                {self.url(git, "sample.git")} $d/clone &&
                {self._is_text("cat $d/clone/text")}""",
            "curl": f"""{fetch} $d/file {self.url(files, "file")} &&
                {whole}""",
            "curl-http": f"""{fetch} $d/file {self.url(files, "file", "http")} &&
                {whole}""",
        }
        return {tool: "d=$(mktemp -d) && " + " ".join(steps[tool].split()) for tool in TOOLS}

    def _apt(self, ca: str, scheme: str) -> str:
        """APT::Sandbox::User: root without capabilities cannot become apt's own user."""
        settings = {
            "Dir::State": "$d/state",
            "Dir::State::status": "$d/status",
            "Dir::Cache": "$d/cache",
            "Dir::Etc::sourcelist": "$d/sources.list",
            "Dir::Etc::sourceparts": "-",
            "APT::Sandbox::User": "root",
            "Acquire::https::CAInfo": ca,
            "Acquire::Languages": "none",
            "Acquire::Retries": "0",
        }
        options = " ".join(f"-o {name}={value}" for name, value in settings.items())
        extracted = " && ".join(
            f"dpkg-deb --extract $d/{package}_1.0_all.deb $d/{package}"
            f" && {self._is_text(f'cat $d/{package}/usr/share/{package}')}"
            for package in _DEB_PACKAGES
        )
        source = f"deb [trusted=yes] {self.url(self._names[2], 'apt', scheme)} ./"
        return f"""mkdir -p $d/state/lists/partial $d/cache/archives/partial && : >$d/status &&
            echo "{source}" >$d/sources.list &&
            apt-get {options} update && (cd $d && apt-get {options} download
            {" ".join(_DEB_PACKAGES)}) && {extracted}"""

    def _is_text(self, command: str) -> str:
        return f'test "$({command})" = {self.text}'

    def _write(self, path: str, content: bytes) -> str:
        """The SHA-256 of what is written."""
        target = self._served / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def _write_wheel(self) -> None:
        info = "sample_package-1.0.dist-info"
        files = {
            "sample_package/__init__.py": f'TEXT = "{self.text}"\n',
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: sample-package\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\n"
            "Tag: py3-none-any\n",
        }
        record = ""
        for name, text in files.items():
            hashed = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
            record += f"{name},sha256={hashed.rstrip('=')},{len(text)}\n"
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as wheel:
            for name, text in files.items():
                wheel.writestr(name, text)
        name = "sample_package-1.0-py3-none-any.whl"
        digest = self._write(f"simple/sample-package/{name}", content.getvalue())
        page = f'<!DOCTYPE html><a href="{name}#sha256={digest}">{name}</a>'
        self._write("simple/sample-package/index.html", page.encode())
        self._write("pip.zip", _pip_archive())

    def _write_npm_package(self) -> None:
        package: dict[str, Any] = {"name": "sample-package", "version": "1.0.0", "main": "main.js"}
        files = {
            "package/package.json": json.dumps(package).encode(),
            "package/main.js": f'module.exports = "{self.text}";\n'.encode(),
        }
        tarball = _tar_gz(files)
        path = "npm/-/sample-package-1.0.0.tgz"
        self._write(path, tarball)
        integrity = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
        package["dist"] = {
            "tarball": self.url(self._names[1], path),
            "integrity": f"sha512-{integrity}",
            "shasum": hashlib.sha1(tarball).hexdigest(),
        }
        document = {
            "name": "sample-package",
            "dist-tags": {"latest": "1.0.0"},
            "versions": {"1.0.0": package},
        }
        self._write("npm/sample-package", json.dumps(document).encode())

    def _write_deb_packages(self) -> None:
        """A flat repository: `deb [trusted=yes] http://HOST:PORT/apt ./`."""
        index = ""
        for name in _DEB_PACKAGES:
            control = (
                f"Package: {name}\nVersion: 1.0\nArchitecture: all\n"
                "Maintainer: A Tester <tester@example.org>\nDescription: a sample\n"
            )
            deb = _ar(
                {
                    "debian-binary": b"2.0\n",
                    "control.tar.gz": _tar_gz({"./control": control.encode()}),
                    "data.tar.gz": _tar_gz({f"./usr/share/{name}": f"{self.text}\n".encode()}),
                }
            )
            file = f"{name}_1.0_all.deb"
            digest = self._write(f"apt/{file}", deb)
            index += f"{control}Filename: ./{file}\nSize: {len(deb)}\nSHA256: {digest}\n\n"
        digest = self._write("apt/Packages", index.encode())
        release = (
            f"Suite: stable\nDate: {formatdate(usegmt=True)}\nArchitectures: all\n"
            f"SHA256:\n {digest} {len(index)} Packages\n"
        )
        self._write("apt/Release", release.encode())

    def _write_git_repository(self) -> None:
        """For the protocol that needs nothing but files."""
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        repository = str(self._served / "sample.git")
        history = (
            "commit refs/heads/main\n"
            "committer A Tester <tester@example.org> 1700000000 +0000\n"
            "data 5\nFirst\n"
            f"M 100644 inline text\ndata {len(self.text)}\n{self.text}\n"
        )
        _run("git", "init", "--quiet", "--bare", "--template=", repository, environ=environ)
        git = ("git", "--git-dir", repository)
        _run(*git, "symbolic-ref", "HEAD", "refs/heads/main", environ=environ)
        _run(*git, "fast-import", "--quiet", stdin=history, environ=environ)
        _run(*git, "update-server-info", environ=environ)


def _make_certificates(directory: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """A CA in ca.pem, and the certificate and the key of a server with these names."""
    config, request = directory / "openssl.cnf", directory / "server.csr"
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    certificate, key = directory / "server.pem", directory / "server.key"
    config.write_text(_OPENSSL_CONFIG.format(names=", ".join(f"DNS:{name}" for name in names)))
    for path in (ca_key, key):
        _run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-out", path)  # fmt: skip
    _run("openssl", "req", "-new", "-x509", "-config", config, "-extensions", "ca", "-key", ca_key,
         "-days", "2", "-out", ca)  # fmt: skip
    _run("openssl", "req", "-new", "-config", config, "-subj", "/CN=server", "-key", key,
         "-out", request)  # fmt: skip
    _run("openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key,
         "-set_serial", str(secrets.randbits(63)), "-extfile", config, "-extensions", "server",
         "-days", "2", "-out", certificate)  # fmt: skip
    ca.chmod(0o644)
    return certificate, key


def _run(*argv: str | Path, stdin: str = "", environ: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        argv, input=stdin, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stderr}"


def _pip_archive() -> bytes:
    """The pip of the test environment, as `python3 pip.zip/pip` runs it."""
    found = importlib.util.find_spec("pip")
    assert found is not None, "the test environment has no pip"
    assert found.origin is not None
    package = Path(found.origin).parent
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", strict_timestamps=False) as archive:
        for path in sorted(package.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                archive.write(path, path.relative_to(package.parent))
    return content.getvalue()


def _tar_gz(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(content.getvalue())


def _ar(members: Mapping[str, bytes]) -> bytes:
    content = b"!<arch>\n"
    for name, data in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
        content += header.encode() + data + b"\n" * (len(data) % 2)
    return content

# shellcheck shell=bash
# Sourced by the scripts beside it: talk, packages, engines, the Python environment.
# Whoever sources it has `set -euo pipefail` on. It runs with the Bash 3.2 of macOS too.

# shellcheck disable=SC2034  # used by the scripts that source this
readonly TEST_USER=claude-mcp-test
# shellcheck disable=SC2034
readonly DEFAULT_IMAGE="${DEFAULT_CLAUDE_IMAGE:-claude-code-custom:latest}"

say() { printf '%s\n' "${SAY_MARK:-}$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# usage_of SCRIPT: the comment at its top, from the second line to the first that is no comment
usage_of() { sed -n '2,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p;}' "$1"; }

has() { command -v "$1" >/dev/null 2>&1; }

is_debian() { has apt-get && grep -Eqs '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release; }

is_root() { [ "$(id -u)" = 0 ]; }

# bounded SECONDS COMMAND...: without coreutils' timeout, as on macOS, there is no bound
bounded() {
    if has timeout; then timeout "$@"; else "${@:2}"; fi
}

checksum() {
    if has sha256sum; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1
}

# install_packages WHY PACKAGE...: installs Debian packages, or fails and says which are missing.
# NO_INSTALL=1 declines.
install_packages() {
    local why="$1"
    shift
    if ! is_debian; then
        fail "$why, and this is neither Debian nor Ubuntu. Install what they call: $*."
    elif ! is_root || [ -n "${NO_INSTALL:-}" ]; then
        fail "$why. Install it with: sudo apt-get install $*"
    fi
    say "$why: installing $*"
    local log
    log="$(mktemp)"
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; } </dev/null >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install them: see above."
    fi
    rm -f "$log"
}

# fetch_packages RELEASE DIRECTORY PACKAGE...: downloads packages of a Debian release, whatever this
# machine's own is, without a dpkg that knows of them; src:PACKAGE is a source
fetch_packages() {
    local release="$1" directory="$2" apt package packages=() sources=() options
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    shift 2
    for package in "$@"; do
        case "$package" in
            src:*) sources+=("${package#src:}") ;;
            *) packages+=("$package") ;;
        esac
    done
    [ -e "$keys" ] || install_packages "Debian's keys are missing" debian-archive-keyring
    apt="$(mktemp -d)"
    mkdir -p "$directory" "$apt/lists/partial" "$apt/cache/archives/partial"
    for package in deb ${sources[0]+deb-src}; do
        echo "$package [signed-by=$keys] http://deb.debian.org/debian $release main"
    done >"$apt/sources.list"
    options=(-qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=-
        -o Dir::State::Lists="$apt/lists" -o Dir::State::Status=/dev/null -o Dir::Cache="$apt/cache"
        -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User=root)
    (cd "$directory" && apt-get "${options[@]}" update &&
        { [ ${#packages[@]} = 0 ] || apt-get "${options[@]}" download "${packages[@]}"; } &&
        { [ ${#sources[@]} = 0 ] || apt-get "${options[@]}" source --download-only "${sources[@]}"; })
    local code=$?
    rm -rf "$apt"
    return $code
}

check_engine() {
    case "$1" in
        docker | podman) ;;
        *) fail "There is no engine '$1': it is docker or podman." ;;
    esac
}

# answers ENGINE: Docker's daemon, or Podman. A `docker` that is Podman in disguise does not count.
# The bounds are for a machine that is busy: where no daemon is, the answer comes at once.
answers() {
    case "$1" in
        docker) [ -n "$(bounded 60 docker version --format '{{.Server.Version}}' 2>/dev/null)" ] ;;
        podman) bounded 60 podman info >/dev/null 2>&1 ;;
        *) check_engine "$1" ;;
    esac
}

# find_engine: the engine to use, on stdout; nothing and exit code 1 where none answers
find_engine() {
    local engine
    for engine in ${CLAUDE_MCP_ENGINE:-docker podman}; do
        if answers "$engine"; then
            echo "$engine"
            return
        fi
    done
    return 1
}

image_id() { "$1" image inspect --format '{{.Id}}' "$2" 2>/dev/null | sed 's/^sha256://'; }

# as_test_user COMMAND...: as the ordinary user of the rootless tests, without root's own paths
as_test_user() {
    local home uid
    home="$(getent passwd "$TEST_USER" | cut -d: -f6)"
    uid="$(id -u "$TEST_USER")"
    runuser -u "$TEST_USER" -- env -C "$home" -u TMPDIR -u DOCKER_HOST -u CONTAINER_HOST \
        -u XDG_CONFIG_HOME -u XDG_DATA_HOME -u XDG_CACHE_HOME -u PYENV_VERSION -u VIRTUAL_ENV \
        HOME="$home" XDG_RUNTIME_DIR="/run/user/$uid" \
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin "$@"
}

# find_python [RUN_AS...]: a Python that is new enough and can make virtual environments
find_python() {
    local python
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$@" "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null </dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

# ensure_venv CHECKOUT EXTRAS [RUN_AS...]: CHECKOUT/.venv with the project, editable, and EXTRAS
# ("" or "[dev]"). Nothing is done while pyproject.toml stays as it was.
ensure_venv() {
    local checkout="$1" extras="$2"
    shift 2
    local venv="$checkout/.venv" python stamp
    stamp="$(checksum <"$checkout/pyproject.toml")"
    if "$@" "$venv/bin/python" -c '' 2>/dev/null &&
        { grep -qsx "$stamp \[dev\]" "$venv/installed" || grep -qsx "$stamp $extras" "$venv/installed"; }; then
        return
    fi
    if ! "$@" "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        if ! python="$(find_python "$@")"; then
            install_packages "No Python 3.11 or later with venv was found" python3 python3-venv
            python="$(find_python "$@")" ||
                fail "Python 3.11 or later is needed, and this system's packages are older. Put one on PATH."
        fi
        "$@" "$python" -m venv --clear "$venv"
    fi
    say "Installing the project into $venv"
    "$@" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --editable "$checkout$extras" </dev/null ||
        fail "pip could not install the project: see above."
    printf '%s %s\n' "$stamp" "$extras" | "$@" tee "$venv/installed" >/dev/null
}

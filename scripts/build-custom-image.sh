#!/usr/bin/env bash
# Usage: scripts/build-custom-image.sh [options]
#
# Builds the session image from Dockerfile.custom. Nothing is done when it is there already, built
# from the same Dockerfile and base with the same settings.
#
#   --engine docker|podman  build with this one (default: CLAUDE_MCP_ENGINE, else Docker if its
#                           daemon answers, else Podman)
#   --target session|server build the session image (default), or the image of the MCP server
#   --tag NAME              the image's name (default: DEFAULT_CLAUDE_IMAGE, else
#                           claude-code-custom:latest; for the server claude-mcp-server:latest)
#   --extra-ca FILE         trust these certificates (PEM) too, in the build and in the image; may
#                           be given again (default: EXTRA_CA_CERTS, file names with colons between;
#                           else those that this machine's administrator added)
#   --if-missing            do nothing if an image of that name is there, however it was made
#   --rebuild               pull the base again and build without cache
#   --no-cache              build without cache
#   --no-install            do not install packages
#   --verbose               show all that the engine says
#
# Environment: BASE_IMAGE (default: docker.io/library/debian:bookworm-slim, and where no registry
# answers, a base made from Debian's packages), CLAUDE_CODE_VERSION, NPM_REGISTRY, PYPI_INDEX (no
# credentials: they would stay readable in the image's history), APT_OPTIONS for apt-get,
# SOURCE_DATE_EPOCH (the time of all files, for the same layers), and the usual proxy variables.
set -euo pipefail
caller_directory="$PWD"
cd "$(dirname "$0")/.."
# shellcheck source=scripts/setup.sh
. scripts/setup.sh

readonly DOCKERFILE=Dockerfile.custom
readonly PUBLIC_BASE=docker.io/library/debian:bookworm-slim
readonly OWN_BASE=localhost/claude-mcp-base:bookworm
readonly FINGERPRINT=claude-mcp.build
readonly PULL_SECONDS=120

tag="" target=session
engine="" if_missing="" rebuild="" no_cache="" verbose=""
certificates=()

while [ $# -gt 0 ]; do
    case "$1" in
        --engine | --tag | --target | --extra-ca) [ $# -gt 1 ] || fail "$1 needs a value. See --help." ;;
    esac
    case "$1" in
        --engine) engine="$2" && shift ;;
        --tag) tag="$2" && shift ;;
        --target) target="$2" && shift ;;
        --extra-ca)
            case "$2" in
                /*) certificates+=("$2") ;;
                *) certificates+=("$caller_directory/$2") ;;
            esac
            shift
            ;;
        --if-missing) if_missing=1 ;;
        --rebuild) rebuild=1 no_cache=1 ;;
        --no-cache) no_cache=1 ;;
        --no-install) export NO_INSTALL=1 ;;
        --verbose) verbose=1 ;;
        -h | --help) usage_of scripts/build-custom-image.sh && exit ;;
        *) fail "'$1' is no option of this script. See --help." ;;
    esac
    shift
done

case "$target" in
    session) : "${tag:=$DEFAULT_IMAGE}" ;;
    server) : "${tag:=claude-mcp-server:latest}" ;;
    *) fail "There is no target '$target': it is session or server." ;;
esac
# In a checkout the package lies here; an installed one contains this script.
package=claude_mcp
[ -d "$package" ] || package=..

# The package without what was compiled, as the directory claude_mcp of an archive. The names of its
# files decide about the order, so that the same files give the same layer.
pack() {
    context="$(mktemp -d)"
    mkdir "$context/claude_mcp"
    (cd "$package" && find . -type d -name __pycache__ -prune -o -type f -print -o -type l -print) |
        LC_ALL=C sort | tar -C "$package" -chf - -T - | tar -C "$context/claude_mcp" -xf -
    cp "$DOCKERFILE" "$context/Dockerfile"
}

choose_engine() {
    if [ -z "$engine" ]; then
        [ -z "${CLAUDE_MCP_ENGINE:-}" ] || check_engine "$CLAUDE_MCP_ENGINE"
        engine="$(find_engine)" ||
            fail "No container engine answers: tried ${CLAUDE_MCP_ENGINE:-docker and podman}. Start Docker, or install Podman."
    else
        answers "$engine" || fail "$engine does not answer: try '$engine version'."
    fi
}

# Sets certificates to the files to hand in.
find_certificates() {
    local file
    if [ ${#certificates[@]} = 0 ] && [ -n "${EXTRA_CA_CERTS:-}" ]; then
        IFS=: read -r -a certificates <<<"$EXTRA_CA_CERTS"
    elif [ ${#certificates[@]} = 0 ]; then
        # Where Debian, Fedora and Arch keep what an administrator added.
        for file in /usr/local/share/ca-certificates/*.crt /etc/pki/ca-trust/source/anchors/* \
            /etc/ca-certificates/trust-source/anchors/*; do
            if is_certificate "$file"; then certificates+=("$file"); fi
        done
    fi
    for file in ${certificates[@]+"${certificates[@]}"}; do
        is_certificate "$file" || fail "'$file' is no readable file with a certificate in PEM form."
    done
}

is_certificate() { grep -qs -e '-BEGIN CERTIFICATE-' "$1"; }

certificate_text() {
    [ ${#certificates[@]} = 0 ] ||
        sed -n '/-BEGIN CERTIFICATE-/,/-END CERTIFICATE-/p' "${certificates[@]}"
}

# logged COMMAND...: with --verbose as it is, else to a log of which the end is shown on failure
logged() {
    if [ -n "$verbose" ]; then
        "$@" >&2
        return
    fi
    if "$@" >"$log" 2>&1; then return; fi
    tail -n 25 "$log" >&2
    return 1
}

has_image() { [ -n "$(image_id "$engine" "$1")" ]; }

# Made with this machine's own apt, so it needs no registry.
make_own_base() {
    if ! has mmdebstrap; then
        install_packages "A base image is made here with mmdebstrap, which is missing" \
            mmdebstrap debian-archive-keyring
    fi
    say "Making $OWN_BASE from Debian's packages (about a minute)"
    import_own_base() {
        # Packages come without documents, but with their licences.
        mmdebstrap --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' \
            --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            bookworm - | "$engine" import --change 'CMD ["bash"]' - "$OWN_BASE"
    }
    if ! logged import_own_base; then
        "$engine" image rm "$OWN_BASE" >/dev/null 2>&1 || true
        fail "The base image could not be made: see above. Or name one that is there with BASE_IMAGE."
    fi
}

# Sets base_image to one that is there.
find_base() {
    base_image="${BASE_IMAGE:-$PUBLIC_BASE}"
    if [ -z "$rebuild" ] && has_image "$base_image"; then return; fi
    if [ -z "${BASE_IMAGE:-}" ] && [ -z "$rebuild" ] && has_image "$OWN_BASE"; then
        base_image="$OWN_BASE"
        return
    fi
    say "Pulling $base_image"
    if logged bounded "$PULL_SECONDS" "$engine" pull "$base_image"; then return; fi
    if has_image "$base_image"; then
        say "It cannot be pulled now; using the one that is there."
    elif [ -n "${BASE_IMAGE:-}" ]; then
        fail "BASE_IMAGE=$BASE_IMAGE cannot be pulled (within $PULL_SECONDS s) and is not there."
    else
        say "It cannot be pulled (within $PULL_SECONDS s)."
        base_image="$OWN_BASE"
        make_own_base
    fi
}

build() {
    local name options=(--build-arg "BASE_IMAGE=$base_image")
    [ -z "$extra_ca" ] || options+=(--build-arg "EXTRA_CA_CERTS=$extra_ca")
    for name in "${settings[@]}"; do
        [ -z "${!name:-}" ] || options+=(--build-arg "$name=${!name}")
    done
    # Without a value they are taken from the environment, and the engine keeps them out of the image.
    for name in http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY; do
        [ -z "${!name:-}" ] || options+=(--build-arg "$name")
        case "${!name:-}" in
            *://localhost[:/]* | *://127.* | *://\[::1\]*) options+=(--network=host) ;;
        esac
    done
    [ -z "$no_cache" ] || options+=(--no-cache)
    # Podman can also give the image itself, and what COPY makes, that time.
    if [ "$engine" = podman ] && [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
        options+=(--timestamp "$SOURCE_DATE_EPOCH")
    fi
    options+=(--label "$FINGERPRINT=$fingerprint" --tag "$tag")
    if [ "$target" = server ]; then
        "$engine" build "${options[@]}" --target server "$context"
    else
        "$engine" build "${options[@]}" - <"$DOCKERFILE"
    fi
}

choose_engine
if [ -n "$if_missing" ] && has_image "$tag"; then
    say "$tag is there ($engine)."
    exit
fi

log="$(mktemp)"
context=""
trap 'rm -rf "$log" "$context"' EXIT
if [ "$target" = server ]; then pack; fi
settings=(CLAUDE_CODE_VERSION NPM_REGISTRY PYPI_INDEX SOURCE_DATE_EPOCH APT_OPTIONS)
find_certificates
extra_ca="$(certificate_text)"
find_base
fingerprint="$({
    cat "$DOCKERFILE"
    [ -z "$context" ] || (cd "$context/claude_mcp" && find . -type f -exec cat {} +)
    echo "$extra_ca"
    image_id "$engine" "$base_image"
    for name in "${settings[@]}"; do echo "${!name:-}"; done
} | checksum)"
if [ -z "$no_cache" ] && [ "$("$engine" image inspect --format "{{index .Config.Labels \"$FINGERPRINT\"}}" "$tag" 2>/dev/null)" = "$fingerprint" ]; then
    say "$tag is there and up to date ($engine)."
    exit
fi

[ -z "$extra_ca" ] || say "Handing in the certificates of ${certificates[*]}"
say "Building $tag with $engine from $base_image (a minute or two; fetches up to 300 MB)"
logged build || fail "The build failed: see above, or all of it with --verbose. If it speaks of a certificate, hand in yours with --extra-ca FILE."
# Left behind: the stage that fetched, and the image that had this name before.
for label in claude-mcp.stage=fetched claude-mcp.stage=server "$FINGERPRINT"; do
    "$engine" image prune --force --filter "label=$label" >/dev/null 2>&1 || true
done
size="$("$engine" image inspect --format '{{.Size}}' "$tag")"
say "$tag is built: $((size / 1000000)) MB, in $SECONDS s."

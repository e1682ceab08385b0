# shellcheck shell=bash
# Sourced by scripts/start-kubernetes after scripts/setup.sh: makes the cluster's programs.
#
# Debian 12 has Kubernetes' client as a package and the whole of it as source, with all that it
# needs; the servers are compiled from that, without a network. Newer servers are in no Debian.

readonly SERVERS="kube-apiserver kube-controller-manager kube-scheduler kubelet"
readonly SERVER_VERSION=v1.20.2
readonly PROGRAM_PACKAGES="containerd runc etcd-server kubernetes-client containernetworking-plugins
    catatonit"
readonly COMPILER_PACKAGES="golang-1.19-go golang-1.19-src"
# The project's newest kubectl; Debian 13.
readonly NEWER_RELEASE=trixie
readonly BUILD_NICENESS=15

unpack() {
    local package
    mkdir -p "$2"
    for package in "$1"/*.deb; do dpkg-deb --extract "$package" "$2"; done
}

# take_programs UNPACKED BIN: what the cluster needs of Debian's packages
take_programs() {
    local program
    mkdir -p "$2/cni"
    for program in containerd containerd-shim-runc-v2 ctr etcd catatonit; do
        cp "$1/usr/bin/$program" "$2/"
    done
    cp "$1/usr/sbin/runc" "$2/"
    mkdir "$2/client" "$2/client-1.20"
    cp "$1/usr/bin/kubectl" "$2/client-1.20/"
    for program in bridge host-local loopback; do cp "$1/usr/lib/cni/$program" "$2/cni/"; done
}

# go_in SOURCE COMMAND...: with Debian's compiler, in the layout that such old sources need, offline
go_in() {
    local source="$1"
    shift
    env -C "$source" PATH="$build/unpacked/usr/lib/go-1.19/bin:$PATH" \
        GOROOT="$build/unpacked/usr/lib/go-1.19" GOPATH="$build/path" GOCACHE="$build/compiled" \
        GOTMPDIR="$build" GO111MODULE=off GOPROXY=off GOFLAGS= CGO_ENABLED=0 \
        nice -n "$BUILD_NICENESS" "$@"
}

# generate_openapi SOURCE: the one file that a release generates and the source lacks
generate_openapi() {
    local directories
    go_in "$1" go build -o "$build/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
    directories="$(cd "$1" && grep -rl --include='*.go' '+k8s:openapi-gen=' staging/src/k8s.io pkg cmd plugin |
        grep -v -e /code-generator/ -e /sample-apiserver/ | xargs -n1 dirname | sort -u |
        grep -v '/openapi$' | sed -e 's#^staging/src/#vendor/#' -e 's#^#k8s.io/kubernetes/#' | paste -sd,)"
    go_in "$1" "$build/openapi-gen" --input-dirs "$directories" --output-file-base zz_generated.openapi \
        --output-package k8s.io/kubernetes/pkg/generated/openapi --report-filename "$build/report" \
        --go-header-file hack/boilerplate/boilerplate.generatego.txt
}

# compile_servers SOURCE BIN: without what belongs to clouds and to Docker
compile_servers() {
    local server place flags="-s -w" started
    for place in component-base/version client-go/pkg/version; do
        place="k8s.io/kubernetes/vendor/k8s.io/$place"
        flags+=" -X $place.gitVersion=$SERVER_VERSION -X $place.gitMajor=1 -X $place.gitMinor=20"
    done
    for server in $SERVERS; do
        started=$SECONDS
        go_in "$1" go build -trimpath -tags 'providerless dockerless' -ldflags "$flags" \
            -o "$2/$server" "./cmd/$server"
        say "Compiled $server in $((SECONDS - started)) s"
    done
}

# build_cluster BIN: some minutes, and 2.5 GB beside it meanwhile
build_cluster() {
    local bin="$1" build="$1.build" source started=$SECONDS
    rm -rf "$bin" "$build"
    mkdir -p "$bin" "$build/path/src/k8s.io"
    say "Fetching the sources of Kubernetes $SERVER_VERSION and Debian's compiler"
    # shellcheck disable=SC2086  # one word for each package
    fetch_packages bookworm "$build/packages" src:kubernetes $PROGRAM_PACKAGES $COMPILER_PACKAGES ||
        fail "The packages could not be fetched: see above."
    fetch_packages "$NEWER_RELEASE" "$build/newer" kubectl ||
        fail "The newer kubectl could not be fetched: see above."
    unpack "$build/packages" "$build/unpacked"
    take_programs "$build/unpacked" "$bin"
    unpack "$build/newer" "$build/newer/unpacked"
    cp "$build/newer/unpacked/usr/bin/kubectl" "$bin/client/"
    source="$build/path/src/k8s.io/kubernetes"
    mkdir "$source"
    tar --extract --directory "$source" --strip-components=1 --file "$build"/packages/kubernetes_*.orig.tar.gz
    generate_openapi "$source"
    compile_servers "$source" "$bin"
    # Go makes what it unpacks read-only.
    chmod -R u+w "$build"
    rm -rf "$build"
    say "Kubernetes is built, in $((SECONDS - started)) s"
}

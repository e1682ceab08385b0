# shellcheck shell=bash
# Sourced by scripts/start-kubernetes: writes the cluster's certificates and settings to $STATE.

readonly KEY_DAYS=30
readonly PAUSE_IMAGE=registry.invalid/pause:1

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# sign NAME SUBJECT USAGE [ADDRESSES]
sign() {
    new_key "$1.key"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.request"
    openssl x509 -req -in "$1.request" -CA ca.crt -CAkey ca.key -CAcreateserial -days "$KEY_DAYS" \
        -out "$1.crt" 2>/dev/null -extfile <(
            printf 'extendedKeyUsage=%s\n' "$3"
            [ -z "${4:-}" ] || printf 'subjectAltName=%s\n' "$4"
        )
}

# write_kubeconfig USER [NAMESPACE]: everything is in the one file, so it can be copied
write_kubeconfig() {
    local keys="$STATE/keys"
    (umask 077 && cat >"$STATE/$1.kubeconfig") <<-ENDS
	apiVersion: v1
	kind: Config
	current-context: test
	contexts: [{name: test, context: {cluster: test, user: $1, namespace: ${2:-default}}}]
	clusters:
	- name: test
	  cluster:
	    server: https://127.0.0.1:$API_PORT
	    certificate-authority-data: $(base64 -w0 "$keys/ca.crt")
	users:
	- name: $1
	  user:
	    client-certificate-data: $(base64 -w0 "$keys/$1.crt")
	    client-key-data: $(base64 -w0 "$keys/$1.key")
	ENDS
}

# The API server's certificate is the kubelet's too; both are on this machine.
write_keys() (
    cd "$STATE/keys" || exit
    umask 077
    new_key ca.key
    openssl req -x509 -new -key ca.key -subj /CN=claude-mcp-test -days "$KEY_DAYS" -out ca.crt
    openssl genrsa -out accounts.key 2048 2>/dev/null
    sign server /CN=server serverAuth IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc
    sign admin /O=system:masters/CN=admin clientAuth
    sign kubelet "/O=system:nodes/CN=system:node:$NODE" clientAuth
    sign controllers /CN=system:kube-controller-manager clientAuth
    sign scheduler /CN=system:kube-scheduler clientAuth
    sign sessions /CN=claude-mcp clientAuth
    for user in admin kubelet controllers scheduler; do write_kubeconfig "$user"; done
    write_kubeconfig sessions "$NAMESPACE"
)

# Scores of the kernel's memory killer may not be lowered where root is itself in a container.
write_containerd() {
    cat >"$STATE/containerd.toml" <<-ENDS
	version = 2
	root = "$STATE/containerd"
	state = "/run/containerd/state"
	disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
	    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
	[grpc]
	address = "/run/containerd.sock"
	[plugins."io.containerd.grpc.v1.cri"]
	sandbox_image = "$PAUSE_IMAGE"
	restrict_oom_score_adj = true
	stream_server_address = "127.0.0.1"
	stream_server_port = "0"
	[plugins."io.containerd.grpc.v1.cri".cni]
	bin_dir = "$BIN/cni"
	conf_dir = "$STATE/network"
	[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
	runtime_type = "io.containerd.runc.v2"
	[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
	SystemdCgroup = false
	ENDS
}

# Images cannot be pulled again, so none is ever collected.
write_kubelet() {
    cat >"$STATE/kubelet.yaml" <<-ENDS
	apiVersion: kubelet.config.k8s.io/v1beta1
	kind: KubeletConfiguration
	address: 127.0.0.1
	healthzPort: 0
	authentication:
	  anonymous: {enabled: false}
	  webhook: {enabled: false}
	  x509: {clientCAFile: $STATE/keys/ca.crt}
	authorization: {mode: AlwaysAllow}
	cgroupDriver: cgroupfs
	oomScoreAdj: 0
	failSwapOn: false
	makeIPTablesUtilChains: false
	enforceNodeAllocatable: [pods]
	imageGCHighThresholdPercent: 100
	imageGCLowThresholdPercent: 99
	evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
	syncFrequency: 10s
	nodeStatusUpdateFrequency: 2s
	clusterDNS: []
	resolvConf: ""
	ENDS
}

# No masquerade: that would need the firewall.
write_network() {
    mkdir -p "$STATE/network"
    cat >"$STATE/network/pods.conflist" <<-ENDS
	{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "$BRIDGE",
	  "isGateway": true, "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "$STATE/addresses",
	  "ranges": [[{"subnet": "${GATEWAY%.*}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
	ENDS
}

# The image of the container that holds a pod's namespaces: catatonit alone, a static program.
write_pause() {
    local image="$STATE/pause" layer
    mkdir "$image"
    tar --create --file "$image/layer.tar" --directory "$BIN" --owner=0 --group=0 catatonit
    layer="$(checksum <"$image/layer.tar")"
    printf '{"architecture": "%s", "os": "linux", "config": {"Entrypoint": ["/catatonit", "-P"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:%s"]}}' \
        "$(dpkg --print-architecture)" "$layer" >"$image/config.json"
    printf '[{"Config": "config.json", "RepoTags": ["%s"], "Layers": ["layer.tar"]}]' "$PAUSE_IMAGE" \
        >"$image/manifest.json"
    tar --create --file "$STATE/pause.tar" --directory "$image" config.json layer.tar manifest.json
    rm -rf "$image"
}

write_files() {
    write_keys
    write_containerd
    write_kubelet
    write_network
    write_pause
}

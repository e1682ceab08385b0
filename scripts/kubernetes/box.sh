#!/usr/bin/env bash
# box.sh STATE BIN: the first process of the test cluster; scripts/start-kubernetes starts it in mount
# and process namespaces of its own. Whatever the cluster does to mounts ends with it.
#
# Each program is started again when it ends, but not while STATE/hold/NAME exists: so tests make
# outages. STATE/log/NAME has its output.
set -euo pipefail
state="$1"
bin="$2"
export PATH="$bin:/usr/sbin:/usr/bin:/sbin:/bin"
readonly ETCD=http://127.0.0.1:23790

# The kubelet and the network plugin set these for the whole machine. They find their values here
# and leave the machine's alone.
pretend() {
    local file="$state/sysctl/${1//\//.}"
    [ -e "/proc/sys/$1" ] || return 0
    echo "$2" >"$file"
    mount --bind "$file" "/proc/sys/$1"
}

private_directories() {
    local each
    for each in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs "$each"; done
    mkdir -p /run/netns /run/lock
    ln -s /run /var/run 2>/dev/null || true
    pretend vm/overcommit_memory 1
    pretend vm/panic_on_oom 0
    pretend kernel/panic 10
    pretend kernel/panic_on_oops 1
    pretend kernel/keys/root_maxkeys 1000000
    pretend kernel/keys/root_maxbytes 25000000
    pretend net/ipv4/ip_forward 1
}

# keep NAME COMMAND...
keep() {
    local name="$1"
    shift
    while :; do
        if [ ! -e "$state/hold/$name" ]; then ("$@") || true; fi
        sleep 0.3
    done >"$state/log/$name" 2>&1 </dev/null &
}

etcd_server() {
    exec etcd --data-dir "$state/etcd" --unsafe-no-fsync --listen-client-urls "$ETCD" \
        --advertise-client-urls "$ETCD" --listen-peer-urls http://127.0.0.1:23800
}

# Who may do what is left to roles. 10.96.0.0/16 are addresses that nobody serves here.
api_server() {
    exec kube-apiserver --etcd-servers="$ETCD" --bind-address=127.0.0.1 --secure-port="$API_PORT" \
        --advertise-address="$GATEWAY" --service-cluster-ip-range=10.96.0.0/16 --insecure-port=0 \
        --authorization-mode=Node,RBAC --client-ca-file="$keys/ca.crt" \
        --tls-cert-file="$keys/server.crt" --tls-private-key-file="$keys/server.key" \
        --kubelet-certificate-authority="$keys/ca.crt" --kubelet-client-certificate="$keys/admin.crt" \
        --kubelet-client-key="$keys/admin.key" --service-account-key-file="$keys/accounts.key" \
        --service-account-signing-key-file="$keys/accounts.key" \
        --service-account-issuer=https://kubernetes.default.svc
}

controllers() {
    exec kube-controller-manager --kubeconfig="$state/controllers.kubeconfig" --leader-elect=false \
        --port=0 --secure-port=0 --use-service-account-credentials \
        --root-ca-file="$keys/ca.crt" --service-account-private-key-file="$keys/accounts.key"
}

scheduler() {
    exec kube-scheduler --kubeconfig="$state/scheduler.kubeconfig" --leader-elect=false \
        --port=0 --secure-port=0
}

kubelet_server() {
    exec kubelet --config="$state/kubelet.yaml" --kubeconfig="$state/kubelet.kubeconfig" \
        --root-dir="$state/kubelet" --hostname-override="$NODE" --container-runtime=remote \
        --container-runtime-endpoint=unix:///run/containerd.sock \
        --tls-cert-file="$keys/server.crt" --tls-private-key-file="$keys/server.key"
}

# Denies what policies deny; the network plugin knows none.
enforcer() {
    exec python3 "$here/enforcer.py" "$bin/client-1.20/kubectl" "$state/admin.kubeconfig" "$state/unenforced"
}

keys="$state/keys"
here="$(cd "$(dirname "$0")" && pwd)"
private_directories
cd "$state"
keep etcd etcd_server
keep containerd containerd --config "$state/containerd.toml"
keep kube-apiserver api_server
until "$bin"/client-1.20/kubectl --kubeconfig "$state/admin.kubeconfig" get --raw /readyz >/dev/null 2>&1; do sleep 0.2; done
keep kube-controller-manager controllers
keep kube-scheduler scheduler
keep kubelet kubelet_server
keep enforcer enforcer
while :; do
    wait || true
    sleep 1
done

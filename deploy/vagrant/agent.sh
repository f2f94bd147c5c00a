#!/usr/bin/env bash
# Makes the agent a service of this machine, with the policy beside this file.
set -euo pipefail
cd "${TREE:-/vagrant}"
scripts/install.sh install
install -m 644 deploy/vagrant/policy.yaml /etc/cbagent/policy.yaml
systemctl enable cbagent
systemctl restart cbagent

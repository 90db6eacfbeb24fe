#!/bin/sh
# Prepares a bare Debian or Ubuntu host: Docker engine, Compose 2.24 or newer, log rotation, the platform's folder. Run as root.
#   prepare.sh ROOT_FOLDER
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive
root=$1

say() { printf '%s\n' "$*"; }
compose_is_recent() {
    version=$(docker compose version --short 2>/dev/null) || return 1
    version=${version#v}
    major=${version%%.*}
    rest=${version#*.}
    minor=${rest%%.*}
    [ "$major" -gt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -ge 24 ]; }
}

if command -v dockerd >/dev/null && compose_is_recent; then
    say "docker: there, $(docker --version)"
else
    command -v apt-get >/dev/null || { say "no apt-get here: install Docker Engine and Compose 2.24 or newer by this system's means" >&2; exit 3; }
    say "docker: installing"
    apt-get update -qq
    # Debian 13 and Ubuntu 24.04 have a recent enough Compose; older ones need Docker's own packages.
    for plugin in docker-compose-v2 docker-compose docker-compose-plugin; do
        case $(apt-cache policy "$plugin" | sed -n 's/^  Candidate: //p') in
            2.2[4-9]* | 2.[3-9][0-9]* | [3-9].* | [1-9][0-9].*)
                apt-get install -y -qq --no-install-recommends docker.io "$plugin"
                break
                ;;
        esac
    done
    compose_is_recent || { say "this release has no Compose 2.24 or newer: add Docker's own package repository, then run this again" >&2; exit 3; }
fi

if [ ! -e /etc/docker/daemon.json ]; then
    mkdir -p /etc/docker
    # live-restore: containers go on while the engine is upgraded.
    printf '%s\n' '{"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}, "live-restore": true}' >/etc/docker/daemon.json
    say "docker: log rotation and live-restore set in /etc/docker/daemon.json"
    if command -v systemctl >/dev/null && systemctl is-system-running >/dev/null 2>&1; then systemctl restart docker; fi
else
    say "docker: /etc/docker/daemon.json is there and stays as it is (our own containers rotate their logs themselves)"
fi
install -d -m 755 "$root"
say "folder: $root"
say "firewall: open 80 and 443; nothing else is published. Docker's published ports pass ufw by: see docs/vps.md"

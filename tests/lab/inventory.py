"""All that is on the VPS and inside its services, as an administrator sees it: what a setup did is what differs after it.

Every subject is named as a plan names it, so that a plan and a difference can be compared. What a service makes by itself, whatever our settings,
is left out: Vault's and Authentik's built-in objects, histories and locks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest

from prefect_platform.secretstore.store import Secret
from prefect_platform.secretstore.vault.kv import Vault

from .conftest import Docker
from .vps import Vps, containers

Inventory = dict[str, str]
"""Subject → a fingerprint that changes with it."""
Ssh = Callable[..., str]
ROOT = "/opt/platform"
OPERATOR = "the operator's token"
UNSEEN = {"initialise Vault", "revoke the root token", "delete the bootstrap token"}
"""What comes and goes within one setup."""
GONE = ("delete", "remove", "revoke", "stop")
_BOOKKEEPING = re.compile(
    r"[^/]+/(history\.jsonl|lock|lock\.holder)|[^/]+/[^/]+/(busy|files/.*|volumes/.*|approle/.*)"
)
"""Of a setup itself; and what belongs to another subject: a volume's mark, an agent's login, files that a release shows as well."""
_BUILT_IN = {"default", "root", "authentik Admins", "akadmin"}
_PREFECT = """
SELECT 'work pool ' || name, concat_ws('|', type, is_paused, concurrency_limit, description) FROM work_pool UNION ALL
SELECT 'queue ' || p.name || '/' || q.name, concat_ws('|', q.priority, q.concurrency_limit, q.is_paused)
  FROM work_queue q JOIN work_pool p ON p.id = q.work_pool_id WHERE q.name <> 'default' UNION ALL
SELECT 'global limit ' || name, concat_ws('|', "limit", active, slot_decay_per_second) FROM concurrency_limit_v2 UNION ALL
SELECT 'automation ' || name, concat_ws('|', enabled, trigger, actions) FROM automation UNION ALL
SELECT 'deployment ' || f.name || '/' || d.name, concat_ws('|', d.path, d.entrypoint, d.work_queue_id, d.pull_steps)
  FROM deployment d JOIN flow f ON f.id = d.flow_id UNION ALL
SELECT 'variable ' || name, value::text FROM variable UNION ALL
SELECT 'block ' || name, id::text FROM block_document WHERE NOT is_anonymous
"""
_GATEWAY = "SELECT 'token ' || project || '/' || service, jti FROM gateway_tokens WHERE project <> 'tests'"
_CLUSTER = """
SELECT 'database ' || datname, oid::text FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' UNION ALL
SELECT 'role ' || rolname, oid::text FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%' AND rolname <> 'postgres'
"""


def take(vps: Vps, docker: Docker, ssh: Ssh) -> Inventory:
    """What is there now; nothing on an empty host."""
    found = Inventory(_engine(docker))
    found |= _files(ssh)
    there = containers(docker)
    if "platform-vault" in there:
        found |= _vault(vps, there["platform-vault"])
    if "platform-postgres-lab" in there:
        found |= _databases(docker)
    return found


def planned(shown: str, stack: str = "") -> set[str]:
    """`platform.plan --json`, or that of one stack, as subjects that change; `-subject` for what is gone afterwards."""
    plans = json.loads(shown)
    steps = {
        (each["action"], _subject(name, each["action"], each["subject"]))
        for name, plan in ({stack: plans} if stack else plans).items()
        for each in [*plan["steps"], *map(_step, plan["objects"])]
    }
    seen = {(action, subject) for action, subject in steps if f"{action} {subject}" not in UNSEEN}
    return {f"-{subject}" if action in GONE else subject for action, subject in seen}


def estimated(shown: str) -> set[str]:
    """Of `platform.plan --json`: what a plan lists for a Prefect that it cannot ask, which may have it already."""
    objects = [each for plan in json.loads(shown).values() for each in plan["objects"]]
    return {_step(each)["subject"] for each in objects if each.endswith("; unless it exists")}


def changed(before: Inventory, after: Inventory) -> set[str]:
    """What happened, as `planned` has it."""
    differ = {name for name in after if before.get(name) != after[name]}
    # Each setup that does something writes a release, which its files are a part of.
    made = {name for name in differ if name.startswith("release ")}
    return differ - made | {f"-{name}" for name in {*before} - {*after}}


def _step(shown: str) -> dict[str, str]:
    action, _, rest = shown.partition(" ")
    subject, _, cause = rest.rpartition(": ")  # the name of our automation has a colon too
    return {"action": action, "subject": subject or cause}


def _subject(stack: str, action: str, subject: str) -> str:
    return f"secret {stack}/{subject.removeprefix('secret ')}" if action in ("generate", "keep") else subject


def _engine(docker: Docker) -> Iterator[tuple[str, str]]:
    there = containers(docker)
    for each in there.values():
        labels = each["Config"]["Labels"]
        name = f"{labels['prefect-platform.stack']}-{labels['prefect-platform.service']}"
        yield name, f"{each['Id']} {each['State']['StartedAt']}"
    for kind, shape in (("network", "{{.Name}} {{.ID}}"), ("volume", "{{.Name}} {{.Name}}")):
        for line in docker(kind, "ls", "--filter", "name=platform-", "--format", shape).splitlines():
            name, _, key = line.partition(" ")
            yield f"{kind} {name}", f"{key} {_guest(there, name)}"
    for line in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines():
        name, _, key = line.partition(" ")
        yield f"image {name}", key


def _guest(there: dict[str, Any], network: str) -> str:
    """The proxy in an environment's network: it is no service of that, and joins it while it runs."""
    proxy = there.get("platform-traefik")
    joined = (
        proxy and network.startswith("platform-edge-") and network in proxy["NetworkSettings"]["Networks"]
    )
    return str(proxy["Id"]) if proxy and joined else ""


def _files(ssh: Ssh) -> Inventory:
    script = f"cd {ROOT} 2>/dev/null || exit 0; ls -d */*/releases/*; for f in */*/current; do readlink -f $f; done; find . -type f -exec sha256sum {{}} +"
    current, digests, found = set[str](), dict[str, set[str]](), Inventory()
    for line in ssh(f"{script} 2>/dev/null || true").splitlines():
        digest, _, path = line.partition("  ./")
        if line.startswith(ROOT):
            current.add(line.removeprefix(f"{ROOT}/"))
        elif not path:
            _, stack, _, release = line.split("/")
            found[f"release {stack}/{release}"] = release
        elif not _BOOKKEEPING.fullmatch(path) and (name := _file(path, current)):
            digests.setdefault(name, set()).add(digest)
    return found | {name: " ".join(sorted(each)) for name, each in digests.items()}


def _file(path: str, current: set[str]) -> str:
    """The subject that a file belongs to; empty for one of an earlier release."""
    parts = path.split("/")
    if parts[2:3] == ["releases"]:
        name = re.sub(r"^files/[0-9a-f]{16}/", "", "/".join(parts[4:]))
        mine = "/".join(parts[:4]) in current and name not in ("services.json", "routes.yml")
        return f"{parts[1]}/{name}" if mine else ""
    if parts[:2] == ["host", "routes"]:
        return f"routes/{parts[2].partition('-')[2]}"
    if parts[1:3] == ["postgres", "dumps"]:
        return f"dump {parts[3]}"
    if parts[0] == "host" and parts[2:3] == ["private"]:
        return f"private file {'/'.join(parts[3:])}"
    return path


def _databases(docker: Docker) -> Inventory:
    found = _rows(docker, "postgres", _CLUSTER)
    for name, sql in (("prefect", _PREFECT), ("gateway", _GATEWAY)):
        found |= _rows(docker, name, sql) if f"database {name}" in found else {}
    if "database authentik" in found:
        (body,) = _psql(docker, "authentik", "SELECT body FROM standin").splitlines() or ["{}"]
        found |= _authentik(json.loads(body))
    return found


def _rows(docker: Docker, database: str, sql: str) -> Inventory:
    lines = (line.split("\t") for line in _psql(docker, database, sql).splitlines())
    return {subject: _hash(rest) for subject, *rest in lines}


def _psql(docker: Docker, database: str, sql: str) -> str:
    words = ("psql", "-X", "-U", "postgres", "-d", database, "-AtF", "\t", "-c", sql)
    return docker("exec", "platform-postgres-lab", *words)


def _authentik(state: Any) -> Iterator[tuple[str, str]]:
    """Of the stand-in, which keeps its objects as one text."""
    groups = {each["pk"]: each["name"] for each in state["groups"].values()}
    for each in state["users"].values():
        if each["username"] not in _BUILT_IN:
            tokens = sorted(name for name, token in state["tokens"].items() if token["user"] == each["pk"])
            roles = [state["roles"][role] for role in each["roles"]]
            yield f"account {each['username']}", _hash([each["pk"], tokens, roles])
    for name in groups.values():
        if name not in _BUILT_IN:
            yield f"group {name} with akadmin", name
    for each in state["providers"].values():
        yield f"Authentik provider {each['name']}", _hash(each)
    slugs = {each["pk"]: each["slug"] for each in state["applications"].values()}
    for each in state["applications"].values():
        yield f"Authentik application {each['slug']}", _hash(each)
    for each in state["bindings"].values():
        yield f"Authentik binding {slugs[each['target']]} ← {groups[each['group']]}", _hash(each)
    for each in state["outposts"].values():
        if each["providers"] or each["config"]["authentik_host"]:
            yield "Authentik outpost embedded", _hash([each["providers"], each["config"]])


def _vault(vps: Vps, container: Any) -> Inventory:
    (file,) = (vps.root / ".state" / "hosts").rglob("vault-keys.json")
    keys = json.loads(file.read_text())
    address = f"http://{container['NetworkSettings']['Networks']['platform-vault']['IPAddress']}:8200"
    known = [Secret(key) for key in keys["recovery_keys"][: keys["threshold"]]]
    vault = Vault(address, Vault(address, None).generate_root(known))
    try:
        found: Inventory = vault.client.call(lambda api: dict(_vault_objects(api)))
        return found
    finally:
        vault.revoke_token()


def _vault_objects(api: Any) -> Iterator[tuple[str, str]]:
    for name in api.sys.list_policies()["data"]["policies"]:
        if name not in _BUILT_IN:
            yield f"policy {name}", _hash(api.sys.read_policy(name)["data"])
    for name in _keys(api.auth.approle.list_roles):
        yield f"AppRole {name}", _hash(api.auth.approle.read_role(name)["data"])
        yield f"secret-id of {name}", _hash(sorted(_keys(api.auth.approle.list_secret_id_accessors, name)))
    for name, mount in api.sys.list_mounted_secrets_engines()["data"].items():
        if mount["type"] == "kv":
            yield f"key-value store {name}", _hash(mount["options"])
    for name in api.sys.list_auth_methods()["data"]:
        if name != "token/":
            yield f"login by {'AppRole' if name == 'approle/' else name}", name
    # Of Vault's own configuration, so it comes with a new Vault; any other is a change that no plan names.
    for name in api.sys.list_enabled_audit_devices()["data"]:
        if name != "stdout/":
            yield f"audit log {name}", name
    yield from _tokens(api)
    for env in _keys(api.secrets.kv.v2.list_secrets, "platform"):
        for stack in _keys(api.secrets.kv.v2.list_secrets, f"platform/{env}"):
            read = api.secrets.kv.v2.read_secret(f"platform/{env}/{stack}", raise_on_deleted_version=False)
            for name, value in read["data"]["data"].items():
                yield f"secret {stack}/{name}", _hash(value)


def _tokens(api: Any) -> Iterator[tuple[str, str]]:
    """Of people: agents come and go with their logins."""
    mine = api.auth.token.lookup_self()["data"]["accessor"]
    for accessor in api.auth.token.list_accessors()["data"]["keys"]:
        try:
            about = api.auth.token.lookup_accessor(accessor)["data"]
        except (InvalidRequest, Forbidden, InvalidPath):
            continue  # it has ended since
        if accessor != mine and not about["path"].startswith("auth/approle/"):
            operators = "platform-operator" in about["policies"]
            yield OPERATOR if operators else f"token {about['display_name']}", accessor


def _keys(listed: Callable[..., Any], *words: str) -> list[str]:
    """The names of a list of Vault's, which answers 404 for an empty one."""
    try:
        return list(listed(*words)["data"]["keys"])
    except InvalidPath:
        return []


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

"""The credentials with which our own Vault asks a key service to unseal it: a file of the operator.

They cannot be in Vault, which they open. Each is a file of its own on the host, named as its variable; stacks/vault/start.sh exports them.
"""

from __future__ import annotations

from prefect_platform.config.settings import Settings
from prefect_platform.config.tls import digest, variables
from prefect_platform.errors import ConfigError

_KEY = "platform.vault.seal_credentials"
_HINT = "one NAME=value per line, the variables of the seal's page in OpenBao's documentation"


def validate(settings: Settings) -> None:
    """Raises ConfigError for a missing file, a line that is no NAME=value, a seal that takes none."""
    section = settings.values["vault"]
    file = section["seal_credentials"]
    if not (file and settings.traits.vault):
        return
    if section["address"] or section["seal"]["type"] == "static":
        raise ConfigError(f"{_KEY} is for our own Vault with another seal than static", "leave it out")
    if not (settings.root / file).is_file():
        raise ConfigError(f"{_KEY}: no such file: {file}", "the path is relative to the repository")
    _variables(settings)


def private_names(settings: Settings) -> list[str]:
    """Paths of `private_files`, sorted; the folder is named by the file's content, so that a change restarts Vault."""
    file = settings.values["vault"]["seal_credentials"]
    return sorted(f"{digest(settings.root, file)}/{name}" for name in _variables(settings)) if file else []


def private_files(settings: Settings) -> dict[str, bytes]:
    """What only Vault may read, by path below its private folder on the host."""
    found = _variables(settings)
    return {path: found[path.rpartition("/")[2]].encode() for path in private_names(settings)}


def _variables(settings: Settings) -> dict[str, str]:
    file = settings.values["vault"]["seal_credentials"]
    return variables(settings.root, file, _HINT) if file else {}

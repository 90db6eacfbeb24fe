"""HTTPS with a certificate of one's own, signed by a private CA: through the real Traefik, with what status says about it."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.local.conftest import free_ports

from .conftest import Docker
from .vps import Vps, containers

pytestmark = pytest.mark.timeout(600)


class Authority:
    """A private CA."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        made = self._begin(self._name, self._key.public_key(), 365).add_extension(basic, critical=True)
        (folder / "ca.pem").write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def _begin(self, name: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days, hours=1))
        )

    def issue(self, days: int, host: str = "localhost") -> None:
        """server.pem and server.key, for a host and the loopback address."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        made = self._begin(name, key.public_key(), days)
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        (self.folder / "server.pem").write_bytes(_pem(made.sign(self._key, hashes.SHA256())))
        (self.folder / "server.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(vps: Vps) -> Authority:
    folder = vps.root / "tls"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture(scope="module")
def secure(vps: Vps, authority: Authority) -> Iterator[str]:
    """The public URL of the platform once it has been set up with HTTPS."""
    before = {key: vps.settings[key] for key in ("traefik", "gateway")}
    (port,) = free_ports(1)
    url = f"https://localhost:{port}"
    vps.settings["traefik"] = {
        **before["traefik"],
        "tls": "own",
        "https_port": port,
        "certificate": "tls/server.pem",
        "private_key": "tls/server.key",
    }
    vps.settings["gateway"] = {"public_url": url, "ca_cert": "tls/ca.pem"}
    authority.issue(90)
    vps.write()
    yield url
    vps.settings |= before
    vps.write()
    for stack in ("gateway", "traefik", "prefect"):
        vps.invoke(f"{stack}.setup")


def test_a_bad_pair_is_refused_before_anything_happens(
    standing: Vps, authority: Authority, secure: str
) -> None:
    file = authority.folder / "server.key"
    good = file.read_bytes()
    authority.issue(90)
    file.write_bytes(good)
    assert "does not match certificate tls/server.pem" in standing.invoke("traefik.setup", code=2).stderr
    authority.issue(-1)
    assert "tls/server.pem ended on" in standing.invoke("traefik.plan", code=2).stderr
    file.unlink()
    assert "platform.traefik.private_key: no such file" in standing.invoke("prefect.status", code=2).stderr
    authority.issue(90)


def test_the_platform_answers_by_https_alone(
    vps: Vps, authority: Authority, secure: str, docker: Docker, ssh: Callable[..., str]
) -> None:
    for stack in ("gateway", "traefik", "prefect"):
        done = vps.invoke(f"{stack}.setup")
    assert "canary" in done.stdout
    told = next(line for line in done.stdout.splitlines() if " certificate " in line)
    assert told.startswith("ok")
    assert "(90 days), by CN=Test CA" in told
    with httpx.Client(verify=str(authority.folder / "ca.pem")) as client:
        answer = client.get(f"{secure}/ping")
        refused = client.get(f"{secure}/api/flows/count")
    assert answer.status_code == 200
    assert refused.status_code == 401
    assert refused.headers["Strict-Transport-Security"] == "max-age=31536000"
    plain = httpx.get(
        f"http://localhost:{vps.settings['traefik']['http_port']}/api/ready", follow_redirects=False
    )
    assert plain.status_code in (301, 308)
    assert plain.headers["Location"] == f"{secure}/api/ready"
    # The key is nobody's but Traefik's, and in no release.
    key = (authority.folder / "server.key").read_text().splitlines()[1]
    holders = ssh(f"grep -rl '{key}' /opt/platform").split()
    assert [holder for holder in holders if "/host/traefik/private/" not in holder] == []
    assert ssh(f"stat -c '%a %u' {holders[0]}").split() == ["600", "65532"]
    assert key not in vps.invoke("traefik.plan").stdout


def test_a_certificate_that_ends_soon_is_told_and_a_new_one_taken_up(
    vps: Vps, authority: Authority, secure: str, docker: Docker
) -> None:
    before = containers(docker)["platform-traefik"]["Id"]
    authority.issue(5)
    assert "certificate.pem" in vps.invoke("traefik.plan").stdout
    vps.invoke("traefik.setup")
    red = vps.invoke("prefect.status", code=5).stdout
    assert "expires soon: until" in next(line for line in red.splitlines() if " certificate " in line)
    authority.issue(60)
    vps.invoke("traefik.setup")
    green = vps.invoke("prefect.status").stdout
    assert "(60 days)" in next(line for line in green.splitlines() if " certificate " in line)
    assert containers(docker)["platform-traefik"]["Id"] == before, "no connection was cut for it"
    authority.issue(60, "elsewhere.example.com")
    vps.invoke("traefik.setup")
    assert "not for localhost" in vps.invoke("prefect.status", code=5).stdout

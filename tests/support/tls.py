"""An embedded Kafka with TLS, client certificates, logins and rights; its CA is made when it starts, and thrown away.

A listener a kind of access. Each user has the rights that a test grants; the plaintext listener is the superuser's.
"""

import datetime
from collections.abc import Iterable
from pathlib import Path

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from streamtrain.kafka import clients
from streamtrain.kafka.embedded import EmbeddedBroker
from tests.support.ports import free_port

USER = "joe"
PASSWORD = "it's a secret"
#: name of a listener: (security.protocol, SASL mechanisms, ssl.client.auth, which server certificate)
LISTENERS = {
    "USERS": ("SASL_PLAINTEXT", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512", "none", ""),
    "TLSUSERS": ("SASL_SSL", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512", "none", "valid"),
    "TLS": ("SSL", "", "none", "valid"),
    "MTLS": ("SSL", "", "required", "valid"),
    "EXPIRED": ("SSL", "", "none", "expired"),
    "OTHERHOST": ("SSL", "", "none", "otherhost"),
}
#: A part's rights, as docs/operations.md lists them: (resource, name after the job's, operations).
RIGHTS = {
    "bridge": [
        ("topic", ".samples", "create describe_configs write"),
        ("topic", ".splits", "create describe_configs write read"),
        ("topic", ".rejects", "create describe_configs write"),
        ("transactional id", ".bridge", "write"),
    ],
    "trainer": [
        ("topic", ".samples", "read"),
        ("topic", ".splits", "read"),
        ("transactional id", ".trainer", "write"),
        ("group", "", "read"),
    ],
    "reader": [
        ("topic", ".samples", "describe"),
        ("topic", ".splits", "read"),
        ("topic", ".rejects", "describe"),
    ],
    "open transactions": [
        ("topic", ".samples", "read"),
        ("topic", ".splits", "read"),
        ("topic", ".rejects", "read"),
        ("transactional id", ".bridge", "describe"),
    ],
}
_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}


class SecuredBroker(EmbeddedBroker):
    """folder: its certificates, PEM. ports: of each of LISTENERS."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.folder = directory.absolute() / "certificates"
        self.ports: dict[str, int] = {}

    def start(self, timeout_s: float = 60) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_certificates(self.folder)
        super().start(timeout_s)
        root = self.root()  # what it is asked for ends with it
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            secret = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            for future in root.alter_user_scram_credentials([secret]).values():
                future.result()

    def root(self) -> AdminClient:
        """The superuser's client."""
        return clients.admin({"bootstrap.servers": self.bootstrap})

    def access(self, listener: str, mechanism: str = "PLAIN") -> dict[str, str]:
        """What stands below `kafka:` for this listener."""
        protocol, mechanisms, client, _ = LISTENERS[listener]
        values = {"bootstrap.servers": f"127.0.0.1:{self.ports[listener]}", "security.protocol": protocol}
        if "SSL" in protocol:
            values["ssl.ca.location"] = str(self.folder / "ca.pem")
        if client == "required":
            values["ssl.certificate.location"] = str(self.folder / "client.pem")
            values["ssl.key.location"] = str(self.folder / "client.key")
        if mechanisms:
            values |= {"sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": PASSWORD}
        return values

    def grant(self, bindings: Iterable[AclBinding]) -> None:
        root = self.root()
        for future in root.create_acls(list(bindings)).values():
            future.result()

    def revoke(self, binding: AclBinding) -> None:
        names = ("restype", "name", "resource_pattern_type", "principal", "host", "operation", "permission_type")
        root = self.root()  # what it is asked for ends with it
        for future in root.delete_acls([AclBindingFilter(*(getattr(binding, n) for n in names))]).values():
            assert future.result()

    def _write_properties(self) -> None:
        super()._write_properties()
        self.ports = self.ports or {name: free_port() for name in LISTENERS}
        path = self._directory / "server.properties"
        values = dict(line.split("=", 1) for line in path.read_text().splitlines())
        places = [f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()]
        values |= dict.fromkeys(("listeners", "advertised.listeners"), ",".join([values["listeners"], *places]))
        protocols = [f"{name}:{protocol}" for name, (protocol, *_) in LISTENERS.items()]
        values |= {
            "listener.security.protocol.map": ",".join([values["listener.security.protocol.map"], *protocols]),
            "inter.broker.listener.name": "PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
        }
        for name, (_, mechanisms, client, server) in LISTENERS.items():
            mine = f"listener.name.{name.lower()}."
            if server:
                values |= {
                    f"{mine}ssl.keystore.type": "PEM",
                    f"{mine}ssl.keystore.location": f"certificates/{server}.pem",
                    f"{mine}ssl.truststore.type": "PEM",
                    f"{mine}ssl.truststore.location": "certificates/ca.pem",
                    f"{mine}ssl.client.auth": client,
                    f"{mine}ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/",
                }
            if mechanisms:
                values[f"{mine}sasl.enabled.mechanisms"] = mechanisms
                common = "org.apache.kafka.common.security"
                values[f"{mine}plain.sasl.jaas.config"] = (
                    f'{common}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
                )
                for kind in ("256", "512"):
                    values[f"{mine}scram-sha-{kind}.sasl.jaas.config"] = f"{common}.scram.ScramLoginModule required;"
        path.write_text("".join(f"{k}={v}\n" for k, v in values.items()))


def write_certificates(folder: Path) -> None:
    """ca.pem, other-ca.pem; valid, expired, otherhost .pem with their keys; client.pem and client.key of USER,
    stranger.pem and .key of another CA, locked.key with PASSWORD."""
    ca, other = trustme.CA(key_type=trustme.KeyType.ECDSA), trustme.CA(key_type=trustme.KeyType.ECDSA)
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")
    kind = trustme.KeyType.ECDSA
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    servers = {
        "valid": ca.issue_cert("127.0.0.1", key_type=kind),
        "expired": ca.issue_cert(
            "127.0.0.1", not_before=past.replace(year=past.year - 1), not_after=past, key_type=kind
        ),
        "otherhost": ca.issue_cert("kafka.example.org", key_type=kind),
    }
    for name, certificate in servers.items():
        (folder / f"{name}.pem").write_bytes(_pkcs8(certificate) + _chain(certificate))
    for name, by in (("client", ca), ("stranger", other)):
        certificate = by.issue_cert("client.example.org", common_name=USER, key_type=kind)
        (folder / f"{name}.pem").write_bytes(_chain(certificate))
        (folder / f"{name}.key").write_bytes(_pkcs8(certificate))
        if name == "client":
            (folder / "locked.key").write_bytes(_pkcs8(certificate, PASSWORD))


def _pkcs8(certificate: trustme.LeafCert, password: str = "") -> bytes:
    """Java reads keys in PKCS 8 alone."""
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    lock = form.BestAvailableEncryption(password.encode()) if password else form.NoEncryption()
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock)


def _chain(certificate: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


def right(kind: str, name: str, operation: str) -> AclBinding:
    pattern, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    return AclBinding(_KINDS[kind], name, pattern, f"User:{USER}", "*", AclOperation[operation.upper()], allow)


def rights(part: str, job: str) -> dict[str, AclBinding]:
    """All that a part needs for that job, by what messages call it: `Write on topic J.samples`."""
    return {
        f"{word.title().replace('_', '')} on {kind} {job}{end}": right(kind, f"{job}{end}", word)
        for kind, end, operations in RIGHTS[part]
        for word in operations.split()
    }

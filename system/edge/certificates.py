"""Makes the development certificate: a leaf signed by a development CA of its own (R5.3)."""

from __future__ import annotations

import argparse
import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

NAMES: Final = ("localhost", "*.localhost", "127.0.0.1", "::1")
_LEAF_DAYS: Final = 365
_CA_DAYS: Final = 3650
_RENEW_BEFORE: Final = timedelta(days=30)
_CLOCK_SLACK: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where they lie.

    Attributes:
        ca: certificate that clients are told to trust.
        certificate: the leaf, then the CA.
        key: the leaf's key, readable by its owner only.
    """

    ca: Path
    certificate: Path
    key: Path


def ensure(
    folder: Path, names: tuple[str, ...] = NAMES, *, ocsp: str | None = None
) -> Certificates:
    """Make the files unless good ones are there.

    They are made again when the leaf has less than 30 days left, other names, or does not belong
    to its key or CA. The CA's own key is kept beside them, so that a renewed leaf is trusted by
    who trusted the old one.

    Args:
        folder: made if it is missing; keys in it are readable by the owner only.
        names: DNS names and addresses of the leaf.
        ocsp: URL of a responder that a newly made leaf names; None for none.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = Certificates(folder / "ca.pem", folder / "edge.pem", folder / "edge.key")
    if _good(made, names):
        return made
    ca, ca_key = _authority(made.ca, folder / "ca.key")
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _leaf(names, key, ca, ca_key, ocsp)
    _write_key(made.key, key)
    _write(made.certificate, _pem(leaf) + _pem(ca), 0o644)
    return made


def responder(certificate: Path) -> str | None:
    """The OCSP responder that a certificate names; None where stapling has nobody to ask."""
    leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except x509.ExtensionNotFound:
        return None
    for description in access.value:
        if description.access_method == AuthorityInformationAccessOID.OCSP:
            return str(description.access_location.value)
    return None


def _good(made: Certificates, names: tuple[str, ...]) -> bool:
    try:
        ca = x509.load_pem_x509_certificate(made.ca.read_bytes())
        leaf = x509.load_pem_x509_certificates(made.certificate.read_bytes())[0]
        key = serialization.load_pem_private_key(made.key.read_bytes(), None)
        leaf.verify_directly_issued_by(ca)
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return (
        set(alternatives.value) == set(_general_names(names))
        and leaf.public_key() == key.public_key()
        and leaf.not_valid_after_utc - datetime.now(UTC) >= _RENEW_BEFORE
        and made.key.stat().st_mode & 0o077 == 0
    )


def _authority(path: Path, key_path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The CA that is there, while it outlives a new leaf; else a new one."""
    now = datetime.now(UTC)
    try:
        ca = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        pass
    else:
        if (
            isinstance(key, ec.EllipticCurvePrivateKey)
            and ca.public_key() == key.public_key()
            and ca.not_valid_after_utc - now >= timedelta(days=_LEAF_DAYS)
        ):
            return ca, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Seatrial development CA")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    ca = (
        _builder(name, name, _CA_DAYS)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_path, key)
    _write(path, _pem(ca), 0o644)
    return ca, key


def _leaf(
    names: tuple[str, ...],
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    ocsp: str | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    own_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(subject, ca.subject, _LEAF_DAYS)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(own_key, critical=False)
        .add_extension(issuer_key, critical=False)
    )
    if ocsp:
        where = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([where]), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, days: int) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - _CLOCK_SLACK
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: tuple[str, ...]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(path, pem, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a whole file in place at once, never readable by more than it may be."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.chmod(mode)
    fresh.replace(path)


def main() -> None:
    """Make a development certificate from the command line."""
    parser = argparse.ArgumentParser(prog="python -m system.edge.certificates", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", action="append", help="DNS name or address; may be repeated")
    arguments = parser.parse_args()
    made = ensure(arguments.folder, tuple(arguments.name or NAMES))
    print(f"CA to trust:  {made.ca}\ncertificate:  {made.certificate}\nkey:          {made.key}")


if __name__ == "__main__":
    main()

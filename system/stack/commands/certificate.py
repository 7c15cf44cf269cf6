"""The edge's development certificate: cert make, show, trust."""

from __future__ import annotations

import argparse
from pathlib import Path

from system.stack.commands.words import DONE, Commands, command, group, running
from system.stack.errors import StackError

_LONG = """\
The edge's certificate is signed by a development CA that belongs to this stack alone and is
removed with it. Whoever trusts the CA trusts every certificate the stack makes.
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    actions = group(commands, "cert", "the edge's development certificate", _LONG)
    command(
        actions,
        "make",
        _make,
        "make a new certificate and let the edge serve it",
        "The CA stays, so that clients go on trusting. The edge is restarted.",
    )
    command(
        actions,
        "show",
        _show,
        "names, dates and fingerprints",
        "Of the certificate that the edge was given, and of its CA.",
    )
    command(
        actions,
        "trust",
        _trust,
        "how clients learn to trust the CA",
        "Changes nothing on this machine: prints what to do.",
    )


def _folder(options: argparse.Namespace) -> Path:
    state, _ports, _credentials = running(options)
    folder = state.path / "tls"
    if not (folder / "edge.pem").exists():
        raise StackError(f"{folder} holds no certificate; `python -m system up` makes one")
    return folder


def _make(options: argparse.Namespace) -> int:
    from system.stack.native import Stack

    folder = _folder(options)
    (folder / "edge.pem").unlink()  # made again when the edge is prepared
    Stack(options.stack).restart("edge")
    return _show(options)


def _show(options: argparse.Namespace) -> int:
    import base64

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    folder = _folder(options)
    for title, file in (("certificate", "edge.pem"), ("CA", "ca.pem")):
        shown = x509.load_pem_x509_certificates((folder / file).read_bytes())[0]
        key = shown.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashes.Hash(hashes.SHA256())
        digest.update(key)
        print(f"{title}: {folder / file}")
        print(f"  subject      {shown.subject.rfc4514_string()}")
        print(f"  issuer       {shown.issuer.rfc4514_string()}")
        print(f"  valid        {shown.not_valid_before_utc} to {shown.not_valid_after_utc}")
        try:
            names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            print(f"  names        {', '.join(str(name.value) for name in names)}")
        except x509.ExtensionNotFound:
            pass
        print(f"  SHA-256      {shown.fingerprint(hashes.SHA256()).hex(':')}")
        print(f"  SPKI SHA-256 {base64.b64encode(digest.finalize()).decode()}")
    return DONE


def _trust(options: argparse.Namespace) -> int:
    from system.stack import environment

    _state, ports, _credentials = running(options)
    ca, origin = _folder(options) / "ca.pem", environment.public_origin(ports)
    print(f"The CA is {ca}. One client at a time is the safest:\n")
    print(f"  curl --cacert {ca} {origin}/health")
    print(f"  SSL_CERT_FILE={ca} python3 …       (Python, OpenSSL)")
    print(f"  NODE_EXTRA_CA_CERTS={ca} node …")
    print("\nFor a browser, or for the whole machine, until the stack is ended:\n")
    print(f"  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n seatrial -i {ca}      (Chromium)")
    print("  Firefox: Settings, Certificates, Authorities, Import")
    print(f"  sudo cp {ca} /usr/local/share/ca-certificates/seatrial.crt && "
          "sudo update-ca-certificates")  # fmt: skip
    print("\nTake it out again when the stack is gone:\n")
    print("  certutil -d sql:$HOME/.pki/nssdb -D -n seatrial")
    print("  sudo rm /usr/local/share/ca-certificates/seatrial.crt && "
          "sudo update-ca-certificates --fresh")  # fmt: skip
    return DONE

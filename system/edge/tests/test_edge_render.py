"""What settings become, without starting anything but `nginx -t`."""

from __future__ import annotations

import gzip
import os
import re
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from system.edge import certificates, page, variants
from system.edge.environment import settings_from
from system.edge.render import EdgeSettingsFault, content_security_policy, render


def test_every_variant_is_taken() -> None:
    """nginx takes every kind of configuration without a word of warning."""
    assert {name: said for name, said in variants.check() if said} == {}


def test_broken_configuration_is_refused(tmp_path: Path) -> None:
    """The check is a check: a directive nginx does not know is complained about."""
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(render(variants.plain(tmp_path)) + "nonsense on;\n", encoding="utf-8")

    assert "nonsense" in variants.complaint(configuration)


def test_faults_come_together(tmp_path: Path) -> None:
    """Every setting that cannot be used is named in one error."""
    bad = replace(
        variants.plain(tmp_path),
        public_origin="http://localhost",
        gateways=("no port",),
        hosts=(),
        exempt=("300.1.1.1",),
        static_root='/x"; evil on;',
        worker_connections=1024,
    )
    with pytest.raises(EdgeSettingsFault) as caught:
        render(bad)

    assert len(caught.value.faults) == 6


@pytest.mark.parametrize(
    ("origin", "sentry", "sources"),
    [
        ("https://localhost", None, "connect-src 'self' wss://localhost;"),
        ("https://localhost:8443", None, "connect-src 'self' wss://localhost:8443;"),
        (
            "https://pay.example",
            "https://sentry.example",
            "connect-src 'self' wss://pay.example https://sentry.example;",
        ),
    ],
)
def test_r5_24_policy_names_only_known_origins(
    origin: str, sentry: str | None, sources: str
) -> None:
    """connect-src holds the own origin, its wss form and Sentry's; scripts only the own origin."""
    policy = content_security_policy(origin, sentry)

    assert sources in policy
    assert "script-src 'self';" in policy
    assert "unsafe-eval" not in policy


def test_r0_9_variables_of_the_contract(tmp_path: Path) -> None:
    """R0.13's variables reach the settings; production hides the API description."""
    made = certificates.ensure(tmp_path)
    settings = settings_from(
        {
            "NODE_ENV": "production",
            "EDGE_HTTPS_PORT": "8443",
            "NGINX_HOST": "pay.example, www.pay.example",
            "PUBLIC_ORIGIN": "https://pay.example:8443",
            "API_GATEWAY_URL": "http://10.0.0.1:3000,http://10.0.0.2:3000",
            "RATE_LIMIT_EXEMPT": "127.0.0.2,127.0.2.0/24",
            "SENTRY_DSN": "https://key@sentry.example/1",
            "SSL_CERT_PATH": str(made.certificate),
            "SSL_KEY_PATH": str(made.key),
        },
        tmp_path,
        tmp_path,
    )

    assert settings.http_port == 80
    assert settings.gateways == ("10.0.0.1:3000", "10.0.0.2:3000")
    assert settings.hosts == ("pay.example", "www.pay.example")
    assert settings.exempt == ("127.0.0.2", "127.0.2.0/24")
    assert settings.sentry_origin == "https://sentry.example"
    assert not settings.api_docs
    assert "least_conn" in render(settings)


def test_missing_variables_come_together(tmp_path: Path) -> None:
    """What is missing is named at once."""
    with pytest.raises(EdgeSettingsFault, match=r"SSL_CERT_PATH(.|\n)*SSL_KEY_PATH(.|\n)*PORT"):
        settings_from({"EDGE_HTTP_PORT": "http"}, tmp_path, tmp_path)


def test_r5_3_certificate_is_as_contracted(tmp_path: Path) -> None:
    """A leaf of its own CA: P-256, 365 days, four names, keys for the owner only (R5.3)."""
    made = certificates.ensure(tmp_path)
    leaf, ca = x509.load_pem_x509_certificates(made.certificate.read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    leaf.verify_directly_issued_by(ca)
    assert ca == x509.load_pem_x509_certificate(made.ca.read_bytes())
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=365)
    for key in (made.key, tmp_path / "ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert certificates.responder(made.certificate) is None


def test_good_certificate_is_kept(tmp_path: Path) -> None:
    """A second call changes nothing."""
    first = certificates.ensure(tmp_path).certificate.read_bytes()

    assert certificates.ensure(tmp_path).certificate.read_bytes() == first


def test_r5_3_certificate_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other names, a lost key or less than 30 days left it is new, under the same CA."""
    made = certificates.ensure(tmp_path)
    ca = made.ca.read_bytes()
    seen = {made.certificate.read_bytes()}
    seen.add(certificates.ensure(tmp_path, ("localhost", "pay.example")).certificate.read_bytes())
    made.key.write_text("lost", encoding="utf-8")
    seen.add(certificates.ensure(tmp_path, ("localhost", "pay.example")).certificate.read_bytes())

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override] # one caller
            return datetime.now(UTC) + timedelta(days=340)

    monkeypatch.setattr(certificates, "datetime", Later)
    seen.add(certificates.ensure(tmp_path, ("localhost", "pay.example")).certificate.read_bytes())

    assert len(seen) == 4
    assert made.ca.read_bytes() == ca


def test_r5_3_responder_is_read(tmp_path: Path) -> None:
    """A certificate that names a responder says so, so that stapling can be switched on."""
    made = certificates.ensure(tmp_path, ocsp="http://ocsp.example/")

    assert certificates.responder(made.certificate) == "http://ocsp.example/"


def test_page_is_built_whole(tmp_path: Path) -> None:
    """Every file a page refers to exists; copies hold the final content; building twice agrees."""
    folder = tmp_path / "static"
    page.build(folder)
    first = {path.relative_to(folder): path.read_bytes() for path in _files(folder)}
    page.build(folder)
    again = {path.relative_to(folder): path.read_bytes() for path in _files(folder)}

    assert first == again
    index = (folder / "index.html").read_text(encoding="utf-8")
    for name in ("index.html", "offline.html", "sw.js"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "{{" not in text
        for referred in _referred(text):
            assert (folder / referred).is_file(), f"{name} refers to /{referred}"
    assert "onclick" not in index
    assert "<script>" not in index
    for packed in folder.rglob("*.gz"):
        assert gzip.decompress(packed.read_bytes()) == packed.with_suffix("").read_bytes()
    for remote in page.REMOTES:
        assert f'"{remote}"' in (folder / "mfe" / remote / "remoteEntry.js").read_text("utf-8")


def _files(folder: Path) -> list[Path]:
    return [Path(top, name) for top, _folders, names in os.walk(folder) for name in names]


def _referred(text: str) -> list[str]:
    return re.findall(r'"/(assets/[^"]+|site\.webmanifest|offline\.html|sw\.js)"', text)

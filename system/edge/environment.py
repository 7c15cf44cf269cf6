"""Reads the edge's settings from the variables of R0.13, for containers and plain machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from system.edge.certificates import responder
from system.edge.render import EdgeSettings, EdgeSettingsFault


def settings_from(environ: Mapping[str, str], state: Path, static_root: Path) -> EdgeSettings:
    """The settings that the environment asks for.

    Args:
        environ: R0.13's variables; also ``EDGE_SOURCE_ADDRESS`` (the address to connect to the
            gateway from), ``EDGE_LISTEN`` (comma-separated), ``EDGE_RESOLVER`` (for OCSP) and
            ``EDGE_ACCESS_LOG`` (a file in ``state`` unless set).
        state: an existing folder for pid, temporary files and logs.
        static_root: the built front end.

    Raises:
        EdgeSettingsFault: a variable is missing or means nothing; all of them at once.
    """
    faults = [
        f"{name} is missing, expected an absolute path"
        for name in ("SSL_CERT_PATH", "SSL_KEY_PATH")
        if not environ.get(name)
    ]
    faults += [
        f"{name} is {environ[name]!r}, expected a port"
        for name in ("EDGE_HTTP_PORT", "EDGE_HTTPS_PORT", "API_GATEWAY_PORT")
        if not environ.get(name, "0").isdigit()
    ]
    if faults:
        raise EdgeSettingsFault(faults)
    https_port = int(environ.get("EDGE_HTTPS_PORT", "443"))
    hosts = _listed(environ.get("NGINX_HOST", "localhost"))
    usual = "https://localhost" + ("" if https_port == 443 else f":{https_port}")
    production = environ.get("NODE_ENV", "development") == "production"
    certificate = Path(environ["SSL_CERT_PATH"])
    stapled = certificate.is_file() and responder(certificate) is not None
    gateway_port = environ.get("API_GATEWAY_PORT", "3000")
    gateways = _listed(environ.get("API_GATEWAY_URL", f"http://localhost:{gateway_port}"))
    return EdgeSettings(
        http_port=int(environ.get("EDGE_HTTP_PORT", "80")),
        https_port=https_port,
        public_origin=environ.get("PUBLIC_ORIGIN", usual),
        certificate_path=str(certificate),
        key_path=environ["SSL_KEY_PATH"],
        static_root=str(static_root),
        temp_folder=str(state),
        pid_path=str(state / "nginx.pid"),
        access_log=environ.get("EDGE_ACCESS_LOG") or str(state / "access.log"),
        gateways=tuple(_address(url) for url in gateways),
        source_address=environ.get("EDGE_SOURCE_ADDRESS") or None,
        listen=_listed(environ.get("EDGE_LISTEN", "0.0.0.0,[::]")),
        hosts=hosts,
        exempt=_listed(environ.get("RATE_LIMIT_EXEMPT", "")),
        api_docs=environ.get("API_DOCS_ENABLED", str(not production)).lower() == "true",
        sentry_origin=_origin(environ.get("SENTRY_DSN") or environ.get("NX_SENTRY_DSN")),
        stapling_resolver=environ.get("EDGE_RESOLVER") if stapled else None,
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 80}"


def _origin(dsn: str | None) -> str | None:
    """The origin of a Sentry DSN, without its key."""
    if not dsn:
        return None
    parts = urlsplit(dsn)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"

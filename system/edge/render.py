"""Turns the edge's settings into the text of one nginx configuration (contract section 5)."""

from __future__ import annotations

import ipaddress
import re
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined


class EdgeSettingsFault(ValueError):
    """The settings cannot become a configuration; lists every fault at once.

    Attributes:
        faults: one sentence each: what was seen, what was expected.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("edge settings cannot be used:\n" + "\n".join(f"  - {f}" for f in faults))


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit zone: requests a minute, how many more at once, seconds to ask the client to wait."""

    per_minute: int
    burst: int
    retry_after: int


# R5.17-R5.19, R5.21
LIMITS: Final = {
    "api": Limit(per_minute=100, burst=20, retry_after=1),
    "auth": Limit(per_minute=10, burst=5, retry_after=6),
    "static": Limit(per_minute=1000, burst=100, retry_after=1),
}

# R5.2: the TLS 1.2 suites of Mozilla's intermediate profile without DHE, so without parameters.
CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)

# R5.22, and what proxies elsewhere write: a client's word about itself goes no further.
DISCARDED_REQUEST_HEADERS: Final = (
    "Forwarded",
    "Via",
    "X-Forwarded",
    "X-Forwarded-By",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Original-Forwarded-For",
    "X-Original-URL",
    "X-Rewrite-URL",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Fastly-Client-IP",
    "Front-End-Https",
    "Proxy",
    "X-Internal-Token",
    "X-Actor-Id",
    "X-Actor-IP",
    "X-Actor-User-Agent",
    "X-Request-ID",  # taken over as the correlation id, or refused (R7.16)
    "Range",  # R5.30
    "If-Range",
)

# Status, code, message, name where it is not the status (R5.30, R1.18). An error without a code
# of its own takes the nearest one.
ERROR_ANSWERS: Final[tuple[tuple[int, str, str, str | None], ...]] = (
    (400, "BAD_REQUEST", "The request could not be understood", None),
    (403, "FORBIDDEN", "Access denied", None),
    (404, "NOT_FOUND", "Route $asked_method $asked_path not found", None),
    (405, "BAD_REQUEST", "Method not allowed", None),
    (408, "BAD_REQUEST", "The request took too long", None),
    (411, "BAD_REQUEST", "Length required", None),
    (412, "BAD_REQUEST", "Precondition failed", None),
    (413, "PAYLOAD_TOO_LARGE", "Request body too large", None),
    (414, "BAD_REQUEST", "Request target too long", None),
    (415, "BAD_REQUEST", "Unsupported media type", None),
    (416, "BAD_REQUEST", "Range not satisfiable", None),
    (421, "BAD_REQUEST", "Misdirected request", None),
    (429, "RATE_LIMIT_EXCEEDED", "Too many requests, please try again later", None),
    (429, "RATE_LIMIT_EXCEEDED", "Too many requests, please try again later", "429-auth"),
    (431, "BAD_REQUEST", "Request header fields too large", None),
    (500, "INTERNAL_ERROR", "An unexpected error occurred", None),
    (501, "INTERNAL_ERROR", "Not implemented", None),
    (502, "BAD_GATEWAY", "Bad gateway", None),
    (503, "SERVICE_UNAVAILABLE", "Service unavailable", None),
    (504, "GATEWAY_TIMEOUT", "Gateway timeout", None),
    (505, "INTERNAL_ERROR", "HTTP version not supported", None),
    (507, "INTERNAL_ERROR", "Insufficient storage", None),
)
ERROR_PAGES: Final = (
    (502, "Bad gateway"),
    (503, "Service unavailable"),
    (504, "Gateway timeout"),
)

MEDIA_TYPES: Final = {
    "text/html": "html htm",
    "text/css": "css",
    "text/plain": "txt",
    "text/javascript": "js mjs",
    "application/json": "json",
    "application/manifest+json": "webmanifest",
    "application/xml": "xml",
    "application/wasm": "wasm",
    "application/pdf": "pdf",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpg jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/x-icon": "ico",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "audio/mpeg": "mp3",
    "video/mp4": "mp4",
    "video/webm": "webm",
}
_NOT_ASSETS: Final = frozenset({"html", "htm"})
# R7.20: keys whose values no log may hold; a target that holds one of these is not written out.
_SECRET_WORDS: Final = "token|secret|password|authorization|cookie|signature|api-?key"

_LEAST_WORKER_CONNECTIONS: Final = 16384  # R5.5
_MOST_FILES: Final = 65536
_SAFE_TEXT: Final = re.compile(r"[^\s\"'\\;{}$]+")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]")


def file_limit() -> int:
    """How many files a worker may open here; never more than this process may grant."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if hard == resource.RLIM_INFINITY else min(_MOST_FILES, hard)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """Everything that differs between two edges.

    Attributes:
        http_port: port that redirects.
        https_port: port that serves.
        public_origin: scheme, host and port that clients use; the port unless it is 443.
        certificate_path: the chain, PEM.
        key_path: its key, PEM.
        static_root: folder of the front end; remotes lie in ``mfe/<remote>/``.
        temp_folder: an existing folder that the workers may write to.
        pid_path: where nginx writes its process id.
        access_log: a file.
        error_log: a file, or ``stderr``.
        gateways: ``host:port`` of each gateway.
        source_address: address the edge connects to gateways from; None lets the system choose.
        listen: addresses to listen on; IPv6 in brackets.
        hosts: names that R5.1's redirect may go to; the first is the usual one.
        exempt: addresses and networks free of the limits (R5.20).
        api_docs: whether ``/api-docs`` leads anywhere (R5.11).
        sentry_origin: an origin that pages may connect to besides their own; None for none.
        stapling_resolver: name server for OCSP; None where the certificate names no responder.
        user: account of the workers; only where nginx is started as root.
        workers: number of worker processes, or ``auto``.
        worker_connections: per worker; a proxied WebSocket takes two (R5.5).
        file_limit: open files per worker.
        daemon: whether nginx leaves the terminal.
    """

    http_port: int
    https_port: int
    public_origin: str
    certificate_path: str
    key_path: str
    static_root: str
    temp_folder: str
    pid_path: str
    access_log: str
    error_log: str = "stderr"
    gateways: tuple[str, ...] = ("127.0.0.1:3000",)
    source_address: str | None = None
    listen: tuple[str, ...] = ("127.0.0.1", "[::1]")
    hosts: tuple[str, ...] = ("localhost",)
    exempt: tuple[str, ...] = ()
    api_docs: bool = False
    sentry_origin: str | None = None
    stapling_resolver: str | None = None
    user: str | None = None
    workers: int | str = "auto"
    worker_connections: int = _LEAST_WORKER_CONNECTIONS
    file_limit: int = field(default_factory=file_limit)
    daemon: bool = False


def content_security_policy(public_origin: str, sentry_origin: str | None = None) -> str:
    """R5.24: one policy for everything; connections go to the own origin and nowhere else."""
    connect = ["'self'", "wss://" + urlsplit(public_origin).netloc]
    if sentry_origin:
        connect.append(sentry_origin)
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob: https:",
            "font-src 'self' data:",
            "connect-src " + " ".join(connect),
            "worker-src 'self'",
            "manifest-src 'self'",
            "frame-src 'self'",
            "frame-ancestors 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
        )
    )


def security_headers(settings: EdgeSettings) -> dict[str, str]:
    """R5.23: the headers that every answer has exactly once."""
    return {
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "Content-Security-Policy": content_security_policy(
            settings.public_origin, settings.sentry_origin
        ),
        "X-Frame-Options": "SAMEORIGIN",
        "X-Content-Type-Options": "nosniff",
        "X-XSS-Protection": "1; mode=block",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def render(settings: EdgeSettings) -> str:
    """The text of nginx.conf.

    Raises:
        EdgeSettingsFault: a value would not mean in nginx what it means here.
    """
    faults = list(_faults(settings))
    if faults:
        raise EdgeSettingsFault(faults)
    headers = security_headers(settings)
    port = urlsplit(settings.public_origin).port
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # the text is no HTML; the values were checked above
        keep_trailing_newline=True,
    )
    return environment.get_template("nginx.conf.j2").render(
        s=settings,
        limits=LIMITS,
        ciphers=CIPHERS,
        headers=headers,
        discarded_request_headers=DISCARDED_REQUEST_HEADERS,
        hidden_response_headers=(*headers, "X-Correlation-ID", "X-Powered-By"),  # R1.53, R1.6
        public_port="" if port in (None, 443) else f":{port}",
        error_answers=ERROR_ANSWERS,
        error_pages=ERROR_PAGES,
        media_types=MEDIA_TYPES,
        asset_extensions="|".join(
            extension
            for extensions in MEDIA_TYPES.values()
            for extension in extensions.split()
            if extension not in _NOT_ASSETS
        ),
        secret_words=_SECRET_WORDS,
        quoted=_quoted,
    )


def _quoted(path: str) -> str:
    return f'"{path}"'


def _faults(settings: EdgeSettings) -> list[str]:
    faults = []
    origin = urlsplit(settings.public_origin)
    if origin.scheme != "https" or not origin.hostname or origin.path not in ("", "/"):
        faults.append(f"public_origin is {settings.public_origin!r}, expected https://host[:port]")
    for name in (
        "certificate_path",
        "key_path",
        "static_root",
        "temp_folder",
        "pid_path",
        "access_log",
    ):
        value = getattr(settings, name)
        if not value.startswith("/") or re.search(r'["\\$;{}\n]', value):
            faults.append(f'{name} is {value!r}, expected an absolute path without " \\ $ ; {{ }}')
    if not settings.gateways:
        faults.append("gateways is empty, expected at least one host:port")
    faults += [
        f"gateway {gateway!r}, expected host:port"
        for gateway in settings.gateways
        if not _SAFE_TEXT.fullmatch(gateway) or not gateway.rpartition(":")[2].isdigit()
    ]
    if not settings.hosts:
        faults.append("hosts is empty, expected at least one name")
    faults += [
        f"host {host!r}, expected a name or an address"
        for host in settings.hosts
        if not _HOST.fullmatch(host)
    ]
    for network in settings.exempt:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            faults.append(f"exempt {network!r}, expected an address or a network in CIDR form")
    if settings.worker_connections < _LEAST_WORKER_CONNECTIONS:
        faults.append(
            f"worker_connections is {settings.worker_connections}, "
            f"expected {_LEAST_WORKER_CONNECTIONS} or more (R5.5)"
        )
    for name in ("error_log", "source_address", "sentry_origin", "user", "stapling_resolver"):
        value = getattr(settings, name)
        if value is not None and not re.fullmatch(r"[^\"'\\;{}$\n]+", value):
            faults.append(f"{name} is {value!r}, which nginx would not take as one value")
    return faults

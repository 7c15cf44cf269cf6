"""Looks at a TLS listener with sslyze, and judges what was seen against a profile.

`observe` scans and returns plain values; everything else here is a pure function over them, so a
scan can be judged again from its evidence file.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import tempfile
import threading
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sslyze.errors import ServerHostnameCouldNotBeResolved
from sslyze.mozilla_tls_profile.tls_config_checker import (
    SCAN_COMMANDS_NEEDED_BY_MOZILLA_CHECKER,
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    ServerScanResultIncomplete,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)
from sslyze.plugins.certificate_info.implementation import CertificateInfoExtraArgument
from sslyze.plugins.openssl_cipher_suites._test_cipher_suite import CipherSuiteAcceptedByServer
from sslyze.plugins.robot._robot_tester import RobotScanResultEnum
from sslyze.plugins.scan_commands import ScanCommand
from sslyze.scanner.models import (
    AllScanCommandsAttempts,
    ScanCommandsExtraArguments,
    ServerScanRequest,
    ServerScanResult,
)
from sslyze.scanner.scan_command_attempt import ScanCommandAttemptStatusEnum
from sslyze.scanner.scanner import Scanner
from sslyze.server_setting import ServerNetworkLocation

from harness.verdict import Finding

PROFILE: Final = Path(__file__).parent / "profiles" / "tls.toml"
COMMANDS: Final = frozenset(
    SCAN_COMMANDS_NEEDED_BY_MOZILLA_CHECKER
    | {ScanCommand.TLS_1_3_EARLY_DATA, ScanCommand.SESSION_RESUMPTION}
)
_VERSIONS: Final = {
    "SSLv2": ScanCommand.SSL_2_0_CIPHER_SUITES,
    "SSLv3": ScanCommand.SSL_3_0_CIPHER_SUITES,
    "TLSv1": ScanCommand.TLS_1_0_CIPHER_SUITES,
    "TLSv1.1": ScanCommand.TLS_1_1_CIPHER_SUITES,
    "TLSv1.2": ScanCommand.TLS_1_2_CIPHER_SUITES,
    "TLSv1.3": ScanCommand.TLS_1_3_CIPHER_SUITES,
}
# What each weakness is called in evidence; the word says what is bad about it when it is true.
WEAKNESSES: Final = {
    "heartbleed": "memory can be read by Heartbleed (CVE-2014-0160)",
    "robot": "RSA key exchange is a decryption oracle (ROBOT)",
    "ccs_injection": "early ChangeCipherSpec is taken (CVE-2014-0224)",
    "compression": "TLS compression is offered (CRIME)",
    "insecure_renegotiation": "renegotiation is not bound to its connection (RFC 5746)",
    "client_renegotiation": "clients may renegotiate as often as they like",
    "missing_fallback_scsv": "a downgraded connection is not noticed (RFC 7507)",
    "missing_extended_master_secret": "sessions are not bound to their handshake (RFC 7627)",
    "early_data": "TLS 1.3 early data is taken, which can be replayed",
}


def profile(path: Path = PROFILE) -> dict[str, Any]:
    """The policy file as it is."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


# ---- observe ----


def observe(host: str, port: int, *, ca: str = "", address: str = "") -> dict[str, Any]:
    """Scan one listener; about two seconds.

    Args:
        host: name to ask for by SNI and to check the certificate against.
        port: TCP port.
        ca: file of the CA to trust besides the public ones; empty for none.
        address: where to connect, if not where the name leads.

    Returns:
        ``host port connected reason commands versions curves weaknesses certificates resumption
        mozilla``; what a command did not deliver is missing from its place, and ``commands`` says
        why. Nothing is raised for a listener that cannot be scanned: ``connected`` is false.
    """
    seen: dict[str, Any] = {"host": host, "port": port, "connected": False, "reason": ""}
    extra = ScanCommandsExtraArguments(
        certificate_info=CertificateInfoExtraArgument(custom_ca_file=Path(ca)) if ca else None
    )
    try:
        location = ServerNetworkLocation(host, port, ip_address=address or None)
        request = ServerScanRequest(
            location, scan_commands=set(COMMANDS), scan_commands_extra_arguments=extra
        )
    except (ServerHostnameCouldNotBeResolved, ValueError) as error:
        return seen | {"reason": f"{type(error).__name__}: {error}"}
    with warnings.catch_warnings():
        # sslyze reads every public trust store; what is odd about those is not the target's fault
        warnings.simplefilter("ignore")
        scanner = Scanner(per_server_concurrent_connections_limit=5)
        scanner.queue_scans([request])
        (result,) = scanner.get_results()
    if result.scan_result is None:
        trace = result.connectivity_error_trace
        return seen | {"reason": str(trace).strip() if trace else "no connection"}
    scan = result.scan_result
    seen["connected"] = True
    seen["commands"] = {
        command.value: _attempt(getattr(scan, command.value)) for command in sorted(COMMANDS)
    }
    seen["versions"] = {
        name: [_suite(accepted) for accepted in found.accepted_cipher_suites]
        for name, command in _VERSIONS.items()
        if (found := getattr(scan, command.value).result) is not None
    }
    curves = scan.elliptic_curves.result
    seen["curves"] = [c.name for c in curves.supported_curves or []] if curves else None
    seen["weaknesses"] = _weaknesses(scan)
    seen["certificates"] = _certificates(scan, host)
    resumption = scan.session_resumption.result
    seen["resumption"] = resumption and {
        "session_ids": resumption.session_id_resumption_result.value,
        "tickets": resumption.tls_ticket_resumption_result.value,
    }
    seen["mozilla"] = {
        name.value: _mozilla(result, name)
        for name in (TlsConfigurationEnum.MOZILLA_INTERMEDIATE, TlsConfigurationEnum.MOZILLA_MODERN)
    }
    return seen


def _attempt(attempt: Any) -> str:
    """``completed``, or why not."""
    if attempt.status == ScanCommandAttemptStatusEnum.COMPLETED:
        return "completed"
    reason = attempt.error_reason.value if attempt.error_reason else attempt.status.value
    trace = str(attempt.error_trace).strip().splitlines() if attempt.error_trace else []
    return f"{reason}: {trace[-1]}" if trace else str(reason)


def _suite(accepted: CipherSuiteAcceptedByServer) -> dict[str, Any]:
    key = accepted.ephemeral_key
    return {
        "name": accepted.cipher_suite.name,
        "exchange": key.type_name if key else "",
        "bits": key.size if key else 0,
    }


def _weaknesses(scan: AllScanCommandsAttempts) -> dict[str, bool]:
    """Each weakness that was looked for and could be told; true is bad."""
    found: dict[str, bool] = {}
    if heartbleed := scan.heartbleed.result:
        found["heartbleed"] = heartbleed.is_vulnerable_to_heartbleed
    if robot := scan.robot.result:
        inconsistent = RobotScanResultEnum.UNKNOWN_INCONSISTENT_RESULTS
        if robot.robot_result != inconsistent:  # then it could not be told
            found["robot"] = robot.robot_result in (
                RobotScanResultEnum.VULNERABLE_STRONG_ORACLE,
                RobotScanResultEnum.VULNERABLE_WEAK_ORACLE,
            )
    if ccs := scan.openssl_ccs_injection.result:
        found["ccs_injection"] = ccs.is_vulnerable_to_ccs_injection
    if compression := scan.tls_compression.result:
        found["compression"] = compression.supports_compression
    if renegotiation := scan.session_renegotiation.result:
        found["insecure_renegotiation"] = not renegotiation.supports_secure_renegotiation
        found["client_renegotiation"] = renegotiation.is_vulnerable_to_client_renegotiation_dos
    if fallback := scan.tls_fallback_scsv.result:
        found["missing_fallback_scsv"] = not fallback.supports_fallback_scsv
    if master := scan.tls_extended_master_secret.result:
        found["missing_extended_master_secret"] = not master.supports_ems_extension
    if early := scan.tls_1_3_early_data.result:
        found["early_data"] = early.supports_early_data
    return found


def _certificates(scan: AllScanCommandsAttempts, host: str) -> list[dict[str, Any]]:
    information = scan.certificate_info.result
    if information is None:
        return []
    return [
        {
            **describe(deployment.received_certificate_chain[0]),
            "chain": [c.subject.rfc4514_string() for c in deployment.received_certificate_chain],
            "trusted_by": sorted(
                path.trust_store.name
                for path in deployment.path_validation_results
                if path.was_validation_successful
            ),
            "complaints": sorted(
                {p.validation_error for p in deployment.path_validation_results}
                - {None}  # a store that trusts it says nothing
            ),
            "stapled": deployment.ocsp_response is not None,
            "asked_for": host,
        }
        for deployment in information.certificate_deployments
    ]


def _mozilla(result: ServerScanResult, name: TlsConfigurationEnum) -> dict[str, Any]:
    """sslyze's own judgement: its issues, or why it has none to give."""
    try:
        check_server_against_tls_configuration(result, MozillaTlsConfiguration.get(name))
    except ServerNotCompliantWithTlsConfiguration as fault:
        return {"complete": True, "issues": fault.issues}
    except ServerScanResultIncomplete as gap:
        return {"complete": False, "issues": {}, "reason": str(gap)}
    return {"complete": True, "issues": {}}


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """What the checks need to know of a certificate, as plain values."""
    key = certificate.public_key()
    kind, bits, curve = type(key).__name__, 0, ""
    if isinstance(key, rsa.RSAPublicKey):
        kind, bits = "RSA", key.key_size
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind, bits, curve = "EC", key.key_size, key.curve.name
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "dns_names": names.get_values_for_type(x509.DNSName),
        "addresses": [str(a) for a in names.get_values_for_type(x509.IPAddress)],
        "key": kind,
        "bits": bits,
        "curve": curve,
        "signature": certificate.signature_algorithm_oid._name,
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


# ---- judge ----


def gaps(seen: Mapping[str, Any]) -> dict[str, str]:
    """What could not be looked at, each with its reason; empty when the scan is whole."""
    if not seen["connected"]:
        return {"listener": f"could not be scanned: {seen['reason']}"}
    missing = {
        command: str(state) for command, state in seen["commands"].items() if state != "completed"
    }
    missing |= {
        weakness: "the scan could not tell"
        for weakness in WEAKNESSES
        if weakness not in seen["weaknesses"]
    }
    return missing


def judge_versions(seen: Mapping[str, Any], level: Mapping[str, Any]) -> list[Finding]:
    """Every version outside the profile is refused, every one inside works with some suite."""
    findings = []
    for version, suites in seen["versions"].items():
        if suites and version not in level["versions"]:
            names = ", ".join(suite["name"] for suite in suites[:3])
            findings.append(
                Finding(version, f"accepted with {names}", "refused", severity="critical")
            )
        if not suites and version in level["versions"]:
            findings.append(Finding(version, "no suite accepted", "at least one suite"))
    return findings


def judge_suites(seen: Mapping[str, Any], level: Mapping[str, Any]) -> list[Finding]:
    """Every accepted suite is one of the profile's, with long enough finite field parameters."""
    findings = []
    for version, suites in seen["versions"].items():
        for suite in suites:
            place = f"{version} {suite['name']}"
            if suite["name"] not in level["suites"]:
                findings.append(Finding(place, "accepted", "refused: not in the profile"))
            if suite["exchange"] == "DH" and suite["bits"] < level["least_dh_bits"]:
                wanted = f"{level['least_dh_bits']} bits or more"
                findings.append(Finding(place, f"{suite['bits']} bits of DH", wanted))
    return findings


def judge_curves(seen: Mapping[str, Any], level: Mapping[str, Any]) -> list[Finding]:
    """Every curve that is offered is one of the profile's."""
    return [
        Finding(f"curve {curve}", "accepted", "refused: not in the profile")
        for curve in seen["curves"] or []
        if curve not in level["curves"]
    ]


def judge_mozilla(seen: Mapping[str, Any], name: str) -> list[Finding]:
    """sslyze's own comparison with Mozilla's profile of this name has no issue."""
    return [
        Finding(f"Mozilla {name}: {issue}", text, "no issue")
        for issue, text in seen["mozilla"][name]["issues"].items()
    ]


def judge_weaknesses(seen: Mapping[str, Any]) -> list[Finding]:
    """No known weakness was found; see `gaps` for those that were not looked at."""
    return [
        Finding(name, WEAKNESSES[name], "absent", severity="critical")
        for name, present in seen["weaknesses"].items()
        if present
    ]


def judge_certificates(
    seen: Mapping[str, Any],
    policy: Mapping[str, Any],
    *,
    least_days: float,
    at: datetime | None = None,
    own_ca: bool = True,
) -> list[Finding]:
    """Each certificate is trusted, for the name, strong, and valid for long enough.

    Args:
        policy: the profile's ``certificate`` table.
        least_days: days of validity that must be left.
        at: when it is judged; default now. Offline judgement passes the time of the scan.
        own_ca: whether trust in the CA that was given counts; else a public store must trust it.
    """
    now = at or datetime.now(UTC)
    findings = []
    if not seen["certificates"]:
        findings.append(Finding("certificate", "none was sent", "one that is valid"))
    for certificate in seen["certificates"]:
        place = f"certificate {certificate['subject']}"
        trusted = [s for s in certificate["trusted_by"] if own_ca or s != OWN_STORE]
        if not trusted:
            said = "; ".join(certificate["complaints"]) or "no store trusts it"
            findings.append(Finding(place, said, "a chain to a trusted CA", severity="critical"))
        if not name_matches(certificate, certificate["asked_for"]):
            names = ", ".join([*certificate["dns_names"], *certificate["addresses"]])
            findings.append(Finding(place, f"for {names}", f"for {certificate['asked_for']}"))
        start = datetime.fromisoformat(certificate["not_before"])
        end = datetime.fromisoformat(certificate["not_after"])
        left = (end - now) / timedelta(days=1)
        if left < least_days:
            wanted = f"{least_days:g} days or more"
            findings.append(Finding(place, f"{left:.1f} days left", wanted, severity="critical"))
        if start > now:
            findings.append(Finding(place, f"valid from {start}", f"valid at {now}"))
        life = (end - start).days
        if life > policy["longest_life_days"]:
            wanted = f"{policy['longest_life_days']} days or fewer"
            findings.append(Finding(place, f"lives {life} days", wanted, severity="minor"))
        if certificate["key"] == "RSA":
            strong = certificate["bits"] >= policy["least_rsa_bits"]
        else:
            strong = certificate["key"] == "EC" and certificate["curve"] in policy["curves"]
        if not strong:
            seen_key = f"{certificate['key']} {certificate['bits']} {certificate['curve']}".strip()
            curves = " or ".join(policy["curves"])
            wanted = f"RSA of {policy['least_rsa_bits']} bits or more, or {curves}"
            findings.append(Finding(place, seen_key, wanted))
        if certificate["signature"] not in policy["signatures"]:
            allowed = ", ".join(policy["signatures"])
            findings.append(Finding(place, f"signed by {certificate['signature']}", allowed))
    return findings


# The name sslyze gives to the CA file that it was handed.
OWN_STORE: Final = "Supplied CA file"


def name_matches(certificate: Mapping[str, Any], host: str) -> bool:
    """RFC 6125: an exact name, one wildcard label at the left, or an address."""
    try:
        return str(ipaddress.ip_address(host)) in certificate["addresses"]
    except ValueError:
        pass
    wanted = host.lower().rstrip(".")
    _first, _, rest = wanted.partition(".")
    for name in (str(each).lower() for each in certificate["dns_names"]):
        if name == wanted or (name.startswith("*.") and rest and name[2:] == rest):
            return True
    return False


# ---- the scanner's own proof ----


@contextlib.contextmanager
def weak_listener() -> Iterator[int]:
    """A listener of our own that every scan must flag: TLS 1.0 up, any suite, 1024-bit RSA.

    Yields:
        its port on 127.0.0.1; ended on exit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # to be weak is its purpose
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:!aNULL:@SECLEVEL=0")
    with tempfile.TemporaryDirectory(prefix="seatrial-weak-") as folder:
        certificate, key = _weak_certificate(Path(folder))
        context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        server.settimeout(0.2)
        ended = threading.Event()
        acceptor = threading.Thread(target=_accept, args=(server, context, ended), daemon=True)
        acceptor.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            acceptor.join(5)


def _accept(server: socket.socket, context: ssl.SSLContext, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            connection, _peer = server.accept()
        except TimeoutError:
            continue
        threading.Thread(target=_shake_hands, args=(connection, context), daemon=True).start()


def _shake_hands(connection: socket.socket, context: ssl.SSLContext) -> None:
    connection.settimeout(5)
    with (
        contextlib.suppress(OSError, ssl.SSLError),
        connection,
        context.wrap_socket(connection, server_side=True) as spoken,
    ):
        while spoken.recv(4096):
            pass


def _weak_certificate(folder: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak.invalid")])
    start = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    paths = folder / "weak.pem", folder / "weak.key"
    paths[0].write_bytes(certificate.public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return paths

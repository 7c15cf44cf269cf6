"""Section 10 on the running platform, through the edge."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest

pytestmark = pytest.mark.platform

PASSWORD = "Harbour-Light-42"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PAYMENT = """
  id userId senderId recipientId amount currency status type description metadata pspTransactionId
  pspStatus failureReason completedAt createdAt updatedAt sender { id email } recipient { id email }
  transactions { id status statusMessage pspTransactionId metadata createdAt }
"""


@dataclass
class Answer:
    """What came back."""

    status: int
    body: dict[str, Any]
    headers: httpx.Headers = field(default_factory=httpx.Headers)

    @property
    def data(self) -> dict[str, Any]:
        """The data of an answer without errors."""
        assert self.status == 200, self.body
        assert "errors" not in self.body, self.body
        found: dict[str, Any] = self.body["data"]
        return found

    @property
    def codes(self) -> list[str]:
        """The codes of the errors."""
        return [error["extensions"]["code"] for error in self.body["errors"]]


class Person:
    """Somebody with a token, or nobody; speaks GraphQL and REST."""

    def __init__(self, http: httpx.Client, data: dict[str, Any] | None = None) -> None:
        self.http = http
        self.data = data or {}
        token = self.data.get("accessToken")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    @property
    def id(self) -> str:
        """The account."""
        return str(self.data["user"]["id"])

    @property
    def email(self) -> str:
        """Its address."""
        return str(self.data["user"]["email"])

    def ask(self, query: str, headers: dict[str, str] | None = None, **variables: Any) -> Answer:
        """Execute a document."""
        return self.post({"query": query, "variables": variables}, headers)

    def post(self, body: Any, headers: dict[str, str] | None = None) -> Answer:
        """Send any JSON."""
        given = {**self.headers, **(headers or {})}
        answer = self.http.post("/graphql", json=body, headers=given)
        return Answer(answer.status_code, answer.json(), answer.headers)

    def rest(self, method: str, path: str, **named: Any) -> Any:
        """`data` of a REST route."""
        answer = self.http.request(method, path, headers=self.headers, **named)
        assert answer.is_success, answer.text
        return answer.json()["data"]


def client(stack: Any, address: str) -> httpx.Client:
    """A client of the edge from an address."""
    transport = httpx.HTTPTransport(verify=stack.trust, local_address=address)
    return httpx.Client(base_url=stack.origin, transport=transport, timeout=20)


@pytest.fixture
def http(stack: Any) -> Iterator[httpx.Client]:
    """From an address that no limit counts."""
    with client(stack, stack.exempt) as opened:
        yield opened


@pytest.fixture
def nobody(http: httpx.Client) -> Person:
    """Without a token."""
    return Person(http)


@pytest.fixture
def member(nobody: Person) -> Person:
    """A newcomer."""
    return newcomer(nobody)


@pytest.fixture
def admin(stack: Any, nobody: Person) -> Person:
    """The seeded administrator."""
    account = stack.account("admin")
    body = {"email": account["email"], "password": account["password"]}
    return Person(nobody.http, nobody.rest("POST", "/api/auth/login", json=body))


def newcomer(nobody: Person) -> Person:
    """Register somebody through GraphQL."""
    answer = nobody.ask(
        "mutation($i:RegisterInput!){register(input:$i)"
        "{accessToken refreshToken expiresIn user{id email name role createdAt updatedAt}}}",
        i={"email": f"{uuid.uuid4()}@x.test", "password": PASSWORD, "name": "Newcomer"},
    )
    return Person(nobody.http, answer.data["register"])


def pay(payer: Person, payee: Person, **changes: Any) -> dict[str, Any]:
    """A payment made through GraphQL."""
    given = {
        "type": "INSTANT",
        "amount": "100.50",
        "currency": "USD",
        "description": "Lunch",
        "recipientId": payee.id,
        **changes,
    }
    made: dict[str, Any] = payer.ask(
        f"mutation($i:CreatePaymentInput!){{createPayment(input:$i){{{PAYMENT}}}}}", i=given
    ).data["createPayment"]
    return made


def test_r10_2_register_login_refresh_and_logout(nobody: Person, member: Person) -> None:
    """A session from its beginning to its end; refresh gives the user too."""
    credentials = {"email": member.email, "password": PASSWORD}
    session = nobody.ask(
        "mutation($i:LoginInput!){login(input:$i){accessToken refreshToken expiresIn user{id}}}",
        i=credentials,
    ).data["login"]
    assert session["user"] == {"id": member.id}
    assert session["expiresIn"] == "15m"
    renewed = nobody.ask(
        "mutation($t:String!){refreshToken(refreshToken:$t){accessToken refreshToken user{email}}}",
        t=session["refreshToken"],
    ).data["refreshToken"]
    assert renewed["user"] == {"email": member.email}
    there = Person(nobody.http, {**renewed, "user": session["user"]})
    assert there.ask("mutation{logout}").data == {"logout": True}
    assert there.ask("{me{id}}").codes == ["TOKEN_REVOKED"]


def test_r10_2_me_and_profile_are_those_of_rest(member: Person) -> None:
    """Same data as the REST counterparts."""
    found = member.ask(
        "{me{id email name role createdAt updatedAt}"
        " profile{id userId avatarUrl phone address bio preferences createdAt updatedAt}}"
    ).data
    assert found["me"] == member.rest("GET", "/api/auth/me")
    assert found["profile"] == member.rest("GET", "/api/profile")


def test_r10_2_a_profile_is_updated(member: Person) -> None:
    """Fields and preferences in one go; null clears."""
    change = (
        "mutation($i:UpdateProfileInput!){updateProfile(input:$i){phone bio address preferences}}"
    )
    first = member.ask(
        change, i={"phone": "+44 20 7946 0000", "bio": "x", "preferences": {"theme": "dark"}}
    ).data["updateProfile"]
    assert (first["phone"], first["bio"]) == ("+44 20 7946 0000", "x")
    assert first["preferences"]["theme"] == "dark"
    second = member.ask(change, i={"bio": None}).data["updateProfile"]
    assert (second["phone"], second["bio"]) == ("+44 20 7946 0000", None)
    cleaned = member.ask(change, i={"address": " a\0b<i> "}).data["updateProfile"]
    assert cleaned["address"] == "ab"
    only = member.ask(change, i={"preferences": {"theme": "light"}}).data["updateProfile"]
    assert (only["phone"], only["preferences"]["theme"]) == ("+44 20 7946 0000", "light")
    refused = member.ask(change, i={"preferences": {"theme": "pink"}})
    assert refused.codes == ["VALIDATION_ERROR"]


@pytest.mark.parametrize(
    "change",
    [
        {"bio": "half", "preferences": {"theme": "pink"}},
        {"phone": "half", "preferences": {"theme": "light"}},
        {"bio": "half", "preferences": "light"},
    ],
)
def test_r10_2_a_profile_is_never_updated_by_half(member: Person, change: dict[str, Any]) -> None:
    """R1.152: whichever half is refused, the other has not happened and no event tells of it."""
    update = "mutation($i:UpdateProfileInput!){updateProfile(input:$i){bio}}"
    member.ask(update, i={"bio": "whole", "preferences": {"theme": "dark"}})
    before = member.rest("GET", "/api/profile")

    refused = member.ask(update, i=change)

    assert refused.codes == ["VALIDATION_ERROR"]
    assert member.rest("GET", "/api/profile") == before
    assert (before["bio"], before["preferences"]) == ("whole", {"theme": "dark"})


def test_r10_2_a_profile_is_updated_by_one_change(member: Person, stack: Any) -> None:
    """R1.152: fields and preferences together are one event with the names of both."""
    key = f"graphql-{uuid.uuid4()}"
    member.ask(
        "mutation($i:UpdateProfileInput!){updateProfile(input:$i){bio}}",
        {"X-Correlation-ID": key},
        i={"bio": "x", "preferences": {"theme": "dark"}},
    )
    with psycopg.connect(stack.database("profile")) as db:
        told = db.execute(
            "SELECT envelope->'data'->'fields' FROM outbox"
            " WHERE envelope->'metadata'->>'correlationId' = %s",
            [key],
        ).fetchall()
    assert told == [(["bio", "preferences"],)]


def test_r10_2_payments_from_creation_to_cancellation(nobody: Person, member: Person) -> None:
    """Create, read, change, cancel: the data of REST, enums in capitals, userId the sender."""
    payee = newcomer(nobody)
    made = pay(member, payee)
    assert (made["userId"], made["senderId"]) == (member.id, member.id)
    assert (made["status"], made["type"], made["amount"]) == ("PENDING", "INSTANT", "100.50")
    assert made["recipient"] == {"id": payee.id, "email": payee.email}
    assert [step["statusMessage"] for step in made["transactions"]] == ["Payment created"]
    shown = member.ask(f"query($id:ID!){{payment(id:$id){{{PAYMENT}}}}}", id=made["id"]).data
    rest = member.rest("GET", f"/api/payments/{made['id']}")
    assert shown["payment"] == {
        **{key: value for key, value in rest.items() if key != "transactions"},
        "userId": rest["senderId"],
        "status": "PENDING",
        "type": "INSTANT",
        "transactions": [
            {**{k: v for k, v in step.items() if k != "paymentId"}, "status": "PENDING"}
            for step in rest["transactions"]
        ],
    }
    changed = member.ask(
        "mutation($id:ID!,$i:UpdatePaymentInput!){updatePayment(id:$id,input:$i)"
        "{amount currency transactions{statusMessage}}}",
        id=made["id"],
        i={"amount": 7, "currency": None},
    ).data["updatePayment"]
    assert (changed["amount"], changed["currency"]) == ("7.00", "USD")
    assert len(changed["transactions"]) == 2
    remove = "mutation($id:ID!){deletePayment(id:$id)}"
    assert member.ask(remove, id=made["id"]).data == {"deletePayment": True}
    assert member.rest("GET", f"/api/payments/{made['id']}")["status"] == "cancelled"
    again = member.ask(remove, id=made["id"])
    assert (again.codes, again.body["data"]) == (["INVALID_STATUS_TRANSITION"], None)


def test_r10_2_a_status_is_changed_by_an_admin(
    nobody: Person, member: Person, admin: Person
) -> None:
    """With its reason and its relations, which REST's PATCH leaves out."""
    made = pay(member, newcomer(nobody))
    change = (
        "mutation($id:ID!,$s:PaymentStatus!,$r:String){updatePaymentStatus(id:$id,status:$s,"
        "reason:$r){status failureReason sender{id} transactions{status}}}"
    )
    refused = member.ask(change, id=made["id"], s="PROCESSING")
    assert refused.codes == ["FORBIDDEN"]
    admin.ask(change, id=made["id"], s="PROCESSING")
    failed = admin.ask(change, id=made["id"], s="FAILED", r="No").data["updatePaymentStatus"]
    assert failed["status"] == "FAILED"
    assert failed["failureReason"] == "No"
    assert failed["sender"] == {"id": member.id}
    assert [step["status"] for step in failed["transactions"]] == [
        "PENDING",
        "PROCESSING",
        "FAILED",
    ]


def test_r10_2_an_idempotency_key_makes_one_payment(nobody: Person, member: Person) -> None:
    """R1.114 through GraphQL."""
    payee = newcomer(nobody)
    create = (
        "mutation($i:CreatePaymentInput!,$k:String){createPayment(input:$i,idempotencyKey:$k){id}}"
    )
    given = {"type": "INSTANT", "amount": "1", "description": "x", "recipientId": payee.id}
    first = member.ask(create, i=given, k="a key").data
    assert member.ask(create, i=given, k="a key").data == first
    other = member.ask(create, i={**given, "amount": "2"}, k="a key")
    assert other.codes == ["IDEMPOTENCY_KEY_REUSED"]
    assert member.ask(create, i=given, k="\n").codes == ["VALIDATION_ERROR"]


def test_r10_2_administration(nobody: Person, member: Person, admin: Person) -> None:
    """Users, roles, configuration and the audit log as in REST."""
    found = admin.ask(
        "query($s:String,$id:ID!){users(search:$s){edges{node{id email status role}} totalCount}"
        ' user(id:$id){id name status} systemConfig(key:"app.version"){key value updatedAt}'
        " auditLogs(input:{first:3}){edges{node{id action createdAt}} totalCount}}",
        s=member.email,
        id=member.id,
    )
    assert found.data["users"] == {
        "edges": [
            {
                "node": {
                    "id": member.id,
                    "email": member.email,
                    "status": "ACTIVE",
                    "role": "CUSTOMER",
                }
            }
        ],
        "totalCount": 1,
    }
    assert found.data["user"] == {"id": member.id, "name": "Newcomer", "status": "ACTIVE"}
    assert found.data["systemConfig"]["value"] == "1.0.0"
    assert len(found.data["auditLogs"]["edges"]) == 3
    role = "mutation($id:ID!){updateUserRole(id:$id,role:VENDOR){role}}"
    assert admin.ask(role, id=member.id).data == {"updateUserRole": {"role": "VENDOR"}}
    stored = admin.ask(
        'mutation($v:JSON!){updateSystemConfig(key:"graphql.test",value:$v,description:"d")'
        "{key value description}}",
        v={"a": [1, None]},
    ).data["updateSystemConfig"]
    assert stored == {"key": "graphql.test", "value": {"a": [1, None]}, "description": "d"}


def test_r10_3_connections_lead_through_the_whole_list(nobody: Person, member: Person) -> None:
    """Forwards and backwards, every payment once, newest first, also when new ones come."""
    payee = newcomer(nobody)
    made = [pay(member, payee, description=f"p{number}")["id"] for number in range(7)]
    newest_first = made[::-1]
    page = (
        "query($i:PaginationInput){payments(input:$i){totalCount edges{cursor node{id}}"
        " pageInfo{hasNextPage hasPreviousPage startCursor endCursor}}}"
    )

    def ids(**wish: Any) -> tuple[list[str], dict[str, Any]]:
        found = member.ask(page, i=wish).data["payments"]
        return [edge["node"]["id"] for edge in found["edges"]], found["pageInfo"]

    first, info = ids(first=3)
    assert first == newest_first[:3]
    assert (info["hasNextPage"], info["hasPreviousPage"]) == (True, False)
    second, info = ids(first=3, after=info["endCursor"])
    assert second == newest_first[3:6]
    assert ids(last=3, before=info["startCursor"])[0] == newest_first[:3]
    newer = pay(member, payee)["id"]
    third, info = ids(first=3, after=info["endCursor"])
    assert third == newest_first[6:]
    assert (info["hasNextPage"], info["hasPreviousPage"]) == (False, True)
    assert ids(last=2)[0] == newest_first[5:]
    assert ids(first=100)[0] == [newer, *newest_first]
    filtered = member.ask("{payments(filter:{status:CANCELLED}){totalCount edges{cursor}}}").data
    assert filtered["payments"] == {"totalCount": 0, "edges": []}


@pytest.mark.parametrize(
    "wish",
    [{"first": 0}, {"first": 101}, {"last": 0}, {"last": 101}, {"first": -1}, {"after": "x"}],
)
def test_r10_3_out_of_range_is_a_validation_error(member: Person, wish: dict[str, Any]) -> None:
    """As an execution error."""
    answer = member.ask("query($i:PaginationInput){payments(input:$i){totalCount}}", i=wish)
    assert (answer.status, answer.codes) == (200, ["VALIDATION_ERROR"])


def test_r10_4_errors_have_the_codes_and_statuses_of_rest(
    nobody: Person, member: Person, admin: Person
) -> None:
    """No token, a bad one, a wrong role, an unknown id; public fields work all the same."""
    missing = nobody.ask("{me{id}}")
    assert missing.status == 200
    assert missing.body["data"] is None
    assert missing.body["errors"][0]["path"] == ["me"]
    assert missing.body["errors"][0]["extensions"] == {"code": "UNAUTHORIZED", "status": 401}
    bad = nobody.ask("{me{id} __typename}", {"Authorization": "Bearer x"})
    assert bad.codes == ["TOKEN_INVALID"]
    assert nobody.ask("{__typename}", {"Authorization": "Bearer x"}).data == {"__typename": "Query"}
    assert member.ask("{users{totalCount}}").codes == ["FORBIDDEN"]
    assert nobody.ask("{users(input:{first:0}){totalCount}}").codes == ["UNAUTHORIZED"]
    unknown = str(uuid.uuid4())
    for person, query, code in (
        (member, "query($id:ID!){payment(id:$id){id}}", "PAYMENT_NOT_FOUND"),
        (admin, "query($id:ID!){user(id:$id){id}}", "USER_NOT_FOUND"),
        (admin, "query($id:String!){systemConfig(key:$id){key}}", "CONFIG_NOT_FOUND"),
    ):
        answer = person.ask(query, id="k" + unknown if "systemConfig" in query else unknown)
        assert answer.codes == [code]
        assert list(answer.body["data"].values()) == [None]
        assert answer.body["errors"][0]["extensions"]["status"] == 404
    for id in ("x", "", "..", "../../internal/users", "a/b", "a?b"):
        assert member.ask("query($id:ID!){payment(id:$id){id}}", id=id).codes == [
            "VALIDATION_ERROR"
        ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{nothing}"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query($n:Int!){__typename}"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A{__typename} query B{__typename}"}, "GRAPHQL_VALIDATION_FAILED"),
        (
            {
                "query": "query($i:PaginationInput){payments(input:$i){totalCount}}",
                "variables": {"i": {"first": "x"}},
            },
            "GRAPHQL_VALIDATION_FAILED",
        ),
        ({"query": "subscription{a}"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "{" + "{".join("a" * 9) + "}" * 9}, "QUERY_TOO_DEEP"),
        ({"query": "{" + "a{" * 3000 + "}"}, None),
        ({"query": "{payments(input:{first:2500}){edges{cursor}}}"}, "QUERY_TOO_COMPLEX"),
        ({"query": "{" + " ".join(f"a{i}:__typename" for i in range(11)) + "}"}, None),
        ({"query": "{me{" + " ".join(f"a{i}:id" for i in range(11)) + "}}"}, "TOO_MANY_ALIASES"),
        ({"query": "{" + "me{id} " * 11 + "}"}, "TOO_MANY_ROOT_FIELDS"),
        ({"query": "{me{id}}" + " fragment F on User{id}" * 50}, "QUERY_TOO_COMPLEX"),
        ([{"query": "{__typename}"}], "BATCHING_DISABLED"),
        ({"query": "{__typename}" + " " * 10240}, "QUERY_TOO_LARGE"),
        ({"query": "{__schema{queryType{name}}}"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "mutation{logout login(input:{}) {x} register(input:{}){x}}"}, None),
        ({}, "VALIDATION_ERROR"),
        ({"query": 1}, "VALIDATION_ERROR"),
        ({"query": "{__typename}", "variables": []}, "VALIDATION_ERROR"),
    ],
)
def test_r10_5_what_is_refused_before_it_runs(member: Person, body: Any, code: str | None) -> None:
    """HTTP 400, `errors` and nothing else; the code says why (None: one of several)."""
    answer = member.post(body)
    assert (answer.status, set(answer.body)) == (400, {"errors"})
    if code is not None:
        assert set(answer.codes) == {code}


def test_r10_5_bodies_that_are_no_request(member: Person) -> None:
    """R1.9, R1.10 hold here too; another media type executes nothing (R10.8)."""
    http, headers = member.http, {**member.headers, "Content-Type": "application/json"}
    broken = http.post("/graphql", content="{", headers=headers)
    assert broken.status_code == 400
    assert broken.json()["errors"][0]["extensions"]["code"] == "INVALID_JSON"
    large = http.post("/graphql", content=b" " * 102_401, headers=headers)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    for media_type in ("text/plain", "application/graphql", "application/x-www-form-urlencoded"):
        other = http.post(
            "/graphql",
            content='{"query":"mutation{logout}"}',
            headers={**headers, "Content-Type": media_type},
        )
        assert other.status_code == 400
    assert member.ask("{me{id}}").data["me"]["id"] == member.id


def test_r10_6_credentials_are_limited_together_with_rest(stack: Any) -> None:
    """R1.43: six at once by REST and GraphQL together, then 429 with REST's body."""
    address = f"127.0.3.{uuid.uuid4().int % 200 + 20}"
    with httpx.Client(
        base_url=stack.services["gateway"],
        transport=httpx.HTTPTransport(local_address=address),
        timeout=20,
    ) as http:
        nobody = Person(http)
        refresh = 'mutation{refreshToken(refreshToken:"x"){expiresIn}}'
        for turn in range(6):
            if turn % 2:
                http.post("/api/auth/refresh", json={"refreshToken": "x"})
            else:
                assert nobody.ask(refresh).codes == ["TOKEN_INVALID"]
        refused = nobody.ask(refresh)
        assert refused.status == 429
        assert refused.body["error"]["code"] == "RATE_LIMIT_EXCEEDED"
        assert int(refused.headers["retry-after"]) >= 1
        assert nobody.ask("{__typename}").status == 200


def test_r10_6_lockout_holds_for_graphql(nobody: Person) -> None:
    """R1.76: the third attempt comes too early: 429 with REST's body; a cookie is never set."""
    person = newcomer(nobody)
    attempt = "mutation($i:LoginInput!){login(input:$i){expiresIn}}"
    wrong = {"email": person.email, "password": "Wrong-Password-42"}
    cookie = {"X-Token-Transport": "cookie"}
    first = nobody.ask(attempt, cookie, i=wrong)
    assert (first.status, first.codes) == (200, ["INVALID_CREDENTIALS"])
    nobody.ask(attempt, cookie, i=wrong)
    early = nobody.ask(attempt, cookie, i=wrong)
    assert (early.status, early.body["error"]["code"]) == (429, "TOO_MANY_ATTEMPTS")
    assert "retry-after" in early.headers
    other = newcomer(nobody)
    answer = nobody.ask(attempt, cookie, i={"email": other.email, "password": PASSWORD})
    assert answer.data["login"] == {"expiresIn": "15m"}
    assert "set-cookie" not in answer.headers


def test_r10_7_production_hides_the_schema(member: Person) -> None:
    """No introspection, no suggestions, no stack traces."""
    near = member.ask("{mee{id}}")
    assert near.status == 400
    assert "Did you mean" not in str(near.body)
    hidden = member.ask('{__type(name:"User"){name}}')
    assert hidden.codes == ["GRAPHQL_VALIDATION_FAILED"]
    value = member.ask("query($s:PaymentStatus){payments(filter:{status:$s}){totalCount}}", s="P")
    assert value.status == 400
    assert "Did you mean" not in str(value.body)


def test_r10_8_get_informs_and_runs_nothing(member: Person) -> None:
    """Whatever its query says."""
    answer = member.http.get(
        "/graphql", params={"query": "mutation{logout}"}, headers=member.headers
    )
    told = answer.json()
    assert answer.status_code == 200
    assert {"success", "message", "endpoint", "method", "headers", "exampleQuery"} == set(told)
    assert (told["endpoint"], told["method"]) == ("/graphql", "POST")
    assert "payments" in member.ask(told["exampleQuery"]).data
    assert member.http.put("/graphql", headers=member.headers).status_code == 404


def asked(stack: Any) -> dict[str, int]:
    """What payments-service has answered so far, by path."""
    text = httpx.get(f"{stack.services['payments']}/metrics", timeout=10).text
    found: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith("http_requests_total{"):
            path = line.partition('path="')[2].partition('"')[0]
            found[path] = found.get(path, 0) + int(float(line.rpartition(" ")[2]))
    return found


@pytest.mark.parametrize("number", [1, 12])
def test_r10_9_histories_of_a_list_come_in_one_call(
    nobody: Person, member: Person, stack: Any, number: int
) -> None:
    """However many payments are listed, payments-service is asked twice; the data is REST's."""
    payee = newcomer(nobody)
    made = [pay(member, payee)["id"] for _ in range(number)]
    before = asked(stack)

    edges = member.ask(
        "{payments(input:{first:100}){edges{node{id sender{id} transactions"
        "{id status statusMessage pspTransactionId metadata createdAt}}}}}"
    ).data["payments"]["edges"]

    after = asked(stack)
    calls = {path: count - before.get(path, 0) for path, count in after.items()}
    assert {path: count for path, count in calls.items() if count and "payments" in path} == {
        "/payments": 1,
        "/internal/payments/transactions": 1,
    }
    assert {edge["node"]["id"] for edge in edges} == set(made)
    for node in (edge["node"] for edge in edges):
        steps = member.rest("GET", f"/api/payments/{node['id']}")["transactions"]
        assert node["transactions"] == [
            {**{k: v for k, v in step.items() if k != "paymentId"}, "status": "PENDING"}
            for step in steps
        ]


def test_r10_9_correlation_reaches_the_services(member: Person, nobody: Person, stack: Any) -> None:
    """The event of a payment made by GraphQL carries the request's id, address and agent."""
    made = member.ask(
        "mutation($i:CreatePaymentInput!){createPayment(input:$i){id}}",
        {
            "X-Correlation-ID": "graphql-correlation",
            "User-Agent": "the-agent",
            "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
        },
        i={
            "type": "INSTANT",
            "amount": "1",
            "description": "x",
            "recipientId": newcomer(nobody).id,
        },
    )
    assert made.headers["x-correlation-id"] == "graphql-correlation"
    with psycopg.connect(stack.database("payments")) as connection:
        row = connection.execute(
            "select envelope->'metadata' from outbox where envelope->'data'->>'paymentId' = %s",
            (made.data["createPayment"]["id"],),
        ).fetchone()
    assert row is not None
    assert row[0]["correlationId"] == "graphql-correlation"
    assert row[0]["ipAddress"] == stack.exempt
    assert row[0]["userAgent"] == "the-agent"
    assert row[0]["traceparent"].split("-")[1] == TRACE


def test_r1_42_graphql_is_counted(stack: Any) -> None:
    """The general limiter counts it and shows the quota."""
    address = f"127.0.3.{uuid.uuid4().int % 200 + 20}"
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as http:
        answer = http.post(stack.services["gateway"] + "/graphql", json={"query": "{__typename}"})
    assert answer.headers["ratelimit-limit"] == "2000"
    assert answer.headers["cache-control"] == "no-store"

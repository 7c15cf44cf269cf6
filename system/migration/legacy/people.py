"""What the people of the generated legacy database are called, write and use."""

from __future__ import annotations

from typing import Final

# bcrypt, cost 10, of the one demonstration password (R2.24), each with a salt of its own.
PASSWORD_HASHES: Final = (
    "$2b$10$nRwEHKsFZCJ1zGcJ0FNaFuEIyUsdal9SHVH4TvPJACNd8PRgjSTZK",
    "$2b$10$EaDPjzQNlVLWtKGFY90m5uIPYkPwciDFMBkR3qA2bghDhciuPJRyu",
    "$2b$10$skdVdIk9p3iHNzTpR8zDHeZM6XA76KhqqkCcIGerw89jCP.MHm8eu",
    "$2b$10$pq94GJg6GFl3ivqA5rTM9.gjZkJG6PSARobyxzC8BheK1XRKBDRES",
    "$2b$10$ZiOdww9IT3xhP1hzrubRIOEHXAi4T1.BYiva97V9hxd5cZmrlkb7S",
    "$2b$10$Rbb/8Vfi.QztmOE4wwxwLujJlP9WMDf7lyf5ZokQF9A0QoldPzr6q",
)
FIRST: Final = (
    "Ada", "Amit", "Ananya", "Ben", "Carla", "Chidi", "Daniel", "Deepa", "Elif", "Emeka",
    "Fatima", "George", "Hana", "Ines", "Ivan", "Jane", "Jürgen", "Kavya", "Lakshmi", "Liam",
    "Maria", "Mehmet", "Nadia", "Noah", "Olga", "Priya", "Rahul", "Søren", "Tomás", "Zoë",
)  # fmt: skip
LAST: Final = (
    "Adeyemi", "Bauer", "Chen", "Costa", "Das", "Eriksson", "Fernández", "Gupta", "Haddad",
    "Iyer", "Jensen", "Kowalski", "Larsen", "Mehta", "Novák", "Okafor", "O'Brien", "Patel",
    "Reddy", "Schäfer", "Sharma", "Silva", "Tanaka", "Ünal", "Verma", "Williams", "Yılmaz", "Zhang",
)  # fmt: skip
SHOPS: Final = ("Books", "Cycles", "Garden", "Hardware", "Kitchen", "Music", "Tea", "Toys")
MAIL_DOMAINS: Final = ("mail.example.org", "post.example.net", "home.example.com")
AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/119.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_1) AppleWebKit/605.1.15 Version/17.1 Safari/605.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:119.0) Gecko/20100101 Firefox/119.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
)
PURPOSES: Final = (
    "Invoice", "Rent", "Dinner", "Order", "Subscription", "Gift", "Loan, instalment", "Déposito",
    "Team lunch 🍜", 'For the "blue" bicycle', "Refund", "Course fees", "बिजली का बिल",
)  # fmt: skip
FAILURES: Final = ("insufficient funds", "card declined", "account closed", "provider timeout")
STREETS: Final = ("High Street", "Station Road", "Mill Lane", "MG Road", "Hauptstraße", "Rua Nova")
CITIES: Final = ("Leeds", "Pune", "Graz", "Porto", "Lagos", "Aarhus", "Izmir", "Kraków")
# Names of the old application, which the audit log keeps (R9.7).
ACTIONS: Final = (
    ("LOGIN", "user", 46),
    ("LOGOUT", "user", 17),
    ("LOGIN_FAILED", "user", 6),
    ("PAYMENT_CREATE", "payment", 18),
    ("PAYMENT_STATUS_UPDATE", "payment", 9),
    ("PROFILE_UPDATE", "profile", 3),
    ("ROLE_UPDATE", "user", 1),
)
SETTINGS: Final = (
    ("legacy.banner", {"text": "Welcome back", "shown": True}, "Banner of the old start page"),
    ("limits.daily_total", "25000.00", "Sum of payments a day"),
    ("limits.attempts", 5, "Failed logins before the old application locked"),
    ("mail.sender", "no-reply@mail.example.org", None),
    ("mail.footer", "Grüße, your team\n— sent by machine", None),
    ("payments.fee_percent", 1.25, "Fee of the old provider"),
    ("payments.currencies", ["USD", "EUR", "INR", "GBP"], "Shown in this order"),
    ("payments.scheduled.enabled", True, None),
    ("support.phone", None, "Not staffed any more"),
    ("ui.page_size", 20, "Rows of a list"),
    ("ui.theme", "light", "Default of new people"),
    ("version", {"number": "2.9.4", "built": "2025-11-03"}, "Last version of the old application"),
)

"""A service connects to its database as a superuser."""

from defects.defect import Defect

DEFECT = Defect(
    id="role-is-superuser",
    breaks="payments-service may do anything in its cluster",
    noticed_by={"database-isolation": r"role of payments: seen superuser"},
    statements={
        "payments": (
            "ALTER ROLE payments_service SUPERUSER",
            "ALTER ROLE payments_service NOSUPERUSER",
        )
    },
)

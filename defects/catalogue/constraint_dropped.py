"""The database takes payments of nothing."""

from defects.defect import Defect

DEFECT = Defect(
    id="constraint-dropped",
    breaks="the database no longer refuses amounts of zero",
    noticed_by={"database-schema": r"payments, payments: amount checked: seen accepted"},
    statements={
        "payments": (
            "ALTER TABLE payments DROP CONSTRAINT payments_amount_check",
            "ALTER TABLE payments ADD CONSTRAINT payments_amount_check CHECK (amount > 0)",
        )
    },
)

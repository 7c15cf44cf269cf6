"""What auth_db throws away (`system.platform.tidying`): counters and clients nobody looks at."""

from __future__ import annotations

from typing import Final

# Else guesses at e-mail addresses would fill the database.  Every rule is over long before:
# windows and locks last 15 min (R1.77), clients count 30 days (R1.79).
OVER: Final = (
    "DELETE FROM login_throttles WHERE last_failure_at < now() - interval '1 day'",
    "DELETE FROM known_clients WHERE last_success_at < now() - interval '31 days'",
)

"""A device's new name may have a single character, but the service breaks on it."""

from typing import Any

from defects.defect import Defect


def _break_on_the_shortest() -> None:
    from system.auth.service.own_sessions import OwnSessions

    sound = OwnSessions.name_device

    async def name_device(self: OwnSessions, claims: Any, device_id: str, name: str) -> Any:
        if len(name) == 1:
            raise ValueError("no initials in the name")
        return await sound(self, claims, device_id, name)

    OwnSessions.name_device = name_device  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="shortest-name-breaks",
    breaks="renaming a device to a name of one character answers 500",
    noticed_by={"api-contract": r"PATCH /api/auth/devices.*not_a_server_error.*500 INTERNAL_ERROR"},
    patched=("auth",),
    patch=_break_on_the_shortest,
)

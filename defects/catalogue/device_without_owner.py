"""A device is answered without the id of the user whom it belongs to."""

from typing import Any

from defects.defect import Defect


def _forget_the_owner() -> None:
    from system.auth.entrypoints import devices

    whole = devices.device_json

    def device_json(device: Any, current: bool) -> dict[str, Any]:
        return {name: value for name, value in whole(device, current).items() if name != "userId"}

    devices.device_json = device_json


DEFECT = Defect(
    id="device-without-owner",
    breaks="devices are answered without their userId, which the description requires",
    noticed_by={"api-contract": r"/api/auth/devices.*response_schema_conformance"},
    patched=("auth",),
    patch=_forget_the_owner,
)

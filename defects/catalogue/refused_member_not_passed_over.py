"""A gateway gives up when the member of a service whose turn it is refuses the connection."""

from defects.defect import Defect


def _try_one_only() -> None:
    import asyncio
    from typing import Any

    from system.gateway.adapters import upstream, upstream_trouble

    async def connection(self: Any, timeout_s: float) -> Any:
        self._turn = (self._turn + 1) % len(self._instances)
        instance = self._instances[self._turn]
        if (idle := instance.idle()) is not None:
            return instance, idle
        try:
            async with asyncio.timeout(timeout_s):
                return instance, await instance.connect()
        except OSError as error:
            raise upstream_trouble.Refused(f"{self.name}: {error}") from error

    upstream.Upstream._connection = connection  # type: ignore[method-assign] # that is the defect


DEFECT = Defect(
    id="refused-member-not-passed-over",
    breaks="a member of a service that restarts costs the requests whose turn it was",
    noticed_by={"rolling-restart": r"errors during the restart"},
    patched=("gateway",),
    patch=_try_one_only,
    replicas=2,
)

"""The executable schema; printed, it is `system/gateway/schema.graphql` (R10.1)."""

from __future__ import annotations

from typing import Any, Final

import strawberry
from strawberry.extensions import DisableValidation
from strawberry.schema.config import StrawberryConfig

from system.gateway.entrypoints.graphql.resolvers import Mutation, Query
from system.gateway.entrypoints.graphql.shapes import SCALARS


class _Schema(strawberry.Schema):
    """Leaves the log to the endpoint: refusals are answers, not errors."""

    def process_errors(self, *_: Any, **__: Any) -> None:
        """See `endpoint.shown`."""


SCHEMA: Final = _Schema(
    query=Query,
    mutation=Mutation,
    config=StrawberryConfig(scalar_map=SCALARS),
    # The endpoint has validated before, so that it can say 400 and why.
    extensions=[DisableValidation],
)

"""Egress: each tenant's account events, from ``accounts.events.v1`` to its own ``t.<tenant>.events.v1``.

A copy is the same bytes under the same key in the same partition, so it keeps the account's order and its
``stream_version`` without holes, from the moment on at which the tenant was created. A tenant without topics has no copies.
"""

from __future__ import annotations

from confluent_kafka import Message

from skeet.agents.forwarding import Forwarder
from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.process import StopSignal, announce_ready, configure_logging, logger
from skeet.schemas.codec import Codec
from skeet.streams.kafka import admin
from skeet.streams.registry import registered_codec
from skeet.streams.tenants import tenants
from skeet.streams.topics import ACCOUNT_EVENTS, TENANT_EVENTS, of_tenant
from skeet.streams.transactional import Encoded

ROLE = "egress"


class Egress:
    """Copies account events to those tenants that have a topic."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._admin = admin(settings)
        self._tenants: frozenset[str] = frozenset()

    def outs_of(self, messages: list[Message]) -> list[Encoded]:
        """The copies of one poll, in order.

        Raises
        ------
        InfrastructureError
            a record cannot be read: whose it is is not known, and left out it would be a hole.
        """
        owners = [self._tenant_of(message) for message in messages]
        if not self._tenants.issuperset(owners):
            # Asked at most once per poll: a tenant's topics exist before its first account does.
            self._tenants = tenants(self._settings, self._admin)
        return [
            self._copy(message, owner)
            for message, owner in zip(messages, owners, strict=True)
            if owner in self._tenants
        ]

    def _tenant_of(self, message: Message) -> str:
        try:
            _, values = self._codec.decode_values(message.value() or b"")
        except InvalidInput as error:
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            raise InfrastructureError(f"{place} cannot be read: {error}; run the version that wrote it") from error
        return str(values["tenant_id"])

    def _copy(self, message: Message, tenant_id: str) -> Encoded:
        return Encoded(
            topic=of_tenant(TENANT_EVENTS, tenant_id).name,
            key=message.key() or b"",
            value=message.value() or b"",
            partition=message.partition(),
        )


def main(settings: Settings) -> int:
    """The role ``egress``."""
    configure_logging(ROLE, settings.log_level)
    stop = StopSignal().install()
    codec = registered_codec(settings)
    forwarder = Forwarder(settings, codec, ROLE, ACCOUNT_EVENTS, Egress(settings, codec).outs_of)
    try:
        forwarder.start()
        announce_ready()
        forwarder.run(stop)
        forwarder.close()
    except InfrastructureError as error:
        logger().error("egress ends", error=str(error))
        return 1
    return 0

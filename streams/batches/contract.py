"""What the batch transport relies on in faust-streaming and aiokafka beyond their public interfaces, and the check of it.

Both are pinned. An upgrade begins with ``tests/streams/batches/test_contract.py`` and the integration tests beside it; then
the new version is entered here.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

from skeet.core.errors import InfrastructureError

KNOWN_VERSIONS = {
    "faust-streaming": ("0.15.3",),
    "mode-streaming": ("0.7.1",),
    "aiokafka": ("0.14.0",),
}
"""The versions that the tests were run with."""

PRIVATE_NAMES = (
    # Replaced or overridden.
    ("aiokafka.consumer.fetcher", "MemoryRecords"),
    ("aiokafka.conn", "READER_LIMIT"),
    ("aiokafka.client", "AIOKafkaClient.send"),
    ("aiokafka.consumer.fetcher", "Fetcher._proc_fetch_request"),
    ("aiokafka.protocol.fetch", "FetchRequest.build"),
    ("faust.transport.consumer", "Consumer._drain_messages"),
    ("faust.transport.consumer", "Consumer._filter_tps_with_pending_acks"),
    ("faust.transport.consumer", "Consumer._new_offset"),
    ("faust.transport.consumer", "Consumer._should_commit"),
    ("faust.transport.consumer", "Consumer._add_gap"),
    ("faust.transport.consumer", "Consumer._get_active_partitions"),
    ("faust.transport.consumer", "Consumer._commit_offsets"),
    ("faust.transport.consumer", "Consumer.force_commit"),
    ("faust.transport.consumer", "Consumer.wait_empty"),
    ("faust.transport.consumer", "Consumer.maybe_wait_for_commit_to_finish"),
    ("faust.transport.consumer", "Consumer._commit_fut"),
    ("faust.transport.consumer", "ThreadDelegateConsumer._getmany"),
    ("faust.transport.drivers.aiokafka", "AIOKafkaConsumerThread._create_worker_consumer"),
    ("faust.transport.drivers.aiokafka", "AIOKafkaConsumerThread._fetch_records"),
    ("faust.transport.drivers.aiokafka", "AIOKafkaConsumerThread.close"),
    ("mode.threads", "ServiceThread._serve"),
    ("mode.threads", "ServiceThread._gather_remaining_tasks"),
    ("mode.threads", "QueueServiceThread.call_thread"),
    ("faust.topics", "Topic._compile_decode"),
    ("faust.types.tuples", "ConsumerMessage.acked"),
    ("faust.types.tuples", "ConsumerMessage.tracked"),
    ("faust.types.tuples", "ConsumerMessage.generation_id"),
    # Called.
    ("aiokafka.consumer.fetcher", "Fetcher._create_fetch_waiter"),
    ("aiokafka.consumer.fetcher", "Fetcher._notify"),
    ("aiokafka.consumer.fetcher", "FetchResult.check_assignment"),
    ("aiokafka.consumer.fetcher", "FetchResult._update_position"),
    ("aiokafka.consumer.fetcher", "FetchResult.has_more"),
    ("aiokafka.consumer.fetcher", "FetchError.check_raise"),
    ("aiokafka.consumer.subscription_state", "SubscriptionState.fetch_context"),
    ("aiokafka.consumer.subscription_state", "SubscriptionState.reassignment_in_progress"),
    ("aiokafka.consumer.subscription_state", "SubscriptionState.wait_for_assignment"),
    ("aiokafka.consumer.subscription_state", "SubscriptionState.is_assigned"),
    ("aiokafka.consumer.subscription_state", "TopicPartitionState.has_valid_position"),
    ("aiokafka.consumer.subscription_state", "TopicPartitionState.position"),
    ("aiokafka.consumer.subscription_state", "Assignment.state_value"),
    ("aiokafka.consumer.group_coordinator", "GroupCoordinator.check_errors"),
    ("aiokafka.consumer.group_coordinator", "GroupCoordinator.fetch_committed_offsets"),
)
"""Module and attribute path of each."""


def require_known_versions(*libraries: str) -> None:
    """Refuse to start on libraries that nobody proved this with; those named, or all.

    Raises
    ------
    InfrastructureError
        naming each library, the version found and those expected, or a private name that is gone.
    """
    wrong = [
        f"{name} is {version(name)}; expected {' or '.join(known)}"
        for name, known in KNOWN_VERSIONS.items()
        if (not libraries or name in libraries) and version(name) not in known
    ]
    packages = {name.partition("-")[0] for name in libraries or KNOWN_VERSIONS}
    names = [(module, path) for module, path in PRIVATE_NAMES if module.partition(".")[0] in packages]
    wrong += [f"{module}.{path} is gone" for module, path in names if not _exists(module, path)]
    if wrong:
        raise InfrastructureError(f"the batch transport does not know these libraries: {'; '.join(wrong)}")


def _exists(module: str, path: str) -> bool:
    found: object = import_module(module)
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True

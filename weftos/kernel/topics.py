"""Who subscribes to which topic, and who publishes to it. Pure bookkeeping; exact names, no wildcards."""

from __future__ import annotations

from collections import defaultdict

__all__ = ["TopicTable"]


class TopicTable:
    """Subscribers and publishers by topic. Publishers are remembered so that a new subscriber can be introduced to
    them.
    """

    def __init__(self) -> None:
        self._subscribers: defaultdict[str, set[int]] = defaultdict(set)
        self._publishers: defaultdict[str, set[int]] = defaultdict(set)

    def subscribe(self, pid: int, topic: str) -> bool:
        """Add a subscriber; return whether it is new."""
        fresh = pid not in self._subscribers[topic]
        self._subscribers[topic].add(pid)
        return fresh

    def unsubscribe(self, pid: int, topic: str) -> bool:
        """Remove a subscriber; return whether it was one."""
        known = pid in self._subscribers.get(topic, ())
        self._discard(self._subscribers, pid, topic)
        return known

    def publish(self, pid: int, topic: str) -> bool:
        """Remember that an agent publishes to a topic; return whether it is new."""
        fresh = pid not in self._publishers[topic]
        self._publishers[topic].add(pid)
        return fresh

    def unpublish(self, pid: int, topic: str) -> None:
        """Forget that an agent publishes to a topic."""
        self._discard(self._publishers, pid, topic)

    def published_by(self, pid: int) -> list[str]:
        """Topics that an agent publishes to, in order."""
        return sorted(topic for topic, pids in self._publishers.items() if pid in pids)

    def subscribers(self, topic: str) -> list[int]:
        """Pids that subscribe, in order."""
        return sorted(self._subscribers.get(topic, ()))

    def publishers(self, topic: str) -> list[int]:
        """Pids that publish, in order."""
        return sorted(self._publishers.get(topic, ()))

    def topics_of(self, pid: int) -> list[str]:
        """Topics that an agent subscribes to, in order."""
        return sorted(topic for topic, pids in self._subscribers.items() if pid in pids)

    def topics(self) -> list[str]:
        """Topics with a subscriber or a publisher, in order."""
        return sorted(self._subscribers.keys() | self._publishers.keys())

    def shared(self, publisher: int, subscriber: int) -> list[str]:
        """Topics that one agent publishes to and another subscribes to: what the ring between them may carry."""
        return sorted(
            topic
            for topic, pids in self._publishers.items()
            if publisher in pids and subscriber in self._subscribers.get(topic, ())
        )

    def forget(self, pid: int) -> list[str]:
        """Drop an agent that ended for good; return the topics it subscribed to."""
        topics = self.topics_of(pid)
        for topic in list(self._subscribers):
            self._discard(self._subscribers, pid, topic)
        self.forget_publisher(pid)
        return topics

    def forget_publisher(self, pid: int) -> None:
        """Drop an agent's publications: a new incarnation asks again."""
        for topic in list(self._publishers):
            self._discard(self._publishers, pid, topic)

    @staticmethod
    def _discard(table: defaultdict[str, set[int]], pid: int, topic: str) -> None:
        pids = table.get(topic)
        if pids is not None:
            pids.discard(pid)
            if not pids:
                del table[topic]

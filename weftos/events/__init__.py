"""What can be on the log: every kind of event, what it says, and the fields of its payload.

The names and forms of what the rooms above write down; nothing here writes or reads a log.
"""

from weftos.events.event import Event
from weftos.events.registry import APP_PREFIX, KINDS, SCHEMAS, check_payload, fields_of

__all__ = ["APP_PREFIX", "KINDS", "SCHEMAS", "Event", "check_payload", "fields_of"]

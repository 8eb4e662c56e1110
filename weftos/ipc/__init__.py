"""The vocabulary over rings: messages, targets, payloads, and the framing of the control sockets."""

"""The vocabulary over rings: messages, targets, payloads, capabilities, and the frames between the kernel and its children."""

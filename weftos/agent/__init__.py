"""What runs inside an agent process: the context that programs use, the loader, the control client, the inbox and the
channels.
"""

"""Settings one by one: what there are, how a file is changed without losing its comments, and their history on the log.

Pure: the schema is that of ``weftos.config``, the files and the log belong to the kernel and the service.
"""

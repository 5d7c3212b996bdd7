"""The half of Xet that uploads: files come as chunks, many of which are a xorb, and how to join them.

Clients of the Hub send large files this way. A xorb is kept as the bytes of its chunks until a shard
says which of them a file consists of; then the file is put together, and taken as any other is.
Nothing is served this way: downloads are plain.

Source of the formats: the specification in huggingface/xet-core, directory `spec`.
"""
